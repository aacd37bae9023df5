"""Combinatorial splits: no training row knows a tested label, on any panel; index sets and paths of other libraries."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnn_lstm import specs
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.parts import split_keeping
from cnn_lstm.data.row_numbers import RowCollector
from cnn_lstm.data.spans import PARTS, PartSpans, Span, rows_of_spans, stretches, touching
from cnn_lstm.data.splits import CPCV, Boundaries, FractionSplit, Split
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.data.windows import labelled
from cnn_lstm.errors import ConfigError
from cnn_lstm.evaluation.audit import learning
from cnn_lstm.model.checkpoint_schema import CONTRACT
from tests.data.test_splits import calendar, tables, take_unchecked
from tests.markets import TableSource, market

TABLE = json.loads(Path(__file__).with_name("purgedcv_table.json").read_text())


@st.composite
def combinations_of(draw: st.DrawFn) -> CPCV:
    groups = draw(st.integers(3, 7))
    tested = draw(st.integers(1, groups - 1))
    fits = CPCV(groups, tested).fits
    validation, embargo = draw(st.floats(0.05, 0.5)), draw(st.integers(0, 4))
    return CPCV(groups, tested, draw(st.integers(0, fits - 1)), validation, embargo)


class Seen:
    """How many of the drawn cases had rows in every part, and training rows on both sides of a test row."""

    cases = full = around = 0


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    table=tables(),
    rule=combinations_of(),
    window=st.integers(1, 6),
    horizon=st.integers(1, 6),
    delay=st.integers(0, 3),
    feature=st.sampled_from(["log_return_1", "log_return_5", "close_location"]),
)
def test_no_training_row_knows_a_price_of_a_later_parts_label(
    table: pd.DataFrame, rule: CPCV, window: int, horizon: int, delay: int, feature: str
) -> None:
    """By brute force over the price table alone: what a row reads and its label, against each label of a later part."""
    table = table.assign(**dict.fromkeys(("open", "high", "low"), table["close"]))
    data = MarketDataModule(
        TableSource(table), features=[feature], targets=[ForwardReturn(horizon, delay)], window=window
    )
    Seen.cases += 1
    take_unchecked(data, table)
    try:
        parts = data.parts_of(rule)
    except ConfigError:
        return
    by_symbol = table.groupby("symbol")["timestamp"]
    warmup = {"log_return_1": 1, "log_return_5": 5, "close_location": 0}[feature]
    since = by_symbol.shift(window - 1 + warmup).fillna(by_symbol.transform("min"))
    ends = by_symbol.shift(-(horizon + delay))
    when, since, ends = (s.dt.tz_localize(None).to_numpy("datetime64[us]") for s in (table["timestamp"], since, ends))
    spans = parts.boundaries.spans
    assert spans is not None
    dates = np.unique(when)
    for number, name in enumerate(PARTS):
        rows = parts.by_name[name]
        assert (np.diff(rows) > 0).all()
        assert spans.inside(name, when[rows]).all()
        for later in PARTS[number + 1 :]:
            others = parts.by_name[later]
            assert not set(rows) & set(others)
            if len(rows) and len(others):
                before = ends[rows][:, None] < when[others]
                behind = since[rows][:, None] > ends[others]
                assert (before | behind).all()
                require_embargo(rule.embargo, dates, ends[rows], when[others], before)
    everything = np.concatenate(list(parts.by_name.values()))
    known = data.windows[labelled(data.panel, data.windows)]
    assert len(everything) + parts.purged == len(known)  # every labelled window has one part, or is purged
    assert set(parts.test) == set(known[spans.inside("test", when[known])])
    Seen.full += all(len(rows) for rows in parts.by_name.values())
    if len(parts.train) and len(parts.test):
        train, test = when[parts.train], when[parts.test]
        Seen.around += bool(train.min() < test.max() and train.max() > test.min())


def require_embargo(
    embargo: int, dates: np.ndarray, ends: np.ndarray, decisions: np.ndarray, before: np.ndarray
) -> None:
    """So many dates of the table lie between the last label before a stretch and its first decision."""
    end, decision = (np.searchsorted(dates, times) for times in (ends, decisions))
    between = decision - end[:, None] - 1
    assert not before.any() or between[before].min() >= embargo


def test_the_drawn_cases_had_rows_in_every_part_and_on_both_sides() -> None:
    """A property that is checked on empty parts says nothing."""
    if Seen.cases:
        assert Seen.full > 0.5 * Seen.cases, (Seen.full, Seen.cases)
        assert Seen.around > 0.2 * Seen.cases, (Seen.around, Seen.cases)


def fitted_rows(split: CPCV, count: int, reach: int, reads: int) -> tuple[list[int], list[int]]:
    """Rows that are not tested and stay, and tested ones, of one symbol with a row a day; nothing is validated."""
    times, rows = calendar(count + reach), np.arange(count)
    spans = split.boundaries(times[:count]).spans
    assert spans is not None
    whole = PartSpans(tuple(sorted(spans.train + spans.validation, key=lambda span: span.start)), (), spans.test)
    known = rows, times[np.maximum(rows - reads, 0)], times[rows], times[rows + reach]
    (train, _, test), _ = rows_of_spans(lambda: [known], whole, times, RowCollector)
    return train.tolist(), test.tolist()


@pytest.mark.parametrize(("count", "groups", "tested"), [(60, 6, 2), (61, 5, 3), (50, 4, 2)])
@pytest.mark.parametrize(("reach", "reads"), [(1, 0), (2, 3), (4, 3)])
def test_the_rows_are_those_of_skfolio(count: int, groups: int, tested: int, reach: int, reads: int) -> None:
    """Its purge takes delay + horizon rows on both sides, its embargo the window and warm-up less one behind it."""
    from skfolio.model_selection import CombinatorialPurgedCV  # takes seconds

    oracle = CombinatorialPurgedCV(groups, tested, purged_size=reach, embargo_size=reads)
    wanted = [
        (train.tolist(), sorted(np.concatenate(tests).tolist())) for train, tests in oracle.split(np.zeros((count, 1)))
    ]
    splits = [CPCV(groups, tested, number) for number in range(CPCV(groups, tested).fits)]
    assert [fitted_rows(split, count, reach, reads) for split in splits] == wanted
    paths = np.array([splits[0].path(number) for number in range(splits[0].paths)])
    np.testing.assert_array_equal(paths, oracle.recombined_paths.T)


@pytest.mark.parametrize("known", TABLE["splits"], ids=lambda known: str(known["case"]))
def test_the_rows_are_those_of_purgedcv(known: dict[str, Any]) -> None:
    count, groups, tested, reach, reads = known["case"]
    splits = [CPCV(groups, tested, number) for number in range(CPCV(groups, tested).fits)]
    assert [list(fitted_rows(split, count, reach, reads)) for split in splits] == known["folds"]


def test_every_tested_group_of_every_fit_serves_one_path() -> None:
    for groups, tested in ((3, 1), (6, 2), (6, 3), (8, 5)):
        split = CPCV(groups, tested)
        assert split.paths == split.fits * tested // groups
        used = [(group, fit) for number in range(split.paths) for group, fit in enumerate(split.path(number))]
        wanted = {(group, fit) for fit, chosen in enumerate(split.choices) for group in chosen}
        assert len(used) == len(set(used))
        assert set(used) == wanted


def test_touching_is_what_a_comparison_of_all_pairs_says() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        ends = [np.sort(random.integers(0, 60, (random.integers(0, 12), 2)), axis=1) for _ in range(2)]
        one, other = (calendar(60)[pairs].reshape(-1, 2) for pairs in ends)
        wanted = ((one[:, :1] <= other[:, 1]) & (one[:, 1:] >= other[:, 0])).any(axis=1)
        assert touching(one[:, 0], one[:, 1], (other[:, 0], other[:, 1])).tolist() == wanted.tolist()


@pytest.mark.parametrize(("reach", "reads", "embargo"), [(1, 0, 0), (1, 0, 1), (2, 3, 2), (3, 1, 4)])
@pytest.mark.parametrize("chunk", [80, 7])
def test_the_rows_are_those_of_a_comparison_of_all_pairs(reach: int, reads: int, embargo: int, chunk: int) -> None:
    """One row a day, everything by numbers of days: a row stays if each later part's rows are that far away from it."""
    times, rows = calendar(60 + reach), np.arange(60)
    known = rows, times[np.maximum(rows - reads, 0)], times[rows], times[rows + reach]
    chunks = [tuple(column[start : start + chunk] for column in known) for start in range(0, 60, chunk)]
    for combination in (0, 3, 8, 14):
        spans = CPCV(6, 2, combination, embargo=embargo).boundaries(times[:60]).spans
        assert spans is not None
        inside = [rows[spans.inside(part, times[:60])].tolist() for part in PARTS]
        wanted = [
            [
                row
                for row in part
                if all(
                    row + reach < other - embargo or max(row - reads, 0) > other + reach + embargo
                    for later in inside[number + 1 :]
                    for other in later
                )
            ]
            for number, part in enumerate(inside)
        ]
        parts, purged = rows_of_spans(lambda: chunks, spans, times, RowCollector)  # type: ignore[arg-type,return-value]
        assert [part.tolist() for part in parts] == wanted
        assert purged == 60 - sum(map(len, wanted))


