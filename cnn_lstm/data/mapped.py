"""A panel that does not fit in memory: made block by block in files, which all processes map into memory.

Shapes: N panel rows, n rows of a block.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from glob import glob
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from cnn_lstm import specs
from cnn_lstm.data.features import Feature, compute_features
from cnn_lstm.data.panel_files import PanelFiles, PanelWriter, distinct
from cnn_lstm.data.prices import canonical
from cnn_lstm.data.row_numbers import RowCollector
from cnn_lstm.data.sources.base import PriceSource
from cnn_lstm.data.storage import CheckedBars, PanelRequest, PanelStorage, StoredPanel
from cnn_lstm.data.symbol_rows import symbol_edges
from cnn_lstm.data.times import utc_index
from cnn_lstm.data.windows import windows_by_stretch
from cnn_lstm.errors import DataError, Defect, DefectsError, ResourceError, require
from cnn_lstm.files import size_text
from cnn_lstm.hints import counted, first_names
from cnn_lstm.locks import take_folder

log = logging.getLogger(__name__)
ROW_BYTES = 1000  # of a block while it is checked and its features are computed
BAR_BYTES = 100  # of a row of the whole price table, with what a feature of all symbols makes of it
UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]i?B)")
LEAST_BYTES = 1_000_000
ONCE = (319, 352)  # warnings of the whole table, which each block would repeat


class MappedPanel(PanelStorage):
    """The panel in files of a folder, which are mapped into memory: only what is read takes memory, while it is read.

    It is made once, block by block of symbols, by `cnn-lstm data build` or by the first command that needs it. A build
    that was stopped goes on behind its last whole block. A panel of other settings is made again in its place.

    The folder also holds the price table. Baselines and features that need all of it in memory are refused where it is
    larger than `max_memory`.

    Args:
        folder: Where the files lie; a few times the size of the prices is needed there.
        max_memory: Most that a build may take beyond what Python and its packages take, as a number of bytes or as
            text such as 512MiB.

    Example:
        >>> MappedPanel("panels/stocks", "2GiB").block_rows
        2147483
    """

    def __init__(self, folder: str, max_memory: str | int = "1GiB") -> None:
        self.folder, self.bytes = Path(folder), _size(max_memory)
        self.block_rows = max(1, self.bytes // ROW_BYTES)

    def panel_of(self, request: PanelRequest) -> StoredPanel:
        """Finds the panel of the folder, or makes it."""
        key = _key(request)
        if self._found(key) is None:
            with take_folder(self.folder, "data build", "panel", "data.storage folder"):
                build = _Build(self, request, key)
                with build.writer:
                    build.run()
        files = self._found(key)
        if files is None:  # another process has put another one in its place
            raise DataError("the panel was replaced meanwhile", str(self.folder), "choose another folder", code=355)
        return self._stored(files, request)

    def collector(self) -> RowCollector:
        """In a file of the folder that has no name."""
        return RowCollector(self.folder)

    def has(self, request: PanelRequest) -> bool:
        """Whether the panel of the folder is there and made of what is asked for."""
        return self._found(_key(request)) is not None

    def check(self, request: PanelRequest) -> None:
        """Reads all files of the panel, and compares their checksums.

        Args:
            request: What the panel is made of.

        Raises:
            DataError: E356, if a file is damaged.
        """
        files = self._found(_key(request))
        damaged = [] if files is None else files.damaged()
        if damaged:
            what, fix = f"the panel is damaged: {first_names(damaged)}", "remove the folder: the panel is made again"
            raise DataError(what, str(self.folder), fix, code=356)

    def require_room(self, what: str, rows: int) -> None:
        """Refuses to hold the whole price table in memory where that is too much.

        Args:
            what: What needs it.
            rows: Its rows.

        Raises:
            ResourceError: E613.
        """
        needed = rows * BAR_BYTES
        if needed > self.bytes:
            what = f"{what} needs all prices at once: {size_text(needed)} of memory"
            fix = "raise data.storage max_memory, or choose fewer symbols"
            raise ResourceError(what, f"{counted(rows, 'row')} in {self.folder}", fix, code=613)

    def _found(self, key: dict[str, Any]) -> PanelFiles | None:
        """The panel of the folder, if it is made of what the key says."""
        files = PanelFiles.find(self.folder)
        if files is None or files.state.key not in (key, key | {"gap_days": None}):
            return None
        # a checkpoint names the limit of gaps that the bars themselves gave its training
        return files if key["gap_days"] in (files.state.key["gap_days"], files.state.more["gap_days"]) else None

    def _stored(self, files: PanelFiles, request: PanelRequest) -> StoredPanel:
        more = files.state.more
        checks = replace(request.recipe.checks, max_gap_days=more["gap_days"])
        columns = tuple(more["columns"])
        bound = request.recipe.bind(["symbol", "timestamp", *columns], request.targets).with_checks(checks)

        def prices() -> pd.DataFrame:
            self.require_room("this command", files.state.rows)
            return _price_table(files, columns)

        return StoredPanel(
            panel=files.panel(),
            windows=files.array("windows"),
            times=files.array("times").view("datetime64[us]"),
            bound=bound,
            columns=columns,
            fingerprint=more["fingerprint"],
            warnings=tuple(Defect(**defect) for defect in more["warnings"]),
            prices=prices,
        )


class _Build:
    """One build of a panel.

    Args:
        storage: Where it goes.
        request: What it is made of.
        key: All that it is made of, see `_key`.
    """

    def __init__(self, storage: MappedPanel, request: PanelRequest, key: dict[str, Any]) -> None:
        self.storage, self.request = storage, request
        fresh: dict[str, Any] = {"seen": [], "columns": [], "gap_days": None, "warnings": [], "steps": []}
        self.writer = PanelWriter(storage.folder, key, fresh)
        self.more = self.writer.state.more

    def run(self) -> None:
        """Makes the panel."""
        log.info("building the panel in %s", self.storage.folder)
        short: DefectsError | None = None
        for block in self._blocks():
            try:
                self._add(block)
            except DefectsError as error:
                if self.request.recipe.checks.on_short != "skip" or any(one.code != 306 for one in error.defects):
                    raise
                short = error  # all symbols of this block are too short
            self.more["seen"].extend(block["symbol"].unique())
            self.writer.flush()
        if short is not None and not self.writer.state.symbols:
            raise short
        _require_one_interval(self.more["steps"])
        self._cross()
        self._complete()
        log.info("the panel is complete")

    def _blocks(self) -> Iterator[pd.DataFrame]:
        """The blocks of the source without the symbols that a stopped build has seen."""
        asked, seen = self.request, set(self.more["seen"])
        if seen:
            log.info("going on behind %s", counted(len(seen), "symbol"))
        for block in asked.source.blocks(asked.symbols, asked.start, asked.end, self.storage.block_rows):
            new = block if not seen else block[~block["symbol"].isin(seen)]
            if len(new):
                yield from _pieces(new.reset_index(drop=True), self.storage.block_rows)

    def _add(self, block: pd.DataFrame) -> None:
        bars = self._checked(block)
        self._require_columns(list(bars.prices.columns[2:]))
        self._warn(bars.warnings)
        self.more["steps"] = _extremes([*self.more["steps"], *_usual_steps(bars.prices)])
        own = replace(bars.bound, features=tuple(map(_unknown_if_crossing, bars.bound.features)))
        numbers = [bars.prices[name].to_numpy(dtype=np.float64) for name in self.more["columns"]]
        self.writer.add(own.panel(bars.prices), numbers)
        log.info("%s, %s", counted(len(self.writer.state.symbols), "symbol"), counted(self.writer.state.rows, "row"))

    def _checked(self, block: pd.DataFrame) -> CheckedBars:
        """The block by the limit of gaps of the first one; a warning where its own would be another one."""
        asked, days = self.request, self.more["gap_days"]
        own = asked.checked(block)
        found = own.bound.recipe.checks.max_gap_days
        if days is None or found == days:
            self.more["gap_days"] = found
            return own
        if asked.recipe.checks.max_gap_days is None:
            what = f"other bars: their gaps are longer than {found:g} days, those of the first symbols than {days:g}"
            fix = f"{days:g} days hold for all; set data.checks.max_gap_days"
            self._warn([Defect(353, what, first_names(list(own.prices["symbol"].unique())), fix, fatal=False)])
        recipe = replace(asked.recipe, checks=replace(asked.recipe.checks, max_gap_days=days))
        return replace(asked, recipe=recipe).checked(block)

    def _require_columns(self, columns: list[str]) -> None:
        known = self.more["columns"] = self.more["columns"] or columns
        what = f"a block has the columns {', '.join(columns)}"
        fix = f"give all symbols those of the first block: {', '.join(known)}"
        if columns != known:
            raise DataError(what[:200], "data.source", fix[:150], code=353)

    def _warn(self, warnings: Iterable[Defect]) -> None:
        kept = self.more["warnings"]
        for warning in warnings:
            repeated = warning.code in ONCE and any(one["code"] == warning.code for one in kept)
            kept.extend([] if repeated else [asdict(warning)])

    def _cross(self) -> None:
        """Computes the features that look at all symbols of a date, which needs all prices at once."""
        files, columns = self.writer.written(), self.more["columns"]
        bound = self.request.recipe.bind(["symbol", "timestamp", *columns], self.request.targets)
        crossing = [(place, one) for place, one in enumerate(bound.features) if one.cross_sectional]
        if not crossing:
            return
        self.storage.require_room(f"the feature {crossing[0][1].name}", files.state.rows)
        values, prices = files.array("values"), _price_table(files, columns)
        for place, feature in crossing:
            values[:, place] = compute_features(prices, [feature]).to_numpy()[:, 0]
        cast(np.memmap[Any, Any], values).flush()

    def _complete(self) -> None:
        """Writes what all blocks together say: complete windows, distinct times, the fingerprint."""
        writer, files = self.writer, self.writer.written()
        for rows in windows_by_stretch(files.panel(), self.request.recipe.window):
            writer.append("windows", rows)
        writer.append("times", distinct(files.array("time")))
        self.more["fingerprint"] = _fingerprint(files, self.more["columns"])
        writer.finish()


def _size(text: str | int) -> int:
    """A size in bytes, from a number or a text such as 2GiB."""
    found = SIZE.fullmatch(text) if isinstance(text, str) else None
    size = float(found[1]) * UNITS[found[2]] if found else float(text) if isinstance(text, int) else 0
    known, fix = size >= LEAST_BYTES, "give a number of bytes or a size such as 2GiB, at least 1MB"
    require(known, f"max_memory={text!r}", "data.storage", fix, code=276)
    return int(size)


def _key(request: PanelRequest) -> dict[str, Any]:
    """All that a panel is made of: a digest of it, and the limit of gaps that the settings name."""
    days, recipe = request.recipe.checks.max_gap_days, request.recipe
    recipe = replace(recipe, checks=replace(recipe.checks, max_gap_days=None))
    asked = {
        "source": _identity(request.source),
        "symbols": None if request.symbols is None else list(request.symbols),
        "span": [str(request.start), str(request.end)],
        "recipe": recipe.to_plain(),
    }
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
    return {"digest": digest, "gap_days": days}


def _identity(source: PriceSource) -> list[Any]:
    """What tells a source from others: its class and its settings, and of files their sizes and times of change.

    A source that holds a table, or anything else without a plain value, is like no other one.
    """
    try:
        settings = _plain(vars(source))
    except TypeError:
        return [specs.class_path(type(source)), os.urandom(16).hex()]
    return [specs.class_path(type(source)), settings, list(_states_of_files(settings))]


def _plain(value: Any) -> Any:
    """Settings as plain values.

    Raises:
        TypeError: If a value is none that settings are made of.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(vars(value))
    raise TypeError(type(value).__name__)


