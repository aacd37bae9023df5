"""Files as vendors write them: each way of writing a table gives that table back, or one line that says what helps."""

from __future__ import annotations

import gzip
import io
import logging
import re
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_lstm.data.sources import PriceFiles, WideFile
from cnn_lstm.errors import CnnLstmError
from tests.markets import walk

BARS = ["open", "high", "low", "close", "volume"]
CAPITALS = {"timestamp": "Date", **{name: name.title() for name in BARS}}


def table(rows: int = 30, symbol: str = "ACME", seed: int = 0) -> pd.DataFrame:
    """Daily bars with four decimals and whole volumes, of which at least one has four digits before the point."""
    bars = walk(rows, symbol, seed)
    return bars.assign(**{name: (bars[name] * 12).round(4) for name in BARS[:4]})


def load(path: Path | str, **options: Any) -> pd.DataFrame:
    return PriceFiles(str(path), **options).load(None, None, None)


def refused(path: Path | str, code: int, *parts: str, **options: Any) -> None:
    with pytest.raises(CnnLstmError) as info:
        load(path, **options)
    message = str(info.value)
    assert f"[E{code}]" in message, message
    assert "\n" not in message
    assert len(message) <= 400
    for part in parts:
        assert part in message, message


def same(found: pd.DataFrame, expected: pd.DataFrame, columns: list[str] = BARS) -> None:
    """Equal bars, whatever the order of rows and columns."""
    keys = ["symbol", "timestamp"]
    found, expected = (one.sort_values(keys, ignore_index=True)[[*keys, *columns]] for one in (found, expected))
    pd.testing.assert_frame_equal(found, expected.astype({"symbol": "str"}), rtol=1e-12)


def capitals(bars: pd.DataFrame) -> pd.DataFrame:
    day = bars["timestamp"].dt.strftime("%Y-%m-%d")
    return bars.assign(timestamp=day).rename(columns=CAPITALS)[list(CAPITALS.values())]


# -- one table, many ways of writing it --------------------------------------------------------------------------------


def yfinance(bars: pd.DataFrame, by: str = "Price", named: bool = True) -> pd.DataFrame:
    """What `yfinance.download` gives: a header of two levels, and dates as index."""
    wide = {}
    for symbol, one in bars.groupby("symbol"):
        for field in ("Close", "High", "Low", "Open", "Volume"):
            key = (field, symbol) if by == "Price" else (symbol, field)
            wide[key] = one.set_index(one["timestamp"].dt.tz_localize(None))[field.lower()]
    frame = pd.DataFrame(wide)
    frame.columns.names = (["Price", "Ticker"] if by == "Price" else ["Ticker", "Price"]) if named else [None, None]
    frame.index.name = "Date"
    return frame.sort_index(axis=1)


def german(bars: pd.DataFrame) -> str:
    frame = capitals(bars)
    for name in ("Open", "High", "Low", "Close"):
        frame[name] = [f"{v:,.4f}".translate(str.maketrans(",.", ".,")) for v in frame[name]]
    frame["Volume"] = [f"{v:,.0f}".replace(",", ".") for v in frame["Volume"]]
    return frame.to_csv(index=False, sep=";")


def german_words(bars: pd.DataFrame) -> str:
    return german(bars).replace("Date;Open;High;Low;Close;Volume", "Datum;Erster;Hoch;Tief;Schlusskurs;Stuecke", 1)


def dollars(bars: pd.DataFrame) -> str:
    frame = capitals(bars).rename(columns={"Close": "Close/Last"})
    for name in ("Open", "High", "Low", "Close/Last"):
        frame[name] = [f"${v:,.4f}" for v in frame[name]]
    frame["Volume"] = [f"{v:,.0f}" for v in frame["Volume"]]
    return frame.to_csv(index=False)


def investing(bars: pd.DataFrame) -> str:
    frame = capitals(bars).rename(columns={"Volume": "Vol."})
    frame["Vol."] = [f"{v / 1000:.3f}K" for v in frame["Vol."]]
    for name in ("Open", "High", "Low", "Close"):
        frame[name] = [f"{v:,.4f}" for v in frame[name]]
    return frame.assign(**{"Change %": "0.10%"}).iloc[::-1].to_csv(index=False, quoting=1)