def test_stretches_are_as_long_as_they_can_be() -> None:
    random = np.random.default_rng(0)
    times = calendar(30)
    for _ in range(200):
        inside = random.random(30) < random.random()
        spans = stretches(times, inside)
        assert PartSpans(spans, (), ()).inside("train", times).tolist() == inside.tolist()
        assert len(spans) == int(inside[0]) + int((inside[1:] & ~inside[:-1]).sum())
        assert all(one.stop < other.start for one, other in pairwise(spans))


def test_spans_survive_their_plain_form_and_days_are_read_as_moments() -> None:
    first, second, third = calendar(3)
    spans = PartSpans((Span(first, second),), (), (Span(second, third), Span(third, third)), embargo=3)
    assert PartSpans.from_plain(json.loads(json.dumps(spans.to_plain()))) == spans
    days = {"train": [["2020-01-01", "2020-01-02"]], "validation": [], "test": [], "embargo": 0}
    read = PartSpans.from_plain(days)
    assert read == PartSpans((Span(first, second),), (), ())
    assert read.to_plain()["train"] == [["2020-01-01T00:00:00.000000", "2020-01-02T00:00:00.000000"]]


# -- what else must know of it -----------------------------------------------------------------------------------------


def module(split: Split, **arguments: Any) -> MarketDataModule:
    table = market(400, ("AAA", "BBB"), gaps=True)
    data = MarketDataModule(TableSource(table), features=["log_return_1"], window=4, split=split, **arguments)
    data.setup()
    return data


