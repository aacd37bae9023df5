"""Sources that are read block by block: a folder of Parquet files and a database give what the same table gives as one
file, in whole blocks of symbols, within bounded memory, and without a secret in any message."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_lstm.data.sources import ParquetDataset, PriceFiles, PriceSource, SampleBars, SqlBars
from cnn_lstm.data.sources.blocks import grouped
from cnn_lstm.errors import CnnLstmError
from tests.data.test_sources import fails, times

SECRET = "hunter2-of-mine"


def bars(symbols: str = "BAC", days: int = 4, step: str = "D", zone: str | None = None) -> pd.DataFrame:
    """Rows in the order of time, all symbols of a moment together, under names of a vendor."""
    when = pd.date_range("2024-03-08", periods=days, freq=step, tz=zone)
    table = pd.DataFrame({"Ticker": list(symbols) * days, "Date": when.repeat(len(symbols))})
    close = np.random.default_rng(1).normal(100, 5, len(table))
    return table.assign(Close=close, Volume=np.arange(len(table)), Spread=0.5, Note="x", Gone=np.nan)


def file_of(table: pd.DataFrame, folder: Path, **options: Any) -> pd.DataFrame:
    """What `PriceFiles` makes of the table: the oracle."""
    table.to_parquet(folder / "oracle.parquet")
    loaded = PriceFiles(str(folder / "oracle.parquet"), **options).load(None, None, None)
    return loaded.sort_values("symbol", kind="stable", ignore_index=True)


def dataset(table: pd.DataFrame, folder: Path, layout: str, **options: Any) -> ParquetDataset:
    """The table as a folder of Parquet files."""
    root = folder / layout
    root.mkdir()
    if layout == "hive":
        table.to_parquet(root, partition_cols=["Ticker"])
    elif layout == "names":
        for name, rows in table.groupby("Ticker"):
            rows.drop(columns="Ticker").to_parquet(root / f"{name}.parquet")
    elif layout == "days":
        for number, (_, rows) in enumerate(table.groupby("Date")):
            (root / f"year={number}").mkdir()
            rows.to_parquet(root / f"year={number}" / "part.parquet")
    else:
        table.to_parquet(root / "one.parquet", row_group_size=3)
    return ParquetDataset(str(root), **options)


def database(table: pd.DataFrame, folder: Path, **options: Any) -> SqlBars:
    """The table in SQLite, dates as text."""
    with closing(sqlite3.connect(folder / "bars.db")) as connection, connection:
        table.assign(Date=table["Date"].map(lambda when: when.isoformat())).to_sql("bars", connection, index=False)
    return SqlBars(f"sqlite:///{folder / 'bars.db'}", table="bars", **options)


SOURCES = ["one", "hive", "names", "days", "database"]


def source_of(kind: str, table: pd.DataFrame, folder: Path, **options: Any) -> PriceSource:
    make = database(table, folder, **options) if kind == "database" else None
    return make or dataset(table, folder, kind, **options)


@pytest.mark.parametrize("kind", SOURCES)
class TestEveryKind:
    def test_gives_what_the_table_gives_as_a_file(self, kind: str, tmp_path: Path) -> None:
        table = bars()
        pd.testing.assert_frame_equal(source_of(kind, table, tmp_path).load(None, None, None), file_of(table, tmp_path))

    @pytest.mark.parametrize("max_rows", [1, 5, 8, 10_000])
    def test_blocks_joined_are_the_table(self, kind: str, max_rows: int, tmp_path: Path) -> None:
        source = source_of(kind, bars("CABD"), tmp_path)
        parts = list(source.blocks(None, None, None, max_rows))
        pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), source.load(None, None, None))
        names = [list(dict.fromkeys(part["symbol"])) for part in parts]
        assert sum(names, []) == ["A", "B", "C", "D"]  # noqa: RUF017 - a few
        assert len(parts) == {1: 4, 5: 4, 8: 2, 10_000: 1}[max_rows]

    def test_selects_symbols_and_dates(self, kind: str, tmp_path: Path) -> None:
        source = source_of(kind, bars(), tmp_path)
        chosen = source.load(["C", "A"], "2024-03-09", "2024-03-11")
        every = source.load(None, None, None)
        when = every["timestamp"]
        inside = every["symbol"].isin(["A", "C"]) & (when >= "2024-03-09T00:00Z") & (when < "2024-03-11T00:00Z")
        pd.testing.assert_frame_equal(chosen, every[inside].reset_index(drop=True))

    def test_nothing_that_was_asked_for_is_missing_without_a_word(self, kind: str, tmp_path: Path) -> None:
        source = source_of(kind, bars(), tmp_path)
        fails(lambda: source.load(["A", "Z"], None, None), 333, "no rows for Z")
        fails(lambda: source.load(["A"], "2025-01-01", None), 302, "0 rows for A")
        fails(lambda: source.load(None, "2025-01-01", None), 302, "0 rows between")
        fails(lambda: source.load(None, "2025-01-01", "2024-01-01"), 223)

    def test_reads_only_the_columns_that_are_named(self, kind: str, tmp_path: Path) -> None:
        table = source_of(kind, bars(), tmp_path, only=["close"]).load(None, None, None)
        assert list(table) == ["symbol", "timestamp", "close"]

    def test_refuses_a_column_that_is_not_there_or_not_of_numbers(self, kind: str, tmp_path: Path) -> None:
        source = source_of(kind, bars(), tmp_path, only=["clos"])
        fails(lambda: source.load(None, None, None), 303, "no column clos", "close")
        source.only = ["note"]  # type: ignore[attr-defined]  # both kinds have it
        fails(lambda: source.load(None, None, None), 304, "note")

    def test_names_what_is_left_out_once(self, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        source = source_of(kind, bars(), tmp_path)
        with caplog.at_level(logging.WARNING):
            list(source.blocks(None, None, None, 1))
        assert sum("note" in record.message for record in caplog.records) == 1
        assert sum("gone is empty" in record.message for record in caplog.records) == 1

    def test_one_time_rule_for_the_whole_table(self, kind: str, tmp_path: Path) -> None:
        # B has a bar at midnight of New York alone: taken by itself it would be a date
        table = bars("A", days=20, step="h", zone="America/New_York")
        midnight = pd.Timestamp("2024-03-08", tz="America/New_York")
        table = pd.concat([table, table[:1].assign(Ticker="B", Date=midnight)], ignore_index=True)
        whole = source_of(kind, table, tmp_path)
        alone = list(whole.blocks(None, None, None, 1))[-1]
        assert times(alone) == ["2024-03-08T05:00"]
        assert times(whole.load(["B"], None, None)) == ["2024-03-08T05:00"]


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text("ABCDEFGH", min_size=1, max_size=3), st.integers(0, 9), max_size=8), st.integers(1, 12))
def test_groups_keep_all_symbols_in_order_and_are_as_large_as_they_may(counts: dict[str, int], most: int) -> None:
    names = sorted(counts)
    groups = list(grouped(names, counts, most))
    assert [name for group in groups for name in group] == names
    sizes = [sum(counts[name] for name in group) for group in groups]
    assert all(size <= most or len(group) == 1 for size, group in zip(sizes, groups, strict=True))
    following = zip(sizes, groups[1:], strict=False)
    assert all(size + counts[group[0]] > most for size, group in following)


def test_another_source_gives_its_table_as_one_block() -> None:
    source = SampleBars()
    (block,) = source.blocks(["IBM"], None, None, max_rows=1)
    pd.testing.assert_frame_equal(block, source.load(["IBM"], None, None))


class TestParquetDataset:
    def test_dates_of_a_market_are_kept_whatever_its_zone(self, tmp_path: Path) -> None:
        table = bars("A", zone="Asia/Tokyo")
        source = dataset(table, tmp_path, "one")
        chosen = source.load(None, "2024-03-09", "2024-03-10")
        assert times(chosen) == ["2024-03-09T00:00"]

    @pytest.mark.parametrize("kind", ["text", "date", "ms", "naive"])
    def test_reads_times_of_any_type(self, kind: str, tmp_path: Path) -> None:
        table = bars()
        forms = {
            "text": table["Date"].dt.strftime("%Y-%m-%d"),
            "date": table["Date"].dt.date,
            "ms": table["Date"].astype("datetime64[ms]").astype("int64"),
            "naive": table["Date"].astype("datetime64[ns]"),
        }
        options = {"date_format": "ms"} if kind == "ms" else {}
        table = table.assign(Date=forms[kind])
        source = dataset(table, tmp_path, "one", **options)
        pd.testing.assert_frame_equal(source.load(None, None, None), file_of(table, tmp_path, **options))
        assert times(source.load(["A"], "2024-03-09", "2024-03-10")) == ["2024-03-09T00:00"]

    def test_symbols_that_are_numbers_or_encoded_keep_their_names(self, tmp_path: Path) -> None:
        table = bars("AB").assign(Ticker=lambda frame: frame["Ticker"].map({"A": "0005", "B": "BRK/B"}))
        hive = dataset(table, tmp_path, "hive").load(None, None, None)
        assert list(hive["symbol"].unique()) == ["0005", "BRK/B"]
        numbers = dataset(table.assign(Ticker=[7203, 6758] * 4), tmp_path, "one").load(["7203"], None, None)
        assert list(numbers["symbol"].unique()) == ["7203"]

    def test_types_may_differ_between_files_and_columns_may_not(self, tmp_path: Path) -> None:
        table = bars("A")
        table[:2].to_parquet(tmp_path / "a.parquet")
        table[2:].astype({"Volume": "float32"}).to_parquet(tmp_path / "b.parquet")
        assert ParquetDataset(str(tmp_path)).load(None, None, None)["volume"].tolist() == [0.0, 1.0, 2.0, 3.0]
        table[2:].drop(columns="Volume").to_parquet(tmp_path / "b.parquet")
        fails(lambda: ParquetDataset(str(tmp_path)).load(None, None, None), 303, "Volume", "one file only")
        table[2:].assign(Volume="x").to_parquet(tmp_path / "b.parquet")
        fails(lambda: ParquetDataset(str(tmp_path)).load(None, None, None), 303, "Volume")

    def test_a_date_may_be_a_partition(self, tmp_path: Path) -> None:
        table = bars().assign(Date=lambda frame: frame["Date"].dt.strftime("%Y-%m-%d"))
        table.to_parquet(tmp_path / "days", partition_cols=["Date"])
        loaded = ParquetDataset(str(tmp_path / "days")).load(None, "2024-03-09", None)
        assert times(loaded[loaded["symbol"] == "A"]) == ["2024-03-09T00:00", "2024-03-10T00:00", "2024-03-11T00:00"]

    def test_adjusts_as_files_do(self, tmp_path: Path) -> None:
        table = bars().assign(Open=10.0, High=20.0, Low=5.0, **{"Adj Close": lambda frame: frame["Close"] / 2})
        source = dataset(table, tmp_path, "one", adjust=True)
        pd.testing.assert_frame_equal(source.load(None, None, None), file_of(table, tmp_path, adjust=True))

    def test_files_of_a_tool_are_passed_over(self, tmp_path: Path) -> None:
        source = dataset(bars(), tmp_path, "one")
        for name in ("_SUCCESS", "_metadata.parquet", ".part.parquet", "notes.txt"):
            (tmp_path / "one" / name).write_text("x")
        assert len(source.load(None, None, None)) == 12

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b"Date,Close\n"])
    def test_refuses_what_is_no_intact_file(self, content: bytes, tmp_path: Path) -> None:
        source = dataset(bars(), tmp_path, "one")
        (tmp_path / "one" / "two.parquet").write_bytes(content)
        fails(lambda: source.load(None, None, None), 339)

    def test_sees_a_flipped_bit(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        table = pa.Table.from_pandas(bars("A", days=200), preserve_index=False)
        pq.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)
        content = bytearray(path.read_bytes())
        at = content.find(np.float64(table["Close"][50].as_py()).tobytes())
        content[at] ^= 1
        path.write_bytes(content)
        fails(lambda: ParquetDataset(str(tmp_path)).load(None, None, None), 339)

    def test_refuses_bombs_before_they_take_memory(self, tmp_path: Path) -> None:
        rows = 2_000_000
        zeros = pa.table({"symbol": pa.array(["A"] * rows), **{f"x{k}": pa.array(np.zeros(rows)) for k in range(10)}})
        pq.write_table(zeros, tmp_path / "a.parquet", compression="zstd")
        fails(lambda: ParquetDataset(str(tmp_path)).load(None, None, None), 330)
        when = pa.array([pd.Timestamp("2024-01-02")] * 10_000)
        long = pa.table({"symbol": pa.array(["A" * 100_000] * 10_000), "timestamp": when, "close": np.arange(1e4)})
        pq.write_table(long, tmp_path / "a.parquet")
        fails(lambda: ParquetDataset(str(tmp_path)).load(None, None, None), 330, "100000 letters")

    def test_says_what_is_missing(self, tmp_path: Path) -> None:
        fails(lambda: ParquetDataset("").load(None, None, None), 201)
        fails(lambda: ParquetDataset(str(tmp_path / "no")).load(None, None, None), 301, "no such folder")
        fails(lambda: ParquetDataset(str(tmp_path)).load(None, None, None), 301, "no Parquet file")
        fails(lambda: ParquetDataset(str(tmp_path), tz="Mars"), 210)
        fails(lambda: ParquetDataset(str(tmp_path), date_format="day"), 209)

    def test_a_damaged_row_names_its_symbol(self, tmp_path: Path) -> None:
        table = bars("AB").assign(Date="2024-03-08")
        table.loc[3, "Date"] = "08.03.2024"
        fails(lambda: dataset(table, tmp_path, "one").load(None, None, None), 309, "'08.03.2024'")


class TestSqlBars:
    def test_a_query_and_a_view_of_a_column(self, tmp_path: Path) -> None:
        source = database(bars(), tmp_path)
        query = "SELECT Ticker, Date, Close AS \"close\", 'a:b' AS note FROM bars WHERE Ticker <> 'B'; "
        loaded = SqlBars(source.url, query=query).load(None, None, None)
        assert list(loaded) == ["symbol", "timestamp", "close"]
        assert list(loaded["symbol"].unique()) == ["A", "C"]

    def test_one_statement_and_it_only_reads(self, tmp_path: Path) -> None:
        source = database(bars(), tmp_path)
        fails(lambda: SqlBars(source.url, query="SELECT 1) AS x; DROP TABLE bars; --"), 224, "semicolon")
        fails(lambda: SqlBars(source.url, query="DROP TABLE bars").load(None, None, None), 349)
        fails(lambda: SqlBars(source.url, table='bars" WHERE 1; DROP TABLE bars --').load(None, None, None), 349)
        assert len(source.load(None, None, None)) == 12

    def test_a_name_of_a_file_makes_none(self, tmp_path: Path) -> None:
        for kind in ("sqlite", "duckdb"):
            source = SqlBars(f"{kind}:///{tmp_path / 'no.db'}", table="x")
            fails(partial(source.load, None, None, None), 301)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("url", "code"),
        [
            (f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/market", 349),
            (f"postgresql+psycopg://me@127.0.0.1:1/market?password={SECRET}", 349),
            (f"nonsense+driver://me:{SECRET}@host/x", 235),
            (f"me:{SECRET}@host", 201),
            (f"postgresql://me:{SECRET}@127.0.0.1:port/x", 201),
        ],
    )
    @pytest.mark.parametrize("by_variable", [False, True])
    def test_no_message_shows_a_secret(
        self, url: str, code: int, by_variable: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if "postgresql" in url and code == 349:
            pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
        monkeypatch.setenv("PRICES_URL", url)
        with pytest.raises(CnnLstmError) as info:
            SqlBars("$PRICES_URL" if by_variable else url, table="bars").load(None, None, None)
        assert info.value.code == code
        assert SECRET not in str(info.value)
        assert info.value.__cause__ is None
        assert info.value.__suppress_context__

    def test_the_address_may_be_in_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = database(bars(), tmp_path)
        monkeypatch.setenv("PRICES_URL", source.url)
        for name in ("$PRICES_URL", "${PRICES_URL}"):
            assert len(SqlBars(name, table="bars").load(None, None, None)) == 12
        fails(lambda: SqlBars("$NO_SUCH_NAME", table="bars").load(None, None, None), 201, "NO_SUCH_NAME")

    @pytest.mark.parametrize(
        ("url", "local"),
        [
            ("sqlite:///prices.db", True),
            ("sqlite+pysqlite:////abs/prices.db", True),
            ("duckdb:///prices.duckdb", True),
            ("duckdb:///md:market", False),
            ("sqlite://host/x", False),
            ("postgresql://host/market", False),
            ("$PRICES_URL", False),
        ],
    )
    def test_knows_which_address_is_that_of_a_server(self, url: str, local: bool) -> None:
        assert SqlBars(url, table="bars").local is local

    def test_needs_a_table_or_a_query(self) -> None:
        fails(lambda: SqlBars("", table="x"), 201)
        fails(lambda: SqlBars("sqlite://"), 224)
        fails(lambda: SqlBars("sqlite://", table="x", query="SELECT 1"), 224)

    def test_texts_in_mixed_forms_lose_no_row(self, tmp_path: Path) -> None:
        table = bars("A").assign(Date=lambda frame: frame["Date"].dt.strftime("%Y-%m-%d"))
        table.loc[3, "Date"] = "20240311"
        with closing(sqlite3.connect(tmp_path / "x.db")) as connection, connection:
            table.to_sql("bars", connection, index=False)
        loaded = SqlBars(f"sqlite:///{tmp_path / 'x.db'}", table="bars").load(None, "2024-03-10", "2024-03-12")
        assert times(loaded) == ["2024-03-10T00:00", "2024-03-11T00:00"]

    def test_a_cell_that_is_no_number_is_named(self, tmp_path: Path) -> None:
        source = database(bars("A").astype({"Close": object}), tmp_path)
        with closing(sqlite3.connect(tmp_path / "bars.db")) as connection, connection:
            connection.execute("UPDATE bars SET Close = '1,5' WHERE Volume = 2")
        fails(lambda: source.load(None, None, None), 304, "'1,5'", "column close", "1 cell")

    def test_one_symbol_that_the_table_does_not_name(self, tmp_path: Path) -> None:
        table = bars("A").drop(columns="Ticker")
        fails(lambda: database(table, tmp_path).load(None, None, None), 303, "no column symbol")
        loaded = SqlBars(f"sqlite:///{tmp_path / 'bars.db'}", table="bars", symbol="ACME").load(["ACME"], None, None)
        assert list(loaded["symbol"].unique()) == ["ACME"]
        assert len(loaded) == 4

    def test_many_symbols_take_several_queries(self, tmp_path: Path) -> None:
        names = [f"S{k:04d}" for k in range(1100)]
        table = pd.DataFrame({"symbol": names, "Date": pd.Timestamp("2024-01-02"), "close": np.arange(1100.0)})
        loaded = database(table, tmp_path).load(None, None, None)
        assert loaded["close"].tolist() == list(range(1100))

    def test_duckdb(self, tmp_path: Path) -> None:
        duckdb = with_duckdb()
        table = bars()
        with duckdb.connect(str(tmp_path / "bars.duckdb")) as connection:
            connection.register("given", table)
            connection.execute("CREATE TABLE bars AS SELECT * FROM given")
            connection.execute(
                "CREATE VIEW hours AS SELECT * REPLACE ((Date + INTERVAL 9 HOUR)::TIMESTAMPTZ AS Date) FROM bars"
            )
        url = f"duckdb:///{tmp_path / 'bars.duckdb'}"
        pd.testing.assert_frame_equal(SqlBars(url, table="bars").load(None, None, None), file_of(table, tmp_path))
        parts = list(SqlBars(url, table="main.hours").blocks(None, "2024-03-09", "2024-03-11", 4))
        assert [len(part) for part in parts] == [2, 2, 2]

    def test_duckdb_gives_long_tables_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        duckdb = with_duckdb()
        monkeypatch.setattr("cnn_lstm.data.sources.database.DUCKDB_VECTORS", 1)  # 2,048 rows at a time
        table = bars("BA", 3000, "h")
        with duckdb.connect(str(tmp_path / "bars.duckdb")) as connection:
            connection.register("given", table)
            kinds = (
                "Ticker::ENUM ('A', 'B') AS Ticker, Close::DECIMAL(18, 6) AS Close, "
                "CASE WHEN Volume % 7 > 0 THEN Volume::BIGINT END AS Volume"
            )
            connection.execute(f"CREATE TABLE bars AS SELECT * REPLACE ({kinds}) FROM given")
        loaded = SqlBars(f"duckdb:///{tmp_path / 'bars.duckdb'}", table="bars").load(None, None, None)
        plain = table.assign(Close=table["Close"].round(6), Volume=table["Volume"].where(table["Volume"] % 7 > 0))
        pd.testing.assert_frame_equal(loaded, file_of(plain, tmp_path), check_exact=True)

    @pytest.mark.parametrize(("address", "size"), [("", "244.1 MiB"), ("?memory_limit=1GB", "953.6 MiB")])
    def test_duckdb_keeps_little_in_memory(self, address: str, size: str) -> None:
        with_duckdb()
        query = "SELECT 'A' AS symbol, DATE '2024-01-02' AS date, {} AS close"
        limit = query.format(f"CASE current_setting('memory_limit') WHEN '{size}' THEN 1 ELSE 0 END")
        assert SqlBars(f"duckdb:///:memory:{address}", query=limit).load(None, None, None)["close"].item() == 1
        wrong = SqlBars(f"duckdb:///:memory:{address}", query=query.format("'1,5'::DOUBLE"))
        fails(partial(wrong.load, None, None, None), 349, "1,5")


def with_duckdb() -> Any:
    """DuckDB; the test is skipped without it, or without its driver."""
    pytest.importorskip("duckdb_engine", reason="SQLAlchemy's driver of DuckDB is not installed")
    return pytest.importorskip("duckdb", reason="DuckDB is not installed")