def stooq(bars: pd.DataFrame) -> str:
    frame = pd.DataFrame({"<TICKER>": bars["symbol"], "<PER>": "D", "<DATE>": bars["timestamp"].dt.strftime("%Y%m%d")})
    frame["<TIME>"] = "000000"
    for theirs, ours in {
        "<OPEN>": "open",
        "<HIGH>": "high",
        "<LOW>": "low",
        "<CLOSE>": "close",
        "<VOL>": "volume",
    }.items():
        frame[theirs] = bars[ours]
    return frame.assign(**{"<OPENINT>": 0}).to_csv(index=False)


def metatrader(bars: pd.DataFrame) -> str:
    text = stooq(bars.assign(symbol="x")).replace(",", "\t").replace("<TICKER>\t<PER>\t", "").replace("x\tD\t", "")
    for day in bars["timestamp"]:
        text = text.replace(f"{day:%Y%m%d}\t000000", f"{day:%Y.%m.%d}\t00:00:00")
    return text


def padded(bars: pd.DataFrame) -> str:
    return capitals(bars).assign(Ticker="ACME  ").to_csv(index=False).replace(",", " , ")


WRITERS: dict[str, Callable[[pd.DataFrame], str]] = {
    "plain": lambda bars: capitals(bars).to_csv(index=False),
    "yfinance": lambda bars: yfinance(bars).to_csv(),
    "yfinance by ticker": lambda bars: yfinance(bars, "Ticker").to_csv(),
    "yfinance of old": lambda bars: yfinance(bars, named=False).to_csv(),
    "yfinance without index": lambda bars: yfinance(bars).reset_index().to_csv(index=False),
    "german": german,
    "dollars": dollars,
    "investing": investing,
    "stooq": stooq,
    "metatrader": metatrader,
    "padded": padded,
    "slashes": lambda bars: capitals(bars).to_csv(index=False).replace("-", "/"),
    "single digits": lambda bars: capitals(bars).to_csv(index=False).replace("-0", "-"),
    "tabs": lambda bars: capitals(bars).to_csv(index=False, sep="\t"),
    "fixed widths": lambda bars: capitals(bars).to_string(index=False),
    "pipes": lambda bars: capitals(bars).to_csv(index=False, sep="|"),
    "excel": lambda bars: "sep=,\n" + capitals(bars).to_csv(index=False),
    "german words": german_words,
    "excel with semicolons": lambda bars: "sep=;\r\n" + german(bars),
    "link above": lambda bars: "https://www.example.com/data\n" + capitals(bars).to_csv(index=False),
    "lines above": lambda bars: "Some vendor, daily\nSymbol:,ACME\n\n" + capitals(bars).to_csv(index=False),
    "old mac": lambda bars: capitals(bars).to_csv(index=False, lineterminator="\r"),
    "blank lines": lambda bars: capitals(bars).to_csv(index=False).replace("\n", "\n\n") + "\n\n",
    "times behind the day": lambda bars: capitals(bars).assign(Time="00:00").to_csv(index=False),
    "zone behind": lambda bars: re.sub(r"(?m)^(\d[^,]+)", r"\1 00:00:00 UTC", capitals(bars).to_csv(index=False)),
}


@pytest.mark.parametrize("way", WRITERS)
def test_every_way_of_writing_a_table_gives_it_back(way: str, tmp_path: Path) -> None:
    path = tmp_path / "ACME.csv"
    path.write_bytes(WRITERS[way](table()).encode())
    same(load(path), table())


@pytest.mark.parametrize("kind", ["feather", "parquet", "zip", "gzip", "pairs", "text"])
def test_every_kind_of_file_gives_the_table_back(kind: str, tmp_path: Path) -> None:
    frame, path = capitals(table()), tmp_path / "ACME"
    if kind == "feather":
        frame.to_feather(path)
    elif kind == "parquet":
        frame.to_parquet(path)
    elif kind == "pairs":
        yfinance(table()).to_parquet(path)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("prices.csv", frame.to_csv(index=False))
            archive.writestr("__MACOSX/._prices.csv", "x")
    else:
        frame.to_csv(path, index=False, compression="gzip" if kind == "gzip" else None)
    same(load(path), table())


