"""What a sweep's YAML file says: space, objectives, and what proposes trials and ends them early.

Optuna's samplers and pruners have short names here. They take the arguments of Optuna's classes, except those that are
not plain values.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import one_of
from cnn_lstm.sweeps.objectives import FORECASTS, MEASURES, Metrics, Objective, read_objectives, require_comparable
from cnn_lstm.sweeps.space import Space
from cnn_lstm.sweeps.space_reader import FIXED, read_space

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
# an earlier start also ends networks that learn late, see "What pruning costs" in docs/sweep.md
DEFAULT_PRUNER = {"name": "median", "n_startup_trials": 3, "n_warmup_steps": 6}
# set by a sweep itself, or not a plain value
SET_BY_SWEEP = {"seed", "search_space"}
OBJECT_TYPES = ("Callable", "BaseSampler", "FrozenTrial")
SECTIONS = ("sampler", "pruner", "objectives", "space")


@dataclass(frozen=True)
class Kind:
    """What distinguishes the trials of one command from those of another.

    Attributes:
        metrics: What they can be judged by.
        fixed: Keys that no trial may have of its own, and why.
        sections: Further sections of the file, which the command reads itself.
    """

    metrics: Metrics
    fixed: Mapping[str, str]
    sections: tuple[str, ...] = ()


FITS = Kind(FORECASTS, FIXED)


@dataclass(frozen=True)
class Definition:
    """A sweep, as its file describes it.

    Attributes:
        space: What is searched.
        objectives: What trials are judged by.
        sampler: Short name and arguments; None for the default.
        pruner: Short name and arguments; None for the default.
        where: The file, for errors.

    Example:
        >>> definition = Definition.from_plain({"space": {"data.window": {"int": [20, 60]}}})
        >>> definition.objectives[0].metric, sorted(definition.space.keys)
        ('val_loss', ['data.window'])
    """

    space: Space
    objectives: tuple[Objective, ...]
    sampler: Any = None
    pruner: Any = None
    where: str = "sweep"

    @classmethod
    def from_plain(cls, tree: Any, where: str = "sweep", kind: Kind = FITS) -> Definition:
        """Reads the plain values of a file, and refuses what Optuna would refuse later.

        Args:
            tree: Plain values, as YAML gives them.
            where: Name of the file, for errors.
            kind: What its trials are.

        Raises:
            ConfigError: In one line that names file and key.
        """
        known = (*SECTIONS, *kind.sections)
        if not isinstance(tree, Mapping):
            raise ConfigError("the file does not describe a sweep", where, f"give {', '.join(known)}", code=250)
        for key in tree:
            if key not in known:
                raise ConfigError(f"unknown key {str(key)!r}", where, one_of(key, known), code=250)
        space = read_space(tree.get("space"), f"{where}: space", kind.fixed)
        objectives = read_objectives(tree.get("objectives"), f"{where}: objectives", kind.metrics)
        require_comparable(space, objectives, f"{where}: objectives")
        definition = cls(space, objectives, tree.get("sampler"), tree.get("pruner"), where)
        definition.make_sampler(None)
        definition.make_pruner()
        return definition

    def make_sampler(self, seed: int | None) -> optuna.samplers.BaseSampler:
        """The sampler of one trial: `{name: tpe, n_startup_trials: 5}`, every other key an argument of Optuna's class.

        Args:
            seed: Its seed; equal seeds in two workers would propose the same trials.

        Raises:
            ConfigError: Naming what is wrong, and the nearest name where one is misspelt.
        """
        where = f"{self.where}: sampler"
        name, arguments = _split(DEFAULT_SAMPLER if self.sampler is None else self.sampler, SAMPLERS, where)
        if name == "grid":
            arguments["search_space"] = self.space.grid()
        cls = getattr(optuna.samplers, SAMPLERS[name])
        _check_arguments(cls, arguments, where)
        if "warn_independent_sampling" in inspect.signature(cls).parameters:
            # conditional parameters are drawn independently by design; a warning per trial helps nobody
            arguments.setdefault("warn_independent_sampling", False)
        return _built(cls, arguments | {"seed": seed}, where)  # type: ignore[no-any-return]  # a class by its name

    def make_pruner(self) -> optuna.pruners.BasePruner:
        """The pruner, `{name: median, n_warmup_steps: 3}` in the same way; none where there are several objectives.

        Raises:
            ConfigError: Naming what is wrong, and the nearest name where one is misspelt.
        """
        where, section = f"{self.where}: pruner", self.pruner
        cannot = len(self.objectives) > 1 or self.objectives[0].metric in MEASURES
        if section is None:
            section = {"name": "none"} if cannot else DEFAULT_PRUNER
        name, arguments = _split(section, PRUNERS, where)
        if cannot and name != "none":
            fix = "prune by one metric of the validation part, or give {name: none}"
            raise ConfigError(f"{name} cannot prune here", where, fix, code=253)
        cls = getattr(optuna.pruners, PRUNERS[name])
        _check_arguments(cls, arguments, where)
        return _built(cls, arguments, where)  # type: ignore[no-any-return]  # a class by its name

    @property
    def combinations(self) -> int | None:
        """How many trials a grid has; None for samplers without an end."""
        return math.prod(map(len, self.space.grid().values())) if self.is_grid else None

    @property
    def is_grid(self) -> bool:
        """Whether each combination is tried once."""
        return self.sampler is not None and self.sampler["name"] == "grid"

    @property
    def directions(self) -> list[str]:
        """`minimize` or `maximize` of each objective."""
        return [objective.direction for objective in self.objectives]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of space and objectives; studies with equal ones can be shared, whatever samples and prunes them."""
        objectives = [[objective.metric, objective.direction] for objective in self.objectives]
        return hashlib.sha256(json.dumps([self.space.fingerprint, objectives]).encode()).hexdigest()


