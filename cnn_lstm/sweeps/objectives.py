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
DIRECTION = {**dict.fromkeys(LOWER, "minimize"), **dict.fromkeys(HIGHER, "maximize")}
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


@dataclass(frozen=True)
class Metrics:
    """What trials of a kind can be judged by.

    Attributes:
        default: The objective where the file names none.
        known: Names that are offered in place of a misspelt one.
        direction: The only direction that makes sense, by the name without `val_`.
        complete: Whether `known` names all of them; else any metric of the validation part may be logged.
    """

    default: Objective
    known: tuple[str, ...]
    direction: Mapping[str, str]
    complete: bool = False

    def admits(self, metric: str) -> bool:
        """Whether a trial may have this metric."""
        return metric in self.known or (not self.complete and metric.startswith("val_"))


FORECASTS = Metrics(
    default=Objective("val_loss", "minimize"),
    known=(*MEASURES, "val_loss", "val_mae", "val_rmse", "val_accuracy"),
    direction=DIRECTION,
)


def read_objectives(section: Any, where: str = "objectives", metrics: Metrics = FORECASTS) -> tuple[Objective, ...]:
    """The objectives that a YAML section lists.

    Args:
        section: Its plain values; None for the default.
        where: What errors name.
        metrics: What trials can be judged by.

    Raises:
        ConfigError: Naming what is wrong.

    Example:
        >>> read_objectives([{"metric": "val_mae", "direction": "minimize"}])
        (Objective(metric='val_mae', direction='minimize'),)
    """
    default = metrics.default
    if section is None:
        return (default,)
    if not isinstance(section, list) or not section:
        fix = f"write [{{metric: {default.metric}, direction: {default.direction}}}]"
        raise ConfigError("objectives are not a list", where, fix, code=254)
    objectives = tuple(_objective(item, f"{where}[{number}]", metrics) for number, item in enumerate(section))
    names = [objective.metric for objective in objectives]
    if len(set(names)) < len(names):
        raise ConfigError("a metric is listed twice", f"{where}: {', '.join(names)}", "leave one out", code=254)
    return objectives


def _objective(item: Any, where: str, metrics: Metrics) -> Objective:
    if not isinstance(item, Mapping) or set(item) != {"metric", "direction"}:
        raise ConfigError("an objective has metric and direction", where, f"replace {item!r}", code=254)
    metric, direction = str(item["metric"]), str(item["direction"])
    if not metrics.admits(metric):
        fix = one_of(metric, metrics.known) + (" The test part is not for choosing." if "test" in metric else "")
        raise ConfigError(f"{metric} is not a metric of the validation part", f"{where}.metric", fix, code=254)
    if direction not in DIRECTIONS:
        raise ConfigError(f"direction {direction!r}", f"{where}.direction", one_of(direction, DIRECTIONS), code=254)
    name = metric.removeprefix("val_")  # with several targets, the name of one follows
    for each, sense in metrics.direction.items():
        if direction != sense and (name == each or name.startswith(f"{each}_")):
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