def test_several_symbols_of_one_header_are_told_apart_and_start_when_they_do(tmp_path: Path) -> None:
    bars = pd.concat([table(), table(20, "BOLT", 1)], ignore_index=True)
    for by in ("Price", "Ticker"):
        yfinance(bars, by).to_csv(tmp_path / f"{by}.csv")
        same(load(tmp_path / f"{by}.csv"), bars)
    assert load(tmp_path / "Price.csv", columns={"timestamp": "Price"}).shape == (50, 7)


# -- headers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "Date,Close,Close,Volume",
        "Date,Close,close,Volume",
        "Date,Close,<CLOSE>,Volume",
        "Date,Close,Close.1,Volume",
        "Date,oi,OI,Volume",
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_name_that_stands_twice_is_refused(header: str, kind: str, tmp_path: Path) -> None:
    path, names = tmp_path / "A.csv", header.split(",")
    frame = pd.DataFrame([["2024-01-02", 1, 2, 3]], columns=names)
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif len(set(names)) == len(names):
        frame.to_parquet(path)
    else:
        return
    refused(path, 303, f"{names[1]} and {names[2]} both look like {names[1].lower()}")


def test_a_mapped_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "A.csv").write_text("Date,Last,Last\n2024-01-02,1,2\n")
    refused(tmp_path / "A.csv", 303, "2 columns are called 'Last'", columns={"close": "Last"})
    (tmp_path / "W.csv").write_text("Date,GBP,GBP\n2024-01-02,1,2\n")
    with pytest.raises(CnnLstmError, match="GBP: a name of several columns"):
        WideFile(str(tmp_path / "W.csv")).load(None, None, None)


KLINES = "1725148800000,40006.5,40328.6,39936.0,40235.8,5.4\n1725235200000,40437.9,40588.5,39734.6,40323.7,4.9\n"


@pytest.mark.parametrize(
    ("lines", "names", "options"),
    [
        (KLINES, "timestamp open high low close volume", {"date_format": "ms"}),
        ("ACME,20240102,1,2,1,2,9\nACME,20240103,1,2,1,2,9\n", "symbol date open high low close volume", {}),
        ("2024.01.02,00:00,1,2,1,2,9\n2024.01.03,00:00,1,2,1,2,9\n", "date time open high low close volume", {}),
        (
            "20240102 170000;1.1;1.2;1.0;1.1;0\n20240102 170100;1.1;1.2;1;1;0\n",
            "timestamp open high low close volume",
            {},
        ),
        ("2024-01-02\t$1.5\t9\n2024-01-03\t$1.6\t8\n", "date close volume", {}),
    ],
)
def test_a_file_without_a_header_is_refused_and_read_with_names(
    lines: str, names: str, options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "A.csv"
    path.write_text(lines)
    refused(path, 344, "line 1 looks like data", "data.source.header: false", "data.source.names")
    first = lines.split("\n")[0].replace("\t", ",").replace(";", ",").split(",")
    mapped = {"timestamp": first[0], "close": first[-2]}
    refused(path, 344, "looks like data", columns=mapped)  # nobody calls a column 1725148800000
    found = load(path, names=names.split(), **options)
    assert len(found) == 2
    numbered = {name: str(k + 1) for k, name in enumerate(names.split())}
    same(load(path, header=False, columns=numbered, **options), found, ["close", "volume"])


def test_numbers_may_be_names_of_series_next_to_a_date(tmp_path: Path) -> None:
    path = tmp_path / "A.csv"
    path.write_text("date,0,1,2\n2024-01-02,1,2,3\n")
    assert load(path).columns.tolist() == ["symbol", "timestamp", "0", "1", "2"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Date,Close\n2024-01-02,1,2\n2024-01-03,1,2\n", ("line 2 has 3 cells", "header in line 1 has 2")),
        ("Date,Close\n2024-01-02,1\n2024-01-03,1\n2024-01-04,1,2\n", ("line 4 has 3 cells", "line 1 has 2")),
        ("A vendor\nDate,Close\n2024-01-02,1\n2024-01-04,1,2\n2024-01-05,1\n", ("line 4 has 3", "line 2 has 2")),
    ],
)
def test_lines_of_more_cells_than_names_are_named(text: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "A.csv").write_text(text)
    refused(tmp_path / "A.csv", 305, *parts)