@pytest.mark.parametrize("combination", [0, 4, 5])
def test_the_audit_passes_and_prices_of_test_dates_move_no_statistic(combination: int) -> None:
    data = module(CPCV(4, 2, combination))
    assert learning.purge(data).outcome == "passed"
    assert learning.part_rows(data).outcome == "passed"
    done = learning.training_statistics(data, data.load())
    assert done.outcome == "passed", done.findings


@pytest.mark.parametrize("side", ["before", "behind"])
def test_the_audit_finds_a_row_that_the_purge_should_have_taken(side: str) -> None:
    data = module(CPCV(4, 1, 1))
    rows, test = data.parts.train, data.parts.test
    near = rows[rows < test[0]].max() + 1 if side == "before" else test[data.panel.symbol[test] == 0].max() + 3
    data.parts.train.setflags(write=True)
    data.parts.train[np.searchsorted(rows, near) - 1] = near
    found = learning.purge(data)
    assert found.outcome == "failed"
    assert any("touches a label of the test part" in finding.what for finding in found.findings)


def test_a_statistic_of_all_rows_is_found() -> None:
    """What `fit` would learn from the test dates too moves when these do."""
    data = module(CPCV(4, 2, 4))
    data.parts = replace(data.parts, train=np.sort(np.concatenate([data.parts.train, data.parts.test])))
    data.statistics = data.statistics_of(data.panel, data.parts.train)
    assert learning.training_statistics(data, data.load()).outcome == "failed"


def test_the_dates_survive_a_checkpoint_and_a_longer_table() -> None:
    data = module(CPCV(5, 2, 3, embargo=2))
    plain = json.loads(json.dumps(data.contract()["boundaries"]))
    assert CONTRACT["boundaries"](plain, 1)
    assert not CONTRACT["boundaries"]({**plain, "spans": {**plain["spans"], "test": [["2010-01-05", "2010-01-04"]]}}, 1)
    kept = Boundaries.of(_Dates(**plain))
    assert kept == data.parts.boundaries
    grown = np.append(data.times, data.times[-1] + np.arange(1, 60) * np.timedelta64(1, "D"))
    split, _ = split_keeping(
        kept, data.split, grown, lambda rule: replace(data.parts, boundaries=rule.boundaries(grown))
    )
    assert split.boundaries(grown).spans == kept.spans
    assert CPCV(5, 2, 3).boundaries(grown).spans != kept.spans


class _Dates:
    def __init__(self, train: str, validation: str, test: str, end: str, spans: Any) -> None:
        self.train, self.validation, self.test, self.end, self.spans = train, validation, test, end, spans


def test_what_needs_parts_in_order_refuses_a_combination() -> None:
    data = module(CPCV(4, 2, 4), fit_on="train")
    data.fit_on = "train_and_validation"
    with pytest.raises(ConfigError, match="not in order") as caught:
        data.fit_rows  # noqa: B018 - a property that raises
    assert caught.value.code == 223


def test_predict_forecasts_the_test_dates_and_what_comes_after_all_that_the_fit_knows() -> None:
    data = module(CPCV(4, 2, 4))
    spans = data.parts.boundaries.spans
    assert spans is not None
    wanted = data.windows[spans.inside("test", data.panel.time[data.windows])]
    late = data.windows[data.panel.time[data.windows] >= data.fit_end]
    assert data.rows_to_predict().tolist() == np.union1d(wanted, late).tolist()


def test_a_rule_is_rebuilt_from_its_plain_spec() -> None:
    split = CPCV(5, 3, 7, 0.3, 2)
    twin = specs.build(split.spec(), Split)
    assert twin.boundaries(calendar(90)) == split.boundaries(calendar(90))
    assert FractionSplit().boundaries(calendar(90)).spans is None


@pytest.mark.parametrize(("split", "count"), [(CPCV(6), 11), (CPCV(3, 2, validation=0.9), 6)])
def test_too_few_dates_are_refused(split: CPCV, count: int) -> None:
    with pytest.raises(ConfigError) as caught:
        split.boundaries(calendar(count))
    assert caught.value.code == 223
