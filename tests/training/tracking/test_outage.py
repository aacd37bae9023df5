"""A tracking server that is down, silent, dies or comes back: the fit goes on, and each point arrives once."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests import experiments
from tests.markets import market
from tests.training.tracking.servers import (
    Server,
    assert_each_once,
    free_port,
    only_run,
    silent_server,
    start_fit,
    wait_for,
)

KINDS = ["refused", pytest.param("silent", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("tracking") / "server")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return experiments.experiment(tmp_path_factory.mktemp("config"), market(140))


@pytest.fixture
def running(server: Server) -> Server:
    if server.process is None:
        server.start()
    return server


def sync(run: Path, uri: str) -> None:
    assert experiments.run("sync-tracking", run, "--tracking_uri", uri) == 0


def fitted(config: Path, run: Path, *argv: object, uri: str) -> tuple[int, str]:
    """The exit code of a fit, and what it says."""
    process = start_fit(config, run, *argv, uri=uri)
    output, _ = process.communicate(timeout=200)
    return process.returncode, output


def test_a_server_that_answers_has_it_all(config: Path, tmp_path: Path, running: Server) -> None:
    code, output = fitted(config, tmp_path / "answered", "--register_model", "remote", uri=running.uri)
    assert code == 0, output
    assert "MLflow does not" not in output
    client = MlflowClient(running.uri)
    model = client.get_model_version_by_alias("remote", "challenger")
    assert client.get_logged_model(model.source.removeprefix("models:/")).status == "READY"
    assert assert_each_once(running.uri, tmp_path / "answered").info.status == "FINISHED"


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_down_at_the_start_stops_nothing(
    kind: str, config: Path, tmp_path: Path, running: Server
) -> None:
    with silent_server() as silent:
        uri = silent if kind == "silent" else f"http://127.0.0.1:{free_port()}"
        run = tmp_path / f"down-{kind}"
        code, output = fitted(config, run, uri=uri)
    assert code == 0, output
    assert "MLflow does not take the run" in output
    assert "sync-tracking" in output
    assert (run / "checkpoints/best.ckpt").is_file()
    sync(run, running.uri)
    first = assert_each_once(running.uri, run)
    assert first.info.status == "FINISHED"
    sync(run, running.uri)
    assert assert_each_once(running.uri, run).info.run_id == first.info.run_id


@pytest.mark.parametrize("kind", KINDS)
def test_a_required_server_stops_the_command_before_the_training(kind: str, config: Path, tmp_path: Path) -> None:
    with silent_server() as silent:
        uri = silent if kind == "silent" else f"http://127.0.0.1:{free_port()}"
        code, output = fitted(config, tmp_path / "run", "--tracking", "strict", uri=uri)
    assert code == 7, output
    assert [line for line in output.splitlines() if "MLflow" in line] == [output.strip().splitlines()[-1]]
    assert output.strip().splitlines()[-1].startswith("error[E701]")
    assert not (tmp_path / "run/checkpoints").exists()


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    table, forever = market(300), {"max_epochs": 100000}
    return experiments.experiment(tmp_path, table, trainer=forever, early_stopping={"patience": 100000})


def epochs(run: Path) -> int:
    file = run / "metrics.csv"
    return file.read_text().count("\n") if file.exists() else 0


def fit_without(server: Server, config: Path, run: Path) -> subprocess.Popen[str]:
    """A fit that goes on after its server was killed."""
    process = start_fit(config, run, uri=server.uri)
    wait_for(lambda: epochs(run) > 20 and (run / "tracking/sent.json").exists())
    server.kill()
    before = epochs(run)
    wait_for(lambda: epochs(run) > before + 50)
    return process


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_has_it_all(endless: Path, tmp_path: Path, running: Server) -> None:
    run = tmp_path / "outage"
    process = fit_without(running, endless, run)
    time.sleep(6)  # a delivery fails
    running.start()
    known = (run / "tracking/sent.json").read_text()
    wait_for(lambda: (run / "tracking/sent.json").read_text() != known)  # it comes by itself
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "MLflow answers again" in output
    assert assert_each_once(running.uri, run).info.status == "KILLED"


@pytest.mark.slow
def test_a_server_that_dies_for_good_leaves_the_rest_in_the_journal(
    endless: Path, tmp_path: Path, running: Server
) -> None:
    run = tmp_path / "lost"
    process = fit_without(running, endless, run)
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert f"cnn-lstm sync-tracking {run} --tracking_uri {running.uri}" in output
    assert experiments.run("sync-tracking", run) == 2  # nobody but the run folder names the server
    assert experiments.run("sync-tracking", run, "--tracking_uri", running.uri) == 7
    running.start()
    assert only_run(running.uri, "lost").info.status == "RUNNING"
    sync(run, running.uri)
    assert assert_each_once(running.uri, run).info.status == "KILLED"


@pytest.mark.slow
def test_a_required_server_stops_the_command_in_the_middle(endless: Path, tmp_path: Path, running: Server) -> None:
    run = tmp_path / "strict"
    process = start_fit(endless, run, "--tracking", "strict", uri=running.uri)
    wait_for(lambda: epochs(run) > 20)
    running.kill()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 7, output
    assert (run / "checkpoints/last.ckpt").is_file()
    running.start()
    sync(run, running.uri)
    assert assert_each_once(running.uri, run).info.status == "FAILED"
