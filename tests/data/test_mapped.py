"""A panel in files is the panel in memory, bit for bit; a build that is stopped goes on; nothing stale is ever used."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cnn_lstm.commands import data as data_command
from cnn_lstm.data.batches import BLOCK_ROWS, RowBatches
from cnn_lstm.data.checks import Checks
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.features import feature
from cnn_lstm.data.mapped import MappedPanel
from cnn_lstm.data.mapped_files import PanelFiles, PanelWriter
from cnn_lstm.data.row_numbers import RowCollector, in_chunks, stretches
from cnn_lstm.data.sources import PriceFiles, SqlBars
from cnn_lstm.data.sources.base import PriceSource
from cnn_lstm.data.splits import DateSplit, RowSplit
from cnn_lstm.data.targets import Direction, ForwardReturn, RealizedVolatility
from cnn_lstm.errors import CnnLstmError, DefectsError
from tests.markets import TableSource, market, walk

TENSORS = ("values", "labels", "present", "volatility", "bar_return")
SYMBOLS = ("AAA", "BBB", "CCC", "DDD")
FEATURES = ["log_return_1", "close_to_sma_20", "realised_volatility_20"]
computed: Counter[str] = Counter()
unreadable: set[str] = set()


@feature(inputs=("close",))
def counted_close(bars: pd.DataFrame) -> pd.Series:
    """The close; notes which symbols it was asked for."""
    computed.update(bars["symbol"].unique())
    return bars["close"]


class Blocks(PriceSource):
    """A table that is given symbol by symbol, and may fail on the way.

    Args:
        path: Parquet file of the table.
        order: Order of the symbols.
    """

    def __init__(self, path: str, order: Sequence[str] = SYMBOLS) -> None:
        self.path, self.order = path, list(order)

    def load(self, symbols: Sequence[str] | None, start: str | None, end: str | None) -> pd.DataFrame:
        """The whole table."""
        return pd.read_parquet(self.path)

    def blocks(
        self, symbols: Sequence[str] | None, start: str | None, end: str | None, max_rows: int = 1
    ) -> Iterator[pd.DataFrame]:
        """A symbol at a time."""
        table = self.load(symbols, start, end)
        for symbol in self.order:
            if symbol in unreadable:
                raise OSError("the disk is gone")
            yield table[table["symbol"] == symbol].reset_index(drop=True)


def module(source: PriceSource, folder: Path | None = None, memory: str = "1MB", **options: Any) -> MarketDataModule:
    storage = None if folder is None else MappedPanel(str(folder), memory)
    settings: dict[str, Any] = {"features": FEATURES, "window": 20, "targets": [ForwardReturn()]} | options
    return MarketDataModule(source, storage=storage, **settings)


def ready(*args: Any, **options: Any) -> MarketDataModule:
    data = module(*args, **options)
    data.setup()
    return data


def same(one: MarketDataModule, other: MarketDataModule) -> None:
    """Everything that a fit or a forecast sees is equal in every bit."""
    for name in TENSORS:
        np.testing.assert_array_equal(getattr(one.panel, name).numpy(), getattr(other.panel, name).numpy(), name)
    for name in ("symbol", "time", "segment"):
        np.testing.assert_array_equal(getattr(one.panel, name), getattr(other.panel, name), name)
    for rows, others in (
        *zip(one.parts.by_name.values(), other.parts.by_name.values(), strict=True),
        (one.windows, other.windows),
        (one.fit_rows, other.fit_rows),
        (one.rows_to_predict(), other.rows_to_predict()),
    ):
        np.testing.assert_array_equal(rows, others)
    for value, of_other in zip(vars(one.statistics).values(), vars(other.statistics).values(), strict=True):
        torch.testing.assert_close(value, of_other, rtol=0, atol=0, equal_nan=True)
    assert one.contract() == other.contract()
    assert one.parts.purged == other.parts.purged
    pd.testing.assert_frame_equal(one.prices, other.prices)
    for batch, of_other in zip(one.train_dataloader(), other.train_dataloader(), strict=True):
        assert all(torch.equal(part, of_part) for part, of_part in zip(batch, of_other, strict=True))


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trusts the features of this file, and lets every symbol be read."""
    monkeypatch.setattr("cnn_lstm.specs._trusted", {"cnn_lstm", "tests"})
    computed.clear()
    yield
    unreadable.clear()


@pytest.fixture
def table() -> pd.DataFrame:
    return market(400, SYMBOLS)


@pytest.fixture
def file(table: pd.DataFrame, tmp_path: Path) -> str:
    table.to_parquet(tmp_path / "prices.parquet")
    return str(tmp_path / "prices.parquet")


