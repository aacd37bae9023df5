"""Splits: no label reaches the decisions of a later part, on any panel, for any rule."""

from __future__ import annotations

from datetime import date, datetime
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnn_lstm import specs
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.parts import SplitRows, require_rows, split_rows
from cnn_lstm.data.splits import Boundaries, DateSplit, FractionSplit, RowSplit, Split, WalkForward
from cnn_lstm.data.targets import ForwardReturn, Target
from cnn_lstm.data.times import Times
from cnn_lstm.data.windows import complete_windows, labelled
from cnn_lstm.errors import ConfigError, DataError
from tests.markets import TableSource, days, walk

DAY = np.timedelta64(1, "D")


def calendar(count: int, start: str = "2020-01-01") -> Times:
    return (np.datetime64(start) + np.arange(count) * DAY).astype("datetime64[us]")


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """One to four symbols; each has its own first and last day, holidays, and perhaps a gap of a month."""
    seed = draw(st.integers(0, 10_000))
    random = np.random.default_rng(seed)
    parts = []
    for symbol in "ABCD"[: draw(st.integers(1, 4))]:
        rows = draw(st.integers(60, 140))
        when = days(rows + 40)[random.integers(0, 40) :][:rows]
        keep = random.random(len(when)) > 0.1
        if draw(st.booleans()):
            start = random.integers(10, rows - 10)
            keep[start : start + 22] = False
        close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, len(when))))
        parts.append(pd.DataFrame({"symbol": symbol, "timestamp": when, "close": close})[keep])
    return pd.concat(parts, ignore_index=True)


@st.composite
def rules(draw: st.DrawFn) -> Split:
    kind = draw(st.sampled_from(["fraction", "date", "walk", "row"]))
    if kind == "fraction":
        train = draw(st.floats(0.3, 0.7))
        return FractionSplit(train, draw(st.floats(0.1, 0.95 - train)))
    if kind == "date":
        when = days(200)
        first, second = sorted(draw(st.lists(st.integers(40, 130), min_size=2, max_size=2, unique=True)))
        end = draw(st.one_of(st.none(), st.integers(second + 1, 190)))
        validation, test = (str(when[k])[:10] for k in (first, second))
        return DateSplit(validation, test, end=None if end is None else str(when[end])[:10])
    if kind == "row":
        counts = draw(st.integers(30, 60)), draw(st.integers(10, 30))
        return RowSplit(*(counts if draw(st.booleans()) else (0.5, 0.25)))
    folds = draw(st.integers(1, 4))
    fold, embargo = draw(st.integers(0, folds - 1)), draw(st.integers(0, 6))
    return WalkForward(folds, fold, sliding=draw(st.booleans()), embargo=embargo)


class Seen:
    """How many of the drawn cases had rows in every part."""

    cases = 0
    full = 0


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(table=tables(), rule=rules(), window=st.integers(2, 12), horizon=st.integers(1, 10), delay=st.integers(0, 4))
def test_no_label_touches_a_decision_of_a_later_part(
    table: pd.DataFrame, rule: Split, window: int, horizon: int, delay: int
) -> None:
    data = MarketDataModule(
        TableSource(table), features=["log_return_1"], targets=[ForwardReturn(horizon, delay)], window=window
    )
    Seen.cases += 1
    take_unchecked(data, table)
    try:
        parts = data.parts_of(rule)
    except ConfigError:
        return
    Seen.full += all(len(rows) for rows in (parts.train, parts.validation, parts.test))
    known = data.windows[labelled(data.panel, data.windows)]
    check_parts(parts, table, known, horizon + delay, getattr(rule, "embargo", 0))


def take_unchecked(data: MarketDataModule, table: pd.DataFrame) -> None:
    """Gives a data module the panel of a table that may hold any gap and any symbol."""
    data.bound = data.recipe.bind_to(table, data.targets)
    data.panel = data.bound.panel(table)
    data.windows, data.times = complete_windows(data.panel, data.recipe.window), np.unique(data.panel.time)


