"""The curves of a fit stay what they are whatever command follows: TensorBoard's files and MLflow's journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from cnn_lstm.training.loggers import build_loggers
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.delivery import Delivery
from cnn_lstm.training.tracking.events import Metrics
from cnn_lstm.training.tracking.journal import Journal
from cnn_lstm.training.tracking.record import Record
from tests import experiments
from tests.markets import market


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curves")
    config = experiments.experiment(folder, market(260, gaps=False))
    return experiments.fit(config, folder / "run", "--tensorboard", "true", "--tensorboard_plots.graph", "false")


def scalars(folder: Path) -> Iterator[tuple[str, int]]:
    for file in sorted(folder.rglob("events.*")):
        for event in EventFileLoader(str(file)).Load():
            yield from ((value.tag, event.step) for value in event.summary.value if value.HasField("tensor"))


def test_validate_adds_no_point_and_test_only_its_own(trained: Path) -> None:
    before = list(scalars(trained))
    assert {"val/loss", "epoch"} <= {name for name, _ in before}
    for command in ("validate", "predict", "test"):
        assert experiments.run(command, "--config", trained / "config.yaml", "--ckpt_path", "last") == 0
        after = list(scalars(trained))
        added = [point for point in after if point not in before]
        assert all(name.startswith("test/") for name, _ in added), command
        assert len(after) == len(before) + len(added)
        assert bool(added) == (command == "test")
        before = after


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_the_loggers_of_a_command_pass_on_what_is_no_second_start(command: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    journal = Journal(run.tracking)
    record = Record(run, command, Delivery(tmp_path, journal, "sqlite:///none.db"))
    for logger in build_loggers(run, command, True, record):
        logger.log_metrics({"val_loss": 1.0, "test_loss": 2.0, "epoch": 0.0}, 0)
        logger.save()
    kept = {name for event in journal.events() if isinstance(event.content, Metrics) for name in event.content.values}
    written = {name for name, _ in scalars(tmp_path)}
    of_fit = {"val/loss", "test/loss", "epoch"}
    of_later: set[str] = set() if command == "validate" else of_fit - {"epoch"}
    assert kept == written == (of_fit if command == "fit" else of_later)
