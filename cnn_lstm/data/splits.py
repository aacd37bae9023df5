"""A split: which rows belong to train, validation and test, cut by date over all symbols, purged by label interval.

A row belongs to a part by its decision time, or, where the split says so, by the time at which its label ends, as many
papers count. A training row is purged when its label interval reaches the first validation decision, a validation row
when its label reaches the first test decision; inputs may reach back over a border, labels may not. An embargo keeps
labels some timestamps further away from the border.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from datetime import date
from itertools import combinations
from math import comb
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from cnn_lstm.data.sources.base import stamp
from cnn_lstm.data.spans import PartSpans, Span, after, stretches
from cnn_lstm.data.times import Times
from cnn_lstm.errors import require
from cnn_lstm.hints import counted
from cnn_lstm.specs import Serializable

By = Literal["decision", "label"]
Day = str | date
Begin = Day | int
MOST_FITS = 1000


class Dates(Protocol):
    """Where the parts begin and the last one ends, in UTC: times, or ISO texts as a checkpoint has them."""

    @property
    def train(self) -> str | np.datetime64:
        """First training decision."""

    @property
    def validation(self) -> str | np.datetime64:
        """First validation decision."""

    @property
    def test(self) -> str | np.datetime64:
        """First test decision."""

    @property
    def end(self) -> str | np.datetime64:
        """Where the test part ends."""

    @property
    def spans(self) -> Any:
        """The stretches of the parts as `PartSpans.to_plain` gives them; None where the parts are in order."""


@dataclass(frozen=True)
class Boundaries:
    """First decision times of the parts, in UTC; all half-open. Of a split by label, the first ends of labels.

    Attributes:
        train: First training decision.
        validation: First validation decision; no training label may reach it.
        test: First test decision; no validation label may reach it.
        end: Where the test part ends.
        train_end: No training label may reach it; `validation` by default, before it under an embargo.
        validation_end: The same of validation labels; `test` by default.
        by: What the dates are those of: decisions, or ends of labels.
        spans: The stretches of the parts where these are not in order, as those of `CPCV`; None where they are. Then
            `validation` and `test` are both the first moment of which the fit knows nothing.
    """

    train: np.datetime64
    validation: np.datetime64
    test: np.datetime64
    end: np.datetime64
    train_end: np.datetime64 | None = None
    validation_end: np.datetime64 | None = None
    by: By = "decision"
    spans: PartSpans | None = None

    def __post_init__(self) -> None:
        edges = {"train from": self.train, "validation from": self.validation, "test from": self.test, "end": self.end}
        what = f"the parts are not in order: {', '.join(f'{name} {day(edge)}' for name, edge in edges.items())}"
        in_order = self.train < self.validation < self.test < self.end
        in_order |= self.spans is not None and self.train < self.validation <= self.test <= self.end
        require(bool(in_order), what, "data.split", "give ascending dates inside the data", code=223)

    @classmethod
    def of(cls, dates: Dates) -> Boundaries:
        """The dates of a checkpoint, or boundaries as they are."""
        if isinstance(dates, Boundaries):
            return dates
        moments = (dates.train, dates.validation, dates.test, dates.end)
        train, validation, test, end = (np.datetime64(str(moment), "us") for moment in moments)
        spans = None if dates.spans is None else PartSpans.from_plain(dates.spans)
        return cls(train, validation, test, end, spans=spans)

    @property
    def parts(self) -> tuple[tuple[np.datetime64, np.datetime64, np.datetime64 | None], ...]:
        """Of train, validation and test: first decision, first decision after it, and what no label may reach.

        Raises:
            ConfigError: E223, if the parts are not in order.
        """
        fix = "use a split whose parts follow one another, or a checkpoint of one"
        require(self.spans is None, "the parts of a combination are not in order", "data.split CPCV", fix, code=223)
        return (
            (self.train, self.validation, self.validation if self.train_end is None else self.train_end),
            (self.validation, self.test, self.test if self.validation_end is None else self.validation_end),
            (self.test, self.end, None),
        )

    def inside(self, part: str, times: Times) -> NDArray[np.bool_]:
        """Whether each timestamp, (n,), lies in the dates of a part, purged or not."""
        if self.spans is not None:
            return self.spans.inside(part, times)
        start, stop = {
            "train": (self.train, self.validation),
            "validation": (self.validation, self.test),
            "test": (self.test, self.end),
        }[part]
        inside: NDArray[np.bool_] = (times >= start) & (times < stop)
        return inside

    def tested_or_since(self, moment: np.datetime64, times: Times) -> NDArray[np.bool_]:
        """Whether each timestamp, (n,), is not before a moment, or in the test part of a combination."""
        since: NDArray[np.bool_] = times >= moment
        return since if self.spans is None else since | self.spans.inside("test", times)

    def to_plain(self) -> dict[str, Any]:
        """The form of a checkpoint: ISO texts, and the stretches of the parts where these are not in order."""
        dates = {name: str(getattr(self, name)) for name in ("train", "validation", "test", "end")}
        return dates if self.spans is None else {**dates, "spans": self.spans.to_plain()}


class Split(Serializable, ABC):
    """A rule that turns the dates of a table into boundaries.

    Attributes:
        gives_dates: Whether the dates are the user's own, and do not depend on the table.
    """

    gives_dates: bool = False

    @abstractmethod
    def boundaries(self, times: Times) -> Boundaries:
        """Boundaries for a table with these distinct ascending timestamps (UTC)."""

    def kept(self, times: Times, dates: Boundaries) -> Boundaries:
        """The dates of a checkpoint on a table that may have grown since.

        An end that follows the table follows it again; any other stays.

        Args:
            times: Distinct ascending timestamps of the table, (n,).
            dates: The dates of the checkpoint.
        """
        end = self.boundaries(times).end
        return replace(dates, end=end if end > times[-1] else dates.end)


class DateSplit(Split):
    """Boundaries given as dates.

    Args:
        validation: First day of the validation part: ISO, or a date or timestamp object.
        test: First day of the test part.
        train: First day of the training part; the first row by default.
        end: Day after the test part; after the last row by default.
        by: Whether a row belongs to the part in which its decision lies, or to the one in which its label ends.

    Example:
        >>> days = np.arange("2020-01-01", "2020-01-07", dtype="datetime64[D]").astype("datetime64[us]")
        >>> DateSplit("2020-01-03", "2020-01-05").boundaries(days).test.astype(str)[:10]
        '2020-01-05'
    """

    gives_dates = True

    def __init__(
        self, validation: Day, test: Day, train: Day | None = None, end: Day | None = None, by: By = "decision"
    ) -> None:
        self.validation, self.test = stamp(validation, "data.split.validation"), stamp(test, "data.split.test")
        self.train = None if train is None else stamp(train, "data.split.train")
        self.end = None if end is None else stamp(end, "data.split.end")
        self.by = _by(by)

    def boundaries(self, times: Times) -> Boundaries:
        """The given dates; open ends follow the table."""
        return Boundaries(
            train=times[0] if self.train is None else self.train,
            validation=self.validation,
            test=self.test,
            end=after(times) if self.end is None else self.end,
            by=self.by,
        )


class FractionSplit(Split):
    """Boundaries at fractions of the distinct timestamps.

    Args:
        train: Share of the timestamps before the validation part.
        validation: Share of the timestamps in the validation part; the rest is the test part.

    Example:
        >>> days = np.arange("2020-01-01", "2020-01-11", dtype="datetime64[D]").astype("datetime64[us]")
        >>> FractionSplit(0.6, 0.2).boundaries(days).validation.astype(str)[:10]
        '2020-01-07'
    """

    def __init__(self, train: float = 0.7, validation: float = 0.15) -> None:
        fix = "give two shares above 0 whose sum is below 1; the rest is the test part"
        shares = 0 < train < 1 and 0 < validation < 1 and train + validation < 1
        require(shares, f"train={train}, validation={validation}", "data.split", fix, code=223)
        self.train, self.validation = train, validation

    def boundaries(self, times: Times) -> Boundaries:
        """Boundaries at the timestamps next to the two fractions."""
        first, second = (round(share * len(times)) for share in (self.train, self.train + self.validation))
        return Boundaries(times[0], _at(times, first), _at(times, second), after(times))


def split_of(split: Split | None, validation: Begin | None, test: Begin | None) -> Split:
    """A split, or the one that two dates mean; by shares of the rows where nothing is said.

    Args:
        split: The split; one that says no more than the default counts as none, since a configuration always has one.
        validation: First day of the validation part; a year or a month is its first day.
        test: First day of the test part.

    Raises:
        ConfigError: E223, if one of the dates is missing, or they come with a split.

    Example:
        >>> split_of(None, "2009", 2011).init_args["test"]
        '2011-01-01'
    """
    if validation is None and test is None:
        return split or FractionSplit()
    fix = "give both, such as validation: 2009 and test: 2011"
    require(validation is not None and test is not None, "validation and test go together", "data", fix, code=223)
    usual = split is None or (type(split) is FractionSplit and split.init_args == FractionSplit().init_args)
    require(usual, "dates next to a split", "data.validation", "leave out data.split, or the dates", code=223)
    assert validation is not None
    assert test is not None
    return DateSplit(_first_day(validation), _first_day(test))


def _first_day(begin: Begin) -> Day:
    """The first day of a year or a month; any other value as it is."""
    text = str(begin)
    months = {4: "-01-01", 7: "-01"}.get(len(text), "") if re.fullmatch(r"\d{4}(-\d\d)?", text) else ""
    return f"{text}{months}" if months or isinstance(begin, int) else begin


class RowSplit(Split):
    """Boundaries by number of row, counted over the distinct timestamps.

    A share counts whole rows, cut down as papers do: 0.6 of 7,588 rows are 4,552.

    Args:
        train: Rows before the validation part, or their share.
        validation: Rows of the validation part, or their share; the rest is the test part.
        by: Whether a row belongs to the part in which its decision lies, or to the one in which its label ends.

    Example:
        >>> days = np.arange("2020-01-01", "2020-01-11", dtype="datetime64[D]").astype("datetime64[us]")
        >>> [str(RowSplit(*parts).boundaries(days).test)[:10] for parts in ((6, 3), (0.65, 0.25))]
        ['2020-01-10', '2020-01-10']
    """

    def __init__(self, train: int | float = 0.6, validation: int | float = 0.2, by: By = "decision") -> None:
        fix = "give two numbers of rows, or two shares above 0 whose sum is below 1; the rest is the test part"
        counts = all(isinstance(part, int) and part >= 1 for part in (train, validation))
        shares = all(isinstance(part, float) and part > 0 for part in (train, validation)) and train + validation < 1
        require(counts or shares, f"train={train}, validation={validation}", "data.split", fix, code=223)
        self.train, self.validation, self.by = train, validation, _by(by)

    def boundaries(self, times: Times) -> Boundaries:
        """Boundaries at these rows."""
        whole = 1 if isinstance(self.train, int) else len(times)
        first, second = (int(part * whole) for part in (self.train, self.train + self.validation))
        return Boundaries(times[0], _at(times, first), _at(times, second), after(times), by=self.by)


class WalkForward(Split):
    """One fold of a walk-forward evaluation; fold k is tested on the k-th of the last blocks of timestamps.

    The timestamps are cut into `folds + 2` equal blocks, the first of which may be longer. Fold k trains on the
    blocks before its validation block, which stands right before its test block.

    Args:
        folds: Number of folds.
        fold: Which one, from 0.
        sliding: Train on as many timestamps as fold 0 has, instead of all that came before.
        embargo: Timestamps that stay free between the last label of a part and the first decision of the next one.

    Example:
        >>> days = np.arange("2020-01-01", "2020-01-09", dtype="datetime64[D]").astype("datetime64[us]")
        >>> [str(WalkForward(2, k).boundaries(days).test)[:10] for k in range(2)]
        ['2020-01-05', '2020-01-07']
    """

    def __init__(self, folds: int = 5, fold: int = 0, sliding: bool = False, embargo: int = 0) -> None:
        require(0 <= fold < folds, f"fold={fold} of folds={folds}", "data.split", "give 0 <= fold < folds", code=223)
        require(embargo >= 0, f"embargo={embargo}", "data.split", "give 0 or more timestamps", code=223)
        self.folds, self.fold, self.sliding, self.embargo = folds, fold, sliding, embargo

    def boundaries(self, times: Times) -> Boundaries:
        """Boundaries of this fold."""
        block = len(times) // (self.folds + 2)
        what = f"embargo={self.embargo} of a part of {counted(block, 'timestamp')}"
        require(self.embargo < max(block, 1), what, "data.split", "give a shorter one", code=223)
        test = len(times) - (self.folds - self.fold) * block
        validation = test - block
        train = self.fold * block if self.sliding else 0
        end = test + block
        return Boundaries(
            _at(times, train),
            _at(times, validation),
            _at(times, test),
            after(times) if end >= len(times) else times[end],
            train_end=times[validation - self.embargo],
            validation_end=times[test - self.embargo],
        )

    def kept(self, times: Times, dates: Boundaries) -> Boundaries:
        """The dates of a checkpoint, with the embargo before each; see `Split.kept`."""
        validation, test = np.searchsorted(times, [dates.validation, dates.test])
        return replace(
            super().kept(times, dates),
            train_end=times[max(validation - self.embargo, 0)],
            validation_end=times[max(test - self.embargo, 0)],
        )


class CPCV(Split):
    """One combination of a combinatorial purged cross-validation.

    The distinct timestamps are cut into groups of equal length; those that are left over lengthen the last group.
    `test_groups` of them are tested. The validation part is the last share of the other timestamps; a fit learns from
    the rest, which lies before, between and after the test groups. `rows_of_spans` says what is purged. Lopez de Prado,
    Advances in Financial Machine Learning (2018), chapter 12.

    Args:
        groups: Groups of timestamps, at least 3.
        test_groups: How many of them are tested at a time.
        combination: Which choice of test groups, from 0, in the order of `itertools.combinations`.
        validation: Share of the timestamps outside of the test groups that choose the best epoch and calibrate.
        embargo: Further timestamps that stay free around each stretch of validation and test.

    Example:
        >>> days = np.arange("2020-01-01", "2020-01-13", dtype="datetime64[D]").astype("datetime64[us]")
        >>> split = CPCV(groups=4, test_groups=2, combination=1)
        >>> split.tested, split.fits, split.paths
        ((0, 2), 6, 3)
        >>> [str(span.start)[:10] for span in split.boundaries(days).spans.test]
        ['2020-01-01', '2020-01-07']
    """

    def __init__(
        self,
        groups: int = 6,
        test_groups: int = 2,
        combination: int = 0,
        validation: float = 0.2,
        embargo: int = 0,
    ) -> None:
        where = "data.split"
        what, fix = f"groups={groups}, test_groups={test_groups}", "give 3 groups or more, of which some are tested"
        require(groups >= 3 and 1 <= test_groups < groups, what, where, fix, code=223)
        fits = comb(groups, test_groups)
        what = f"groups={groups}, test_groups={test_groups} are {fits:,} fits"
        require(fits <= MOST_FITS, what, where, f"choose at most {MOST_FITS:,}: fewer groups", code=223)
        what, fix = f"combination={combination} of {fits}", f"give 0 to {fits - 1}"
        require(0 <= combination < fits, what, where, fix, code=223)
        require(0 < validation < 1, f"validation={validation}", where, "give a share between 0 and 1", code=223)
        require(embargo >= 0, f"embargo={embargo}", where, "give 0 or more timestamps", code=223)
        self.groups, self.test_groups, self.combination = groups, test_groups, combination
        self.validation, self.embargo = validation, embargo

    @property
    def choices(self) -> list[tuple[int, ...]]:
        """The test groups of every combination."""
        return list(combinations(range(self.groups), self.test_groups))

    @property
    def tested(self) -> tuple[int, ...]:
        """The test groups of this one."""
        return self.choices[self.combination]

    @property
    def fits(self) -> int:
        """How many combinations there are: C(groups, test_groups)."""
        return comb(self.groups, self.test_groups)

    @property
    def paths(self) -> int:
        """How many paths they make: C(groups, test_groups) x test_groups / groups, the tests of each group."""
        return comb(self.groups - 1, self.test_groups - 1)

    def path(self, number: int) -> tuple[int, ...]:
        """The combination whose forecasts of each group a path takes: the `number`-th of those that test the group.

        Example:
            >>> split = CPCV(groups=4, test_groups=2)
            >>> [split.path(number) for number in range(split.paths)]
            [(0, 0, 1, 2), (1, 3, 3, 4), (2, 4, 5, 5)]
        """
        testing = [[k for k, chosen in enumerate(self.choices) if group in chosen] for group in range(self.groups)]
        return tuple(fits[number] for fits in testing)

    def group_spans(self, times: Times) -> list[Span]:
        """The dates of each group.

        Args:
            times: Distinct ascending timestamps of the table, (n,).

        Raises:
            ConfigError: E223, if there are fewer than two timestamps for each group.
        """
        size = len(times) // self.groups
        what = f"{counted(len(times), 'timestamp')}, too few for {self.groups} groups"
        require(size >= 2, what, "data.split", "give more data, or fewer groups", code=223)
        group = np.minimum(np.arange(len(times)) // size, self.groups - 1)
        return [stretches(times, group == number)[0] for number in range(self.groups)]

    def boundaries(self, times: Times) -> Boundaries:
        """The stretches of this combination; neighbouring test groups are one stretch."""
        groups = self.group_spans(times)
        test = PartSpans((), (), tuple(groups[number] for number in self.tested)).inside("test", times)
        others = np.flatnonzero(~test)
        first = others[-max(round(self.validation * len(others)), 1)]
        validating = ~test & (np.arange(len(times)) >= first)
        training = ~test & ~validating
        what = "no timestamp is left to train on"
        require(bool(training.any()), what, "data.split", "lower validation, or give more groups", code=223)
        train, validation, tested = (stretches(times, part) for part in (training, validating, test))
        spans = PartSpans(train, validation, tested, self.embargo)
        known = validation[-1].stop
        return Boundaries(spans.train[0].start, known, known, after(times), spans=spans)


class KeptSplit(Split):
    """The dates of a checkpoint, in place of those that its split gives a table that has changed since.

    Args:
        split: The split of the configuration.
        dates: The dates of the checkpoint.

    Example:
        >>> days = np.arange("2020-01-01", "2020-01-21", dtype="datetime64[D]").astype("datetime64[us]")
        >>> split = FractionSplit(0.6, 0.2)
        >>> kept = KeptSplit(split, split.boundaries(days[:10]))
        >>> [str(rule.boundaries(days).test)[:10] for rule in (kept, split)]
        ['2020-01-09', '2020-01-17']
    """

    def __init__(self, split: Split, dates: Boundaries) -> None:
        self.split, self.dates = split, dates

    def boundaries(self, times: Times) -> Boundaries:
        """The dates of the checkpoint; an end that follows the table follows this one."""
        return self.split.kept(times, self.dates)


def _by(by: By) -> By:
    require(by in get_args(By), f"by={by!r}", "data.split.by", f"use {' or '.join(get_args(By))}", code=223)
    return by


def _at(times: Times, position: int) -> np.datetime64:
    what = f"{counted(len(times), 'timestamp')}, too few for this split"
    require(position < len(times), what, "data.split", "give more data", code=223)
    time: np.datetime64 = times[position]
    return time


def day(time: np.datetime64) -> str:
    """The date of a timestamp, ISO."""
    return str(time)[:10]
