"""Champion against challenger, on dates that neither has seen; and what was decided at each step of a roll.

Shapes: n forecasts of a predictions table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cnn_lstm.data.predictions import target_infos
from cnn_lstm.data.splits import day
from cnn_lstm.errors import DataError
from cnn_lstm.evaluation.foreign.compare import TargetComparison, compare_forecasters
from cnn_lstm.evaluation.formatting import p_value, percent
from cnn_lstm.evaluation.report import json_values
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.evaluation.verdict import dates_needed, holds_up
from cnn_lstm.files import make_folder, read_json, write_json_whole
from cnn_lstm.service.health import Health

FOLDER = "decisions"
CHALLENGER, CHAMPION = "challenger", "champion"
LEAST_DATES = 2


@dataclass(frozen=True)
class Contest:
    """The two models on one target; signed values are above 0 where the challenger is better.

    Attributes:
        loss: Name of the loss.
        rows: Forecasts that both made, and whose outcome was known.
        dates: Their dates.
        champion: Mean loss of the champion.
        challenger: Mean loss of the challenger.
        skill: 1 - challenger / champion.
        dm_p: Two-sided p-value of Diebold and Mariano.
        bootstrap_p: Two-sided p-value of the stationary bootstrap.
        wins: Whether there is evidence that the challenger is better.
        loses: Whether there is evidence that the champion is.
    """

    loss: str
    rows: int
    dates: int
    champion: float
    challenger: float
    skill: float | None
    dm_p: float
    bootstrap_p: float
    wins: bool
    loses: bool


@dataclass(frozen=True)
class Decision:
    """What became of a step; a file keeps it, so that no later price changes it.

    Attributes:
        step: Number of the step, and of its challenger.
        date: Date of the step, ISO, UTC.
        judged_from: First decision that the contest was about, ISO, UTC.
        before: Step whose model was the champion; None at the first step.
        promoted: Whether the challenger is the champion from now on.
        reason: Why, in one sentence.
        health: Verdict on the champion's health; empty at the first step.
        signs: Why, in whole sentences.
        targets: The contest on each target; empty at the first step.
    """

    step: int
    date: str
    judged_from: str
    before: int | None
    promoted: bool
    reason: str
    health: str = ""
    signs: Sequence[str] = ()
    targets: Mapping[str, Contest] = field(default_factory=dict)

    @property
    def champion(self) -> int:
        """Step whose model is the champion from now on."""
        return self.step if self.promoted or self.before is None else self.before

    def write(self, folder: Path) -> None:
        """Keeps it in a folder of a roll."""
        make_folder(folder / FOLDER)
        write_json_whole(_file(folder, self.step), json_values(asdict(self)))

    @classmethod
    def read(cls, folder: Path, step: int) -> Decision | None:
        """The decision of a step; None if there is none yet.

        Raises:
            DataError: E339, if it is damaged.
        """
        file = _file(folder, step)
        if not file.is_file():
            return None
        kept = read_json(file, "decision of a step")
        try:
            targets = {str(name): _kept_contest(one) for name, one in kept.pop("targets").items()}
            known = {part.name for part in fields(cls)} - {"targets"}
            if set(kept) != known or kept["step"] != step or not _is_decision(kept):
                raise TypeError("other fields")
            return cls(**kept, targets=targets)
        except (TypeError, AttributeError, LookupError, ValueError) as error:
            fix = "remove it, and go on with --resume: the step is decided again"
            raise DataError("no intact decision of a step", str(file), fix, code=339) from error


def _is_decision(kept: Mapping[str, Any]) -> bool:
    """Whether the values of a decision are of their types: the file may be a stranger's."""
    texts = all(isinstance(kept[name], str) for name in ("date", "judged_from", "reason", "health"))
    before, step, signs = kept["before"], kept["step"], kept["signs"]
    first = before is None and step == 0
    after = type(before) is int and 0 <= before < step
    said = isinstance(signs, list) and all(isinstance(sign, str) for sign in signs)
    return texts and (first or after) and said and isinstance(kept["promoted"], bool)


def _kept_contest(fields_of: Mapping[str, Any]) -> Contest:
    """A contest of a file.

    Raises:
        TypeError: If a field is missing, or of another type.
    """
    one = Contest(**fields_of)
    counts = (type(one.rows), type(one.dates), type(one.wins), type(one.loses)) == (int, int, bool, bool)
    losses = (one.champion, one.challenger, one.dm_p, one.bootstrap_p)
    numbers = all(isinstance(value, float | int | None) for value in (*losses, one.skill))
    if not (counts and numbers and isinstance(one.loss, str)):
        raise TypeError("a field of another type")
    return one