def check_parts(parts: SplitRows, prices: pd.DataFrame, known: np.ndarray, reach: int, embargo: int) -> None:
    """The rules of a split, from the price table alone: a label ends `reach` rows of its own symbol later."""
    when = prices["timestamp"].dt.tz_localize(None).to_numpy("datetime64[us]")
    ends = prices.groupby("symbol")["timestamp"].shift(-reach).dt.tz_localize(None).to_numpy("datetime64[us]")
    edges, dates = parts.boundaries, np.unique(when)
    sections = [
        (parts.train, edges.train, edges.validation),
        (parts.validation, edges.validation, edges.test),
        (parts.test, edges.test, edges.end),
    ]
    for rows, start, stop in sections:
        assert (np.diff(rows) > 0).all()
        assert ((when[rows] >= start) & (when[rows] < stop)).all()
        assert not np.isnat(ends[rows]).any()
    for (earlier, _, _), (later, start, _) in pairwise(sections):
        assert not set(earlier) & set(later)
        if len(earlier):
            assert ends[earlier].max() < start
            assert not len(later) or ends[earlier].max() < when[later].min()
            assert ((dates > ends[earlier].max()) & (dates < start)).sum() >= embargo
    purged = 0
    for rows, start, stop in sections[:-1]:
        inside = known[(when[known] >= start) & (when[known] < stop)]
        unreached = dates[np.searchsorted(dates, stop) - embargo] if embargo else stop
        reaching = inside[ends[inside] >= unreached]
        assert set(inside) - set(reaching) == set(rows)
        purged += len(reaching)
    inside = known[(when[known] >= edges.test) & (when[known] < edges.end)]
    assert set(parts.test) == set(inside)
    assert parts.purged == purged


def test_most_of_the_drawn_cases_had_rows_in_every_part() -> None:
    """A property that is checked on empty parts says nothing."""
    if Seen.cases:
        assert Seen.full > 0.6 * Seen.cases, (Seen.full, Seen.cases)


def test_on_one_regular_axis_the_purge_takes_delay_plus_horizon_rows_of_each_border() -> None:
    for horizon, delay in ((1, 0), (1, 1), (5, 2)):
        table = walk(200)
        target: list[Target] = [ForwardReturn(horizon, delay)]
        data = MarketDataModule(TableSource(table), features=["log_return_1"], targets=target, window=3)
        data.setup()
        assert data.parts.purged == 2 * (horizon + delay)
        train, validation = data.parts.train, data.parts.validation
        assert validation[0] - train[-1] == horizon + delay + 1


def test_the_longest_target_decides_what_is_purged() -> None:
    data = MarketDataModule(
        TableSource(walk(200)), features=["log_return_1"], targets=[ForwardReturn(1), ForwardReturn(10)], window=3
    )
    data.setup()
    assert data.parts.purged == 2 * 11


def test_inputs_may_reach_back_over_a_border() -> None:
    data = MarketDataModule(TableSource(walk(200)), features=["log_return_1"], window=30)
    data.setup()
    assert data.panel.time[data.parts.validation[0]] == data.parts.boundaries.validation


@pytest.mark.parametrize("sliding", [False, True])
@pytest.mark.parametrize("folds", [1, 2, 5, 7])
@pytest.mark.parametrize("count", [9, 40, 41, 97])
def test_the_test_blocks_of_a_walk_forward_tile_the_end(count: int, folds: int, sliding: bool) -> None:
    times = calendar(count)
    edges = [WalkForward(folds, fold, sliding).boundaries(times) for fold in range(folds)]
    block = count // (folds + 2)
    for one, following in pairwise(edges):
        assert one.end == following.test
    for fold in edges:
        assert (fold.end - fold.test) // DAY == block or fold is edges[-1]
        assert (fold.test - fold.validation) // DAY == block
    assert edges[-1].end > times[-1]
    assert times[-1] >= edges[-1].test + (block - 1) * DAY
    assert edges[-1].test == times[-block]


