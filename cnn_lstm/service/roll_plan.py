"""When a roll trains: the dates of its steps, and what each of them may know.

At its date D a step trains a challenger on labels that end before D less `judge_on`, and judges it on the dates in
between. The model that is the champion then forecasts from D to the next date.

Shapes: n distinct timestamps of a price table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from cnn_lstm.data.durations import Duration
from cnn_lstm.data.sources.base import stamp
from cnn_lstm.data.splits import Boundaries, DateSplit, day
from cnn_lstm.data.times import Times
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.files import read_json
from cnn_lstm.hints import counted

FILE = "plan.json"


@dataclass(frozen=True)
class Words:
    """What the command line says of a roll; None where it says nothing.

    Attributes:
        every: Duration from one step to the next.
        judge_on: Duration before a step on which its challenger is judged; that of `every` by default.
        grace: How long a champion forecasts after the next step was due; that of `every` by default.
        first: Date of the first step, ISO; the test part of the configuration by default.
        until: Date at which the walk ends, ISO; the last bar by default.
        warm_start: Whether each fit begins with the weights of the one before.
    """

    every: str | None = None
    judge_on: str | None = None
    grace: str | None = None
    first: str | None = None
    until: str | None = None
    warm_start: bool | None = None


@dataclass(frozen=True)
class Plan:
    """What stays the same in all steps of a roll, in plain values; plan.json keeps it.

    Attributes:
        every: As in `Words`.
        judge_on: As in `Words`.
        grace: As in `Words`.
        first: Date of the first step, ISO, UTC.
        train: First training decision, ISO, UTC; None for the first row of the prices.
        validation_dates: Distinct timestamps of the validation part of each fit.
        warm_start: As in `Words`.
    """

    every: str
    judge_on: str
    grace: str
    first: str
    train: str | None
    validation_dates: int
    warm_start: bool

    @classmethod
    def of(cls, words: Words, edges: Boundaries, grid: Times) -> Plan:
        """The plan of a new roll.

        Args:
            words: What the command line says.
            edges: The parts that the configuration gives.
            grid: Distinct ascending timestamps of the prices, (n,).

        Raises:
            ConfigError: E236, if a span cannot be read, or none is given.
        """
        if words.every is None:
            raise ConfigError("roll needs to know how often", "--every", "give for example --every 3mo", code=236)
        every = str(Duration.parse(words.every, "--every"))
        spans = {
            name: str(Duration.parse(text, f"--{name}")) if (text := getattr(words, name)) else every
            for name in ("judge_on", "grace")
        }
        first = edges.test if words.first is None else stamp(words.first, "--from")
        length = np.searchsorted(grid, edges.test) - np.searchsorted(grid, edges.validation)
        train = str(edges.train) if edges.train > grid[0] else None
        return cls(every, spans["judge_on"], spans["grace"], str(first), train, int(length), bool(words.warm_start))

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan of a roll that goes on.

        Raises:
            DataError: E339, if it is damaged.
        """
        kept = read_json(folder / FILE, "plan of a roll")
        if set(kept) != {part.name for part in fields(cls)} or not _is_plan(kept):
            raise DataError("no intact plan of a roll", str(folder / FILE), "begin again in a new --folder", code=339)
        return cls(**kept)

    def require_same(self, words: Words, folder: Path) -> None:
        """Refuses to go on with other words.

        Args:
            words: What the command line says.
            folder: The folder of the roll, for the message.

        Raises:
            ConfigError: E242, naming the first difference.
        """
        given: Mapping[str, Any] = {
            name: None if (text := getattr(words, name)) is None else str(Duration.parse(text, f"--{name}"))
            for name in ("every", "judge_on", "grace")
        }
        first = None if words.first is None else str(stamp(words.first, "--from"))
        asked = {**given, "first": first, "warm_start": words.warm_start or None}
        for name, value in asked.items():
            if value is not None and value != getattr(self, name):
                what = f"the roll was begun with another --{'from' if name == 'first' else name}"
                where = f"{folder}: {getattr(self, name)} -> {value}"
                raise ConfigError(what, where, "leave it out, or choose a new --folder", code=242)

    def to_plain(self) -> dict[str, Any]:
        """Plain values, as plan.json holds them."""
        return asdict(self)


def _is_plan(kept: Mapping[str, Any]) -> bool:
    """Whether the values of plan.json are of their types: the file may be a stranger's."""
    texts = all(isinstance(kept[name], str) for name in ("every", "judge_on", "grace", "first"))
    kinds = isinstance(kept["train"], str | None) and isinstance(kept["warm_start"], bool)
    try:
        moments = [np.datetime64(text, "us") for text in (kept["first"], kept["train"]) if text is not None]
    except (ValueError, TypeError):
        return False
    return texts and kinds and not np.isnat(moments).any() and type(kept["validation_dates"]) is int


