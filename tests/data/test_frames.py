"""Frames as users hold them become the price table that files of the same bars become."""

from __future__ import annotations

import decimal
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_lstm.data.frames import UNNAMED, price_table
from cnn_lstm.data.prices import Checks, check_prices
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.errors import CnnLstmError
from tests.markets import walk

KEYS = ["symbol", "timestamp"]
BARS = ["open", "high", "low", "close", "volume"]
Change = Callable[[pd.DataFrame], Any]


def two() -> pd.DataFrame:
    """Bars of two symbols, of which the second begins later."""
    return pd.concat([walk(8, "ACME"), walk(5, "BOLT", 3, "2010-01-07")], ignore_index=True).astype({"symbol": "str"})


def local(table: pd.DataFrame, zone: str) -> pd.DataFrame:
    """The same dates as midnights of a zone."""
    return table.assign(timestamp=table["timestamp"].dt.tz_localize(None).dt.tz_localize(zone))


def download(table: pd.DataFrame, ticker_first: bool = False) -> pd.DataFrame:
    """What yfinance's `download` returns for several tickers: columns of two levels, holes where one has no bar."""
    wide = table.pivot(index="timestamp", columns="symbol", values=BARS).rename(columns=str.title, level=0)
    wide = wide.rename_axis(index="Date", columns=["Price", "Ticker"]).tz_localize(None)
    return wide.swaplevel(axis=1).sort_index(axis=1) if ticker_first else wide


FORMS: dict[str, Change] = {
    "as it is": lambda t: t,
    "rows in another order": lambda t: t.sample(frac=1, random_state=1),
    "capitals": lambda t: t.rename(columns=str.title),
    "upper case": lambda t: t.rename(columns=str.upper),
    "Date and Ticker": lambda t: t.rename(columns={"timestamp": "Date", "symbol": "Ticker"}),
    "FinRL": lambda t: t.rename(columns={"timestamp": "date", "symbol": "tic"}),
    "FinRL, text": lambda t: t.assign(date=t["timestamp"].dt.strftime("%Y-%m-%d"), tic=t["symbol"]).drop(columns=KEYS),
    "days without a time": lambda t: t.assign(timestamp=t["timestamp"].dt.date),
    "symbol and time as index": lambda t: t.set_index(KEYS),
    "time and symbol as index": lambda t: t.set_index(KEYS[::-1]),
    "date and asset as index": lambda t: t.set_index(KEYS[::-1]).rename_axis(["date", "asset"]),
    "an index without names": lambda t: t.set_index(KEYS).rename_axis([None, None]),
    "time as index": lambda t: t.set_index("timestamp"),
    "time as index of text": lambda t: (
        t.assign(timestamp=t["timestamp"].dt.strftime("%Y-%m-%d")).set_index("timestamp").rename_axis(None)
    ),
    "download": download,
    "download, ticker first": lambda t: download(t, ticker_first=True),
    "Arrow": lambda t: t.convert_dtypes(dtype_backend="pyarrow"),
    "Arrow days": lambda t: t.astype({"timestamp": "timestamp[us, tz=UTC][pyarrow]"}).assign(
        timestamp=t["timestamp"].dt.tz_localize(None).astype("date32[pyarrow]")
    ),
    "nullable": lambda t: t.convert_dtypes(),
    "decimals": lambda t: t.assign(close=t["close"].map(repr).map(decimal.Decimal)),
    "single precision of volume": lambda t: t.astype({"volume": "float32"}),
    "text of prices": lambda t: t.assign(close=t["close"].map(repr)),
    "categories": lambda t: t.astype({"symbol": "category"}),
    "no zone": lambda t: t.assign(timestamp=t["timestamp"].dt.tz_localize(None)),
    "Tokyo": lambda t: local(t, "Asia/Tokyo"),
    "New York": lambda t: local(t, "America/New_York"),
    "text with offsets": lambda t: t.assign(timestamp=local(t, "America/New_York")["timestamp"].astype(str)),
    "two zones": lambda t: t.assign(
        timestamp=[
            when.tz_localize(None).tz_localize("Asia/Tokyo" if symbol == "ACME" else "Europe/Paris")
            for symbol, when in zip(t["symbol"], t["timestamp"], strict=True)
        ]
    ),
    "periods": lambda t: t.assign(timestamp=t["timestamp"].dt.tz_localize(None).dt.to_period("D")),
}


