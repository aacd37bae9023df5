"""Panels that are kept: found where nothing has changed, and never a wrong one."""

from __future__ import annotations

import json
import logging
import os
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data import panel_cache, panel_key
from cnn_lstm.data.column_targets import LabelColumn
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.kept_panels import kept_in_process
from cnn_lstm.data.panel_cache import AUTO, PanelCache, clean_text
from cnn_lstm.data.panel_files import DamagedPanelError, read_panel, write_panel
from cnn_lstm.data.prepared import Prepared, Tables
from cnn_lstm.data.prices import Checks
from cnn_lstm.data.sources import ParquetDataset, PriceFiles
from cnn_lstm.data.splits import RowSplit
from cnn_lstm.data.targets import Direction, ForwardReturn, RealizedVolatility, Target
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.specs import trust
from tests.data.test_linear_setup import staggered
from tests.markets import TableSource

PAST = time.time_ns() - 3600 * 10**9
OWN = """
from cnn_lstm.data.features import feature

@feature(inputs=("close",), warmup=1)
def own(bars):
    return bars["close"].diff() * {factor}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_prices(tmp_path, staggered(3))
    return tmp_path


@pytest.fixture(autouse=True)
def _fresh_warnings() -> None:
    panel_cache._warned.clear()


def write_prices(folder: Path, table: pd.DataFrame) -> None:
    table.to_csv(folder / "prices.csv", index=False)


def data_of(folder: Path, **settings: Any) -> MarketDataModule:
    """A data module on the prices of a folder, set up, with the cache next to them."""
    arguments: dict[str, Any] = {
        "source": PriceFiles(str(folder / "prices.csv")),
        "features": ["log_return_1", "close_to_sma_5", "close"],
        "window": 5,
        "cache": str(folder / "cache"),
    }
    data = MarketDataModule(**(arguments | settings))
    data.setup()
    return data


def was_found(data: MarketDataModule) -> bool:
    """Whether a data module has not read its prices."""
    return data._tables is None


def assert_same(one: MarketDataModule, other: MarketDataModule) -> None:
    for name, array in one.panel.arrays().items():
        np.testing.assert_array_equal(array, other.panel.arrays()[name], err_msg=name)
        assert array.dtype == other.panel.arrays()[name].dtype
    assert one.panel.symbols == other.panel.symbols
    assert one.contract() == other.contract()
    assert {name: rows.tolist() for name, rows in one.parts.by_name.items()} == {
        name: rows.tolist() for name, rows in other.parts.by_name.items()
    }


# -- found -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"targets": [RealizedVolatility(3)], "scaling": "robust", "split": RowSplit(0.5, 0.2)},
        {"per_symbol": True, "anchor": ["close"], "checks": Checks(max_gap_days=12)},
        {"symbols": ["S2", "S0"], "start": "2010-02-01", "targets": [Direction()]},
    ],
)
def test_a_panel_that_is_found_is_the_one_that_was_built(folder: Path, settings: dict[str, Any]) -> None:
    built, found, plain = (data_of(folder, **(settings | more)) for more in ({}, {}, {"cache": None}))
    assert was_found(found)
    assert not was_found(built)
    assert_same(built, plain)
    assert_same(found, plain)
    pd.testing.assert_frame_equal(found.prices, plain.prices)
    assert found.checked.warnings == plain.checked.warnings
    assert found.column_kinds == plain.column_kinds


def test_what_does_not_change_the_panel_finds_it(folder: Path) -> None:
    data_of(folder)
    others: list[dict[str, Any]] = [
        {"split": RowSplit(0.5, 0.2)},
        {"scaling": "robust"},
        {"batch_size": 7},
        {"train_stride": 2},
    ]
    assert all(was_found(data_of(folder, **settings)) for settings in others)


def test_what_changes_the_panel_does_not_find_it(folder: Path) -> None:
    data_of(folder)
    others: list[dict[str, Any]] = [
        {"features": ["log_return_1", "close_to_sma_6", "close"]},
        {"features": ["close_to_sma_5", "log_return_1", "close"]},
        {"targets": [ForwardReturn(2)]},
        {"targets": [ForwardReturn(1, log=False)]},
        {"checks": Checks(max_gap_days=30.0)},
        {"checks": Checks(on_short="skip")},
        {"symbols": ["S0", "S1"]},
        {"start": "2010-02-01"},
        {"end": "2010-11-01"},
        {"source": PriceFiles(str(folder / "prices.csv"), columns={"close": "open", "open": "close"})},
        {"source": PriceFiles(str(folder / "*.csv"), missing=["-"])},
        {"window": 6},
        {"per_symbol": True},
    ]
    assert not any(was_found(data_of(folder, **settings)) for settings in others)


def test_warnings_of_the_table_come_each_time(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = staggered(3)
    table["empty"], table.loc[20, "volume"] = np.nan, 5e10
    write_prices(folder, pd.concat([table, table.iloc[[7]]]))
    texts = []
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="cnn_lstm"):
            data = data_of(folder)
        texts.append([record.getMessage() for record in caplog.records])
    assert was_found(data)
    assert texts[0] == texts[1]
    assert all(any(part in text for text in texts[1]) for part in ("identical rows", "empty", "the volume is"))


def test_a_source_that_is_no_file_is_known_by_its_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = staggered(3)
    data_of(folder, source=TableSource(table))
    monkeypatch.setattr(Tables, "of", classmethod(lambda *_: pytest.fail("it was checked again")))
    data_of(folder, source=TableSource(table.copy()))
    with pytest.raises(pytest.fail.Exception):
        data_of(folder, source=TableSource(table.assign(close=table["close"] * 1.001)))


# -- never a wrong one -------------------------------------------------------------------------------------------------


def test_a_changed_file_of_the_same_size_and_time_is_read(folder: Path) -> None:
    file = folder / "prices.csv"
    before = file.stat()
    first = data_of(folder)
    text = file.read_text()
    digit = text.rindex("1")
    file.write_text(text[:digit] + "2" + text[digit + 1 :])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = data_of(folder)
    assert file.stat().st_size == before.st_size
    assert not was_found(changed)
    assert changed.fingerprint != first.fingerprint
    assert_same(changed, data_of(folder, cache=None))


def test_another_file_of_the_pattern_is_read(folder: Path) -> None:
    source = PriceFiles(str(folder / "*.csv"))
    data_of(folder, source=source)
    staggered(1).assign(symbol="NEW").to_csv(folder / "new.csv", index=False)
    assert "NEW" in data_of(folder, source=source).panel.symbols


def test_a_file_that_changes_while_it_is_read_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = PriceFiles.load

    def slow(*arguments: Any) -> pd.DataFrame:
        table = load(*arguments)
        write_prices(folder, staggered(2))
        return table

    monkeypatch.setattr(PriceFiles, "load", slow)
    assert len(data_of(folder).panel.symbols) == 3
    monkeypatch.undo()
    assert len(data_of(folder).panel.symbols) == 2


@pytest.mark.parametrize("place", ["values.npy", "labels.npy", "time.npy", "segment.npy", "entry.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_panel_is_built_again(
    folder: Path, place: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain = data_of(folder)
    (file,) = (folder / "cache").glob(f"*/{place}")
    content = bytearray(file.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    kept = {"flip": bytes(content), "cut": bytes(content[: len(content) // 2]), "gone": None}[damage]
    file.unlink()
    if kept is not None:
        file.write_bytes(kept)
    with caplog.at_level(logging.WARNING, logger="cnn_lstm"):
        again = data_of(folder)
    assert "[W387] a panel is damaged" in caplog.text
    assert not was_found(again)
    assert_same(again, plain)
    assert was_found(data_of(folder)), "it was written again"


def test_every_flipped_bit_of_an_entry_is_seen(folder: Path) -> None:
    data_of(folder)
    (entry,) = (folder / "cache").glob("*/entry.json")
    content = entry.read_bytes()
    for place in np.random.default_rng(0).choice(len(content), 60, replace=False).tolist():
        entry.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises((DamagedPanelError, ValueError)):
            panel_cache._read_entry(entry, json.loads(content.partition(b"\n")[2])["key"])


def test_the_panel_of_another_key_is_not_taken(folder: Path) -> None:
    data_of(folder)
    (place,) = (one for one in (folder / "cache").iterdir() if one.is_dir())
    cache = PanelCache(folder / "cache", 1.0, 0)
    place.rename(place.with_name("0" * 32))
    assert cache.find("0" * 64) is None


def own_feature(folder: Path, factor: int, written: int = PAST) -> None:
    file = folder / "kept_features.py"
    file.write_text(textwrap.dedent(OWN.format(factor=factor)))
    os.utime(file, ns=(written, written))
    sys.modules.pop("kept_features", None)
    trust("kept_features")


def test_a_changed_feature_of_ones_own_is_computed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    features = ["log_return_1", "kept_features.own"]
    own_feature(folder, 2)
    first, found = (data_of(folder, features=features) for _ in range(2))
    assert was_found(found)
    own_feature(folder, 3, PAST + 10**9)
    changed = data_of(folder, features=features)
    assert not was_found(changed)
    np.testing.assert_allclose(changed.panel.values[:, 1], first.panel.values[:, 1] * 1.5, rtol=1e-6)


def test_a_module_that_a_feature_of_ones_own_imports_counts_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    own_feature(folder, 2)
    text = (folder / "kept_features.py").read_text().replace("* 2", "* kept_helper.FACTOR")
    (folder / "kept_features.py").write_text("import kept_helper\n" + text)
    os.utime(folder / "kept_features.py", ns=(PAST, PAST))
    values = []
    for factor in (2, 5):
        (folder / "kept_helper.py").write_text(f"FACTOR = {factor}\n")
        os.utime(folder / "kept_helper.py", ns=(PAST + factor, PAST + factor))
        for module in ("kept_features", "kept_helper"):
            sys.modules.pop(module, None)
        values.append(data_of(folder, features=["kept_features.own"]).panel.values[:, 0])
    np.testing.assert_allclose(values[1], values[0] * 2.5, rtol=1e-6)


def test_code_that_may_not_be_what_runs_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    own_feature(folder, 2, time.time_ns())
    data_of(folder, features=["kept_features.own"])
    assert not list((folder / "cache").glob("*/entry.json"))


def test_a_target_without_a_file_is_not_kept() -> None:
    class Notebook(ForwardReturn):
        """A target that was typed into a notebook."""

    Notebook.__module__ = "a_notebook"
    target: Target = Notebook()
    data = MarketDataModule(features=["log_return_1"], targets=[target], cache=None)
    assert panel_key.panel_key("0" * 64, data.recipe, data.targets) is None


def test_another_version_of_the_code_builds_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_of(folder)
    monkeypatch.setattr(panel_key, "code_of_room", lambda: "another")
    assert not was_found(data_of(folder))


def test_prices_that_change_under_a_panel_are_refused(folder: Path) -> None:
    data_of(folder)
    found = data_of(folder)
    write_prices(folder, staggered(3).assign(volume=lambda t: t["volume"] + 1))
    with pytest.raises(DataError, match=r"E331.*the prices have changed"):
        _ = found.prices


def test_labels_of_a_column_and_gaps_are_kept_too(folder: Path) -> None:
    table = staggered(3).assign(label=lambda t: (t["close"] > t["open"]).astype(float))
    write_prices(folder, table.drop(index=range(60, 80)))
    settings: dict[str, Any] = {"targets": [LabelColumn("label", values=[0.0, 1.0])]}
    data_of(folder, **settings)
    assert_same(data_of(folder, **settings), data_of(folder, **settings, cache=None))


# -- the folder --------------------------------------------------------------------------------------------------------


def test_the_files_of_prices_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PanelCache(folder / "cache", 1.0, 0)
    monkeypatch.setattr(panel_cache, "FRESH", -(10**12))
    digest = cache.digest(folder / "prices.csv")
    monkeypatch.setattr(panel_cache, "file_digest", lambda _: pytest.fail("it was read again"))
    assert cache.digest(folder / "prices.csv") == digest
    (folder / "prices.csv").touch()
    with pytest.raises(pytest.fail.Exception):
        cache.digest(folder / "prices.csv")


def test_a_file_that_was_just_written_is_not_remembered(folder: Path) -> None:
    cache = PanelCache(folder / "cache", 1.0, 0)
    cache.digest(folder / "prices.csv")
    assert not (folder / "cache" / "files.json").exists()


@pytest.mark.parametrize("content", ["", "{}", "0\n{}", "damaged"])
def test_a_damaged_memory_of_files_is_empty(folder: Path, content: str) -> None:
    cache = PanelCache(folder, 1.0, 0)
    expected = cache.digest(folder / "prices.csv")
    (folder / "files.json").write_text(content)
    assert cache.digest(folder / "prices.csv") == expected


def test_the_panels_that_were_not_used_for_longest_are_removed(folder: Path) -> None:
    data = data_of(folder)
    size = sum(file.stat().st_size for file in (folder / "cache").glob("*/*"))
    limit = 2.5 * size / 1e9
    for number, rows in enumerate((6, 7, 8)):
        data_of(folder, window=rows, cache_limit=limit)
        for place in (folder / "cache").iterdir():
            if place.is_dir() and place.stat().st_mtime > time.time() - 60:
                os.utime(place, (number, number))
    assert len(list((folder / "cache").glob("*/entry.json"))) == 2
    assert was_found(data_of(folder, window=8)), "the latest stays"
    assert not was_found(data_of(folder, window=data.recipe.window)), "the first has gone"


def test_a_folder_that_cannot_be_written_is_warned_of_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "cache").write_text("a file")
    plain = data_of(folder, cache=None)
    with caplog.at_level(logging.WARNING, logger="cnn_lstm"):
        for _ in range(2):
            assert_same(data_of(folder), plain)
    assert caplog.text.count("[W386] the panel cannot be kept") == 1


def test_an_unfinished_panel_of_a_killed_process_is_removed(folder: Path) -> None:
    data_of(folder)
    (entry,) = (folder / "cache").glob("*/entry.json")
    dead = entry.parent.with_name(f".{entry.parent.name}.999999999.partial")
    dead.mkdir()
    (dead / "values.npy").write_bytes(b"half")
    (entry.parent.parent / "notes.txt").write_text("mine")
    assert clean_text(PanelCache(folder / "cache", 1.0, 0)).startswith("1 panel removed")
    assert [file.name for file in (folder / "cache").iterdir()] == ["notes.txt"]
    assert clean_text(None) == "data.cache is null: nothing is kept\n"


def test_by_default_small_panels_leave_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    data_of(folder, cache=AUTO)
    data_of(folder, cache=AUTO, source=TableSource(staggered(2)))
    assert sorted(file.name for file in folder.iterdir()) == ["prices.csv"]
    monkeypatch.setattr(panel_cache, "WORTH_KEEPING", 100)
    data_of(folder, cache=AUTO)
    assert was_found(data_of(folder, cache=AUTO))
    assert list(folder.glob("runs/.panels/*/entry.json"))


@pytest.mark.parametrize("settings", [{"cache": ""}, {"cache_limit": 0.0}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        MarketDataModule(**settings)


def test_a_panel_from_files_is_mapped_and_shared(folder: Path) -> None:
    panel = data_of(folder).panel
    digests = write_panel(panel, folder / "one")
    mapped = read_panel(folder / "one", panel.symbols, digests)
    assert isinstance(mapped.time.base, np.memmap) or isinstance(mapped.time, np.memmap)
    mapped.values[0, 0] = 7.0
    assert read_panel(folder / "one", panel.symbols, digests).values[0, 0] != 7.0, "nothing is written back"


def test_a_folder_of_parquet_files_is_known_by_its_files(folder: Path) -> None:
    prices = folder / "prices"
    prices.mkdir()
    for name, bars in staggered(3).groupby("symbol"):
        bars.to_parquet(prices / f"{name}.parquet")
    source = ParquetDataset(str(prices))
    data_of(folder, source=source)
    assert was_found(data_of(folder, source=source))
    next(prices.iterdir()).unlink()
    assert not was_found(data_of(folder, source=source))


# -- one process -------------------------------------------------------------------------------------------------------


def test_a_process_that_sets_up_many_times_builds_a_panel_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    of = Prepared.of

    def counted(*arguments: Any) -> Prepared:
        built.append(1)
        return of(*arguments)

    monkeypatch.setattr(Prepared, "of", counted)
    with kept_in_process():
        first = data_of(folder, cache=None)
        for batch in (8, 16, 32):
            assert_same(data_of(folder, cache=None, batch_size=batch), first)
        assert len(built) == 1
        data_of(folder, cache=None, features=["log_return_1"])
        assert len(built) == 2
        data_of(folder, cache=None)
        assert len(built) == 2, "two are kept"
        write_prices(folder, staggered(2))
        assert len(data_of(folder, cache=None).panel.symbols) == 2
    data_of(folder, cache=None)
    assert len(built) == 4, "nothing is kept behind the end"
