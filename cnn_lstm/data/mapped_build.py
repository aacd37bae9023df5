"""Makes a panel in files, block by block of symbols, and goes on where an earlier build was stopped.

Shapes: N panel rows, n rows of a block.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from cnn_lstm.data.checks import KEYS
from cnn_lstm.data.features import Feature, compute_features
from cnn_lstm.data.mapped_files import PanelFiles, PanelWriter
from cnn_lstm.data.panel_key import Request
from cnn_lstm.data.prepared import Tables, recorded, warn_of
from cnn_lstm.data.prices import canonical
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.row_numbers import distinct
from cnn_lstm.data.symbol_rows import symbol_edges
from cnn_lstm.data.targets import Target
from cnn_lstm.data.times import utc_index
from cnn_lstm.data.windows import windows_by_stretch
from cnn_lstm.errors import DataError, Defect, DefectsError, ResourceError
from cnn_lstm.files import size_text
from cnn_lstm.hints import counted, first_names

log = logging.getLogger(__name__)
ROW_BYTES = 1000  # of a block while it is checked and its features are computed
BAR_BYTES = 100  # of a row of the whole price table, with what a feature of all symbols makes of it
ONCE = ("[W319]", "[W352]")  # warnings of the whole table, which each block would repeat


class PanelBuild:
    """One build of a panel.

    Args:
        folder: Where it goes.
        memory: Bytes that it may take.
        request: Which prices it is made of.
        recipe: The recipe.
        targets: Its targets.
    """

    def __init__(self, folder: Path, memory: int, request: Request, recipe: Recipe, targets: Sequence[Target]) -> None:
        self.folder, self.memory, self.request = folder, memory, request
        self.recipe, self.targets = recipe, targets

    def run(self, key: Mapping[str, Any]) -> None:
        """Makes the panel.

        Args:
            key: All that it is made of.
        """
        log.info("building the panel in %s", self.folder)
        fresh: dict[str, Any] = {"seen": [], "kinds": [], "gap_days": None, "messages": [], "steps": []}
        with PanelWriter(self.folder, dict(key), fresh) as writer:
            self.writer, self.more = writer, writer.state.more
            self._write_blocks()
            _require_one_interval(self.more["steps"])
            self._cross()
            self._complete()
        log.info("the panel is complete")

    def _write_blocks(self) -> None:
        short: DefectsError | None = None
        for block in self._blocks():
            with recorded() as messages:
                try:
                    self._add(block)
                except DefectsError as error:
                    if self.recipe.checks.on_short != "skip" or any(one.code != 306 for one in error.defects):
                        raise
                    short = error  # all symbols of this block are too short
            self._keep(messages)
            self.more["seen"].extend(block["symbol"].unique())
            self.writer.flush()  # all that is known of the block at once: a kill before it loses the block
        if short is not None and not self.writer.state.symbols:
            raise short

    def _blocks(self) -> Iterator[pd.DataFrame]:
        """The blocks of the source without the symbols that a stopped build has seen."""
        asked, seen, most = self.request, set(self.more["seen"]), max(1, self.memory // ROW_BYTES)
        if seen:
            log.info("going on behind %s", counted(len(seen), "symbol"))
        for block in asked.source.blocks(asked.symbols, asked.start, asked.end, most):
            read = self.recipe.read(block)
            new = read if not seen else read[~read["symbol"].isin(seen)]
            if len(new):
                yield from _pieces(new.reset_index(drop=True), most)

    def _add(self, block: pd.DataFrame) -> None:
        tables = self._checked(block)
        self._require_same_columns(tables)
        self.more["steps"] = _extremes([*self.more["steps"], *_usual_steps(tables.prices)])
        own = replace(tables.bound, features=tuple(map(_unknown_if_crossing, tables.bound.features)))
        numbers = [tables.prices[name].to_numpy(dtype=np.float64) for name in _numbers(self.more["kinds"])]
        self.writer.add(own.panel(tables.prices), numbers)
        log.info("%s, %s", counted(len(self.writer.state.symbols), "symbol"), counted(self.writer.state.rows, "row"))

    def _checked(self, block: pd.DataFrame) -> Tables:
        """The block by the limit of gaps of the first one; a warning where its own would be another one."""
        days = self.more["gap_days"]
        if days is None:
            tables = Tables.of(block, self.recipe, self.targets)
            self.more["gap_days"] = tables.bound.recipe.checks.max_gap_days
            return tables
        checks = replace(self.recipe.checks, max_gap_days=days)
        tables = Tables.of(block, replace(self.recipe, checks=checks), self.targets)
        found = self.recipe.checks.gap_limit(tables.checked.table, self.recipe.exchange)
        if found != days:
            what = f"other bars: they would have gaps from {found:g} days on, the first symbols from {days:g}"
            fix = f"{days:g} days hold for all; set data.checks.max_gap_days"
            warn_of([Defect(353, what, first_names(list(tables.prices["symbol"].unique())), fix, fatal=False)])
        return tables

    def _require_same_columns(self, tables: Tables) -> None:
        kinds = [list(item) for item in tables.kinds.items()]
        known = self.more["kinds"] = self.more["kinds"] or kinds
        if kinds != known:
            what = f"a block has the columns {', '.join(name for name, _ in kinds)}"
            fix = f"give all symbols those of the first block: {', '.join(name for name, _ in known)}"
            raise DataError(what[:200], "data.source", fix[:150], code=353)

    def _keep(self, messages: Iterable[tuple[str, str]]) -> None:
        kept = self.more["messages"]
        for name, text in messages:
            if not any(text.startswith(once) and other.startswith(once) for once in ONCE for _, other in kept):
                kept.append([name, text])

    def _cross(self) -> None:
        """Computes the features that look at all symbols of a date, which needs all prices at once."""
        files = self.writer.written()
        bound = self.recipe.bind([name for name, _ in self.more["kinds"]], self.targets)
        crossing = [(place, one) for place, one in enumerate(bound.features) if one.cross_sectional]
        if not crossing:
            return
        require_room(f"the feature {crossing[0][1].name}", files.state.rows, self.folder, self.memory)
        values, prices = files.array("values"), price_table(files)
        for place, feature in crossing:
            values[:, place] = compute_features(prices, [feature]).to_numpy()[:, 0]
        cast(np.memmap[Any, Any], values).flush()

    def _complete(self) -> None:
        """Writes what all blocks together say: complete windows, distinct times, the fingerprint."""
        writer, files = self.writer, self.writer.written()
        for rows in windows_by_stretch(files.panel(), self.recipe.window):
            writer.append("windows", rows)
        writer.append("times", distinct(files.array("time")))
        self.more["fingerprint"] = _fingerprint(files)
        writer.finish()


def require_room(what: str, rows: int, folder: Path, memory: int) -> None:
    """Refuses to hold the whole price table in memory where that is too much.

    Args:
        what: What needs it.
        rows: Its rows.
        folder: Where the panel lies.
        memory: Bytes that it may take.

    Raises:
        ResourceError: E613.
    """
    needed = rows * BAR_BYTES
    if needed > memory:
        what = f"{what} needs all prices at once: {size_text(needed)} of memory"
        fix = "raise max_memory of data.storage, or choose fewer symbols"
        raise ResourceError(what, f"{counted(rows, 'row')} in {folder}", fix, code=613)


def price_table(files: PanelFiles) -> pd.DataFrame:
    """The checked price table of a panel, or of what is written of it."""
    names, columns = np.array(files.state.symbols, dtype=object), _numbers(files.state.more["kinds"])
    table = pd.DataFrame({"symbol": names[files.array("symbol")]}).astype({"symbol": "str"})
    table["timestamp"] = utc_index(files.array("time").view("datetime64[us]"))
    return table.assign(**{name: np.array(files.array(f"bars_{k}")) for k, name in enumerate(columns)})


def _numbers(kinds: Sequence[Sequence[str]]) -> list[str]:
    """Names of the numeric columns."""
    return [name for name, _ in kinds if name not in KEYS]


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


def _fingerprint(files: PanelFiles) -> str:
    """`data_fingerprint` of the price table."""
    counts = np.diff(symbol_edges(files.array("symbol"), len(files.state.symbols)))
    digest = hashlib.sha256()
    for symbol, rows in zip(files.state.symbols, counts, strict=True):
        digest.update(f"{symbol}:{rows}\n".encode())
    for chunk in files.chunks("time"):
        digest.update(chunk)
    for k, name in sorted(enumerate(_numbers(files.state.more["kinds"])), key=itemgetter(1)):
        digest.update(f"{name}\n".encode())
        for chunk in files.chunks(f"bars_{k}"):
            digest.update(canonical(np.frombuffer(chunk)))
    return digest.hexdigest()