@pytest.mark.parametrize("header", ["Local time", "Gmt time", "open_time", "snapped_at_date"])
def test_the_only_column_that_sounds_like_a_time_is_proposed(header: str, tmp_path: Path) -> None:
    (tmp_path / "A.csv").write_text(f"{header},Close\n2024-01-02,1\n")
    refused(tmp_path / "A.csv", 303, "no column timestamp", f"{{timestamp: {header}}}")


@pytest.mark.parametrize("second", [",USD,USD,USD,USD,shares", "2024-01-01,a,b,c,d,e", "x,Open,Close,High,Low,Volume"])
def test_a_line_of_words_below_the_names_is_not_a_second_level(second: str, tmp_path: Path) -> None:
    lines = capitals(table()).to_csv(index=False).split("\n")
    (tmp_path / "A.csv").write_text("\n".join([lines[0], second, *lines[1:]]))
    with pytest.raises(CnnLstmError, match=r"A\.csv:2"):
        load(tmp_path / "A.csv")


# -- lines that hold no bar --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "part"),
    [
        (
            '"Downloaded from example.com as of 10-02-2023 11:16pm CDT"',
            "line 32 is not a bar: it begins with 'Downloaded",
        ),
        ("Average,1,2,3,4,5", "line 32 is not a bar: it begins with 'Average'"),
        ("Date,Open,High,Low,Close,Volume", "line 32 repeats the header ('Date')"),
        (",1,2,3,4,5", "no date"),
        ("13/01/2024,1,2,3,4,5", "'13/01/2024' is not an ISO date"),
    ],
)
def test_a_line_that_is_not_a_bar_is_named(last: str, part: str, tmp_path: Path) -> None:
    path = tmp_path / "A.csv"
    path.write_text(capitals(table()).to_csv(index=False) + last + "\n")
    refused(path, 309, part, f"{path}:32, 1 row of 31")


def test_a_column_that_tells_repeated_dates_apart_is_proposed_as_symbol(tmp_path: Path) -> None:
    bars = pd.concat([table(), table(30, "BOLT", 1)], ignore_index=True)
    for name, values in (("Name", bars["symbol"]), ("permno", bars["symbol"].map({"ACME": 10001, "BOLT": 10002}))):
        capitals(bars).assign(**{name: values}).to_csv(tmp_path / "all.csv", index=False)
        refused(tmp_path / "all.csv", 303, f"data.source.columns: {{symbol: {name}}}")
        assert load(tmp_path / "all.csv", columns={"symbol": name})["symbol"].nunique() == 2


@pytest.mark.parametrize(
    "values", [[[1]] * 4, [{"a": 1}] * 4, [b"x"] * 4, [True, False] * 2, [None] * 4, [1.5, 2.5] * 2]
)
def test_columns_of_other_kinds_are_not_proposed_as_symbols(values: list[object], tmp_path: Path) -> None:
    frame = pd.DataFrame({"date": ["2024-01-02", "2024-01-02", "2024-01-03", "2024-01-03"], "close": 1.5, "x": values})
    frame.to_parquet(tmp_path / "A.parquet")
    assert len(load(tmp_path / "A.parquet")) == 4