# -- the same panel ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"features": [*FEATURES, "market_return_1", "return_rank_20"]},
        {"scaling": "robust", "per_symbol": True},
        {"targets": [RealizedVolatility(5, log=True), RealizedVolatility(1, log=True)], "anchor": ["close_to_sma_20"]},
        {"targets": [Direction(horizon=3)]},
        {"split": RowSplit(0.6, 0.2, by="label")},
        {"fit_on": "train_and_validation", "split": DateSplit("2010-12-01", "2011-03-01")},
        {"train_stride": 3, "predict_part": "all"},
        {"order": "blocks"},
    ],
)
def test_panel_in_files_is_that_in_memory(options: dict[str, Any], table: pd.DataFrame, tmp_path: Path) -> None:
    # 1,000 rows a block, so that two symbols share one
    same(ready(TableSource(table), **options), ready(TableSource(table), tmp_path / "panel", **options))


def test_small_chunks_change_nothing(table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ready(TableSource(table))
    for function, sizes in ((in_chunks, (7,)), (stretches, (450,))):
        monkeypatch.setattr(function, "__defaults__", sizes)
    monkeypatch.setattr("cnn_lstm.data.statistics.CHUNK_ROWS", 1 << 5)
    found = ready(TableSource(table), tmp_path / "panel")
    # sums of more parts round differently
    torch.testing.assert_close(found.statistics.y_mean, expected.statistics.y_mean)
    torch.testing.assert_close(found.statistics.x_loc, expected.statistics.x_loc, rtol=0, atol=0)
    for name, rows in expected.parts.by_name.items():
        np.testing.assert_array_equal(found.parts.by_name[name], rows)
    np.testing.assert_array_equal(found.windows, expected.windows)


def test_symbols_that_are_too_short_are_left_out(table: pd.DataFrame, tmp_path: Path) -> None:
    short = table[(table["symbol"] != "BBB") | (table.groupby("symbol").cumcount() < 25)].reset_index(drop=True)
    short.to_parquet(tmp_path / "prices.parquet")
    source, options = Blocks(str(tmp_path / "prices.parquet")), {"checks": Checks(on_short="skip")}
    found = ready(source, tmp_path / "panel", **options)
    assert found.panel.symbols == ("AAA", "CCC", "DDD")
    same(ready(source, **options), found)
    with pytest.raises(DefectsError, match="E306"):
        ready(source, tmp_path / "other")


def test_checkpoint_keeps_its_limit_of_gaps(file: str, tmp_path: Path) -> None:
    first = ready(Blocks(file), tmp_path / "panel")
    again = module(Blocks(file), tmp_path / "panel")
    made = (tmp_path / "panel/panel/panel.json").stat().st_mtime_ns
    again.keep_gap_limit(first.recipe.checks.max_gap_days)
    again.setup()
    assert (tmp_path / "panel/panel/panel.json").stat().st_mtime_ns == made
    other = module(Blocks(file), tmp_path / "panel", checks=Checks(max_gap_days=3))
    other.setup()
    assert (tmp_path / "panel/panel/panel.json").stat().st_mtime_ns > made
    same(ready(Blocks(file), checks=Checks(max_gap_days=3)), other)


# -- a build that is stopped, and panels of something else -------------------------------------------------------------


def test_build_goes_on_where_it_was_stopped(file: str, tmp_path: Path) -> None:
    options = {"features": [*FEATURES, f"{__name__}.counted_close"]}
    unreadable.add("CCC")
    with pytest.raises(OSError, match="gone"):
        ready(Blocks(file), tmp_path / "panel", **options)
    unreadable.clear()
    assert PanelFiles.find(tmp_path / "panel") is None
    with (tmp_path / "panel/unfinished/values.bin").open("ab") as values:
        values.write(b"what a kill leaves behind the last whole block")
    computed.clear()
    found = ready(Blocks(file), tmp_path / "panel", **options)
    assert set(computed) == {"CCC", "DDD"}
    same(ready(Blocks(file), **options), found)


@pytest.mark.parametrize("noted", [1, 2, 3])
def test_block_that_was_written_but_not_noted_is_made_again(
    noted: int, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, note = [0], PanelWriter.flush

    def flush(writer: PanelWriter) -> None:
        notes[0] += 1
        if notes[0] == noted:
            raise OSError("the disk is gone")
        note(writer)

    with monkeypatch.context() as patched:
        patched.setattr(PanelWriter, "flush", flush)
        with pytest.raises(OSError, match="gone"):
            ready(Blocks(file), tmp_path / "panel")
    same(ready(Blocks(file)), ready(Blocks(file), tmp_path / "panel"))


@pytest.mark.slow
def test_build_that_is_killed_goes_on_to_the_same_files(tmp_path: Path) -> None:
    prices = tmp_path / "prices"
    prices.mkdir()
    for number in range(12):
        walk(4000, f"S{number:02d}", number, "1990-01-01").to_parquet(prices / f"{number}.parquet")
    source = ["--data.source", "ParquetDataset", "--data.source.path", str(prices), "--data.window", "20"]
    storage = ["--data.storage", "cnn_lstm.data.mapped.MappedPanel", "--data.storage.max_memory", "5MB"]

    def build(folder: str) -> subprocess.Popen[bytes]:
        argv = ["data", "build", *source, *storage, "--data.storage.folder", folder]
        return subprocess.Popen([sys.executable, "-m", "cnn_lstm", *argv], cwd=tmp_path)

    killed = build("killed")
    while killed.poll() is None and not (tmp_path / "killed/unfinished/panel.json").exists():
        time.sleep(0.005)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    seen = json.loads((tmp_path / "killed/unfinished/panel.json").read_text())["symbols"]
    assert 0 < len(seen) < 12
    assert build("killed").wait() == build("whole").wait() == 0
    names = sorted(file.name for file in (tmp_path / "whole/panel").iterdir())
    for name in names:
        assert (tmp_path / "killed/panel" / name).read_bytes() == (tmp_path / "whole/panel" / name).read_bytes(), name


def test_of_two_processes_that_need_a_panel_one_builds_it(file: str, tmp_path: Path) -> None:
    options = {"features": [f"{__name__}.counted_close"]}
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda _: ready(Blocks(file), tmp_path / "panel", **options), range(2))
    assert set(computed.values()) == {1}
    same(first, second)


def test_panel_that_is_there_is_not_computed_again(file: str, tmp_path: Path) -> None:
    options = {"features": [f"{__name__}.counted_close"]}
    first = ready(Blocks(file), tmp_path / "panel", **options)
    computed.clear()
    same(first, ready(Blocks(file), tmp_path / "panel", **options))
    assert not computed


@pytest.mark.parametrize(
    "other",
    [
        {"features": FEATURES[:2]},
        {"window": 21},
        {"targets": [ForwardReturn(2)]},
        {"end": "2011-01-01"},
        {"symbols": ["BBB"]},
    ],
)
def test_other_settings_make_another_panel(other: dict[str, Any], table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "prices.csv", index=False)
    source = PriceFiles(str(tmp_path / "prices.csv"))
    ready(source, tmp_path / "panel")
    same(ready(source, **other), ready(source, tmp_path / "panel", **other))


@pytest.mark.parametrize("named", ["prices.parquet", "*.parquet"])
def test_file_of_the_same_size_that_was_changed_is_read_again(table: pd.DataFrame, named: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.parquet"
    table.to_parquet(path, compression=None)
    source = PriceFiles(str(tmp_path / named))
    ready(source, tmp_path / "panel")
    size, when = path.stat().st_size, path.stat().st_mtime_ns
    table.assign(volume=table["volume"] + 1).to_parquet(path, compression=None)
    assert path.stat().st_size == size
    os.utime(path, ns=(when + 1, when + 1))
    same(ready(source), ready(source, tmp_path / "panel"))


@pytest.mark.parametrize("by_variable", [False, True])
def test_database_in_a_file_that_was_changed_is_read_again(
    table: pd.DataFrame, by_variable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, address = tmp_path / "prices.db", f"sqlite:///{tmp_path / 'prices.db'}"
    monkeypatch.setenv("PRICES_URL", address)
    source = SqlBars("$PRICES_URL" if by_variable else address, table="bars")
    for more in (0, 1):
        with closing(sqlite3.connect(path)) as connection, connection:
            changed = table.assign(timestamp=table["timestamp"].astype("str"), volume=table["volume"] + more)
            changed.to_sql("bars", connection, index=False, if_exists="replace")
        os.utime(path, ns=(more, more))
        same(ready(source), ready(source, tmp_path / "panel"))


def test_table_in_memory_is_never_taken_for_another_one(table: pd.DataFrame, tmp_path: Path) -> None:
    ready(TableSource(table), tmp_path / "panel")
    other = TableSource(table.assign(volume=table["volume"] + 1))
    same(ready(other), ready(other, tmp_path / "panel"))


def test_stopped_build_leaves_the_old_panel(file: str, tmp_path: Path) -> None:
    first = ready(Blocks(file), tmp_path / "panel")
    unreadable.add("BBB")
    with pytest.raises(OSError, match="gone"):
        ready(Blocks(file), tmp_path / "panel", window=30)
    unreadable.clear()
    same(first, ready(Blocks(file), tmp_path / "panel"))


@pytest.mark.parametrize("damage", ["cut", "gone", "no state", "other version", "another digit"])
def test_panel_that_is_not_whole_is_made_again(damage: str, file: str, tmp_path: Path) -> None:
    ready(Blocks(file), tmp_path / "panel")
    values, state = tmp_path / "panel/panel/values.bin", tmp_path / "panel/panel/panel.json"
    if damage == "cut":
        os.truncate(values, values.stat().st_size - 4)
    elif damage == "gone":
        values.unlink()
    elif damage == "another digit":
        state.write_text(re.sub(r'(?<="rows": )\d', lambda digit: str(9 - int(digit[0])), state.read_text(), count=1))
    else:
        state.write_text("{" if damage == "no state" else state.read_text().replace('"format": 1', '"format": 0'))
    same(ready(Blocks(file)), ready(Blocks(file), tmp_path / "panel"))


# -- what is refused ---------------------------------------------------------------------------------------------------


def refused(code: str, make: Any) -> None:
    with pytest.raises(CnnLstmError, match=code) as error:
        make()
    assert len(str(error.value)) <= 400


def test_symbols_have_to_come_in_their_order(file: str, tmp_path: Path) -> None:
    refused("E354", lambda: ready(Blocks(file, order=["BBB", "AAA"]), tmp_path / "panel"))


def test_symbols_with_different_intervals_are_refused_as_in_memory(table: pd.DataFrame, tmp_path: Path) -> None:
    slow = table[(table["symbol"] != "DDD") | (table.groupby("symbol").cumcount() % 4 == 0)]
    slow.to_parquet(tmp_path / "prices.parquet")
    source, options = Blocks(str(tmp_path / "prices.parquet")), {"checks": Checks(max_gap_days=40)}
    refused("E321", lambda: ready(source, **options))
    refused("E321", lambda: ready(source, tmp_path / "panel", **options))


def test_feature_of_all_symbols_and_the_table_of_prices_need_their_room(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ready(Blocks(file), tmp_path / "panel")
    monkeypatch.setattr("cnn_lstm.data.mapped_build.BAR_BYTES", 10_000)
    refused("E613", lambda: data.prices)
    refused("E613.*market_return_1", lambda: ready(Blocks(file), tmp_path / "other", features=["market_return_1"]))


@pytest.mark.parametrize("size", ["2", "2 gigs", "", "-1GB", "10KB", 5, None, "1e9"])
def test_size_that_cannot_be_read_is_refused(size: Any) -> None:
    refused("E276", lambda: MappedPanel("panel", size))


def test_damaged_file_is_found_by_data_build(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = ["--data.storage", "cnn_lstm.data.mapped.MappedPanel", "--data.storage.folder", "panel"]
    source = ["--data.source", "PriceFiles", "--data.source.paths", file, "--data.features", "[log_return_1]"]
    argv = ["data", "build", *source, *storage]
    for _ in range(2):
        data_command.run(argv)
        assert "4 symbols" in capsys.readouterr().out
    values = tmp_path / "panel/panel/values.bin"
    data = bytearray(values.read_bytes())
    data[len(data) // 2] ^= 1
    values.write_bytes(data)
    refused("E356.*values", lambda: data_command.run(argv))
    refused("E277", lambda: data_command.run(argv[:-4]))


# -- order and row numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3])
def test_order_by_blocks_takes_each_row_once_and_neighbours_together(world: int) -> None:
    rows = np.arange(100, 100 + 5 * BLOCK_ROWS)
    shards = [
        torch.cat(list(RowBatches(rows, 64, True, seed=3, rank=rank, world_size=world, in_blocks=True)))
        for rank in range(world)
    ]
    seen = torch.stack(shards, dim=1).flatten() if world > 1 else shards[0]
    whole = len(rows) // (64 * world) * 64 * world
    assert len(seen) == whole == len(seen.unique())
    assert not torch.equal(seen, seen.sort().values)


def test_order_by_blocks_reads_few_blocks_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnn_lstm.data.batches.MIXED_BLOCKS", 2)
    batches = RowBatches(np.arange(8 * BLOCK_ROWS), 64, True, seed=1, in_blocks=True)
    first = torch.cat(list(batches)[: 2 * BLOCK_ROWS // 64])
    assert len((first // BLOCK_ROWS).unique()) == 2
    batches.set_epoch(1)
    assert not torch.equal(first, torch.cat(list(batches)[: 2 * BLOCK_ROWS // 64]))


def test_collector_in_a_folder_leaves_no_file(tmp_path: Path) -> None:
    collector = RowCollector(tmp_path)
    for part in np.array_split(np.arange(1000), 7):
        collector.add(part)
    rows = collector.rows()
    np.testing.assert_array_equal(rows, np.arange(1000))
    assert isinstance(rows, np.memmap)
    assert not list(tmp_path.iterdir())
    assert not len(RowCollector(tmp_path).rows())
