"""The MLflow record of agents: a child of their forecaster's run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter

from cnn_lstm.errors import interruption
from cnn_lstm.files import write_text_whole
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.delivery import Delivery
from cnn_lstm.training.tracking.journal import Journal
from cnn_lstm.training.tracking.parent import FILE as PARENT
from cnn_lstm.training.tracking.tracker import MLflowTracker, tracking_uri


class TrackedFigures(KVWriter):
    """Sends what Stable-Baselines3 logs to a tracker.

    Args:
        tracker: The tracker.
        seed: Seed of the agent, in front of each name.
    """

    def __init__(self, tracker: MLflowTracker, seed: int) -> None:
        self.tracker, self.seed = tracker, seed

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Called by their logger after each rollout."""
        figures = {key: float(value) for key, value in key_values.items() if isinstance(value, int | float)}
        self.tracker.log_metrics({f"seed{self.seed}/{key}": value for key, value in figures.items()}, step)

    def close(self) -> None:
        """Nothing of its own to close."""


@contextmanager
def recorded(
    home: RunFolder, folder: Path, config: str, command: str, resumed: bool = False
) -> Iterator[MLflowTracker | None]:
    """A tracker while agents are trained or judged; null where the forecaster's run has no MLflow record.

    Args:
        home: The forecaster's run.
        folder: Folder of the agents.
        config: Their configuration as YAML.
        command: `fit` for the training, anything else afterwards.
        resumed: Whether a training goes on that was cut short.
    """
    start = next((event.values for event in Journal(home.tracking).events() if event.kind == "start"), None)
    if start is None:
        yield None
        return
    write_text_whole(folder.parent / PARENT, json.dumps({"uid": start["uid"], "name": start["name"]}) + "\n")
    uri = tracking_uri(home.path.resolve().parent, start["uri"])
    run = RunFolder(folder)
    tracker = MLflowTracker(run, command, Delivery(folder, Journal(run.tracking), uri), start["experiment"])
    tracker.begin(config, resumed)
    try:
        yield tracker
    except BaseException as error:
        tracker.end("KILLED" if interruption(error) is not None else "FAILED")
        raise
    tracker.end("FINISHED")


def keep(tracker: MLflowTracker | None, metrics: Mapping[str, float | None], *files: Path) -> None:
    """Keeps figures and files of a command, if there is a record.

    Args:
        tracker: See `recorded`.
        metrics: Metrics by name; those without a value are left out.
        files: Files in the folder of the agents.
    """
    if tracker is None:
        return
    tracker.log_metrics({name: float(value) for name, value in metrics.items() if value is not None})
    for file in files:
        tracker.artifact(file)