# -- days and times in two columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["%H:%M:%S", "%H:%M", "%H%M", "%H%M%S", "%H:%M:%S.%f"])
@pytest.mark.parametrize("columns", [None, {"timestamp": "Date"}, {"date": "Date", "time": "Time"}])
def test_a_day_and_its_time_are_joined(form: str, columns: dict[str, str] | None, tmp_path: Path) -> None:
    when = pd.date_range("2024-01-08", periods=48, freq="15min")
    frame = pd.DataFrame({"Date": when.strftime("%Y.%m.%d"), "Time": when.strftime(form), "Close": np.arange(48) + 1.0})
    path = tmp_path / "A.csv"
    frame.to_csv(path, index=False)
    assert list(load(path, columns=columns)["timestamp"]) == list(when.tz_localize("UTC"))
    if form == "%H%M%S":  # numbers without their leading zeros
        frame.assign(Time=frame["Time"].astype(int)).to_csv(path, index=False)
        assert list(load(path, columns=columns)["timestamp"]) == list(when.tz_localize("UTC"))
    frame.assign(Date=when.strftime("%d/%m/%Y")).to_csv(path, index=False)
    assert list(load(path, columns=columns, date_format="%d/%m/%Y")["timestamp"]) == list(when.tz_localize("UTC"))
    whole = f"%d/%m/%Y {form}"
    assert list(load(path, columns=columns, date_format=whole)["timestamp"]) == list(when.tz_localize("UTC"))


def test_times_alone_and_columns_that_are_both_times_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "A.csv"
    path.write_text("Date,Time,Close\n2024-01-08,00:00:00,1\n2024-01-08,01:00:00,2\n")
    refused(path, 309, "{date: ..., time: ...}", columns={"timestamp": "Time"})
    path.write_text("time,date,close\n1704672000,2024-01-08,1\n1704758400,2024-01-09,2\n")
    refused(path, 303, "date and time both look like timestamp")
    assert len(load(path, columns={"timestamp": "date"})) == 2


# -- an adjusted close -------------------------------------------------------------------------------------------------


def adjusted_file(path: Path) -> pd.DataFrame:
    """A file with dividends; what it should become."""
    bars = table()
    factor = np.linspace(0.8, 1.0, len(bars)).round(6)
    capitals(bars).assign(**{"Adj Close": (bars["close"] * factor).round(6)}).to_csv(path, index=False)
    return bars.assign(**{name: bars[name] * factor for name in BARS[:4]})


@pytest.mark.parametrize(
    "options",
    [
        {"columns": {"close": "Adj Close"}},
        {"columns": {"open": "Open", "high": "High", "low": "Low", "close": "adj close"}},
        {"adjust": True},
        {"adjust": True, "columns": {"close": "Close"}},
    ],
)
def test_open_high_and_low_follow_an_adjusted_close(options: dict[str, Any], tmp_path: Path) -> None:
    expected = adjusted_file(tmp_path / "ACME.csv")
    found = load(tmp_path / "ACME.csv", **options)
    assert "adj_close" not in found
    np.testing.assert_allclose(found[BARS], expected[BARS], rtol=1e-7)


def test_prices_stay_as_they_are_without_a_word_of_adjustment(tmp_path: Path) -> None:
    adjusted_file(tmp_path / "ACME.csv")
    same(load(tmp_path / "ACME.csv"), table())
    assert "adj_close" in load(tmp_path / "ACME.csv", adjust=False)
    apart = load(tmp_path / "ACME.csv", columns={"close": "Adj Close"}, adjust=False)
    np.testing.assert_allclose(apart["high"], table()["high"])
    assert not np.allclose(apart["close"], table()["close"])
    capitals(table()).to_csv(tmp_path / "plain.csv", index=False)
    refused(tmp_path / "plain.csv", 274, "without a close and an adjusted close", adjust=True)


# -- one symbol in several files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "symbol"),
    [
        (["ACME-2023", "ACME-2024", "ACME-2025"], "ACME"),
        (["BTCUSDT-1d-2024-01", "BTCUSDT-1d-2024-02", "BTCUSDT-1d-2024-03"], "BTCUSDT-1d"),
        (["EURUSD_part1", "EURUSD_part2", "EURUSD_part3"], "EURUSD_part"),
        (["2010", "2010-05", "2010-07"], "..."),
    ],
)
def test_stretches_of_one_symbol_are_not_symbols(names: list[str], symbol: str, tmp_path: Path) -> None:
    bars = table(180)
    for k, name in enumerate(names):
        capitals(bars[60 * k : 60 * (k + 1)]).to_csv(tmp_path / f"{name}.csv", index=False)
    if symbol != "...":
        refused(tmp_path / "*.csv", 303, "3 files, one after the other in time", f"data.source.symbol: {symbol}")
    same(load(tmp_path / "*.csv", symbol="ACME"), bars)


