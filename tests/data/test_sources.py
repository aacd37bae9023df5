"""Where price tables come from: the sample, the user's files and Yahoo, with each bad input of the table."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import pickle
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yfinance
from yfinance.exceptions import YFPricesMissingError, YFRateLimitError

from cnn_lstm.data.prices import data_fingerprint
from cnn_lstm.data.sources.base import validate_symbol
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.data.sources.sample import SampleBars
from cnn_lstm.data.sources.yahoo import YahooBars, read_entry
from cnn_lstm.errors import CnnLstmError, ConfigError, DataError

SAMPLE = Path(__file__).parents[2] / "cnn_lstm" / "data" / "sample"
CSV = "Date,Open,High,Low,Close,Volume\n2024-01-02,1,2,0.5,1.5,10\n2024-01-03,2,3,1.5,2.5,20\n"


def fails(call: Callable[[], object], code: int, *parts: str) -> None:
    with pytest.raises(CnnLstmError) as info:
        call()
    assert f"E{code}" in str(info.value)
    assert info.value.exit_code == code // 100
    for part in parts:
        assert part in str(info.value)


def write(path: Path, text: str | bytes = CSV) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def load(path: str, **options: Any) -> pd.DataFrame:
    return PriceFiles(path, **options).load(None, None, None)


def times(table: pd.DataFrame) -> list[str]:
    assert str(table["timestamp"].dtype) == "datetime64[us, UTC]"
    return list(table["timestamp"].dt.strftime("%Y-%m-%dT%H:%M"))


class TestSample:
    def test_readme_states_the_digests(self) -> None:
        text = (SAMPLE / "README.md").read_text(encoding="utf-8")
        file = hashlib.sha256((SAMPLE / "daily_bars.parquet").read_bytes()).hexdigest()
        content = data_fingerprint(SampleBars(adjusted=False).load(None, None, None))
        assert re.findall(r"`([0-9a-f]{64})`", text) == [file, content]

    def test_the_shipped_table_is_long(self) -> None:
        table = SampleBars().load(None, None, None)
        assert sorted(table["symbol"].unique()) == ["AAPL", "GOOG", "IBM", "MSFT"]
        assert len(table) == 11_958
        assert {str(kind) for kind in table.dtypes} == {"str", "datetime64[us, UTC]", "float64"}

    def test_adjusted_close_is_the_supplied_one_and_money_is_kept(self) -> None:
        raw, adjusted = (SampleBars(flag).load(["AAPL"], None, None) for flag in (False, True))
        np.testing.assert_allclose(adjusted["close"], raw["adj_close"])
        np.testing.assert_allclose(adjusted["close"] * adjusted["volume"], raw["close"] * raw["volume"])
        assert "adj_close" not in adjusted

    def test_start_is_inclusive_and_end_is_exclusive(self) -> None:
        table = SampleBars().load(["IBM"], "2001-01-02", "2001-01-04")
        assert times(table) == ["2001-01-02T00:00", "2001-01-03T00:00"]

    def test_unknown_symbol_is_named_with_those_present(self) -> None:
        call = lambda: SampleBars().load(["AAPL", "GOGO"], None, None)  # noqa: E731
        fails(call, 333, "no rows for GOGO", "AAPL, GOOG, IBM, MSFT", "did you mean GOOG?")

    def test_symbol_without_rows_in_the_span(self) -> None:
        fails(lambda: SampleBars().load(["IBM", "GOOG"], "2000-03-01", "2001-01-01"), 302, "GOOG")

    @pytest.mark.parametrize(
        ("symbols", "start", "end", "code"),
        [
            (["IBM"], "01/02/2001", None, 209),
            (["IBM"], "2002-01-01", "2001-01-01", 223),
            ([], None, None, 231),
            ("IBM", None, None, 231),
        ],
    )
    def test_a_malformed_request_is_refused(self, symbols: Any, start: str, end: str, code: int) -> None:
        fails(lambda: SampleBars().load(symbols, start, end), code)


STRANGE = [
    *("../../etc/x", "/etc/x", "a//b", "a/../b", "a/", "./a", "..", "A\0", "A\nB", "A" * 41, "", "é", "a\\b"),
    *("=cmd|x", "=1", "-1", "+1", "@x", "!x", "#x", ":x", " A", "A ", "A  B", "A,B", "A;B", "A'B", '"A"', None, 5),
]


@pytest.mark.parametrize("name", STRANGE)
def test_strange_symbols_are_refused(name: Any) -> None:
    fails(lambda: validate_symbol(name), 231)


def test_symbols_of_every_market_are_taken(tmp_path: Path) -> None:
    names = ["BTC/USDT", "BTC/USDT:USDT", "M&M.NS", "AT&T", "$SPX", "S&P 500", "EURUSD=X", "^GSPC", "BRK.B", "ES1!"]
    lines = "".join(f"2024-01-0{day},{name},{day}\n" for name in names for day in (2, 3))
    path = write(tmp_path / "x.csv", f"date,symbol,close\n{lines}")
    assert list(load(path)["symbol"].unique()) == names
    wanted = PriceFiles(str(path)).load(["BTC/USDT", "$SPX"], None, None)
    assert list(wanted["symbol"].unique()) == ["BTC/USDT", "$SPX"]


def test_a_file_of_one_symbol_may_be_given_another_name(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "date,symbol,close\n2024-01-02,BTC/USDT,1\n2024-01-03,BTC/USDT,2\n")
    assert list(load(path, symbol="BTC-USDT")["symbol"]) == ["BTC-USDT"] * 2
    several = write(tmp_path / "y.csv", "date,symbol,close\n2024-01-02,A,1\n2024-01-02,B,2\n")
    fails(lambda: load(several, symbol="X"), 231, "A, B")


class TestFiles:
    def test_obvious_names_and_stem(self, tmp_path: Path) -> None:
        table = load(write(tmp_path / "BRK-B.csv"))
        assert list(table.columns) == ["symbol", "timestamp", "open", "high", "low", "close", "volume"]
        assert set(table["symbol"]) == {"BRK-B"}
        assert times(table) == ["2024-01-02T00:00", "2024-01-03T00:00"]

    def test_a_mapped_column_hides_the_one_of_its_name(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.csv", "day,tic,Close,Adj Close,oi\n2024-01-02,NA,1,2,3\n")
        table = load(path, columns={"timestamp": "day", "close": "adj close"})
        assert table.iloc[0].to_list()[0] == "NA"
        assert table[["close", "oi"]].to_numpy().tolist() == [[2.0, 3.0]]

    def test_leading_zeros_of_symbols_stay(self, tmp_path: Path) -> None:
        table = load(write(tmp_path / "x.csv", "date,symbol,close\n2024-01-02,000001,1\n"))
        assert table["symbol"].to_list() == ["000001"]

    def test_glob_and_parquet_agree_with_csv(self, tmp_path: Path) -> None:
        write(tmp_path / "A.csv")
        write(tmp_path / "B.csv.gz", gzip.compress(CSV.encode()))
        table = load(str(tmp_path / "*.csv*"))
        assert list(table["symbol"]) == ["A", "A", "B", "B"]
        indexed = table.set_index(["symbol", "timestamp"])
        indexed.to_parquet(tmp_path / "all.parquet")
        again = load(str(tmp_path / "all.parquet"))
        assert data_fingerprint(again) == data_fingerprint(table)

    def test_parquet_of_yahoo_keeps_session_dates(self, tmp_path: Path) -> None:
        yahoo_frame().to_parquet(tmp_path / "A.parquet")
        assert times(load(str(tmp_path / "A.parquet")))[:2] == ["2024-03-08T00:00", "2024-03-11T00:00"]

    def test_a_nameless_index_is_the_timestamp(self, tmp_path: Path) -> None:
        frame = pd.DataFrame({"close": [1.0]}, index=pd.DatetimeIndex(["2024-01-02"]))
        frame.to_csv(tmp_path / "A.csv")
        frame.reset_index(names="date").to_csv(tmp_path / "B.csv")
        assert list(load(str(tmp_path / "*.csv")).columns) == ["symbol", "timestamp", "close"]

    def test_text_column_is_left_out_aloud(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path = write(tmp_path / "A.csv", "date,close,name\n2024-01-02,1,Apple\n")
        with caplog.at_level(logging.WARNING):
            assert "name" not in load(path)
        assert f"column name holds text — {path} — it is left out" in caplog.text

    def test_a_missing_file_and_a_folder_are_refused(self, tmp_path: Path) -> None:
        fails(lambda: load(str(tmp_path / "no.csv")), 301, "no.csv", str(Path.cwd()))
        fails(lambda: load(str(tmp_path)), 301, "folder")

    @pytest.mark.parametrize("text", ["", "Date,Close\n"])
    def test_an_empty_file_is_refused(self, tmp_path: Path, text: str) -> None:
        fails(lambda: load(write(tmp_path / "A.csv", text)), 302, "0 rows", "A.csv")

    def test_unclear_columns_are_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path / "A.csv")
        fails(
            lambda: load(path, columns={"close": "Adj Close"}),
            303,
            "'Adj Close'",
            "Close",
            "did you mean Close?",
        )
        fails(lambda: load(write(tmp_path / "B.csv", "when,close\n1,2\n")), 303, "no column timestamp", "when")
        fails(lambda: load(write(tmp_path / "C.csv", "date,time,close\n1,2,3\n")), 303, "date and time")
        write(tmp_path / "A2.csv", "date,close\n2024-01-02,1\n")
        fails(lambda: load(str(tmp_path / "A*.csv")), 303, "in one file only")

    @pytest.mark.parametrize("cell", ["N/A?", "—", "1.5x", '"1,2,3"', "1.2.3", "$", "M"])
    def test_a_cell_that_is_not_a_number_is_refused_with_its_place(self, tmp_path: Path, cell: str) -> None:
        path = write(tmp_path / "A.csv", f"date,close\n2024-01-02,1\n2024-01-03,{cell}\n")
        fails(lambda: load(path), 304, cell.strip('"'), "A.csv:3, column close, 1 cell")

    def test_only_known_marks_are_missing(self, tmp_path: Path) -> None:
        table = load(write(tmp_path / "A.csv", "date,close\n2024-01-02,\n2024-01-03,NaN\n2024-01-04,1\n"))
        assert table["close"].isna().to_list() == [True, True, False]

    @pytest.mark.parametrize(
        "content", [b"\xef\xbb\xbf" + CSV.encode(), CSV.replace("\n", "\r\n").encode()], ids=["bom", "crlf"]
    )
    def test_marks_of_the_byte_order_and_line_ends_change_nothing(self, tmp_path: Path, content: bytes) -> None:
        assert load(write(tmp_path / "A.csv", content))["close"].to_list() == [1.5, 2.5]

    @pytest.mark.parametrize(
        ("content", "part"),
        [
            (CSV.encode("utf-16-le"), "UTF-16 without a mark"),
            (CSV.encode("utf-16")[:-1], "damaged UTF-16 text"),
            (CSV.encode("utf-32"), "binary"),
            (CSV.encode() + b"2024-01-04,1,2,3,4,5,6,7\n", "not a CSV table"),
            (CSV.replace("Open", "Größe").encode("latin-1"), "not a CSV table"),
            (gzip.compress(CSV.encode(), mtime=0)[:-9], "damaged gzip"),
        ],
        ids=["no-mark", "cut-utf-16", "utf-32", "ragged", "latin-1", "cut-gzip"],
    )
    def test_damaged_text_is_refused(self, tmp_path: Path, content: bytes, part: str) -> None:
        fails(lambda: load(write(tmp_path / "A.csv", content)), 305, part)

    @pytest.mark.parametrize(
        "dates",
        [["01/02/2024"], ["2024-01-02", "13/01/2024"], ["2024-13-01"], ["1704153600"], ["1/2/24"], ['"Jan 2, 2024"']],
    )
    def test_dates_are_not_guessed(self, tmp_path: Path, dates: list[str]) -> None:
        rows = "".join(f"{date},1\n" for date in dates)
        path = write(tmp_path / "A.csv", f"date,close\n{rows}")
        fails(lambda: load(path), 309, f"A.csv:{len(dates) + 1}, 1 row of", "data.source.date_format")

    def test_dates_follow_the_given_format(self, tmp_path: Path) -> None:
        path = write(tmp_path / "A.csv", "date,close\n01/02/2024,1\n")
        assert times(load(path, date_format="%d/%m/%Y")) == ["2024-02-01T00:00"]
        path = write(tmp_path / "B.csv", "date,close\n1704205800000,1\n")
        assert times(load(path, date_format="ms")) == ["2024-01-02T14:30"]

    def test_mixed_offsets_need_a_zone(self, tmp_path: Path) -> None:
        rows = "2024-03-08 09:30:00-05:00,1\n2024-03-11 09:30:00-04:00,2\n"
        path = write(tmp_path / "A.csv", f"date,close\n{rows}")
        fails(lambda: load(path), 310, "-04:00, -05:00", "data.source.tz")
        assert times(load(path, tz="America/New_York")) == ["2024-03-08T14:30", "2024-03-11T13:30"]

    def test_times_with_and_without_an_offset_mix_in_a_zone(self, tmp_path: Path) -> None:
        path = write(tmp_path / "A.csv", "date,close\n2024-01-02 09:30,1\n2024-01-02T15:00Z,2\n")
        fails(lambda: load(path), 310, "none")
        assert times(load(path, tz="America/New_York")) == ["2024-01-02T14:30", "2024-01-02T15:00"]

    def test_times_of_one_zone_become_utc(self, tmp_path: Path) -> None:
        naive = write(tmp_path / "A.csv", "date,close\n2024-01-02 09:30,1\n")
        assert times(load(naive)) == ["2024-01-02T09:30"]
        assert times(load(naive, tz="America/New_York")) == ["2024-01-02T14:30"]
        daily = write(tmp_path / "B.csv", "date,close\n2024-01-02 00:00:00-05:00,1\n")
        assert times(load(daily)) == ["2024-01-02T00:00"]
        assert times(load(write(tmp_path / "C.csv"), tz="America/New_York"))[0] == "2024-01-02T00:00"

    @pytest.mark.parametrize("moment", ["2024-11-03 01:30", "2024-03-10 02:30"])
    def test_an_hour_that_exists_twice_or_never_is_refused(self, tmp_path: Path, moment: str) -> None:
        path = write(tmp_path / "A.csv", f"date,close\n2024-01-02 09:30,1\n{moment},2\n")
        fails(lambda: load(path, tz="America/New_York"), 310, "A.csv:3", "daylight saving", "UTC offset")

    def test_repeated_hour_with_offsets_stays_distinct(self, tmp_path: Path) -> None:
        rows = "2024-11-03 01:30:00-04:00,1\n2024-11-03 01:30:00-05:00,2\n"
        table = load(write(tmp_path / "A.csv", f"date,close\n{rows}"), tz="America/New_York")
        assert times(table) == ["2024-11-03T05:30", "2024-11-03T06:30"]

    @pytest.mark.parametrize(
        "content",
        [b"date,close\n" + b"1" * (2**20 + 9), b",".join(b"c%d" % n for n in range(10_001)) + b"\n1\n"],
        ids=["long line", "many columns"],
    )
    @pytest.mark.parametrize("squeeze", [bytes, gzip.compress])
    def test_what_would_exhaust_the_memory_is_refused(
        self, tmp_path: Path, content: bytes, squeeze: Callable[[bytes], bytes]
    ) -> None:
        path = write(tmp_path / "A.csv", squeeze(content))
        began = time.monotonic()
        fails(lambda: load(path), 330, "A.csv")
        assert time.monotonic() - began < 10

    def test_a_gzip_bomb_of_short_lines_is_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path / "A.csv.gz", gzip.compress(b"date,close\n" + b"\n" * (80 * 2**20), 6))
        fails(lambda: load(path), 330, "expands to more than 6")

    @pytest.mark.parametrize("content", [b"PAR1garbage", b"", pickle.dumps({"a": 1})], ids=["cut", "empty", "pickle"])
    def test_a_corrupt_parquet_file_is_refused(self, tmp_path: Path, content: bytes) -> None:
        fails(lambda: load(write(tmp_path / "A.parquet", content)), 339, "A.parquet")

    def test_symbols_in_cells_and_file_names_are_checked(self, tmp_path: Path) -> None:
        fails(lambda: load(write(tmp_path / "A.csv", "date,symbol,close\n2024-01-02,=cmd|x,1\n")), 231)
        path = write(tmp_path / "-prices.csv")
        fails(lambda: load(path), 231, "data.source.symbol")
        assert set(load(path, symbol="X")["symbol"]) == {"X"}

    @pytest.mark.parametrize(
        ("options", "code"),
        [
            ({"tz": "America/NewYork"}, 210),
            ({"date_format": "dd/mm"}, 209),
            ({"date_format": "%Q"}, 209),
            ({"symbol": "a/../b"}, 231),
        ],
    )
    def test_malformed_arguments_are_refused(self, options: dict[str, Any], code: int) -> None:
        fails(lambda: PriceFiles("x.csv", **options), code)
        fails(lambda: PriceFiles([]), 201)


def yahoo_frame(rows: int = 5, adjust: bool = True) -> pd.DataFrame:
    """What yfinance 1.7 returns for daily bars; the days span a change of the clock."""
    index = pd.DatetimeIndex(pd.bdate_range("2024-03-08", periods=rows), name="Date").tz_localize("America/New_York")
    close = 100 + np.arange(rows, dtype="float64")
    frame = pd.DataFrame({"Open": close, "High": close + 1, "Low": close - 1, "Close": close}, index=index)
    if not adjust:
        frame["Adj Close"] = close / 2
    return frame.assign(Volume=np.arange(rows, dtype="int64"))


class Yahoo:
    """Stands for Yahoo: what it answers, and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[pd.DataFrame | Exception]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def ticker(self, symbol: str) -> Any:
        yahoo = self

        class Ticker:
            def history(self, **options: Any) -> pd.DataFrame:
                yahoo.asked.append((symbol, options))
                assert yfinance.config.debug.hide_exceptions is False
                answers = yahoo.answers.get(symbol, [yahoo_frame(adjust=options["auto_adjust"])])
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if isinstance(answer, Exception):
                    raise answer
                return answer

        return Ticker()


