"""Who proposes trials, who ends them early, and what they are judged by: samplers, pruners and objectives by name.

Optuna's classes go by short names and take their own arguments, save those that are no plain values.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import one_of
from cnn_lstm.sweeps.space import Space

if TYPE_CHECKING:
    import optuna

SAMPLERS = {
    "tpe": "TPESampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "random": "RandomSampler",
    "grid": "GridSampler",
}
PRUNERS = {
    "median": "MedianPruner",
    "hyperband": "HyperbandPruner",
    "wilcoxon": "WilcoxonPruner",
    "percentile": "PercentilePruner",
    "successive_halving": "SuccessiveHalvingPruner",
    "none": "NopPruner",
}
DEFAULT_SAMPLER = {"name": "tpe"}
# earlier it ends networks that learn late too, see "What pruning costs" in docs/sweep.md
DEFAULT_PRUNER = {"name": "median", "n_startup_trials": 3, "n_warmup_steps": 6}
# ours to give, or no plain value
OURS = {"seed", "search_space"}
OBJECTS = ("Callable", "BaseSampler", "FrozenTrial")
DIRECTIONS = ("minimize", "maximize")
MEASURES = ("parameters", "latency_ms")
# metrics of the validation of which one direction only makes sense
LOWER = ("loss", "mse", "mae", "rmse", *MEASURES)
HIGHER = ("r2", "explained_variance", "correlation", "accuracy", "balanced_accuracy", "f1", "mcc")
# sections that change the unit in which the loss is measured
UNITS = ("data.scaling", "model.objective")


@dataclass(frozen=True)
class Objective:
    """What trials are judged by.

    Attributes:
        metric: A logged figure of the validation, `parameters`, or `latency_ms`.
        direction: `minimize` or `maximize`.
    """

    metric: str
    direction: str

    def better(self, value: float, other: float) -> bool:
        """Whether one value of the metric is better than another; nothing is better than an equal one."""
        return value < other if self.direction == "minimize" else value > other


def read_objectives(given: Any, where: str = "objectives") -> tuple[Objective, ...]:
    """The objectives that a YAML section lists.

    Args:
        given: Its plain values; null for the validation loss.
        where: What errors name.

    Raises:
        ConfigError: Naming what is wrong.

    Example:
        >>> read_objectives([{"metric": "val_mae", "direction": "minimize"}])
        (Objective(metric='val_mae', direction='minimize'),)
    """
    if given is None:
        return (Objective("val_loss", "minimize"),)
    if not isinstance(given, list) or not given:
        raise ConfigError("no list of objectives", where, "write [{metric: val_loss, direction: minimize}]", code=254)
    found = tuple(_objective(item, f"{where}[{number}]") for number, item in enumerate(given))
    names = [objective.metric for objective in found]
    if len(set(names)) < len(names):
        raise ConfigError("one metric twice", f"{where}: {', '.join(names)}", "leave one out", code=254)
    return found


def _objective(given: Any, place: str) -> Objective:
    if not isinstance(given, Mapping) or set(given) != {"metric", "direction"}:
        raise ConfigError("an objective has metric and direction", place, f"instead of {given!r}", code=254)
    metric, direction = str(given["metric"]), str(given["direction"])
    if not metric.startswith("val_") and metric not in MEASURES:
        known = (*MEASURES, "val_loss", "val_mae", "val_rmse", "val_accuracy")
        fix = one_of(metric, known) + (" The test part is not for choosing." if "test" in metric else "")
        raise ConfigError(f"{metric} is no figure of the validation", f"{place}.metric", fix, code=254)
    if direction not in DIRECTIONS:
        raise ConfigError(f"direction {direction!r}", f"{place}.direction", one_of(direction, DIRECTIONS), code=254)
    _require_direction(metric, direction, place)
    return Objective(metric, direction)


def _require_direction(metric: str, direction: str, place: str) -> None:
    """Refuses a search for the worst; of several targets a figure has the target's name at its end."""
    figure = metric.removeprefix("val_")
    for names, sense in ((LOWER, "minimize"), (HIGHER, "maximize")):
        if direction != sense and any(figure == name or figure.startswith(f"{name}_") for name in names):
            raise ConfigError(f"direction {direction} of {metric}", f"{place}.direction", f"{sense} it", code=254)


