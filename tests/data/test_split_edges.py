"""The edges of the rules of a split: the last value that is allowed, and the whole line of each refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnn_lstm.data.spans import PartSpans, Span, after
from cnn_lstm.data.splits import (
    CPCV,
    Boundaries,
    DateSplit,
    FractionSplit,
    KeptSplit,
    RowSplit,
    Split,
    WalkForward,
    split_of,
)
from cnn_lstm.errors import ConfigError
from tests.data.test_splits import calendar

REFUSED: list[tuple[Callable[[], object], str]] = [
    (
        lambda: DateSplit("2020-01-08", "2020-01-05").boundaries(calendar(10)),
        "the parts are not in order: train from 2020-01-01, validation from 2020-01-08, test from 2020-01-05, "
        "end 2020-01-10 — data.split — give ascending dates inside the data",
    ),
    (
        lambda: CPCV(3, 1).boundaries(calendar(9)).parts,
        "the parts of a combination are not in order — data.split CPCV — use a split whose parts follow one another, "
        "or a checkpoint of one",
    ),
    (
        lambda: FractionSplit(0.8, 0.2),
        "train=0.8, validation=0.2 — data.split — give two shares above 0 whose sum is below 1; the rest is the test "
        "part",
    ),
    (
        lambda: split_of(None, "2009", None),
        "validation and test go together — data — give both, such as validation: 2009 and test: 2011",
    ),
    (
        lambda: split_of(RowSplit(), 2009, 2011),
        "dates next to a split — data.validation — leave out data.split, or the dates",
    ),
    (
        lambda: RowSplit(0, 10),
        "train=0, validation=10 — data.split — give two numbers of rows, or two shares above 0 whose sum is below 1; "
        "the rest is the test part",
    ),
    (
        lambda: RowSplit(by="labels"),  # type: ignore[arg-type]  # on purpose: not one of them
        "by='labels' — data.split.by — use decision or label",
    ),
    (
        lambda: RowSplit(90, 20).boundaries(calendar(100)),
        "100 timestamps, too few for this split — data.split — give more data",
    ),
    (
        lambda: RowSplit(1, 1).boundaries(calendar(1)),
        "1 timestamp, too few for this split — data.split — give more data",
    ),
    (lambda: WalkForward(3, 3), "fold=3 of folds=3 — data.split — give 0 <= fold < folds"),
    (lambda: WalkForward(embargo=-1), "embargo=-1 — data.split — give 0 or more timestamps"),
    (
        lambda: WalkForward(2, embargo=5).boundaries(calendar(20)),
        "embargo=5 of a part of 5 timestamps — data.split — give a shorter one",
    ),
    (lambda: CPCV(2, 1), "groups=2, test_groups=1 — data.split — give 3 groups or more, of which some are tested"),
    (lambda: CPCV(4, 0), "groups=4, test_groups=0 — data.split — give 3 groups or more, of which some are tested"),
    (lambda: CPCV(4, 4), "groups=4, test_groups=4 — data.split — give 3 groups or more, of which some are tested"),
    (
        lambda: CPCV(20, 10),
        "groups=20, test_groups=10 are 184,756 fits — data.split — choose at most 1,000: fewer groups",
    ),
    (lambda: CPCV(4, 2, combination=6), "combination=6 of 6 — data.split — give 0 to 5"),
    (lambda: CPCV(4, 2, combination=-1), "combination=-1 of 6 — data.split — give 0 to 5"),
    (lambda: CPCV(validation=1.0), "validation=1.0 — data.split — give a share between 0 and 1"),
    (lambda: CPCV(validation=0.0), "validation=0.0 — data.split — give a share between 0 and 1"),
    (lambda: CPCV(embargo=-1), "embargo=-1 — data.split — give 0 or more timestamps"),
    (
        lambda: CPCV(6).boundaries(calendar(11)),
        "11 timestamps, too few for 6 groups — data.split — give more data, or fewer groups",
    ),
    (
        lambda: CPCV(3, 2, validation=0.9).boundaries(calendar(6)),
        "no timestamp is left to train on — data.split — lower validation, or give more groups",
    ),
]


@pytest.mark.parametrize(("make", "line"), REFUSED, ids=[line.split(" — ")[0] for _, line in REFUSED])
def test_a_refusal_says_what_where_and_what_to_do(make: Callable[[], object], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == f"error[E223]: {line}"


@pytest.mark.parametrize("field", ["validation", "test", "train", "end"])
def test_the_field_of_a_wrong_date_is_named(field: str) -> None:
    with pytest.raises(ConfigError, match=f"E209.*data.split.{field} is 'soon'"):
        DateSplit(**{"validation": "2020-01-05", "test": "2020-01-08", field: "soon"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "split",
    [
        RowSplit(1, 1),
        CPCV(3, 1, validation=0.01),
        CPCV(4, 3, combination=3, validation=0.01),
        WalkForward(4, 3, embargo=1),
    ],
    ids=["a row each", "two groups left", "one group left", "an embargo of all but one"],
)
def test_the_smallest_split_that_is_allowed(split: Split) -> None:
    edges = split.boundaries(calendar(12))
    inside = [edges.inside(part, calendar(12)) for part in ("train", "validation", "test")]
    assert min(int(part.sum()) for part in inside) >= 1
    assert np.sum(inside, axis=0).max() == 1


def test_a_thousand_fits_are_allowed_and_no_more() -> None:
    assert CPCV(1000, 1, combination=999).fits == 1000
    with pytest.raises(ConfigError, match="1,001 fits"):
        CPCV(1001, 1)


@pytest.mark.parametrize("shares", [(0.5, 0.0), (0.0, 0.5), (1.0, 0.1), (0.1, 1.0)])
def test_a_share_of_nothing_or_everything_is_refused(shares: tuple[float, float]) -> None:
    for rule in (FractionSplit, RowSplit):
        with pytest.raises(ConfigError, match="E223"):
            rule(*shares)


def test_one_row_and_one_share_are_refused() -> None:
    for parts in ((1, 0), (0, 1), (1, 0.5), (0.5, 1)):
        with pytest.raises(ConfigError, match="E223"):
            RowSplit(*parts)


def test_each_part_begins_after_the_one_before() -> None:
    """Also a combination: there validation and test are one moment, but train is before it."""
    first, second, third, fourth = calendar(4)
    spans = PartSpans((Span(first, second),), (Span(second, third),), (Span(third, fourth),))
    Boundaries(first, second, third, fourth)
    Boundaries(first, fourth, fourth, fourth, spans=spans)
    for moments in ((first, first, third, fourth), (first, second, second, fourth), (first, second, third, third)):
        with pytest.raises(ConfigError, match="not in order"):
            Boundaries(*moments)
    for moments in (
        (first, first, third, fourth),
        (first, third, second, fourth),
        (first, second, fourth, third),
    ):
        with pytest.raises(ConfigError, match="not in order"):
            Boundaries(*moments, spans=spans)


def test_the_table_ends_right_behind_its_last_row() -> None:
    times = calendar(12)
    assert after(times) - times[-1] == np.timedelta64(1, "us")
    for split in (
        FractionSplit(),
        RowSplit(6, 3),
        WalkForward(2, 1),
        CPCV(3, 1),
        DateSplit("2020-01-05", "2020-01-08"),
    ):
        assert split.boundaries(times).end == after(times)


@pytest.mark.parametrize(
    ("split", "wanted"),
    [
        (FractionSplit(), {"train": 0.7, "validation": 0.15}),
        (RowSplit(), {"train": 0.6, "validation": 0.2, "by": "decision"}),
        (WalkForward(), {"folds": 5, "fold": 0, "sliding": False, "embargo": 0}),
        (CPCV(), {"groups": 6, "test_groups": 2, "combination": 0, "validation": 0.2, "embargo": 0}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_defaults_of_the_rules(split: Split, wanted: dict[str, Any]) -> None:
    explicit = type(split)(**wanted)
    assert explicit.boundaries(calendar(100)) == split.boundaries(calendar(100))
    assert {name: getattr(split, name) for name in wanted} == wanted


@pytest.mark.parametrize(("train", "validation"), [(0.7, 0.15), (0.5, 0.25), (0.31, 0.4)])
def test_a_part_has_its_share_of_the_timestamps_to_half_a_row(train: float, validation: float) -> None:
    for count in range(10, 60):
        times = calendar(count)
        edges = FractionSplit(train, validation).boundaries(times)
        first, second = np.searchsorted(times, [edges.validation, edges.test])
        assert edges.train == times[0]
        assert abs(first - train * count) <= 0.5
        assert abs(second - (train + validation) * count) <= 0.5 + 1e-9


def test_the_validation_part_of_a_combination_is_the_last_share_of_what_is_not_tested() -> None:
    times = calendar(60)
    for share, wanted in ((0.2, 8), (0.26, 10), (0.001, 1)):
        for combination in range(15):
            edges = CPCV(6, 2, combination, share).boundaries(times)
            tested = edges.inside("test", times)
            validating = edges.inside("validation", times)
            assert tested.sum() == 20
            assert np.flatnonzero(validating).tolist() == np.flatnonzero(~tested)[-wanted:].tolist()
            assert (edges.inside("train", times) == ~(tested | validating)).all()
            assert edges.validation == edges.test == np.append(times, after(times))[np.flatnonzero(validating)[-1] + 1]


def test_timestamps_left_over_lengthen_the_last_group() -> None:
    groups = CPCV(4, 1).group_spans(calendar(11))
    days = [(span.stop - span.start) // np.timedelta64(1, "D") for span in groups[:-1]]
    assert days == [2, 2, 2]
    assert (groups[-1].start, groups[-1].stop) == (calendar(11)[6], after(calendar(11)))


# -- a checkpoint's dates on a table that has grown --------------------------------------------------------------------


def test_an_open_end_follows_the_table_and_a_given_one_stays() -> None:
    short, long = calendar(30), calendar(50)
    for split in (FractionSplit(), RowSplit(15, 7), WalkForward(2, 1), DateSplit("2020-01-10", "2020-01-20")):
        dates = split.boundaries(short)
        kept = KeptSplit(split, dates).boundaries(long)
        assert (kept.train, kept.validation, kept.test) == (dates.train, dates.validation, dates.test)
        assert kept.end == after(long)
    closed = DateSplit("2020-01-10", "2020-01-20", end="2020-01-25")
    assert closed.kept(long, closed.boundaries(short)) == closed.boundaries(short)
    first_fold = WalkForward(2, 0)
    assert first_fold.kept(long, first_fold.boundaries(short)).end == first_fold.boundaries(short).end


@pytest.mark.parametrize("embargo", [0, 1, 3])
def test_the_embargo_of_a_fold_stays_before_the_dates_of_the_checkpoint(embargo: int) -> None:
    short, long = calendar(30), calendar(50)
    split = WalkForward(3, 2, embargo=embargo)
    dates = split.boundaries(short)
    kept = split.kept(long, dates)
    days = np.timedelta64(embargo, "D")
    assert (kept.train_end, kept.validation_end) == (dates.validation - days, dates.test - days)
    assert (dates.train_end, dates.validation_end) == (dates.validation - days, dates.test - days)
    late = long[25:]  # the checkpoint's border is the first row of this table
    assert WalkForward(3, 2, embargo=3).kept(late, Boundaries(long[0], late[0], late[1], late[9])).train_end == late[0]


def test_rows_since_a_moment_and_those_of_a_combination_s_test_part() -> None:
    times = calendar(12)
    plain = FractionSplit().boundaries(times)
    assert plain.tested_or_since(times[9], times).tolist() == [False] * 9 + [True] * 3
    combined = CPCV(4, 1, 1).boundaries(times)
    tested = [3, 4, 5]
    assert np.flatnonzero(combined.tested_or_since(times[10], times)).tolist() == [*tested, 10, 11]


@pytest.mark.parametrize("split", [FractionSplit(), CPCV(4, 2, 3, embargo=2)])
def test_boundaries_survive_the_plain_form_of_a_checkpoint(split: Split) -> None:
    dates = split.boundaries(calendar(40))
    plain = dates.to_plain()
    assert set(plain) == {"train", "validation", "test", "end"} | ({"spans"} if dates.spans else set())
    again = Boundaries.of(_Plain(plain))
    assert again == dates
    assert {moment.dtype for moment in (again.train, again.validation, again.test, again.end)} == {np.dtype("<M8[us]")}
    assert Boundaries.of(dates) is dates


class _Plain:
    def __init__(self, plain: dict[str, Any]) -> None:
        self.train, self.validation, self.test, self.end = (
            str(plain[name]) for name in ("train", "validation", "test", "end")
        )
        self.spans = plain.get("spans")
