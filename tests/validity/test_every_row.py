"""Every row as a cut: leaks at a few rows are found where they are, and what looks back alone is not flagged."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.column_targets import LabelColumn
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.feature_catalogue import available_features, resolve_features
from cnn_lstm.data.features import Feature, evaluate_feature
from cnn_lstm.data.prices import Checks
from cnn_lstm.data.splits import FractionSplit
from cnn_lstm.data.targets import ForwardReturn, RealizedVolatility
from cnn_lstm.evaluation.audit import every_row, label_selection
from cnn_lstm.evaluation.audit.every_row import late_values
from cnn_lstm.evaluation.audit.findings import FAILED, NOT_APPLICABLE, PASSED, WARNED
from cnn_lstm.evaluation.audit.run_audit import audit
from tests.markets import TableSource, market, walk
from tests.validity import zoo
from tests.validity.clean_features import clean_feature


@pytest.fixture(autouse=True)
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnn_lstm.specs._trusted", {"cnn_lstm", "tests"})


@functools.cache
def eventful() -> pd.DataFrame:
    return zoo.eventful(240)


def ready(prices: pd.DataFrame, **arguments: Any) -> MarketDataModule:
    settings: dict[str, Any] = {"features": ["log_return_1", "close_location"], "window": 4} | arguments
    data = MarketDataModule(TableSource(prices), **settings)
    data.setup()
    return data


def bars_of(symbol: str = "AAA") -> pd.DataFrame:
    table = eventful()
    return table[table["symbol"] == symbol].reset_index(drop=True)


def late_by_definition(item: Feature, bars: pd.DataFrame) -> list[int]:
    """Rows whose value is another one on the rows until it: one call per row."""
    with np.errstate(all="ignore"):
        whole = evaluate_feature(item, bars)
        last = [evaluate_feature(item, bars.iloc[: row + 1])[-1] for row in range(len(bars))]
    same = np.isclose(whole, last, rtol=1e-6, atol=1e-9, equal_nan=True)
    return [row for row in np.flatnonzero(~same).tolist() if row >= item.warmup]


# -- the zoo -----------------------------------------------------------------------------------------------------------


def test_the_zoo_has_thirty_leaks_and_ten_rare_ones() -> None:
    assert len(zoo.LEAKS) + len(zoo.RARE) >= 30
    assert len(zoo.RARE) >= 10


@pytest.mark.parametrize("leak", zoo.RARE, ids=lambda leak: leak.__name__)
def test_every_rare_leak_is_found_at_its_own_rows(leak: Any) -> None:
    """The rows are among those that a call per row finds."""
    (item,) = resolve_features([zoo.path(leak)], list(eventful().columns), lambda path: leak)
    bars = eventful() if item.cross_sectional else bars_of()
    found = late_values(item, bars)
    assert found.cuts == len(bars)
    assert 0 < len(found.rows) < len(bars) / 8
    if not item.cross_sectional:
        assert {*found.rows.tolist()} <= {*late_by_definition(item, bars)}


def test_sampled_cuts_miss_what_every_row_finds() -> None:
    data = ready(eventful(), features=["log_return_1", zoo.path(zoo.limit_move_tomorrow)], window=2)
    assert every_row.own_features_at_every_row(data).outcome == FAILED
    limits = late_values(data.bound.features[1], bars_of()).rows
    assert 1 <= len(limits) <= 12


def test_the_audit_runs_it_and_names_the_feature() -> None:
    found = audit(ready(eventful(), features=["log_return_1", zoo.path(zoo.silent_days_filled)], window=2))
    (result,) = [part for part in found.results if part.name == every_row.EVERY_ROW]
    assert [finding.column for finding in result.findings] == [zoo.path(zoo.silent_days_filled)]
    assert "1 feature, " in result.compared
    assert result in found.failed


def test_shipped_features_alone_are_left_to_the_sampled_cuts() -> None:
    assert every_row.own_features_at_every_row(ready(eventful())).outcome == NOT_APPLICABLE


# -- what looks back alone ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", zoo.CLEAN, ids=lambda clean: clean.__name__)
def test_the_clean_ones_of_the_zoo_are_not_flagged(clean: Any) -> None:
    data = ready(eventful(), features=["log_return_1", zoo.path(clean)], window=2)
    assert every_row.own_features_at_every_row(data).findings == ()


def alarms(seeds: range) -> list[str]:
    return [item.name for item in map(clean_feature, seeds) if len(late_values(item, bars_of()).rows)]


def test_random_clean_features_are_not_flagged() -> None:
    assert alarms(range(1000, 1004)) == []


@pytest.mark.slow
def test_of_two_hundred_clean_features_at_most_one_is_flagged() -> None:
    assert len(alarms(range(200))) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("offer", available_features(), ids=lambda offer: offer.default)
def test_every_shipped_feature_passes_at_every_row(offer: Any) -> None:
    table = eventful()
    (item,) = resolve_features([offer.default], list(table.columns))
    for bars in [table] if item.cross_sectional else [bars_of(symbol) for symbol in ("AAA", "BBB")]:
        found = late_values(item, bars.reset_index(drop=True))
        assert (found.rows.tolist(), found.cuts) == ([], len(bars))


def test_a_wrong_warm_up_is_no_leak_and_hides_none() -> None:
    """What reaches further back than it says differs on short tables; the rows until it decide."""

    def endless(bars: pd.DataFrame) -> pd.Series:
        return bars["close"].cumsum()

    def endless_and_leaking(bars: pd.DataFrame) -> pd.Series:
        return bars["close"].cumsum().where(bars["volume"] > 0).bfill()

    for warmup in (0, 1, 7):
        assert len(late_values(Feature("x", endless, warmup, ("close",), "own"), bars_of()).rows) == 0
        leaking = Feature("y", endless_and_leaking, warmup, ("close",), "own")
        found = late_values(leaking, bars_of()).rows.tolist()
        assert found
        assert {*found} <= {*late_by_definition(leaking, bars_of())}


def test_a_function_that_needs_many_bars_is_cut_where_it_can_be() -> None:
    def needs_a_hundred(bars: pd.DataFrame) -> pd.Series:
        if len(bars) < 100:
            raise ValueError("too short")
        return bars["close"].where(bars["volume"] > 0).bfill()

    item = Feature("x", needs_a_hundred, 0, ("close",), "own")
    silent = bars_of().index[bars_of()["volume"] == 0]
    assert {*late_values(item, bars_of()).rows.tolist()} == {row for row in silent if row >= 99}


# -- rows chosen by their label ----------------------------------------------------------------------------------------


def without_extremes(table: pd.DataFrame, horizon: int = 1, share: float = 0.05) -> pd.DataFrame:
    """The table without the rows of its last part whose labels are extreme."""
    label = table.groupby("symbol")["close"].transform(
        lambda close: np.log(close.shift(-1 - horizon) / close.shift(-1))
    )
    late = table["timestamp"] > table["timestamp"].quantile(0.84)
    extreme = (label - label.median()).abs() > label.abs().quantile(1 - share)
    return table[~(late & extreme)].reset_index(drop=True)


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("symbols", [("AAA",), ("AAA", "BBB", "CCC", "DDD", "EEE")], ids=["one symbol", "five"])
def test_a_table_without_extreme_labels_is_named(symbols: tuple[str, ...], horizon: int) -> None:
    table = market(2400 if len(symbols) == 1 else 900, symbols, seed=2, gaps=False)
    targets = [ForwardReturn(horizon)]
    found = label_selection.label_selection(ready(without_extremes(table, horizon), targets=targets))
    assert (found.outcome, found.findings[0].column) == (WARNED, f"test rows for return_{horizon}")
    assert "precede the largest moves" in found.findings[0].what
    strict = label_selection.label_selection(ready(without_extremes(table, horizon), targets=targets), True)
    assert strict.outcome == FAILED
    random = np.random.default_rng(0).random(len(table)) > 0.05
    gaps = ready(table[random].reset_index(drop=True), targets=targets)
    assert label_selection.label_selection(gaps).outcome == PASSED


def test_a_table_without_its_falls_is_named() -> None:
    table = market(900, ("AAA", "BBB", "CCC", "DDD", "EEE"), seed=5, gaps=False)
    label = table.groupby("symbol")["close"].transform(lambda close: np.log(close.shift(-2) / close.shift(-1)))
    late = table["timestamp"] > table["timestamp"].quantile(0.84)
    falls = late & (label < -0.005) & (np.random.default_rng(0).random(len(table)) < 0.4)
    found = label_selection.label_selection(ready(table[~falls].reset_index(drop=True)))
    assert "precede moves of one sign" in found.findings[0].what


def test_cells_of_labels_that_are_empty_where_they_are_extreme_are_named() -> None:
    table = walk(1500, seed=3)
    table["ahead"] = np.log(table["close"].shift(-2) / table["close"].shift(-1))
    size = table["ahead"].abs()
    table.loc[(size > size.quantile(0.9)) & (table.index > 1200), "ahead"] = np.nan
    target = LabelColumn("ahead", 1, 1, stands="decision")
    data = ready(table, targets=[target], checks=Checks(on_unlabelled="skip"))
    assert label_selection.label_selection(data).outcome == WARNED


@pytest.mark.parametrize("where", ["split", "loader"])
def test_test_rows_that_code_leaves_out_are_a_failure(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ready(market(420, seed=1, gaps=False))
    labels = data.panel.labels[data.parts.test, 0].abs().numpy()
    kept = data.parts.test[labels < np.quantile(labels, 0.95)]
    if where == "split":
        object.__setattr__(data.parts, "test", kept)
    else:
        monkeypatch.setattr(type(data), "test_dataloader", lambda data: data._loader(kept))
    found = label_selection.label_selection(data)
    assert found.outcome == FAILED
    assert {finding.column for finding in found.findings} >= {"rows of the test loader"}
    assert "times as far from the median" in found.findings[0].what
    assert found.findings[0].times > 5


@pytest.mark.parametrize("seed", range(6))
def test_rows_that_are_missing_at_random_are_not_named(seed: int) -> None:
    targets: list[Any] = [ForwardReturn(1 + seed % 3, seed % 2), RealizedVolatility(2 + seed)]
    data = ready(market(420, tuple("ABCDE"), seed=seed), targets=targets, split=FractionSplit(0.5, 0.2))
    assert label_selection.label_selection(data).outcome == PASSED


@pytest.mark.slow
def test_of_two_hundred_markets_with_random_gaps_none_is_named() -> None:
    named = 0
    for seed in range(200):
        data = ready(market(300, tuple("ABCD"), seed=seed), targets=[ForwardReturn(1 + seed % 4, seed % 2)])
        named += label_selection.label_selection(data).outcome != PASSED
    assert named == 0


def test_weekends_of_one_market_are_no_holes_of_its_labels() -> None:
    """A symbol that trades every day next to one that does not."""
    every_day = walk(800, "AAA", 1)
    every_day["timestamp"] = pd.date_range("2010-01-04", periods=800, tz="UTC").as_unit("us")
    both = pd.concat([every_day, walk(570, "BBB", 2)], ignore_index=True)
    for delay in (0, 1):
        assert label_selection.label_selection(ready(both, targets=[ForwardReturn(1, delay)])).outcome == PASSED