def require_comparable(space: Space, objectives: Sequence[Objective], where: str = "objectives") -> None:
    """Refuses to compare losses that are measured in different units.

    The loss is one of standardised targets: with another scaling, or of another kind, its figure means something else.
    The other metrics of the validation are in the target's own unit.

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
            raise ConfigError(
                f"val_loss has another unit for another {key}",
                where,
                "judge by val_rmse or val_mae, which are in the target's unit, or take the key out of the space",
                code=254,
            )


def make_sampler(given: Any, space: Space, seed: int | None, where: str = "sampler") -> optuna.samplers.BaseSampler:
    """A sampler by its short name.

    Args:
        given: `{name: tpe, n_startup_trials: 5}`, every other key an argument of Optuna's class; null for TPE.
        space: The space; grid takes its grid from it.
        seed: Seed of this process; equal seeds in two workers would propose the same trials.
        where: What errors name.

    Raises:
        ConfigError: Naming what is wrong, and the nearest name where one is misspelt.
    """
    import optuna

    name, arguments = _split(DEFAULT_SAMPLER if given is None else given, SAMPLERS, where)
    if name == "grid":
        arguments["search_space"] = space.grid()
    cls = getattr(optuna.samplers, SAMPLERS[name])
    _check_arguments(cls, arguments, where)
    if "warn_independent_sampling" in inspect.signature(cls).parameters:
        # conditional entries are drawn independently by design, a line a trial helps nobody
        arguments.setdefault("warn_independent_sampling", False)
    return _built(lambda: cls(**arguments, seed=seed), where)  # type: ignore[no-any-return]


def make_pruner(given: Any, objectives: Sequence[Objective], where: str = "pruner") -> optuna.pruners.BasePruner:
    """A pruner by its short name.

    Args:
        given: `{name: median, n_warmup_steps: 3}`, every other key an argument of Optuna's class; null for the
            default, or for none where there are several objectives.
        objectives: What trials are judged by.
        where: What errors name.

    Raises:
        ConfigError: Naming what is wrong, and the nearest name where one is misspelt.
    """
    import optuna

    cannot = len(objectives) > 1 or objectives[0].metric in MEASURES
    if given is None:
        given = {"name": "none"} if cannot else DEFAULT_PRUNER
    name, arguments = _split(given, PRUNERS, where)
    if cannot and name != "none":
        raise ConfigError(
            f"{name} cannot prune here",
            where,
            "prune by one figure of the validation, or give {name: none}",
            code=253,
        )
    cls = getattr(optuna.pruners, PRUNERS[name])
    _check_arguments(cls, arguments, where)
    return _built(lambda: cls(**arguments), where)  # type: ignore[no-any-return]


def _split(given: Any, known: Collection[str], where: str) -> tuple[str, dict[str, Any]]:
    """Short name and arguments."""
    if not isinstance(given, Mapping) or "name" not in given:
        raise ConfigError("no name", where, f"write {{name: {next(iter(known))}}}; {one_of('', known)}", code=253)
    arguments = {str(key): value for key, value in given.items()}
    name = str(arguments.pop("name"))
    if name not in known:
        raise ConfigError(f"unknown name {name!r}", where, one_of(name, known), code=253)
    return name, arguments


def _check_arguments(cls: type, arguments: Mapping[str, Any], where: str) -> None:
    signature = inspect.signature(cls).parameters
    offered = [
        name
        for name, parameter in signature.items()
        if name not in OURS and not any(word in str(parameter.annotation) for word in OBJECTS)
    ]
    for name in arguments:
        if name == "seed":
            raise ConfigError("the sampler has no seed of its own", where, "set seed_everything", code=253)
        if name not in offered and name != "search_space":
            none = "it takes no arguments"
            raise ConfigError(f"unknown argument {name!r}", where, one_of(name, offered) if offered else none, code=253)
        if not _like(arguments[name], signature[name].default):
            annotation = signature[name].annotation
            raise ConfigError(f"{name}={arguments[name]!r}", where, f"give {annotation}", code=253)
    for name, parameter in signature.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise ConfigError(f"{name} is missing", where, f"give it beside name: {parameter.annotation}", code=253)


def _like(value: Any, default: Any) -> bool:
    """Whether a value is of the kind of the default; some classes look at it in the middle of the study only."""
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int | float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return True


def _built(build: Callable[[], Any], where: str) -> Any:
    """The object; values that Optuna refuses are told in one line."""
    import optuna

    with warnings.catch_warnings():
        # asked for by name, so that there is nothing to warn of
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        try:
            return build()
        except (ValueError, TypeError, NotImplementedError) as error:
            raise ConfigError(" ".join(str(error).split()), where, "correct the value", code=253) from error
        except ImportError as error:
            raise ConfigError(f"{error.name} is not installed", where, f"pip install {error.name}", code=253) from error