def _states_of_files(value: Any) -> Iterator[list[Any]]:
    """Path, size and time of change of each file, and of each file in each folder, that a setting names."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _states_of_files(part)
    elif isinstance(value, str) and value and "\0" not in value:
        for path in sorted(glob(value)):  # noqa: PTH207 - a setting may be an absolute pattern
            inside = sorted(Path(path).rglob("*")) if Path(path).is_dir() else [Path(path)]
            yield from ([str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in inside if file.is_file())


def _pieces(block: pd.DataFrame, most: int) -> Iterator[pd.DataFrame]:
    """A block in smaller ones of whole symbols in their order: a source may give its whole table as one."""
    if len(block) <= most:
        yield block
        return
    _, codes = np.unique(block["symbol"].to_numpy(dtype=str), return_inverse=True)
    group = np.cumsum(np.bincount(codes)) // most
    for number in np.unique(group):
        yield block[group[codes] == number].reset_index(drop=True)


def _unknown_if_crossing(feature: Feature) -> Feature:
    """A feature of one symbol as it is; one that looks at all symbols as a column that is not known yet."""
    if not feature.cross_sectional:
        return feature
    return replace(feature, function=lambda bars: np.full(len(bars), np.nan), cross_sectional=False)


def _usual_steps(prices: pd.DataFrame) -> list[list[Any]]:
    """Median seconds from one bar to the next, and the symbol."""
    step = prices.groupby("symbol")["timestamp"].diff().dt.total_seconds()
    median = step.groupby(prices["symbol"]).median().dropna()
    return [[float(seconds), str(symbol)] for symbol, seconds in median.items()]


def _extremes(steps: list[list[Any]]) -> list[list[Any]]:
    """The shortest and the longest step."""
    return [min(steps), max(steps)] if steps else []


def _require_one_interval(steps: Sequence[Sequence[Any]]) -> None:
    """The check of `check_prices` that looks at all symbols together."""
    if steps and steps[1][0] > 2 * steps[0][0]:
        where = ", ".join(f"{symbol} every {pd.Timedelta(seconds=seconds)}" for seconds, symbol in steps)
        defect = Defect(321, "symbols with different intervals", where, "load one interval at a time")
        raise DefectsError([defect])


def _price_table(files: PanelFiles, columns: Sequence[str]) -> pd.DataFrame:
    """The checked price table."""
    names = np.array(files.state.symbols, dtype=object)
    table = pd.DataFrame({"symbol": names[files.array("symbol")]}).astype({"symbol": "str"})
    table["timestamp"] = utc_index(files.array("time").view("datetime64[us]"))
    return table.assign(**{name: np.array(files.array(f"bars_{k}")) for k, name in enumerate(columns)})


def _fingerprint(files: PanelFiles, columns: Sequence[str]) -> str:
    """`data_fingerprint` of the price table."""
    counts = np.diff(symbol_edges(files.array("symbol"), len(files.state.symbols)))
    digest = hashlib.sha256()
    for symbol, rows in zip(files.state.symbols, counts, strict=True):
        digest.update(f"{symbol}:{rows}\n".encode())
    for chunk in files.chunks("time"):
        digest.update(chunk)
    for k, name in sorted(enumerate(columns), key=itemgetter(1)):
        digest.update(f"{name}\n".encode())
        for chunk in files.chunks(f"bars_{k}"):
            digest.update(canonical(np.frombuffer(chunk)))
    return digest.hexdigest()