# -- samplers and pruners ----------------------------------------------------------------------------------------------


@contextmanager
def experimental() -> Iterator[None]:
    """Mutes Optuna's ExperimentalWarning where one of its experimental parts is used on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _split(section: Any, known: Collection[str], where: str) -> tuple[str, dict[str, Any]]:
    """Short name and arguments."""
    if not isinstance(section, Mapping) or "name" not in section:
        raise ConfigError("no name", where, f"write {{name: {next(iter(known))}}}; {one_of('', known)}", code=253)
    arguments = {str(key): value for key, value in section.items()}
    name = str(arguments.pop("name"))
    if name not in known:
        raise ConfigError(f"unknown name {name!r}", where, one_of(name, known), code=253)
    return name, arguments


def _check_arguments(cls: type, arguments: Mapping[str, Any], where: str) -> None:
    signature = inspect.signature(cls).parameters
    offered = [
        name
        for name, parameter in signature.items()
        if name not in SET_BY_SWEEP and not any(kind in str(parameter.annotation) for kind in OBJECT_TYPES)
    ]
    for name, value in arguments.items():
        if name == "seed":
            raise ConfigError(
                "the sampler cannot have its own seed", where, "set seed_everything, or agent.seeds", code=253
            )
        if name not in offered and name != "search_space":
            fix = one_of(name, offered) if offered else "it takes no arguments"
            raise ConfigError(f"unknown argument {name!r}", where, fix, code=253)
        if not _like(value, signature[name].default):
            raise ConfigError(f"{name}={value!r}", where, f"give {signature[name].annotation}", code=253)
    for name, parameter in signature.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise ConfigError(f"{name} is missing", where, f"give it next to name: {parameter.annotation}", code=253)


def _like(value: Any, default: Any) -> bool:
    """Whether a value has the type of the default; some classes only look at it in the middle of the study."""
    if isinstance(default, bool):
        return isinstance(value, bool)
    return not isinstance(default, int | float) or (isinstance(value, int | float) and not isinstance(value, bool))


def _built(cls: type, arguments: Mapping[str, Any], where: str) -> Any:
    """The object; values that Optuna refuses are reported in one line."""
    with experimental():
        warnings.simplefilter("ignore", FutureWarning)  # the user asked for the class by name
        try:
            return cls(**arguments)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise ConfigError(" ".join(str(error).split()), where, "correct the value", code=253) from error
        except ImportError as error:
            raise ConfigError(f"{error.name} is not installed", where, f"pip install {error.name}", code=253) from error
