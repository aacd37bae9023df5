"""What distinguishes a sweep of agents: what its trials are judged by, when, and where, and what none may change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from cnn_lstm.errors import ConfigError, require
from cnn_lstm.hints import one_of
from cnn_lstm.sweeps.definition import Definition, Kind
from cnn_lstm.sweeps.objectives import Metrics, Objective
from cnn_lstm.sweeps.study import Plan

DIRECTION = {
    "sharpe": "maximize",
    "psr": "maximize",
    "net_annual_return": "maximize",
    "max_drawdown": "minimize",
    "annual_turnover": "minimize",
    "mean_exposure": "minimize",
}
ANOTHER_MARKET = "trials in other markets, at other costs or on other dates cannot be compared"
# key or section -> why no trial may have its own
FIXED = {
    **dict.fromkeys(("config", "ckpt_path", "ckpt_digest", "forecasts_digest", "folder"), "all trials share it"),
    "trials": "the sweep counts its trials itself",
    "agent.seeds": "the luckiest seed is not a better agent",
    **dict.fromkeys(
        (f"market.{name}" for name in ("symbols", "forecasts", "embeddings", "part", "in_sample")), ANOTHER_MARKET
    ),
    **dict.fromkeys((f"market.{name}" for name in ("delay", "fee_bp", "slippage_bp")), ANOTHER_MARKET),
}
AGENTS = Kind(
    metrics=Metrics(
        default=Objective("val_sharpe", "maximize"),
        known=tuple(f"val_{name}" for name in DIRECTION),
        direction=DIRECTION,
        complete=True,
    ),
    fixed=FIXED,
    sections=("scoring",),
)


@dataclass(frozen=True)
class Scoring:
    """How the agents of a trial are judged; the section `scoring` of the file.

    Attributes:
        evaluations: How often each agent is played on the scoring dates while it learns, the end included.
        share: Share of the validation part that is kept for scoring, its last dates, where agents learn in that part
            too. Agents of the training part are scored on the whole validation part.

    Raises:
        ConfigError: E250, if a value is impossible.

    Example:
        >>> Scoring.of({"scoring": {"evaluations": 5}}, "space.yaml")
        Scoring(evaluations=5, share=0.5)
    """

    evaluations: int = 10
    share: float = 0.5

    @classmethod
    def of(cls, tree: Mapping[str, Any], where: str = "sweep") -> Scoring:
        """Reads the section of a file.

        Args:
            tree: Plain values of the whole file.
            where: Name of the file, for errors.
        """
        section, place = tree.get("scoring"), f"{where}: scoring"
        if section is None:
            return cls()
        known = [field.name for field in fields(cls)]
        require(isinstance(section, Mapping), "scoring is not a section", place, "give evaluations, share", code=250)
        for key in section:
            if key not in known:
                raise ConfigError(f"unknown key {str(key)!r}", place, one_of(key, known), code=250)
        scoring = cls(**section)
        looks, share = scoring.evaluations, scoring.share
        fix = "give a whole number from 1 to 1000"
        require(type(looks) is int and 1 <= looks <= 1000, f"evaluations={looks!r}", place, fix, code=250)
        inside = type(share) is float and math.isfinite(share) and 0 < share < 1
        require(inside, f"share={share!r}", place, "give a number between 0 and 1", code=250)
        return scoring


def definition_of(tree: Any, where: str = "sweep") -> Definition:
    """A sweep of agents, as its file describes it.

    Args:
        tree: Plain values of the file.
        where: Name of the file, for errors.

    Raises:
        ConfigError: In one line that names file and key.

    Example:
        >>> definition = definition_of({"space": {"agent.arguments.gamma": {"categorical": [0.9, 0.99]}}})
        >>> definition.objectives[0]
        Objective(metric='val_sharpe', direction='maximize')
    """
    definition = Definition.from_plain(tree, where, AGENTS)
    Scoring.of(tree, where)
    return definition


@dataclass(frozen=True)
class AgentPlan(Plan):
    """What a worker of a sweep of agents needs to know; `argv` are arguments of `rl train`."""

    @cached_property
    def definition(self) -> Definition:
        """What is searched, how, and for what."""
        return definition_of(self.described)

    @property
    def scoring(self) -> Scoring:
        """How the agents of a trial are judged."""
        return Scoring.of(self.described)

    def models(self, number: int) -> list[Path]:
        """The agents of a trial, which only the best trials keep."""
        return sorted(self.run(number).path.glob("agent_seed*.zip"))
