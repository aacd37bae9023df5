"""Each row of the bad-input table about the content of a price table."""

from __future__ import annotations

import os
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_lstm.data.prices import CheckedPrices, Checks, check_prices, data_fingerprint
from cnn_lstm.data.sources.sample import SampleBars
from cnn_lstm.errors import ConfigError, DefectsError
from tests.markets import walk


def bars(rows: int = 30, symbols: tuple[str, ...] = ("A", "B"), freq: str = "D") -> pd.DataFrame:
    parts = []
    for number, symbol in enumerate(symbols):
        close = 100 + number + 5 * np.sin(np.arange(rows) + number)
        when = pd.date_range("2020-01-01", periods=rows, freq=freq, tz="UTC", unit="us")
        part = pd.DataFrame({"symbol": symbol, "timestamp": when, "open": close - 0.5, "high": close + 1})
        parts.append(part.assign(low=close - 1, close=close, volume=1000.0 + np.arange(rows)))
    return pd.concat(parts, ignore_index=True).astype({"symbol": "str"})


def edited(row: int | slice, column: str, value: Any, table: pd.DataFrame | None = None) -> pd.DataFrame:
    table = bars() if table is None else table
    table.loc[row, column] = value
    return table


def refused(table: pd.DataFrame, code: int, checks: Checks | None = None, required: tuple[str, ...] = ()) -> str:
    with pytest.raises(DefectsError) as info:
        check_prices(table, checks or Checks(), required)
    found = [defect.code for defect in info.value.defects]
    assert code in found, found
    assert info.value.exit_code == 3
    return str(info.value)


def warned(result: CheckedPrices, code: int) -> str:
    found = [defect for defect in result.warnings if defect.code == code]
    assert found
    assert not any(defect.fatal for defect in result.warnings)
    return f"{found[0].what} | {found[0].where} | {found[0].fix}"


def test_a_good_table_passes_without_a_word() -> None:
    result = check_prices(bars(), Checks(refuse_unsorted=True), ["close"])
    assert result.warnings == ()
    pd.testing.assert_frame_equal(result.table, bars())


def test_the_given_table_is_not_changed() -> None:
    table = edited(3, "close", np.nan)[::-1]
    before = table.copy()
    check_prices(table, Checks(fill_max_gap=1))
    pd.testing.assert_frame_equal(table, before)


def test_a_table_without_rows_is_refused() -> None:
    assert "0 rows" in refused(bars()[:0], 302)


def test_missing_column_is_named_with_the_nearest() -> None:
    message = refused(bars().rename(columns={"close": "clsoe"}), 303, required=("close",))
    for part in ("no column close", "clsoe", "did you mean clsoe?", "data.source.columns"):
        assert part in message


def test_all_missing_columns_are_named() -> None:
    message = refused(bars().drop(columns=["symbol", "timestamp"]), 303)
    assert "no column symbol" in message
    assert "no column timestamp" in message


@pytest.mark.parametrize("names", [["symbol", "timestamp", "close", "close"], ["symbol", "timestamp", "open", 3]])
def test_ambiguous_names_are_refused(names: list[object]) -> None:
    table = bars()[["symbol", "timestamp", "open", "close"]]
    table.columns = names
    refused(table, 303)


def test_a_column_of_text_is_refused() -> None:
    assert "column close is" in refused(bars().astype({"close": "str"}), 304)


def test_missing_timestamps_and_those_without_a_zone_are_refused() -> None:
    refused(edited(2, "timestamp", pd.NaT), 309)
    table = bars()
    table["timestamp"] = table["timestamp"].dt.tz_localize(None)
    assert "tz_localize" in refused(table, 310)


def test_unsorted_rows_are_sorted_or_refused() -> None:
    shuffled = bars().iloc[[1, 0, *range(2, 60)]]
    result = check_prices(shuffled, Checks())
    assert "1 inversion" in warned(result, 307)
    pd.testing.assert_frame_equal(result.table, bars())
    refused(shuffled, 307, Checks(refuse_unsorted=True))


def test_interleaved_symbols_are_not_unsorted() -> None:
    assert check_prices(bars().sort_values(["timestamp", "symbol"]), Checks(refuse_unsorted=True)).warnings == ()


def test_identical_duplicates_are_dropped() -> None:
    result = check_prices(pd.concat([bars(), bars().iloc[[4]]]).sort_values(["symbol", "timestamp"]), Checks())
    assert "A @ 2020-01-05, 1 row" in warned(result, 308)
    assert len(result.table) == 60


def test_conflicting_duplicates_show_both_values() -> None:
    twin = bars().iloc[[4]].assign(volume=7.0)
    message = refused(pd.concat([bars(), twin]), 308)
    assert "A @ 2020-01-05, 1 row" in message
    assert "volume is 1004.0 and 7.0" in message


def test_future_and_ancient_dates_are_refused() -> None:
    future = pd.Timestamp.now("UTC").normalize() + pd.Timedelta(days=3)
    assert "future" in refused(edited(29, "timestamp", future), 311)
    assert "A @ 1899-12-31" in refused(edited(0, "timestamp", pd.Timestamp("1899-12-31", tz="UTC")), 311)


