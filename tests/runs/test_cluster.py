"""What a run takes of a cluster, what is refused before anything begins, and what is done about a lost machine.

Runs on a real cluster are in tests/cluster.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnn_lstm.errors import ConfigError, ResourceError
from cnn_lstm.locks import LOCK, take_folder
from cnn_lstm.runs import cluster, members
from cnn_lstm.runs.cluster import Cluster, Needs, Place, on_machine
from cnn_lstm.runs.members import Member, MemberProcesses
from cnn_lstm.runs.processes import Command, Ended, Engine, Running
from tests.experiments import experiment, run
from tests.markets import market

PLAIN = {"accelerator": "auto", "devices": "auto", "num_nodes": 1}


@pytest.mark.parametrize(
    ("settings", "gpus", "needs"),
    [
        ({}, False, (1, 0)),
        ({}, True, (1, 1)),
        ({"accelerator": "cpu"}, True, (1, 0)),
        ({"accelerator": "cpu", "devices": 3}, True, (3, 0)),
        ({"accelerator": "gpu", "devices": "2"}, False, (2, 2)),
        ({"accelerator": "cuda", "devices": 1}, False, (1, 1)),
    ],
)
def test_a_run_takes_what_its_trainer_says(
    settings: dict[str, object], gpus: bool, needs: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert Cluster("auto", PLAIN | settings).needs(gpus) == Needs(*needs)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert Cluster("auto", PLAIN | settings).needs(gpus) == Needs(4 * needs[0], needs[1])


@pytest.mark.parametrize(
    ("address", "settings", "words"),
    [
        ("here", {}, "--cluster here"),
        ("ray://", {}, "--cluster ray://"),
        ("auto", {"accelerator": "tpu"}, "trainer.accelerator=tpu"),
        ("auto", {"num_nodes": 2}, "trainer.num_nodes=2"),
        ("auto", {"devices": -1}, "trainer.devices=-1"),
        ("auto", {"devices": [1]}, "trainer.devices=[1]"),
        ("auto", {"devices": "0,1"}, "trainer.devices=0,1"),
        ("auto", {"devices": True}, "trainer.devices=True"),
    ],
)
def test_what_a_cluster_cannot_give_is_refused(address: str, settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Cluster.of(address, PLAIN | settings)
    assert refused.value.code == 224
    assert words in str(refused.value)


def test_no_address_is_no_cluster() -> None:
    assert Cluster.of(None, PLAIN) is None


@pytest.mark.parametrize("command", ["repeat", "walk-forward", "sweep"])
def test_without_ray_one_line_says_how_to_install_it(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))
    config = experiment(tmp_path, market(150))
    (tmp_path / "space.yaml").write_text("space: {model.network.lstm_hidden: {categorical: [4, 8]}}\n")
    space = ["--space", tmp_path / "space.yaml"] if command == "sweep" else []
    argv = [command, "--config", config, "--folder", tmp_path / "runs", "--cluster", "auto", *space]
    assert run(*argv) == 6
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error[")]
    assert line == "error[E650]: --cluster needs Ray — pip install 'cnn-lstm[cluster]'"
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def _environment() -> Iterator[None]:
    before, current = dict(os.environ), Path.cwd()
    yield
    os.chdir(current)
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("_environment")
def test_a_machine_that_does_not_share_the_folders_says_so(tmp_path: Path) -> None:
    fields: dict[str, object] = {"argv": [], "output": None, "plan": None}
    assert str(on_machine(fields, Place("/no/such", str(tmp_path), {}))).endswith("has no /no/such")
    assert str(on_machine(fields, Place(str(tmp_path), "/no/such", {}))).endswith("has no /no/such")
    (tmp_path / "runs").mkdir()  # another folder of the same name is not locked
    answer = on_machine(fields, Place(str(tmp_path), str(tmp_path / "runs"), {}))
    assert str(answer).endswith(f"has another {tmp_path / 'runs'}")


def test_only_named_variables_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_TOKEN", "CNN_LSTM_X", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HOME", "SECRET"):
        monkeypatch.setenv(name, "1")
    travelling = cluster._environment()
    assert {"MLFLOW_TRACKING_TOKEN", "CNN_LSTM_X", "OMP_NUM_THREADS"} <= set(travelling)
    assert not {"CUDA_VISIBLE_DEVICES", "HOME", "SECRET", "PATH"} & set(travelling)


# -- lost machines, without the machines -----------------------------------------------------------------------------


class Done(Running):
    """A command that has ended."""

    def __init__(self, end: Ended) -> None:
        self.end = end

    def ended(self) -> Ended | None:
        return self.end

    def ask_to_end(self) -> None:
        raise AssertionError

    kill = ask_to_end


class Losing(Engine):
    """Loses the machine of so many commands; the others write what a fit leaves."""

    def __init__(self, losses: int) -> None:
        self.losses, self.started = losses, 0

    def start(self, command: Command) -> Running:
        self.started += 1
        folder = Path(command.argv[command.argv.index("--run_dir") + 1]) if "--run_dir" in command.argv else None
        if folder is not None:
            folder.mkdir(exist_ok=True)
        if self.started <= self.losses:
            return Done(Ended(1, lost=True))
        # an earlier test may have trusted a package, whose name then comes first
        run_dir = folder or Path(command.argv[command.argv.index("--config") + 1]).parent
        (run_dir / ("report.json" if "test" in command.argv else "summary.json")).write_text("{}")
        return Done(Ended(0))

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("losses", "code"), [(0, {}), (1, {}), (3, {}), (4, {5: 1})])
def test_a_run_goes_on_elsewhere_but_not_for_ever(
    losses: int, code: dict[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "POLL_SECONDS", 0.0)
    engine = Losing(losses)
    monkeypatch.setattr(members, "LocalProcesses", lambda lock: engine)
    assert members.train_all([Member("seed", 5, tmp_path, [])], None, None) == code
    assert (tmp_path / "seed_5/report.json").exists() != bool(code)


def test_a_lost_run_waits_until_nobody_works_in_its_folder(tmp_path: Path) -> None:
    """A file server keeps the lock of a machine that it cannot reach for a while."""
    member = Member("seed", 5, tmp_path, [])
    runs = MemberProcesses(Losing(1))
    assert runs.can_start(member)
    runs.start(member)
    assert runs.finish() == [member]
    with take_folder(member.run.path, "fit", "run"):
        assert not runs.can_start(member)
    assert runs.can_start(member)
    assert not (member.run.path / LOCK).exists()


def test_a_lost_cluster_is_no_lost_run() -> None:
    """A driver that is asked about a task when nothing answers any more ends, and says how to go on."""

    class Gone:
        @staticmethod
        def wait(*_: object, **__: object) -> None:
            raise ConnectionError("the server\nis gone")

    with pytest.raises(ResourceError, match=r"E651.*the server is gone.*--resume"):
        cluster._Task(Gone(), object(), None).ended()
