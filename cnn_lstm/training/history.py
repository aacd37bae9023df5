"""The course of a run, read from its metrics.csv.

Nothing heavy is imported here, so that `cnn-lstm plot` starts fast.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from cnn_lstm.bounded import load_yaml_values, warn_if_changed
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.training.row_checksums import RowChecksums

METRICS_FILE = "metrics.csv"
PLOT_FILE = "history.png"
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class History:
    """The course of a run.

    Attributes:
        name: Name of the run folder.
        epochs: Numbers of the epochs, from 0 as Lightning counts them.
        metrics: Values of each epoch by column, for example `val_loss`; NaN where an epoch has none.
        rates: Learning rates by column: epochs and values. Epoch k spans k - 0.5 to k + 0.5.
        norms: Gradient norms before clipping: epochs and values.
        max_epochs: The number of epochs that the run was to have; None if it is not known.
        stopped: Whether early stopping ended the run.
        targets: What it forecasts, as classes with their arguments; empty if that is not known.
        objective: What it is trained on, likewise.
    """

    name: str
    epochs: NDArray[np.float64]
    metrics: dict[str, NDArray[np.float64]]
    rates: dict[str, Curve]
    norms: Curve
    max_epochs: int | None = None
    stopped: bool = False
    targets: tuple[str, ...] = ()
    objective: str = ""

    @property
    def best(self) -> int | None:
        """Position of the epoch with the lowest validation loss."""
        losses = self.metrics.get("val_loss", np.array([]))
        return int(np.nanargmin(losses)) if np.isfinite(losses).any() else None

    def curve(self, column: str) -> Curve:
        """The epochs that have a value of a metric, and these values."""
        values = self.metrics.get(column, np.full(len(self.epochs), np.nan))
        known = np.isfinite(values)
        return self.epochs[known], values[known]


def curves_of(run: Path) -> list[Path]:
    """The folders that hold the history of a run: its own, or those of an ensemble's members.

    Args:
        run: The run folder.
    """
    members = sorted(run.glob(f"members/*/{METRICS_FILE}"), key=lambda file: (len(str(file)), str(file)))
    return [file.parent for file in members] or [run]


def read_history(run: Path) -> History:
    """Reads metrics.csv of a run; where a resumed run repeats an epoch, its last metrics count.

    Args:
        run: The run folder.

    Raises:
        ConfigError: If the folder does not exist.
        DataError: If it has no metrics.csv, or one without an epoch.
    """
    if not run.is_dir():
        raise ConfigError("no run folder", str(run), "give the folder that fit printed", code=240)
    rows = _rows(run / METRICS_FILE)
    by_epoch: dict[int, dict[str, float]] = defaultdict(dict)
    for row in rows:
        if "epoch" in row and any(name.startswith(("val_", "train_loss")) for name in row):
            by_epoch[int(row["epoch"])] |= row
    finished = {k: row for k, row in sorted(by_epoch.items()) if {"val_loss", "train_loss"} & set(row)}
    if not finished:
        raise DataError("no epoch in it yet", str(run / METRICS_FILE), "wait for the end of the first epoch", code=341)
    columns = {name for row in finished.values() for name in row} - {"epoch", "step"}
    metrics = {name: np.array([row.get(name, math.nan) for row in finished.values()]) for name in sorted(columns)}
    ends = {k: row.get("step", float(k)) for k, row in finished.items()}
    # those of `LearningRateMonitor`, without the momentum and weight decay that it can add
    rates = {name for row in rows for name in row if name.startswith("lr-")}
    rates = {name for name in rates if not name.endswith(("-momentum", "-weight_decay"))}
    config = _config(run / "config.yaml")
    (max_epochs, stopping), (targets, objective) = _settings(config), _forecast(config)
    early = max_epochs is not None and (max_epochs < 0 or max(finished) + 1 < max_epochs)
    return History(
        name=run.resolve().name,
        epochs=np.array(list(finished), dtype=float),
        metrics=metrics,
        rates={name: _by_step(rows, name, ends) for name in sorted(rates)},
        norms=_by_step(rows, "grad_norm", ends),
        max_epochs=max_epochs if max_epochs is None or max_epochs > 0 else None,
        stopped=early and _has_stopped(metrics, stopping),
        targets=targets,
        objective=objective,
    )


def _rows(file: Path) -> list[dict[str, float]]:
    """Rows without their empty cells; of a row that is being written, or is damaged, what can be read."""
    checksums = RowChecksums(file)
    try:
        rows = _cells(file)
        if checksums.missing(rows):  # one may come between the two files, where the run goes on
            rows = _cells(file)
        checksums.warn_of_damage(rows)
        return [_values(row) for row in rows]
    except FileNotFoundError as error:
        raise DataError(
            f"no {METRICS_FILE}", str(file), "name the folder of a run that fit has begun", code=340
        ) from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{METRICS_FILE} cannot be read: {error}", str(file), code=340) from error


def _cells(file: Path) -> list[dict[str, Any]]:
    with file.open(newline="", encoding="utf-8", errors="replace") as lines:
        return list(csv.DictReader(lines))


def _values(row: dict[str, Any]) -> dict[str, float]:
    values: dict[str, float] = {}
    for name, text in row.items():
        with suppress(TypeError, ValueError):
            values[name] = float(text)
    for name in ("epoch", "step"):
        if not math.isfinite(values.get(name, math.nan)):
            values.pop(name, None)
    return values


def _by_step(rows: list[dict[str, float]], column: str, ends: dict[int, float]) -> Curve:
    """A metric that is logged at steps, over epochs."""
    values = {row["step"]: row[column] for row in rows if column in row and "step" in row}
    steps = np.array(sorted(values))
    if not len(steps):
        return np.array([]), np.array([])
    return _epochs_of(steps, ends), np.array([values[step] for step in steps])


def _epochs_of(steps: NDArray[np.float64], ends: dict[int, float]) -> NDArray[np.float64]:
    """Where steps lie among the epochs, each spans k - 0.5 to k + 0.5 and has a last step."""
    numbers, last = np.array(list(ends), dtype=float), np.array(list(ends.values()))
    first = numbers[0]
    length = (last[0] + 1) / (first + 1)  # the epochs before the first known one are taken to be as long
    knots_x = np.concatenate([[first - 0.5], numbers + 0.5, [numbers[-1] + 1.5]])
    tail = last[-1] - last[-2] if len(last) > 1 else length
    knots_s = np.concatenate([[last[0] - length], last, [last[-1] + max(tail, 1.0)]])
    return np.asarray(np.interp(steps, knots_s, knots_x), dtype=float)


def _config(file: Path) -> Any:
    """The configuration of the run; None where it cannot be read."""
    try:
        text = file.read_text(encoding="utf-8")
        warn_if_changed(text, file)
        return load_yaml_values(text)
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _settings(config: Any) -> tuple[int | None, dict[str, Any]]:
    """`trainer.max_epochs`, -1 for no limit, and `early_stopping`; empty where they are not said."""
    try:
        epochs, stopping = config["trainer"]["max_epochs"], config["early_stopping"]
    except (KeyError, TypeError):
        return None, {}
    known = isinstance(epochs, int) and epochs != 0
    return epochs if known else None, stopping if isinstance(stopping, dict) else {}


def _forecast(config: Any) -> tuple[tuple[str, ...], str]:
    """Targets and objective of a configuration; empty where it does not say them."""
    try:
        model = config["model"]
        targets, objective = config["data"]["targets"], (model.get("init_args") or model)["objective"]
        return tuple(_class_text(target) for target in targets or ()), _class_text(objective) if objective else ""
    except (KeyError, TypeError, AttributeError):
        return (), ""


def _class_text(spec: dict[str, Any]) -> str:
    arguments = ", ".join(f"{name}={value}" for name, value in sorted((spec.get("init_args") or {}).items()))
    return f"{str(spec['class_path']).rpartition('.')[2]}({arguments})"


def _has_stopped(metrics: dict[str, NDArray[np.float64]], stopping: dict[str, Any]) -> bool:
    """Whether `SmoothedEarlyStopping` has lost its patience; a run that goes on or was killed has not."""
    values = metrics.get(str(stopping.get("monitor")), np.array([]))
    sign = -1.0 if stopping.get("mode", "min") == "max" else 1.0
    kept, smoothed = float(stopping.get("smoothing") or 0.0), math.nan
    best, waited = math.inf, 0
    for raw in sign * values[np.isfinite(values)]:
        value = smoothed = raw if math.isnan(smoothed) else kept * smoothed + (1.0 - kept) * raw
        better = value + abs(float(stopping.get("min_delta") or 0.0)) < best
        best, waited = (value, 0) if better else (best, waited + 1)
    return waited >= int(stopping.get("patience", 3)) > 0