@dataclass(frozen=True)
class Step:
    """One step of a roll.

    Attributes:
        number: Which one, from 0.
        date: When it is done: its model may know the bars before this moment.
        stop: Where its forecasts end: the date of the next step, or the end of the walk.
        validation: First validation decision of its fit.
        judged_from: First decision that its fit knows nothing of; the challenger is judged from here to `date`.
        train: First training decision; None for the first row.
    """

    number: int
    date: np.datetime64
    stop: np.datetime64
    validation: np.datetime64
    judged_from: np.datetime64
    train: str | None

    def split(self) -> DateSplit:
        """The split of its fit; the judged dates are its test part."""
        return DateSplit(str(self.validation), str(self.judged_from), self.train)

    def split_until_date(self) -> DateSplit:
        """The same on prices that go on after its date."""
        return DateSplit(str(self.validation), str(self.judged_from), self.train, str(self.date))


def steps_due(plan: Plan, grid: Times, until: np.datetime64 | None = None) -> list[Step]:
    """The steps whose date has come.

    A step is due once a bar at or after its date is there, so that all bars before it are.

    Args:
        plan: The plan.
        grid: Distinct ascending timestamps of the prices, (n,).
        until: Where the walk ends; after the last bar by default.

    Returns:
        All steps since the first one.

    Raises:
        ConfigError: E237, if the first date is not inside the prices, or too early to train before it.

    Example:
        >>> days = np.arange("2020-01-01", "2020-12-31", dtype="datetime64[D]").astype("datetime64[us]")
        >>> plan = Plan("3mo", "1mo", "1mo", "2020-05-01", None, 30, False)
        >>> [(str(step.date)[:10], str(step.judged_from)[:10]) for step in steps_due(plan, days)]
        [('2020-05-01', '2020-04-01'), ('2020-08-01', '2020-07-01'), ('2020-11-01', '2020-10-01')]
    """
    end = grid[-1] + np.timedelta64(1, "us")
    stop = end if until is None else min(until, end)
    dates = list(_dates(plan, grid, stop))
    if not dates:
        last = f"the prices end on {day(grid[-1])}"
        raise ConfigError(f"no step is due: the first is of {plan.first[:10]}", last, "give --from earlier", code=237)
    stops = [*dates[1:], stop]
    return [_step(plan, k, *pair, grid) for k, pair in enumerate(zip(dates, stops, strict=True))]


def _dates(plan: Plan, grid: Times, stop: np.datetime64) -> list[np.datetime64]:
    every, first = Duration.parse(plan.every, "--every"), np.datetime64(plan.first, "us")
    dates: list[np.datetime64] = []
    date: np.datetime64 | None = first
    while date is not None and date < stop:
        dates.append(date)
        date = every.shifted(first, len(dates), grid)
    return dates


def _step(plan: Plan, number: int, date: np.datetime64, stop: np.datetime64, grid: Times) -> Step:
    judged_from = Duration.parse(plan.judge_on, "--judge_on").shifted(date, -1, grid)
    place = -1 if judged_from is None else int(np.searchsorted(grid, judged_from)) - plan.validation_dates
    if judged_from is None or place < 1:
        what = f"no date is left to train on before {day(date)}"
        where = f"{counted(plan.validation_dates, 'date')} of validation, judged on {plan.judge_on}"
        raise ConfigError(what, where, "give --from later, or shorter parts", code=237)
    return Step(number, date, stop, grid[place], judged_from, plan.train)


def next_date(plan: Plan, last: Step, grid: Times) -> np.datetime64:
    """When the next step is due; an estimate where it is counted in bars.

    Args:
        plan: The plan.
        last: The last step that is due.
        grid: Distinct ascending timestamps of the prices, (n,).
    """
    every = Duration.parse(plan.every, "--every")
    following = every.shifted(np.datetime64(plan.first, "us"), last.number + 1, grid)
    return every.beyond(last.date, grid) if following is None else following


def expiry_of(plan: Plan, step: Step, grid: Times) -> np.datetime64:
    """The first decision that a champion of a step is not to forecast without another step.

    Args:
        plan: The plan.
        step: The step at which it was judged last.
        grid: Distinct ascending timestamps of the prices, (n,); those before the step's date count.
    """
    known = grid[grid < step.date]
    due = Duration.parse(plan.every, "--every").beyond(step.date, known)
    return Duration.parse(plan.grace, "--grace").beyond(due, known)