@pytest.fixture
def yahoo(monkeypatch: pytest.MonkeyPatch) -> Yahoo:
    fake = Yahoo()
    monkeypatch.setattr(yfinance, "Ticker", fake.ticker)
    return fake


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


class TestYahoo:
    START, END = "2024-03-08", "2024-03-15"

    def bars(self, folder: Path, symbols: list[str] | None = None, **options: Any) -> pd.DataFrame:
        source = YahooBars(cache_dir=str(folder), **options)
        return source.load(["AAPL"] if symbols is None else symbols, self.START, self.END)

    def test_daily_bars_carry_session_dates(self, yahoo: Yahoo, tmp_path: Path) -> None:
        table = self.bars(tmp_path, ["AAPL", "IBM"])
        assert list(table.columns) == ["symbol", "timestamp", "open", "high", "low", "close", "volume"]
        assert times(table)[:2] == ["2024-03-08T00:00", "2024-03-11T00:00"]
        assert set(table.dtypes.iloc[2:].astype(str)) == {"float64"}
        asked = yahoo.asked[0][1]
        assert asked["start"] == self.START
        assert asked["end"] == self.END
        assert {"interval", "auto_adjust", "back_adjust", "actions", "prepost", "repair", "keepna"} <= set(asked)
        assert yfinance.config.debug.hide_exceptions is True

    def test_the_options_exist_in_the_installed_yfinance(self, yahoo: Yahoo, tmp_path: Path) -> None:
        import inspect

        from yfinance.scrapers.history import PriceHistory

        self.bars(tmp_path)
        assert set(yahoo.asked[0][1]) <= set(inspect.signature(PriceHistory.history).parameters)

    def test_unadjusted_bars_and_two_header_lines_are_read(self, yahoo: Yahoo, tmp_path: Path) -> None:
        assert self.bars(tmp_path, adjust=False)["adj_close"].iloc[0] == 50
        frame = yahoo_frame()
        frame.columns = pd.MultiIndex.from_product([frame.columns, ["X"]], names=["Price", "Ticker"])
        yahoo.answers["X"] = [frame]
        assert self.bars(tmp_path, ["X"])["close"].iloc[0] == 100
        yahoo.answers["Y"] = [pd.concat([frame, frame], axis=1)]
        fails(lambda: self.bars(tmp_path, ["Y"]), 334, "Y")
        yahoo.answers["Z"] = [yahoo_frame().drop(columns="Volume")]
        fails(lambda: self.bars(tmp_path, ["Z"]), 334, "no column volume")

    def test_intraday_bars_are_moments_in_utc(self, yahoo: Yahoo, tmp_path: Path) -> None:
        frame = yahoo_frame()
        frame.index = pd.date_range("2024-03-08 09:30", periods=5, freq="h", tz="America/New_York", name="Datetime")
        yahoo.answers["AAPL"] = [frame]
        assert times(self.bars(tmp_path, interval="1h"))[0] == "2024-03-08T14:30"
        reason = "1h data not available for startTime=1; must be within the last 730 days."
        yahoo.answers["IBM"] = [YFPricesMissingError("IBM", "", yahoo_reason=reason)]
        fails(lambda: self.bars(tmp_path, ["IBM"], interval="1h"), 333, reason)
        fails(lambda: self.bars(tmp_path, ["IBM"], interval="1h"), 333, "leave data.start out, or give 20")

    @pytest.mark.parametrize(("interval", "days"), [("1h", 729), ("60m", 729), ("15m", 59), ("1m", 29)])
    def test_intraday_bars_need_no_start(self, yahoo: Yahoo, tmp_path: Path, interval: str, days: int) -> None:
        """A fixed start in a configuration would one day be older than what Yahoo keeps."""
        with pytest.raises(DataError):  # the stand-in has bars of 2024 only
            YahooBars(interval=interval, cache_dir=str(tmp_path)).load(["IBM"], None, None)
        asked = pd.Timestamp(yahoo.asked[-1][1]["start"], tz="UTC")
        assert abs(pd.Timestamp.now("UTC").normalize() - asked - pd.Timedelta(days=days)) <= pd.Timedelta(days=1)
        fails(lambda: YahooBars(cache_dir=str(tmp_path)).load(["IBM"], None, None), 233, "data.start")

    @pytest.mark.parametrize(
        "answer",
        [
            pd.DataFrame(),
            yahoo_frame() * np.nan,
            YFPricesMissingError("FOO", "(1d 2024)"),
            ValueError("<html>"),
        ],
    )
    def test_a_symbol_without_bars_is_an_error_or_skipped(self, yahoo: Yahoo, tmp_path: Path, answer: Any) -> None:
        yahoo.answers |= {"FOO": [answer], "BAR": [answer]}
        fails(lambda: self.bars(tmp_path, ["FOO", "AAPL", "BAR"]), 333, "no rows for FOO: ", "no rows for BAR: ")
        with pytest.warns(UserWarning, match="FOO is skipped, no rows"):
            table = self.bars(tmp_path, ["FOO", "AAPL"], on_missing="skip")
        assert set(table["symbol"]) == {"AAPL"}
        fails(lambda: self.bars(tmp_path, ["FOO"], on_missing="skip"), 333)

    def test_refused_downloads_are_tried_again_later(self, yahoo: Yahoo, naps: list[float], tmp_path: Path) -> None:
        yahoo.answers["AAPL"] = [YFRateLimitError(), YFRateLimitError(), yahoo_frame()]
        assert len(self.bars(tmp_path)) == 5
        assert naps == [2, 4]

    def test_the_waiting_is_bounded(self, yahoo: Yahoo, naps: list[float], tmp_path: Path) -> None:
        yahoo.answers["AAPL"] = [YFRateLimitError()]
        fails(lambda: self.bars(tmp_path, retries=50), 333, "Too Many Requests")
        assert sum(naps) == 60

    def test_other_errors_are_not_tried_again(self, yahoo: Yahoo, naps: list[float], tmp_path: Path) -> None:
        yahoo.answers["AAPL"] = [OSError("connection reset\nby peer")]
        fails(lambda: self.bars(tmp_path), 333, "connection reset by peer", "PriceFiles", "cache")
        assert not naps
        assert len(yahoo.asked) == 1

    def test_second_run_needs_no_network(self, yahoo: Yahoo, tmp_path: Path) -> None:
        first = self.bars(tmp_path)
        yahoo.answers["AAPL"] = [OSError("no network")]
        pd.testing.assert_frame_equal(self.bars(tmp_path), first)
        fails(lambda: self.bars(tmp_path, adjust=False), 333)

    def test_a_cache_entry_says_what_it_holds(self, yahoo: Yahoo, tmp_path: Path) -> None:
        self.bars(tmp_path)
        (parquet,), (note,) = tmp_path.glob("*.parquet"), tmp_path.glob("*.json")
        said = json.loads(note.read_text())
        assert said["sha256"] == hashlib.sha256(parquet.read_bytes()).hexdigest()
        assert [said[key] for key in ("symbol", "interval", "start", "end", "adjust", "rows")] == [
            *("AAPL", "1d", self.START, self.END, True, 5)
        ]
        assert re.fullmatch(r"[0-9a-f]{64}", parquet.stem)
        assert len(list(tmp_path.iterdir())) == 2

    @pytest.mark.parametrize("damage", ["parquet", "json", "note", "temporary"])
    def test_damaged_entry_is_fetched_again(self, yahoo: Yahoo, tmp_path: Path, damage: str) -> None:
        first = self.bars(tmp_path)
        (parquet,), (note,) = tmp_path.glob("*.parquet"), tmp_path.glob("*.json")
        if damage == "parquet":
            parquet.write_bytes(parquet.read_bytes()[:-20])
        elif damage == "json":
            note.write_text("[1")
        else:
            note.unlink()
        if damage == "temporary":  # killed in the middle of writing
            parquet.rename(f"{parquet}abc.tmp")
        assert read_entry(parquet.with_suffix("")) is None
        pd.testing.assert_frame_equal(self.bars(tmp_path), first)
        assert len(yahoo.asked) == 2

    def test_failed_write_leaves_nothing_behind(
        self, yahoo: Yahoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(handle: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.warns(UserWarning, match="No space left"):
            assert len(self.bars(tmp_path)) == 5
        assert list(tmp_path.iterdir()) == []

    def test_today_is_never_loaded(self, yahoo: Yahoo, tmp_path: Path) -> None:
        for end in (None, "2999-01-01"):
            YahooBars(cache_dir=str(tmp_path)).load(["AAPL"], self.START, end)
        assert [asked["end"] for _, asked in yahoo.asked] == [f"{pd.Timestamp.now('UTC'):%Y-%m-%d}"]

    @pytest.mark.parametrize(
        ("options", "code"),
        [({"interval": "1day"}, 234), ({"on_missing": "drop"}, 233), ({"retries": -1}, 233)],
    )
    def test_malformed_arguments_are_refused(self, options: dict[str, Any], code: int) -> None:
        with pytest.raises(ConfigError) as info:
            YahooBars(**options)
        assert info.value.code == code

    def test_a_request_without_symbols_or_start_or_in_the_wrong_order_is_refused(
        self, yahoo: Yahoo, tmp_path: Path
    ) -> None:
        source = YahooBars(cache_dir=str(tmp_path))
        fails(lambda: source.load(["AAPL"], None, None), 233, "data.start")
        fails(lambda: source.load(None, self.START, None), 233, "data.symbols")
        fails(lambda: source.load(["a//b"], self.START, None), 231)
        fails(lambda: source.load(["AAPL"], self.END, self.START), 223)
        assert not yahoo.asked

    def test_real_yfinance_without_a_network(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        yfinance.set_tz_cache_location(str(tmp_path / "zones"))
        monkeypatch.setitem(yfinance.config.network.data, "proxy", "http://127.0.0.1:9")
        with pytest.raises(DataError) as info:
            self.bars(tmp_path / "bars", ["ZZTEST"])
        assert str(info.value).count("\n") == 0
        assert "Yahoo cannot be reached" in str(info.value)
        assert "possibly delisted" not in str(info.value)