def test_runs_of_missing_prices_are_listed() -> None:
    table = bars()
    table.loc[3:5, "close"] = np.nan
    table.loc[35, "open"] = np.nan
    message = refused(table, 312)
    assert "close is missing — A @ 2020-01-04..2020-01-06, 3 rows" in message
    assert "open is missing — B @ 2020-01-06..2020-01-06, 1 row" in message
    assert "data.checks.fill_max_gap" in message


def test_short_runs_are_filled_from_the_past_only() -> None:
    table = bars()
    table.loc[3:4, ["open", "high", "low", "close", "volume"]] = np.nan
    result = check_prices(table, Checks(fill_max_gap=2))
    assert "A @ 2020-01-04, 2 rows" in warned(result, 312)
    assert result.table["close"][3] == result.table["close"][4] == bars()["close"][2]
    assert result.table["volume"][4] == 0
    refused(table, 312, Checks(fill_max_gap=1))


def test_nothing_is_filled_from_another_symbol() -> None:
    message = refused(edited(30, "close", np.nan), 312, Checks(fill_max_gap=5))
    assert "B @ 2020-01-01" in message
    assert "start later" in message


def test_another_column_may_start_later_but_must_start() -> None:
    table = bars().assign(sentiment=1.0)
    table["sentiment"] = np.arange(60.0)
    table.loc[0:9, "sentiment"] = np.nan
    assert check_prices(table, Checks()).warnings == ()
    refused(edited(20, "sentiment", np.nan, table.copy()), 312)
    table.loc[30:, "sentiment"] = np.nan
    refused(table, 312)


@pytest.mark.parametrize(
    ("column", "value", "code", "part"),
    [
        ("close", np.inf, 313, "close is infinite — A @ 2020-01-04, 1 row"),
        ("volume", -np.inf, 313, "volume is infinite — A @ 2020-01-04, 1 row"),
        ("low", 0.0, 314, "low <= 0 — A @ 2020-01-04, 1 row"),
        ("close", -1.0, 314, "close <= 0 — A @ 2020-01-04, 1 row"),
        ("volume", -1.0, 315, "volume < 0 — A @ 2020-01-04, 1 row"),
        ("low", 500.0, 316, "low > high — A @ 2020-01-04, 1 row"),
        ("close", 500.0, 316, "close > high — A @ 2020-01-04, 1 row"),
        ("open", 50.0, 316, "open < low — A @ 2020-01-04, 1 row"),
    ],
)
def test_values_that_no_bar_has_are_refused(column: str, value: float, code: int, part: str) -> None:
    assert part in refused(edited(3, column, value), code)


def test_volume_of_nothing_but_zeros_is_a_warning() -> None:
    assert "A @ 2020-01-01, 30 rows" in warned(check_prices(edited(slice(0, 29), "volume", 0.0), Checks()), 315)


def test_contradictory_bars_can_be_allowed_and_rounding_is_not_a_defect() -> None:
    table = edited(3, "close", bars()["high"][3] * 1.05)
    assert "data.checks.allow_ohlc" in refused(table, 316)
    assert "close > high" in warned(check_prices(table, Checks(allow_ohlc=True)), 316)
    check_prices(edited(3, "close", bars()["high"][3] * (1 + 1e-7)), Checks())


@pytest.mark.parametrize(("factor", "kind"), [(4, "4:1"), (1 / 5, "1:5"), (100, "100:1"), (2, "2:1")])
def test_an_unadjusted_split_is_refused_unless_jumps_are_allowed(factor: float, kind: str) -> None:
    table = bars(symbols=("A",))
    table[["open", "high", "low", "close"]] = [100.0, 101.0, 99.0, 100.0]
    table.loc[10:, ["open", "high", "low", "close"]] /= factor
    message = refused(table, 317)
    assert f"looks like an unadjusted split {kind} on 2020-01-11" in message
    assert warned(check_prices(table, Checks(allow_jumps=True)), 317)


def test_the_shipped_bars_are_sound_where_they_are_adjusted() -> None:
    adjusted = check_prices(SampleBars().load(None, None, None), Checks(refuse_unsorted=True), ["close"])
    assert adjusted.warnings == ()
    assert "unadjusted split 2:1 on 2005-02-28" in refused(SampleBars(adjusted=False).load(None, None, None), 317)


def test_collinear_columns_are_a_warning() -> None:
    table = walk(150)
    checked = check_prices(table.assign(twice=2 * table["close"]), Checks())
    assert [(d.code, d.what) for d in checked.warnings] == [(319, "columns are collinear")]
    assert not check_prices(table, Checks()).warnings


def test_equal_columns_are_a_warning() -> None:
    table = bars()
    assert "close, last" in warned(check_prices(table.assign(last=table["close"]), Checks()), 319)


