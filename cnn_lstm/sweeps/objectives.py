"""What the trials of a sweep are judged by: a metric and its direction, read from YAML and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import one_of
from cnn_lstm.sweeps.space import Space

DIRECTIONS = ("minimize", "maximize")
# measured of the best checkpoint, after the fit
MEASURES = ("parameters", "latency_ms")
# metrics of the validation part for which only one direction makes sense
LOWER = ("loss", "mse", "mae", "rmse", *MEASURES)
HIGHER = ("r2", "explained_variance", "correlation", "accuracy", "balanced_accuracy", "f1", "mcc")
# sections that change the unit in which the loss is measured
UNITS = ("data.scaling", "data.per_symbol", "model.objective")


@dataclass(frozen=True)
class Objective:
    """A metric that trials are judged by.

    Attributes:
        metric: A logged metric of the validation part, `parameters`, or `latency_ms`.
        direction: `minimize` or `maximize`.
    """

    metric: str
    direction: str

    def better(self, value: float, other: float) -> bool:
        """Whether the first value is better than the other one; equal values are not."""
        return value < other if self.direction == "minimize" else value > other


def read_objectives(section: Any, where: str = "objectives") -> tuple[Objective, ...]:
    """The objectives that a YAML section lists.

    Args:
        section: Its plain values; None for the validation loss.
        where: What errors name.

    Raises:
        ConfigError: Naming what is wrong.

    Example:
        >>> read_objectives([{"metric": "val_mae", "direction": "minimize"}])
        (Objective(metric='val_mae', direction='minimize'),)
    """
    if section is None:
        return (Objective("val_loss", "minimize"),)
    if not isinstance(section, list) or not section:
        fix = "write [{metric: val_loss, direction: minimize}]"
        raise ConfigError("objectives are not a list", where, fix, code=254)
    objectives = tuple(_objective(item, f"{where}[{number}]") for number, item in enumerate(section))
    metrics = [objective.metric for objective in objectives]
    if len(set(metrics)) < len(metrics):
        raise ConfigError("a metric is listed twice", f"{where}: {', '.join(metrics)}", "leave one out", code=254)
    return objectives


def _objective(item: Any, where: str) -> Objective:
    if not isinstance(item, Mapping) or set(item) != {"metric", "direction"}:
        raise ConfigError("an objective has metric and direction", where, f"replace {item!r}", code=254)
    metric, direction = str(item["metric"]), str(item["direction"])
    if not metric.startswith("val_") and metric not in MEASURES:
        known = (*MEASURES, "val_loss", "val_mae", "val_rmse", "val_accuracy")
        fix = one_of(metric, known) + (" The test part is not for choosing." if "test" in metric else "")
        raise ConfigError(f"{metric} is not a metric of the validation part", f"{where}.metric", fix, code=254)
    if direction not in DIRECTIONS:
        raise ConfigError(f"direction {direction!r}", f"{where}.direction", one_of(direction, DIRECTIONS), code=254)
    name = metric.removeprefix("val_")  # with several targets, the name of one follows
    for names, sense in ((LOWER, "minimize"), (HIGHER, "maximize")):
        if direction != sense and any(name == each or name.startswith(f"{each}_") for each in names):
            raise ConfigError(f"direction {direction} of {metric}", f"{where}.direction", f"{sense} it", code=254)
    return Objective(metric, direction)


def require_comparable(space: Space, objectives: Sequence[Objective], where: str = "objectives") -> None:
    """Refuses to compare losses that are measured in different units.

    The loss is measured on standardised targets, so that its value means something else under another scaling or
    another kind of loss. The other metrics of the validation part are in the target's own unit.

    Args:
        space: What is searched.
        objectives: What trials are judged by.
        where: What errors name.

    Raises:
        ConfigError: If `val_loss` is an objective, and the space changes its unit.
    """
    if all(objective.metric != "val_loss" for objective in objectives):
        return
    for key in sorted(space.keys):
        if any(f"{key}.".startswith(f"{unit}.") for unit in UNITS):
            fix = "judge by val_rmse or val_mae, which are in the target's unit, or take the key out of the space"
            raise ConfigError(f"val_loss has another unit for each {key}", where, fix, code=254)


def monitored(objectives: Sequence[Objective]) -> Objective:
    """The first objective that each epoch logs; the validation loss if there is none.

    Args:
        objectives: What trials are judged by.
    """
    logged = [objective for objective in objectives if objective.metric not in MEASURES]
    return logged[0] if logged else Objective("val_loss", "minimize")