def _file(folder: Path, step: int) -> Path:
    return folder / FOLDER / f"step_{step}.json"


def known_by(table: pd.DataFrame, date: np.datetime64) -> pd.DataFrame:
    """The rows of a predictions table whose outcome was known before a moment.

    Args:
        table: Predictions table, (n,).
        date: The moment, UTC.
    """
    known = table["target_end"] < pd.Timestamp(date, tz="UTC")
    return table[known & table["y_true"].notna()].reset_index(drop=True)


def contests(
    challenger: pd.DataFrame, champion: pd.DataFrame, date: np.datetime64, settings: Evaluation
) -> dict[str, Contest]:
    """Compares the two on the rows whose outcome was known before the date of a step.

    Both tests have to find the challenger better, and the whole interval of its skill has to lie above 0, as in the
    verdict of `test`. Of several targets each is tested at a share of the level.

    Args:
        challenger: Predictions table of the challenger, over the dates that it does not know.
        champion: That of the champion, of the same rows.
        date: The date of the step, UTC.
        settings: Level of significance, resamples and seed.

    Raises:
        DataError: E358, if fewer than two rows can be compared.
    """
    tables = {CHALLENGER: known_by(challenger, date), CHAMPION: known_by(champion, date)}
    compared = compare_forecasters(tables, settings)
    horizons = {name: about.horizon for name, about in target_infos(challenger).items()}
    level = settings.level / len(compared)
    return {name: _contest(one, horizons[name], level) for name, one in compared.items()}


def _contest(one: TargetComparison, horizon: int, level: float) -> Contest:
    pair = one.pairs[0]
    enough = one.dates >= dates_needed(horizon)
    compared = pair.compared
    worse = compared.dm_statistic < 0 and compared.skill_interval[1] < 0
    return Contest(
        loss=one.loss,
        rows=one.rows,
        dates=one.dates,
        champion=one.losses[CHAMPION],
        challenger=one.losses[CHALLENGER],
        skill=None if np.isnan(compared.skill) else compared.skill,
        dm_p=compared.dm_p,
        bootstrap_p=compared.bootstrap_p,
        wins=enough and holds_up(compared, level),
        loses=enough and worse and max(compared.dm_p, compared.bootstrap_p) < level,
    )


def decide(
    step: int,
    date: np.datetime64,
    judged_from: np.datetime64,
    before: int,
    targets: Mapping[str, Contest],
    health: Health,
) -> Decision:
    """Whether the challenger becomes the champion.

    It does where it wins on a target and loses on none, or where the champion is stale and the challenger does not
    lose. Otherwise the champion stays: a new model is not better for being new.

    Args:
        step: Number of the step.
        date: Its date, UTC.
        judged_from: First decision that the contest was about.
        before: Step of the champion.
        targets: The contest on each target.
        health: The champion's health.

    Example:
        >>> tied = Contest("QLIKE", 200, 50, 0.43, 0.42, 0.02, 0.4, 0.4, wins=False, loses=False)
        >>> moment = np.datetime64("2012-01-03")
        >>> [decide(3, moment, moment, 1, {"v": tied}, Health(one, [])).champion for one in ("fine", "stale")]
        [1, 3]
    """
    wins, loses = ([name for name, one in targets.items() if getattr(one, of)] for of in ("wins", "loses"))
    stale = health.verdict == "stale"
    promoted = not loses and (bool(wins) or stale)
    reason = _reason(targets, wins, loses, stale)
    return Decision(
        step, str(date), str(judged_from), before, promoted, reason, health.verdict, health.reasons, dict(targets)
    )


def _reason(targets: Mapping[str, Contest], wins: list[str], loses: list[str], stale: bool) -> str:
    name = (loses or wins or [min(targets, key=lambda one: targets[one].dm_p)])[0]
    one = targets[name]
    word = "below" if one.challenger < one.champion else "above"
    skill = "not comparable with" if one.skill is None else f"{percent(abs(one.skill))} {word}"
    tests = f"Diebold-Mariano p {p_value(one.dm_p)}, bootstrap p {p_value(one.bootstrap_p)}"
    figures = f"{one.loss} {skill} the champion's, {tests}"
    if loses:
        return f"the challenger is worse: {name}, {figures}"
    if wins:
        return f"the challenger is better: {name}, {figures}"
    end = "the champion is stale" if stale else "no evidence that the challenger is better"
    return f"{end}: {name}, {figures}"


def first_decision(date: np.datetime64, judged_from: np.datetime64) -> Decision:
    """The decision of the first step, which has no champion to meet."""
    return Decision(0, str(date), str(judged_from), None, True, f"the first model, of {day(date)}")