def test_files_of_different_symbols_stay_symbols(tmp_path: Path) -> None:
    bars = table(120)
    for name, rows in (
        ("600519", slice(0, 60)),
        ("000001", slice(60, 120)),
        ("S1", slice(0, 70)),
        ("S2", slice(50, 120)),
    ):
        capitals(bars[rows]).to_csv(tmp_path / f"{name}.csv", index=False)
    assert load(tmp_path / "*.csv")["symbol"].nunique() == 4


# -- other files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"BZh91AY&SY", "bzip2"),
        (b"FEA1\0\0", "Feather file of version 1"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"SQLite format 3\0", "SQLite"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "Excel"),
        (b'[{"date": "2024-01-02"}]', "JSON"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
    ],
)
def test_files_that_are_no_tables_of_text_are_named(content: bytes, part: str, tmp_path: Path) -> None:
    (tmp_path / "A.csv").write_bytes(content)
    refused(tmp_path / "A.csv", 305, part)


def test_zip_files_of_another_content_are_refused(tmp_path: Path) -> None:
    members = {
        "two": ["a.pdf", "b.xlsx"],
        "none": [],
        "packed": ["a.csv.gz", "b.csv"],
        "twice": ["a.csv", "/../a.csv"],
        "Excel": ["[Content_Types].xml", "xl/workbook.xml"],
    }
    for kind, names in members.items():
        with zipfile.ZipFile(tmp_path / f"{kind}.zip", "w") as archive:
            for name in names:
                archive.writestr(name, "date,close\n2024-01-02,1\n" if ".gz" not in name else gzip.compress(b"date"))
    refused(tmp_path / "two.zip", 305, "a zip file of 2 files, none of them a table (a.pdf, b.xlsx)")
    refused(tmp_path / "packed.zip", 305, "packed twice")
    refused(tmp_path / "twice.zip", 305, "several files of the name a.csv")
    refused(tmp_path / "none.zip", 305, "a zip file of 0 files")
    refused(tmp_path / "Excel.zip", 305, "an Excel workbook")
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", capitals(table(300)).to_csv(index=False))
    (tmp_path / "cut.zip").write_bytes(whole.getvalue()[:-60])
    refused(tmp_path / "cut.zip", 305, "damaged zip file")
    (tmp_path / "cut.feather").write_bytes(b"ARROW1\0\0garbage")
    refused(tmp_path / "cut.feather", 339, "no intact Feather file")


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "A.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("A.csv", b"date,close\n" + b"\n" * (80 * 2**20))
    refused(tmp_path / "A.zip", 330, "expands to more than 6")