def test_an_expanding_walk_forward_starts_at_the_first_day_and_a_sliding_one_moves_on() -> None:
    times = calendar(70)
    expanding = [WalkForward(5, fold).boundaries(times) for fold in range(5)]
    sliding = [WalkForward(5, fold, sliding=True).boundaries(times) for fold in range(5)]
    assert {edge.train for edge in expanding} == {times[0]}
    assert len({edge.validation - edge.train for edge in sliding}) == 1
    assert [edge.train for edge in sliding] == [times[10 * fold] for fold in range(5)]
    assert [edge.test for edge in sliding] == [edge.test for edge in expanding]


def folds_on_one_axis(
    count: int, folds: int, reach: int, sliding: bool = False, embargo: int = 0
) -> list[tuple[list[int], list[int], list[int]]]:
    """Train, validation and test rows of each fold, of one symbol with a row a day and labels of `reach` rows."""
    times, rows = calendar(count), np.arange(count - reach)
    parts = [
        split_rows(rows, times[rows], times[rows + reach], WalkForward(folds, fold, sliding, embargo).boundaries(times))
        for fold in range(folds)
    ]
    return [(part.train.tolist(), part.validation.tolist(), part.test.tolist()) for part in parts]


SPAN = {(first, last): list(range(first, last + 1)) for first in range(20) for last in range(first, 20)}


@pytest.mark.parametrize(
    ("sliding", "embargo", "wanted"),
    [
        (False, 0, [(SPAN[0, 2], SPAN[5, 7], SPAN[10, 14]), (SPAN[0, 7], SPAN[10, 12], SPAN[15, 17])]),
        (True, 0, [(SPAN[0, 2], SPAN[5, 7], SPAN[10, 14]), (SPAN[5, 7], SPAN[10, 12], SPAN[15, 17])]),
        (False, 2, [(SPAN[0, 0], SPAN[5, 5], SPAN[10, 14]), (SPAN[0, 5], SPAN[10, 10], SPAN[15, 17])]),
    ],
    ids=["expanding", "sliding", "embargo"],
)
def test_the_rows_of_two_folds(sliding: bool, embargo: int, wanted: object) -> None:
    """20 days, a return of one day behind a delay of one: the two rows before a border are purged."""
    assert folds_on_one_axis(20, 2, 2, sliding, embargo) == wanted


@pytest.mark.parametrize("sliding", [False, True])
@pytest.mark.parametrize(("count", "folds", "reach", "embargo"), [(20, 2, 2, 0), (97, 4, 6, 0), (120, 5, 3, 4)])
def test_folds_are_those_of_skfolio(count: int, folds: int, reach: int, embargo: int, sliding: bool) -> None:
    """What it calls purged size is delay + horizon + embargo, since no label may even end at the first decision."""
    from skfolio import model_selection  # takes seconds

    purged, block = reach + embargo, count // (folds + 2)
    first = count - (folds + 1) * block  # validation of fold 0
    trains = model_selection.WalkForward(block, first - purged, purged_size=purged, expand_train=not sliding)
    tests = model_selection.WalkForward(block, block - purged, purged_size=purged, reduce_test=True)
    known = np.zeros((count - reach, 1))
    wanted = [
        (train.tolist(), (validation + first).tolist(), (test + first).tolist())
        for (train, _), (validation, test) in zip(trains.split(known), tests.split(known[first:]), strict=False)
    ]
    assert len(wanted) == folds
    assert folds_on_one_axis(count, folds, reach, sliding, embargo) == wanted


def test_a_date_split_with_open_ends_takes_the_whole_table() -> None:
    times = calendar(10)
    edges = DateSplit("2020-01-05", "2020-01-08").boundaries(times)
    assert edges.train == times[0]
    assert times[-1] < edges.end
    decided = split_rows(np.arange(10), times, times, edges)
    assert [len(rows) for rows in (decided.train, decided.validation, decided.test)] == [4, 3, 3]


def test_a_date_split_with_ends_takes_nothing_outside_of_them() -> None:
    times = calendar(10)
    edges = DateSplit("2020-01-05", "2020-01-07", train="2020-01-03", end="2020-01-09").boundaries(times)
    decided = split_rows(np.arange(10), times, times, edges)
    assert [r.tolist() for r in (decided.train, decided.validation, decided.test)] == [[2, 3], [4, 5], [6, 7]]
    assert decided.purged == 0


