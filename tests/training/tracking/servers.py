"""Real tracking servers, real fits in processes of their own, and what arrived."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from cnn_lstm.training.metric_names import grouped

Point = tuple[str, int]  # metric and step


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Server:
    """`mlflow server` on a folder; it may be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        argv = ["server", "--port", str(self.port), "--workers", "1", "--backend-store-uri", "sqlite:///store.db"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *argv, "--artifacts-destination", "./artifacts"],
                cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(self._answers, 120)

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.uri}/health", timeout=1):
                return True
        except (URLError, OSError):
            return False

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.socket() as ear:
        ear.bind(("127.0.0.1", 0))
        ear.listen(50)
        yield f"http://127.0.0.1:{ear.getsockname()[1]}"


def wait_for(happened: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def start_fit(config: Path, run: Path, *argv: object, uri: str | None = None) -> subprocess.Popen[str]:
    """A fit in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    if uri is not None:
        environment["MLFLOW_TRACKING_URI"] = uri
    command = ["-m", "cnn_lstm", "fit", "--config", str(config), "--run_dir", str(run), "--mlflow", "true"]
    return subprocess.Popen(
        [sys.executable, *command, *map(str, argv)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def uri_of(folder: Path) -> str:
    """The database next to a run folder."""
    return f"sqlite:///{folder / 'mlflow.db'}"


def only_run(uri: str, name: str) -> Run:
    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    [run] = client.search_runs(experiments, f"tags.mlflow.runName = '{name}'")
    return run


def arrived(uri: str, run: Run) -> Counter[Point]:
    """How often each point is there."""
    client = MlflowClient(uri)
    points: Counter[Point] = Counter()
    for metric in run.data.metrics:
        points.update((metric, point.step) for point in client.get_metric_history(run.info.run_id, metric))
    return points


def written(run: Path) -> set[Point]:
    """The points of the run's metrics.csv, under the names that MLflow has."""
    table = pd.read_csv(run / "metrics.csv")
    return {
        (grouped(str(name)), int(step))
        for name in table.columns.difference(["step"])
        for step in table.loc[table[name].notna(), "step"]
    }


def assert_each_once(uri: str, run: Path) -> Run:
    """Each point of metrics.csv has arrived once, and no point has arrived twice."""
    record = only_run(uri, run.name)
    points = arrived(uri, record)
    missing = written(run) - set(points)
    assert not missing, f"never arrived: {sorted(missing)[:10]}"
    repeated = {point: count for point, count in points.items() if count != 1}
    assert not repeated, f"arrived more than once: {list(repeated.items())[:10]}"
    return record
