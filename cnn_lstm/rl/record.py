"""The MLflow record of agents: a child of their forecaster's run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter

from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.delivery import Delivery
from cnn_lstm.training.tracking.events import Parent
from cnn_lstm.training.tracking.journal import Journal
from cnn_lstm.training.tracking.parent import parent_of, write_parent
from cnn_lstm.training.tracking.record import EXPERIMENT, Record


class TrackedMetrics(KVWriter):
    """Sends what Stable-Baselines3 logs to a record.

    Args:
        record: The record.
        seed: Seed of the agent, in front of each name.
    """

    def __init__(self, record: Record, seed: int) -> None:
        self.record, self.seed = record, seed

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Stable-Baselines3's logger calls this after each rollout."""
        metrics = {key: float(value) for key, value in key_values.items() if isinstance(value, int | float)}
        self.record.log({f"seed{self.seed}/{key}": value for key, value in metrics.items()}, step)

    def close(self) -> None:
        """There is nothing to close."""


@contextmanager
def recorded(
    home: RunFolder, folder: Path, config: str, command: str, resumed: bool = False, trial: bool = False
) -> Iterator[Record]:
    """A record while agents are trained or judged; it keeps nothing where the forecaster's run has no record.

    Args:
        home: The forecaster's run.
        folder: Folder of the agents.
        config: Their configuration as YAML.
        command: `fit` for the training, anything else afterwards.
        resumed: Whether a training goes on that was cut short.
        trial: Whether it is a trial of a sweep, which is the parent of its record.
    """
    start = Journal(home.tracking).start()
    delivery = Delivery.of_run(folder, start.uri if start else None, home=home.path.resolve().parent)
    experiment = start.experiment if start else EXPERIMENT
    record = Record(RunFolder(folder), command, delivery, experiment, enabled=start is not None)
    if start is not None and not (trial and parent_of(folder)):
        write_parent(folder.parent, Parent(uid=start.uid, name=start.name))
    with record.ended():
        record.begin(config, resumed)
        yield record