def test_a_gap_is_a_warning_with_its_place() -> None:
    table = bars(symbols=("A",)).drop(index=range(5, 20))
    message = warned(check_prices(table, Checks()), 320)
    assert "A @ 2020-01-21, 1 gap, the longest 16 days" in message
    assert check_prices(table, Checks(max_gap_days=16)).warnings == ()


def test_mixed_intervals_are_refused() -> None:
    hourly = bars(40, ("H",), "h")
    message = refused(pd.concat([bars(), hourly]), 321)
    assert "H every 0 days 01:00:00" in message
    both = pd.concat([bars(40, ("A",)), bars(12, ("A",), "h").iloc[1:]]).sort_values("timestamp")
    assert "mixed intervals in A" in refused(both, 321)


def test_a_symbol_that_could_be_a_path_is_refused() -> None:
    with pytest.raises(ConfigError, match="E231"):
        check_prices(bars(symbols=("../etc",)), Checks())


def test_all_defects_come_at_once() -> None:
    table = edited(40, "volume", -5.0, edited(3, "close", np.nan))
    table.loc[50, "low"] = 0
    message = refused(table, 312)
    assert all(f"E{code}" in message for code in (312, 314, 315))


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"fill_max_gap": -1}, 212),
        ({"max_gap_days": 0}, 220),
        ({"max_gap_days": np.nan}, 220),
        ({"on_short": "x"}, 206),
    ],
)
def test_checks_are_validated(values: dict[str, object], code: int) -> None:
    with pytest.raises(ConfigError) as info:
        Checks(**values)  # type: ignore[arg-type]
    assert (info.value.code, info.value.exit_code) == (code, 2)


def test_fingerprint_ignores_order_zone_and_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    table = bars()
    expected = data_fingerprint(table)
    assert data_fingerprint(table.sample(frac=1, random_state=0)[table.columns[::-1]]) == expected
    tokyo = table.assign(timestamp=table["timestamp"].dt.tz_convert("Asia/Tokyo").dt.as_unit("ns"))
    assert data_fingerprint(tokyo) == expected
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert data_fingerprint(table) == expected
    finally:
        monkeypatch.undo()
        time.tzset()
    assert os.environ.get("TZ") != "Asia/Tokyo"


@pytest.mark.parametrize("column", ["symbol", "timestamp", "close", "volume"])
def test_fingerprint_sees_every_column(column: str) -> None:
    table = bars()
    value = {"symbol": "C", "timestamp": pd.Timestamp("2020-03-01", tz="UTC")}.get(column, 1.25)
    assert data_fingerprint(edited(0, column, value)) != data_fingerprint(table)


NASTY = st.one_of(
    st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e308, 5e-324, "x", None, True]),
    st.floats(allow_nan=True, allow_infinity=True),
)
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("cell"), st.integers(0, 59), st.sampled_from(["open", "high", "close", "volume"]), NASTY),
        st.tuples(st.just("time"), st.integers(0, 59), st.just(""), st.integers(-80_000, 80_000)),
        st.tuples(
            st.just("symbol"),
            st.integers(0, 59),
            st.just(""),
            st.sampled_from(["B", "", "../x", "CON", None]),
        ),
        st.tuples(st.just("repeat"), st.integers(0, 59), st.just(""), st.integers(1, 59)),
        st.tuples(st.just("drop"), st.integers(0, 59), st.just(""), st.integers(0, 59)),
        st.tuples(st.just("lose"), st.just(0), st.sampled_from(["symbol", "timestamp", "close", "low"]), st.none()),
    ),
    max_size=5,
)


def apply(table: pd.DataFrame, edits: list[tuple[str, int, str, Any]]) -> pd.DataFrame:
    for kind, row, column, value in edits:
        row = min(row, len(table) - 1)
        if kind == "cell" and column in table and row >= 0:
            table = table.astype({column: "object"})
            table.iloc[row, list(table.columns).index(column)] = value
            table[column] = table[column].infer_objects()
        elif kind == "time" and "timestamp" in table and row >= 0:
            moved = table["timestamp"].iloc[row] + pd.Timedelta(days=value)
            table.iloc[row, list(table.columns).index("timestamp")] = moved
        elif kind == "symbol" and "symbol" in table and row >= 0:
            table.iloc[row, list(table.columns).index("symbol")] = value
        elif kind == "repeat":
            table = pd.concat([table, table.iloc[row : row + value]])
        elif kind == "drop":
            table = table.iloc[:row] if value % 2 else table.iloc[row:]
        elif kind == "lose":
            table = table.drop(columns=column, errors="ignore")
    return table


@settings(max_examples=150, deadline=None)
@given(EDITS, st.integers(0, 3), st.booleans())
def test_only_our_errors_escape(edits: list[tuple[str, int, str, Any]], gap: int, allow: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.PerformanceWarning)
        table = apply(bars(), edits)
    try:
        result = check_prices(table, Checks(fill_max_gap=gap, allow_jumps=allow, allow_ohlc=allow), ["close"])
    except (ConfigError, DefectsError):
        return
    assert np.isfinite(result.table["close"]).all()
    assert (result.table["close"] > 0).all()
    assert not result.table.duplicated(["symbol", "timestamp"]).any()