@pytest.mark.parametrize("change", FORMS.values(), ids=FORMS.keys())
def test_every_form_is_the_same_table(change: Change) -> None:
    table = change(two())
    before = table.copy()
    found = price_table(table).sort_values(KEYS, ignore_index=True)
    pd.testing.assert_frame_equal(found[[*KEYS, *BARS]], two(), check_exact=True)
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize("change", [FORMS[name] for name in ("FinRL", "capitals", "Tokyo", "Date and Ticker")])
def test_a_file_of_the_frame_gives_the_same_table(change: Change, tmp_path: Path) -> None:
    table = change(two())
    table.to_parquet(tmp_path / "x.parquet")
    wanted = PriceFiles(str(tmp_path / "x.parquet")).load(None, None, None)
    pd.testing.assert_frame_equal(price_table(table), wanted, check_exact=True)


def test_whole_numbers_as_symbols_are_text() -> None:
    found = price_table(two().assign(symbol=[600519] * 8 + [700] * 5))
    assert found["symbol"].unique().tolist() == ["600519", "700"]


def test_a_frame_that_names_no_symbol_is_one_symbol_aloud(caplog: pytest.LogCaptureFixture) -> None:
    yahoo = walk(8).drop(columns="symbol").rename(columns=str.title).rename(columns={"Timestamp": "Date"})
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        found = price_table(yahoo.set_index("Date"))
    assert found["symbol"].unique().tolist() == [UNNAMED]
    assert [record.message[:6] for record in caplog.records] == ["[W350]"]
    pd.testing.assert_frame_equal(found[BARS], walk(8)[BARS], check_exact=True)


REFUSALS: dict[str, tuple[Change, int, str]] = {
    "several symbols without a name": (lambda t: t.drop(columns="symbol"), 303, "no column symbol"),
    "symbols under a name of their own": (lambda t: t.rename(columns={"symbol": "Name"}), 303, "no column symbol"),
    "no time": (lambda t: t.drop(columns="timestamp"), 303, "no column timestamp"),
    "hours without a zone": (
        lambda t: t.assign(timestamp=t["timestamp"].dt.tz_localize(None) + pd.Timedelta("9h")),
        310,
        "tz_localize",
    ),
    "text of hours without a zone": (
        lambda t: t.assign(timestamp=t["timestamp"].dt.strftime("%Y-%m-%d 09:30")),
        310,
        "tz_localize",
    ),
    "day or month first": (lambda t: t.assign(timestamp="01/02/2010"), 309, "pd.to_datetime"),
    "numbers": (lambda t: t.assign(timestamp=t["timestamp"].astype("int64")), 309, "unit='ms'"),
    "a date that is missing": (lambda t: t.assign(timestamp=t["timestamp"].mask(t.index == 3)), 309, "no timestamp"),
    "behind the year 9999": (
        lambda t: t.assign(timestamp=t["timestamp"].astype("datetime64[s, UTC]") + pd.Timedelta(3_000_000, unit="D")),
        311,
        "the year 10",
    ),
    "before the year 1": (
        lambda t: t.assign(timestamp=t["timestamp"].astype("datetime64[s, UTC]") - pd.Timedelta(800_000, unit="D")),
        311,
        "the year -",
    ),
    "two closes": (lambda t: t.assign(CLOSE=1.0).rename(columns={"timestamp": "date"}), 303, "both look like close"),
    "two columns of one name": (lambda t: pd.concat([t, t[["close"]]], axis=1), 303, "one name each"),
    "text for a price": (lambda t: t.assign(close="n/m"), 304, "'n/m' is not a number"),
    "complex numbers": (lambda t: t.assign(close=1j), 304, "complex128"),
    "no rows": (lambda t: t.iloc[:0], 302, "0 rows"),
    "a wide table of closes": (lambda t: t.pivot(index="timestamp", columns="symbol", values="close"), 303, "close"),
    "the name of a file": (lambda t: "prices.csv", 338, "prices are str"),
}