@pytest.mark.parametrize("size", [40 * 2**20, 2**16])
def test_a_bomb_of_several_files_is_refused_before_one_is_read(size: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "A.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(80 * 2**20 // size):
            archive.writestr(f"A{number}.csv", b"date,close\n" + b"\n" * size)
    since = time.monotonic()
    refused(tmp_path / "A.zip", 330, "expands to more than 6")
    assert time.monotonic() - since < 10


# -- zip files of several tables, and UTF-16 ---------------------------------------------------------------------------


def zipped(path: Path, members: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


CLUTTER: dict[str, str | bytes] = {
    "data/": "",
    "__MACOSX/data/._A.csv": b"\0\5\x16",
    "README.md": "by hand",
    "data/ReadMe_first.txt": "a\nb",
}
CLUTTER |= {".DS_Store": b"\0", "Thumbs.db": b"\0", "LICENSE": "free", "data/license.txt": "free, as it is"}


@pytest.mark.parametrize("way", ["symbols", "column", "years", "folders", "windows", "utf-16", "one"])
def test_a_zip_file_of_tables_is_read_as_its_files(way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two = table(), table(20, "BOLT", 1)
    named = {"ACME": one, "BOLT": two} if way != "one" else {"ACME": one}
    options: dict[str, Any] = {}
    if way == "years":
        named, options = {"prices-2023": one[:15], "prices-2024": one[15:]}, {"symbol": "ACME"}
    if way == "folders":
        named = {"2023/ACME": one[:15], "2024/ACME": one[15:]}
    bars = pd.concat(named.values(), ignore_index=True)
    frames = {name: capitals(part) for name, part in named.items()}
    if way == "column":
        frames = {f"part {name[0]}": frame.assign(Symbol=name) for name, frame in frames.items()}
    texts = {name: frame.to_csv(index=False) for name, frame in frames.items()}
    encoding, between = "utf-16" if way == "utf-16" else "utf-8", "\\" if way == "windows" else "/"
    members = {f"data{between}{name}.csv": text.encode(encoding) for name, text in texts.items()}
    found = load(zipped(tmp_path / "prices.zip", CLUTTER | members), **options)
    same(found, bars)
    assert not caplog.records


def test_what_is_left_out_of_a_zip_file_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = capitals(table()).to_csv(index=False)
    members = {"ACME.csv": text, "BOLT.xlsx": "x", "fields.txt": "a: b"}
    load(zipped(tmp_path / "prices.zip", members))
    assert [record.message for record in caplog.records if "W381" in record.message and "BOLT.xlsx" in record.message]


def test_years_of_a_zip_file_are_refused_as_those_of_a_folder(tmp_path: Path) -> None:
    text = [capitals(part).to_csv(index=False) for part in (table()[:15], table()[15:])]
    zipped(tmp_path / "prices.zip", {"ACME-2023.csv": text[0], "ACME-2024.csv": text[1]})
    refused(tmp_path / "prices.zip", 303, "set data.source.symbol: ACME")
    zipped(tmp_path / "odd.zip", {"ACME.csv": text[0], "BOLT.csv": "date,close,odd\n2024-01-02,1,2\n"})
    refused(tmp_path / "odd.zip", 303, "odd.zip/BOLT.csv")
    zipped(tmp_path / "bad.zip", {"ACME.csv": text[0], "BOLT.csv": "date,close\n2024-01-02,x\n"})
    refused(tmp_path / "bad.zip", 304, "bad.zip/BOLT.csv")


def test_a_zip_file_is_closed_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of members are not listed thousands of times."""
    opened: list[zipfile.ZipFile] = []

    class Counted(zipfile.ZipFile):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            opened.append(self)

    text = capitals(table()).to_csv(index=False)
    path = zipped(tmp_path / "prices.zip", {f"S{number}.csv": text for number in range(40)})
    monkeypatch.setattr(zipfile, "ZipFile", Counted)
    assert load(path)["symbol"].nunique() == 40
    assert len(opened) <= 2
    assert all(archive.fp is None for archive in opened)


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
@pytest.mark.parametrize("packed", ["", "gzip"])
def test_text_in_utf_16_is_read(packed: str, encoding: str, separator: str, tmp_path: Path) -> None:
    """What Excel saves as "Unicode text" has tabs and a mark."""
    frame = capitals(table(3000)).assign(Note="été 東京 😀")
    text = frame.to_csv(index=False, sep=separator, lineterminator="\r\n")
    content = text.encode(encoding) if encoding == "utf-16" else b"\xfe\xff" + text.encode(encoding)
    (tmp_path / "ACME.txt").write_bytes(gzip.compress(content) if packed else content)
    same(load(tmp_path / "ACME.txt"), table(3000))


MUTATIONS = ["", "nan", "-", "1e308", '"', ",", ";", "\n", "\r", "\0", "\ufeff", "2024-01-02", "9999-12-31", "Date"]
MUTATIONS += ["Ticker", "Price", "ACME", "$", "1,234", "UTC", "GMT+0100", "1725148800000", "inf", "=cmd", "\u202f", "{"]
OPTIONS: list[dict[str, Any]] = [
    *({}, {"date_format": "ms"}, {"date_format": "auto"}, {"date_format": "%d/%m/%Y"}, {"tz": "America/New_York"}),
    *({"header": False}, {"names": ["date", *BARS]}, {"columns": {"close": "Adj Close"}}, {"adjust": True}),
    *({"columns": {"date": "Date", "time": "Time"}}, {"decimal": ","}, {"separator": ";"}, {"missing": ["-"]}),
]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(WRITERS)),
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from(MUTATIONS), st.integers(0, 9))),
)
def test_any_damaged_file_is_read_or_refused_in_lines(
    tmp_path_factory: pytest.TempPathFactory, way: str, edits: list[tuple[float, str, int]]
) -> None:
    text = WRITERS[way](table())
    for place, insert, cut in edits:
        at = int(place * len(text))
        text = text[:at] + insert + text[at + cut :]
    path = tmp_path_factory.mktemp("damaged") / "ACME.csv"
    path.write_bytes(text.encode())
    options = OPTIONS[len(text) % len(OPTIONS)]
    lines: list[str] = []
    try:
        load(path, **options)
    except CnnLstmError as error:
        lines = str(error).splitlines()
    assert all(len(line) <= 400 for line in lines)


@pytest.mark.parametrize(
    "options",
    [{"names": []}, {"names": ["a", "a"]}, {"separator": ";;"}, {"separator": "a"}, {"decimal": "x"}],
)
def test_malformed_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(CnnLstmError, match="E275"):
        PriceFiles("A.csv", **options)


def test_words_that_mean_nothing_are_named_by_the_user(tmp_path: Path) -> None:
    path = tmp_path / "A.csv"
    path.write_text("Date,Close,Volume\n2024-01-02,1,--\n2024-01-03,1.5,3\n")
    refused(path, 304, "'--' is not a number", f"{path}:2, column volume, 1 cell", "data.source.missing")
    found = load(path, missing=["--", "."])
    np.testing.assert_array_equal(found["volume"], [np.nan, 3.0])
    path.write_text("Date;Close;Volume\n2024-01-02;1,25;--\n2024-01-03;.;3\n")
    found = load(path, missing=["--", "."])
    np.testing.assert_array_equal(found[["close", "volume"]], [[1.25, np.nan], [np.nan, 3.0]])


def test_a_column_without_any_value_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ACME.csv"
    capitals(table()).assign(Volume="", Extra=np.nan).to_csv(path, index=False)
    with caplog.at_level(logging.WARNING):
        same(load(path), table(), BARS[:4])
    assert "column volume is empty — 30 rows" in caplog.text
    (tmp_path / "B.csv").write_text("date,close\n2024-01-02,\n")
    assert load(tmp_path / "B.csv")["close"].isna().all()


def test_a_time_under_another_name_is_proposed(tmp_path: Path) -> None:
    path = tmp_path / "A.csv"
    frame = pd.DataFrame(
        {"Date": ["2024-01-08"] * 3 + ["2024-01-09"] * 3, "Time (EST)": ["09:30", "09:45", "10:00"] * 2}
    )
    frame.assign(Close=1.5).to_csv(path, index=False)
    refused(path, 303, "data.source.columns: {date: Date, time: Time (EST)}")
    found = load(path, columns={"date": "Date", "time": "Time (EST)"}, tz="America/New_York")
    assert found["timestamp"].iloc[0] == pd.Timestamp("2024-01-08 14:30", tz="UTC")


def test_text_columns_are_left_out_with_a_warning_of_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ACME.csv"
    share_class = ["5B", "3A"] * 15
    capitals(table()).assign(Note="split, 2:1", Change="0.10%", Class=share_class).to_csv(path, index=False)
    with caplog.at_level(logging.WARNING):
        same(load(path), table())
    assert [record.getMessage().split(" — ")[0] for record in caplog.records] == [
        "column note holds text",
        "column change holds text",
        "column class holds text",
    ]