def test_dates_with_an_offset_are_taken_in_utc() -> None:
    edges = DateSplit("2020-01-05T00:00+09:00", "2020-01-08").boundaries(calendar(10))
    assert edges.validation == np.datetime64("2020-01-04T15:00:00")


def test_a_label_that_ends_on_the_first_day_of_the_next_part_is_purged() -> None:
    times = calendar(9)
    edges = Boundaries(times[0], times[3], times[6], times[8])
    parts = split_rows(np.arange(8), times[:8], times[1:], edges)
    assert [r.tolist() for r in (parts.train, parts.validation, parts.test)] == [[0, 1], [3, 4], [6, 7]]
    assert parts.purged == 2


@pytest.mark.parametrize("split", [FractionSplit(0.5, 0.25), DateSplit("2020-01-05", "2020-01-08"), WalkForward()])
def test_a_rule_is_rebuilt_from_its_plain_spec(split: Split) -> None:
    twin = specs.build(split.spec(), Split)
    assert twin.boundaries(calendar(30)) == split.boundaries(calendar(30))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FractionSplit(0.0, 0.5), "two shares"),
        (lambda: FractionSplit(0.8, 0.2), "two shares"),
        (lambda: FractionSplit(0.5, -0.1), "two shares"),
        (lambda: WalkForward(0), "fold"),
        (lambda: WalkForward(3, 3), "0 <= fold < folds"),
        (lambda: WalkForward(3, -1), "0 <= fold < folds"),
        (lambda: WalkForward(embargo=-1), "embargo=-1"),
        (lambda: WalkForward(2, embargo=5).boundaries(calendar(20)), "embargo=5 of a part of 5"),
        (lambda: DateSplit("2020-13-01", "2020-01-02"), "not an ISO date"),
        (lambda: DateSplit("2020-01-01", "soon"), "data.split.test is 'soon', not an ISO date"),
        (lambda: DateSplit("2020-01-08", "2020-01-05").boundaries(calendar(10)), "not in order"),
        (lambda: DateSplit("2020-01-05", "2020-01-05").boundaries(calendar(10)), "not in order"),
        (lambda: DateSplit("2019-01-05", "2020-01-05").boundaries(calendar(10)), "not in order"),
        (lambda: DateSplit("2020-01-05", "2021-01-05").boundaries(calendar(10)), "not in order"),
        (lambda: WalkForward(8).boundaries(calendar(9)), "too few"),
        (lambda: FractionSplit(0.7, 0.15).boundaries(calendar(2)), "."),
    ],
)
def test_impossible_rules_are_refused_as_configuration(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make()  # type: ignore[operator]
    assert (caught.value.code, caught.value.exit_code) == (209 if "not an ISO date" in message else 223, 2)


@pytest.mark.parametrize("empty", ["train", "validation", "test"])
def test_an_empty_part_is_refused_with_the_three_ranges(empty: str) -> None:
    times = calendar(9)
    edges = Boundaries(times[0], times[3], times[6], times[8])
    rows = {name: np.arange(2) for name in ("train", "validation", "test")} | {empty: np.arange(0)}
    with pytest.raises(DataError, match=f"the {empty} part has no window") as caught:
        require_rows(SplitRows(**rows, purged=0, boundaries=edges))
    assert (caught.value.code, caught.value.exit_code) == (323, 3)
    assert "train 2020-01-01..2020-01-04, validation ..2020-01-07, test ..2020-01-09" in str(caught.value)


def test_a_split_that_leaves_a_part_empty_after_the_purge_is_refused() -> None:
    split = DateSplit("2010-06-01", "2010-06-04")
    data = MarketDataModule(
        TableSource(walk(200)),
        features=["log_return_1"],
        targets=[ForwardReturn(5)],
        split=split,
        window=5,
    )
    with pytest.raises(DataError, match="the validation part has no window"):
        data.setup()


# -- by the ends of labels ---------------------------------------------------------------------------------------------


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(table=tables(), horizon=st.integers(1, 10), delay=st.integers(0, 4), share=st.floats(0.3, 0.6))
def test_split_by_label_the_parts_are_those_of_the_labels_and_no_label_touches_a_later_decision(
    table: pd.DataFrame, horizon: int, delay: int, share: float
) -> None:
    target: list[Target] = [ForwardReturn(horizon, delay)]
    data = MarketDataModule(TableSource(table), features=["log_return_1"], targets=target, window=3)
    take_unchecked(data, table)
    rule = RowSplit(share, 0.2, by="label")
    parts, asked = data.parts_of(rule), rule.boundaries(np.unique(data.panel.time))
    when = table["timestamp"].dt.tz_localize(None).to_numpy("datetime64[us]")
    ends = table.groupby("symbol")["timestamp"].shift(-horizon - delay).dt.tz_localize(None).to_numpy("datetime64[us]")
    known = data.windows[labelled(data.panel, data.windows)]
    assert set(parts.test) == set(known[ends[known] >= asked.test])
    if parts.boundaries.by == "label":  # a part is empty, which `require_rows` refuses
        assert not all(len(rows) for rows in parts.by_name.values())
        return
    for rows, later, start, stop in (
        (parts.train, parts.validation, asked.train, asked.validation),
        (parts.validation, parts.test, asked.validation, asked.test),
    ):
        inside = known[(ends[known] >= start) & (ends[known] < stop)]
        if len(rows) and len(later):
            assert ends[rows].max() < when[later].min()
            assert set(inside) - set(rows) == set(inside[ends[inside] >= when[later].min()])


def test_a_split_by_label_keeps_dates_of_decisions_for_everyone_else() -> None:
    target: list[Target] = [ForwardReturn(3, 0)]
    data = MarketDataModule(
        TableSource(walk(200)), features=["log_return_1"], targets=target, window=3, split=RowSplit(120, 40, by="label")
    )
    data.setup()
    time, edges = data.panel.time, data.parts.boundaries
    assert (edges.validation, edges.test, edges.by) == (time[117], time[157], "decision")
    assert data.parts.test.tolist() == list(range(157, 197))
    assert data.parts.purged == 2 * 3
    assert data.rows_to_predict().tolist() == list(range(157, 200))


def test_rows_are_counted_as_papers_count_them() -> None:
    """LSTNet: int(0.6 n) and int(0.8 n) of 7,588 rows."""
    times = calendar(7588)
    edges = RowSplit(0.6, 0.2).boundaries(times)
    assert (edges.validation, edges.test) == (times[4552], times[6070])
    assert RowSplit(4552, 1518).boundaries(times) == edges


@pytest.mark.parametrize("parts", [(0.6, 0.4), (0, 10), (10, 0.2), (0.5, -0.1), (5, -1)])
def test_impossible_numbers_of_rows_are_refused(parts: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="E223"):
        RowSplit(*parts)


def test_more_rows_than_there_are_are_refused() -> None:
    with pytest.raises(ConfigError, match="E223"):
        RowSplit(90, 20).boundaries(calendar(100))


def test_an_unknown_rule_of_membership_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"E223.*by='labels'"):
        RowSplit(by="labels")  # type: ignore[arg-type]  # on purpose: not one of them


@pytest.mark.parametrize(
    "day", [date(2020, 1, 3), datetime(2020, 1, 3), pd.Timestamp("2020-01-03"), pd.Timestamp("2020-01-03", tz="UTC")]
)
def test_dates_may_be_objects(day: date) -> None:
    one, other = DateSplit(day, date(2020, 1, 5)), DateSplit("2020-01-03", "2020-01-05")
    assert one.boundaries(calendar(9)) == other.boundaries(calendar(9))
    twin = specs.build(one.spec(), Split)
    assert twin.boundaries(calendar(9)) == other.boundaries(calendar(9))


def test_a_timestamp_keeps_its_zone() -> None:
    split = DateSplit(pd.Timestamp("2020-01-03", tz="Asia/Tokyo"), "2020-01-05")
    assert split.boundaries(calendar(9)).validation == np.datetime64("2020-01-02T15:00")