@pytest.mark.parametrize(("change", "code", "part"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_is_not_clear_is_refused_in_one_line(change: Change, code: int, part: str) -> None:
    with pytest.raises(CnnLstmError) as caught:
        check_prices(price_table(change(two())), Checks(), required=["close"])
    assert caught.value.code == code
    assert part in str(caught.value)
    assert max(map(len, str(caught.value).splitlines())) <= 400


def test_columns_of_the_user_keep_the_names_that_are_asked_for() -> None:
    ours, theirs = two().assign(VIX=1.0), two().assign(VIX=1.0).rename(columns={"timestamp": "date"})
    assert "VIX" in price_table(ours)
    assert "vix" in price_table(theirs)
    assert "VIX" in price_table(theirs, wanted=["VIX"])


ZONES = ("UTC", "Asia/Tokyo", "America/New_York", "Europe/Paris", "Asia/Beirut", "Africa/Cairo", "Australia/Lord_Howe")


@given(
    zone=st.sampled_from(ZONES), first=st.dates(pd.Timestamp("1990-01-01").date(), pd.Timestamp("2022-01-01").date())
)
@settings(max_examples=60, deadline=None)
def test_local_days_keep_their_dates_and_hours_stay_moments(zone: str, first: Any) -> None:
    """Beirut's and Cairo's clocks jump over midnight: the day then begins at 1:00."""
    days = pd.date_range(first, periods=400, freq="D")
    table = pd.DataFrame(
        {"symbol": "A", "timestamp": days.tz_localize(zone, nonexistent="shift_forward", ambiguous=True)}
    )
    assert price_table(table)["timestamp"].dt.tz_localize(None).tolist() == days.tolist()
    pd.testing.assert_frame_equal(check_prices(table, Checks()).table, price_table(table), check_dtype=False)
    hours = table.assign(timestamp=pd.date_range(first, periods=400, freq="h", tz="UTC").tz_convert(zone))
    wanted = hours["timestamp"].dt.tz_convert("UTC")
    assert price_table(hours)["timestamp"].tolist() == wanted.tolist()
    assert price_table(hours.assign(timestamp=hours["timestamp"].map(str)))["timestamp"].tolist() == wanted.tolist()


def test_one_bar_at_midnight_is_what_is_known_of_it() -> None:
    bar = local(walk(1), "Asia/Tokyo")
    assert price_table(bar, daily=True)["timestamp"][0] == walk(1)["timestamp"][0]
    assert price_table(bar, daily=False)["timestamp"][0] == bar["timestamp"][0]
    text = bar.assign(timestamp=bar["timestamp"].map(str))
    assert price_table(text, daily=False)["timestamp"][0] == bar["timestamp"][0]
    with pytest.raises(CnnLstmError, match="without a time zone"):
        price_table(bar.assign(timestamp=bar["timestamp"].dt.tz_localize(None)), daily=False)


def test_times_without_a_zone_are_those_of_a_given_one() -> None:
    hours = walk(5).assign(timestamp=pd.date_range("2024-01-01", periods=5, freq="h"))
    for table in (hours, hours.assign(timestamp=hours["timestamp"].map(str))):
        assert price_table(table, zone="UTC")["timestamp"].dt.hour.tolist() == list(range(5))
    assert price_table(walk(5).assign(timestamp=pd.date_range("2024-01-01", periods=5)), zone="UTC").shape[0] == 5


def test_a_table_in_our_form_is_passed_on_as_it_is() -> None:
    table = two().astype(dict.fromkeys(BARS, np.float64))
    assert price_table(table) is table
