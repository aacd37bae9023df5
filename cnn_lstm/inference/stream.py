"""Bars as they come: forecast, embedding and intervals of each new bar, bit for bit those of the whole table.

Shapes: S symbols of one moment, T window length, F features, H targets, C columns of a bar.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cnn_lstm.data.arrow_frames import Frame
from cnn_lstm.data.checks import plainly_sound
from cnn_lstm.data.features import most_history, needed_history
from cnn_lstm.data.latest import KnownTargets, LatestFeatures, LatestTargets
from cnn_lstm.data.predictions import TargetInfo, prediction_columns, row_of, set_target_infos
from cnn_lstm.data.prices import check_bars, check_structure
from cnn_lstm.data.recipe import BoundRecipe
from cnn_lstm.data.windows import Panel
from cnn_lstm.inference.arrivals import (
    Arrived,
    arrived_plainly,
    moment_of,
    require_absent,
    require_next,
    require_together,
)
from cnn_lstm.inference.ensemble import Ensemble
from cnn_lstm.inference.given_tables import Facts, GivenTables
from cnn_lstm.inference.intervals import LiveIntervals
from cnn_lstm.inference.stream_state import (
    StreamState,
    Tail,
    Version,
    behind_a_gap,
    last_bars,
    read_state,
    refused_if_damaged,
    version_of,
    write_state,
)
from cnn_lstm.model.contract import refuse_expired, state_digest
from cnn_lstm.model.forecast_model import ForecastModel

DAY = 86_400_000_000  # microseconds


class Stream:
    """Forecasts bar by bar, from the last rows of each symbol.

    Made by `Predictor.stream`.

    Args:
        forecaster: The trained forecaster, or an ensemble.
        bound: Its recipe, bound to the columns of the bars.
        symbols: Symbols that may come.

    Attributes:
        symbols: Symbols that may come, in the order of their names.
        rows: Most rows of a symbol that are ever kept; None if a feature or target of the user's own may read them all,
            and so all are kept.

    Example:
        >>> stream = Predictor.from_checkpoint("best.ckpt").stream(history)  # doctest: +SKIP
        >>> stream.update(bars_of_today)[["symbol", "y_pred", "lower_90", "upper_90", "e0"]]  # doctest: +SKIP
    """

    def __init__(self, forecaster: ForecastModel | Ensemble, bound: BoundRecipe, symbols: Collection[str]) -> None:
        self._forecaster, self._recipe, self._targets = forecaster, bound.recipe, bound.targets
        self.symbols = tuple(sorted(symbols))
        self._columns = bound.needed_columns
        self._bind(bound)
        self._latest_targets = LatestTargets(self._targets, self._columns)
        longest, label_rows = most_history(self._features), self._latest_targets.rows
        self.rows = None if longest is None or label_rows is None else max(longest, label_rows)
        contract, infos = forecaster.contract, {target.name: TargetInfo.of(target) for target in self._targets}
        self._intervals = LiveIntervals(contract.calibration, contract.boundaries.test, infos)
        self._empty = Tail.empty(len(self._columns), self._recipe.window, len(self._features))
        self._tails: dict[str, Tail] = {}
        self._latest: int | None = None
        self._file: tuple[Path, Version | None] | None = None  # that of the state, as it was last read or written

    def _bind(self, bound: BoundRecipe) -> None:
        self._bound, self._features = bound, bound.features
        self._crossing = [feature.name for feature in self._features if feature.cross_sectional]
        self._latest_features = LatestFeatures(self._features, self._columns)

    def replace_known_future(self, table: Facts) -> None:
        """Takes another table of facts known ahead, one that reaches further, for the bars that come.

        Args:
            table: As for `Predictor.stream`. What has been forecast stays.

        Raises:
            DataError: If it is damaged; the stream goes on with the last table.
        """
        tables = self._recipe.tables
        side = GivenTables(table, None if tables is None else tables.static)
        recipe = side.join(self._recipe, self._forecaster.contract.static)
        self._bind(recipe.bind(self._columns, self._targets))

    # -- bars ----------------------------------------------------------------------------------------------------

    def update(self, bars: Frame, absent: Collection[str] = ()) -> pd.DataFrame:
        """Takes the bars of one moment, one of each symbol that has one.

        Args:
            bars: symbol, timestamp and the columns that features and targets need; all of one timestamp, in any form
                that `price_table` takes. A bar at midnight of its own zone is a date if the bars so far are.
            absent: Symbols without a bar at this moment; needed only where a feature compares the symbols, so that one
                that is late is not taken for one that does not trade.

        Returns:
            The rows of `Predictor.predict` for these bars, y_true not known yet, and the embedding as e0 ... e{D-1}. A
            symbol without a complete window has no row.

        Raises:
            DataError: If the bars are damaged, late, given twice, of several moments or of an unknown symbol, or one is
                missing; the stream is as it was before.
            CheckpointError: E430, if the checkpoint has expired; the stream is as it was before.
        """
        arrived = self._taken(bars, absent)
        refuse_expired(self._forecaster.contract, np.datetime64(arrived.moment, "us"))
        tails = self._advanced(arrived)
        known = self._latest_targets.values(tails)
        columns, embeddings = self._forecast(tails, known)
        # nothing below fails, so that a refused bar leaves no trace
        self._observe(tails, known)
        table = row_of(self._intervals.add(columns), embeddings)
        set_target_infos(table, self._intervals.infos)
        self._tails |= {symbol: self._cut(tail) for symbol, tail in tails.items()}
        self._latest = arrived.moment if self._latest is None else max(arrived.moment, self._latest)
        return table

    def _taken(self, bars: Frame, absent: Collection[str]) -> Arrived:
        """The bars as numbers, in the order of their symbols; refused where they are not the next ones, or not sound.

        Ordinary bars in the form that tables have inside the package are looked at as arrays. All others take the way
        of a table, which knows more forms and says what is wrong.
        """
        arrived = arrived_plainly(bars, self._columns)
        if arrived is not None:
            self._require_next(arrived.moment, arrived.symbols, absent)
            arrived = arrived.in_order()
            if self._is_plainly_sound(arrived):
                return arrived
        table = self._bound.with_label_columns(self._recipe.read(bars, daily=self._daily()))
        check_structure(table, self._columns)
        moment = moment_of(table)
        self._require_next(moment, table["symbol"].tolist(), absent)
        before, labels = last_bars(self._tails, self._columns), self._bound.label_columns
        sound = check_bars(table, before, self._recipe.checks, self._columns, labels)
        return Arrived(moment, sound["symbol"].tolist(), sound[self._columns].to_numpy(dtype=np.float64))

    def _require_next(self, moment: int, symbols: Sequence[str], absent: Collection[str]) -> None:
        last = {symbol: int(self._tails[symbol].time[-1]) for symbol in symbols if symbol in self._tails}
        require_next(symbols, moment, self.symbols, last)
        require_absent(absent, symbols, self.symbols)
        if self._crossing:
            known: dict[str, Any] = {"symbols": self.symbols, "latest": self._latest, "feature": self._crossing[0]}
            require_together(symbols, absent, moment, **known)

    def _is_plainly_sound(self, arrived: Arrived) -> bool:
        columns = dict(zip(self._columns, arrived.values.T, strict=True))
        before = np.full(len(arrived.symbols), np.nan)
        if "close" in columns:
            place = self._columns.index("close")
            for row, symbol in enumerate(arrived.symbols):
                if symbol in self._tails:
                    before[row] = self._tails[symbol].bars[-1, place]
        return plainly_sound(columns, arrived.moment, before)

    def _daily(self) -> bool | None:
        """Whether bars are daily, as the times of the bars kept say, or of the training before these; None if unknown.

        One bar at midnight may be one of every hour; two in a row are not.
        """
        kept = [tail.time for tail in self._tails.values()]
        if any((time % DAY).any() for time in kept):
            return False
        training = self._forecaster.contract.training
        if any(len(time) > 1 for time in kept) or training is None:
            return True if kept else None
        ends = np.array([training.first, training.last], dtype="datetime64[us]").astype(np.int64)
        return not bool((ends % DAY).any())

    # -- features and forecasts ----------------------------------------------------------------------------------

    def _advanced(self, arrived: Arrived) -> dict[str, Tail]:
        """What is known of each symbol with its new bar, still with all rows."""
        before = [self._tails.get(symbol, self._empty) for symbol in arrived.symbols]
        broken = behind_a_gap(before, arrived.moment, self._recipe.checks.gap_limit(), self._recipe.exchange)
        new = zip(arrived.symbols, before, arrived.values, broken, strict=True)
        tails = {symbol: tail.with_bar(arrived.moment, bar, cut_off) for symbol, tail, bar, cut_off in new}
        rows = torch.from_numpy(self._latest_features.values(tails).astype(np.float32))
        whole = rows.isfinite().all(dim=1).tolist()
        return {
            symbol: tail.with_features(row, known)
            for (symbol, tail), row, known in zip(tails.items(), rows, whole, strict=True)
        }

    def _cut(self, tail: Tail) -> Tail:
        """Without the rows that no later bar needs."""
        if self.rows is None or self._latest_targets.rows is None:
            return tail
        return tail.cut(max(needed_history(self._features, tail.seen) - 1, self._latest_targets.rows))

    def _forecast(
        self, tails: Mapping[str, Tail], known: KnownTargets
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.float32]]:
        """Columns of the predictions table of the new bars without intervals, and the embeddings of its rows."""
        ready = [tail.complete >= self._recipe.window for tail in tails.values()]
        panel = self._panel(tails, known)
        whole = [tail.window for tail, has_all in zip(tails.values(), ready, strict=True) if has_all]
        windows = torch.stack(whole or [torch.empty(self._recipe.window, len(self._features))])[: len(whole)]
        with torch.inference_mode():
            found, embedding = self._forecaster.forecast(windows.to(self._forecaster.device))
        found = {name: values.cpu() for name, values in found.items()}
        rows, mean = np.flatnonzero(ready), self._forecaster.contract.target_mean
        columns = prediction_columns(panel, self._targets, rows, found, mean)
        return columns, np.tile(embedding.cpu().numpy(), (len(self._targets), 1))

    def _panel(self, tails: Mapping[str, Tail], known: KnownTargets) -> Panel:
        """The new bars alone, each in a segment of its own: nothing that follows is known."""
        count, unknown = len(tails), torch.full((len(tails), len(self._targets)), torch.nan)
        return Panel(
            values=torch.empty(count, len(self._features)),
            labels=unknown,
            present=torch.from_numpy(known.present),
            volatility=torch.from_numpy(known.volatility),
            bar_return=unknown,
            symbols=tuple(tails),
            symbol=np.arange(count, dtype=np.int32),
            time=np.array([tail.time[-1] for tail in tails.values()], dtype=np.int64).astype("datetime64[us]"),
            segment=np.arange(count, dtype=np.int32),
        )

    def _observe(self, tails: Mapping[str, Tail], known: KnownTargets) -> None:
        """Gives the intervals the labels that have ended with this bar."""
        for row, (symbol, tail) in enumerate(tails.items()):
            for column, target in enumerate(self._targets):
                if tail.unbroken > target.reach:
                    label = float(known.ended[row, column])
                    self._intervals.observe(target.name, symbol, int(tail.time[-1 - target.reach]), label)

    # -- history and state ---------------------------------------------------------------------------------------

    def begin(self, checked: pd.DataFrame, panel: Panel, forecasts: pd.DataFrame) -> None:
        """Takes a history; called by `Predictor.stream`.

        Args:
            checked: Sound price table.
            panel: Its panel.
            forecasts: Predictions table of its windows since the test part of the checkpoint, without intervals.
        """
        self._intervals.begin(forecasts)
        times, bars = panel.time.astype(np.int64), checked[self._columns].to_numpy(dtype=np.float64)
        for code, symbol in enumerate(panel.symbols):
            part = panel.rows_of(code)
            values, segment = panel.values[part], panel.segment[part]
            tail = Tail.of_history(times[part], bars[part], values, segment, self._recipe.window)
            self._tails[symbol] = self._cut(tail)
        self._latest = int(times.max())

    def save(self, path: str | Path) -> None:
        """Writes the state, for `Predictor.stream(state=path)` of the same checkpoint: numbers and text, no objects.

        Args:
            path: The file, an NPZ; an old one is replaced in one step.

        Raises:
            ConfigError: E288, if another process writes the file at this moment; E289, if one has saved later bars in
                it since this stream read or wrote it.
            ResourceError: If it cannot be written.
        """
        identity, intervals = self._identity(), self._intervals.to_plain()
        state = StreamState(*identity, self._columns, self.symbols, self._tails, self._latest, intervals)
        last = self._file[1] if self._file is not None and self._file[0] == Path(path).absolute() else None
        self._file = Path(path).absolute(), write_state(state, Path(path), last)

    def restore(self, path: str | Path) -> None:
        """Goes on where `save` left off; called by `Predictor.stream`.

        Raises:
            CheckpointError: If the file is missing, damaged, or of another checkpoint.
        """
        version = version_of(Path(path))
        with refused_if_damaged(Path(path)):
            state = read_state(Path(path), *self._identity())
            state.require_sound(self._columns, self._recipe.window, len(self._features))
            self.symbols, self._latest, self._tails = tuple(state.symbols), state.latest, dict(state.tails)
            self._intervals.go_on(state.intervals)
        self._file = Path(path).absolute(), version

    def _identity(self) -> tuple[str, str]:
        """Digests of the weights and of the contract, whatever day it expires on."""
        contract = json.dumps(replace(self._forecaster.contract, expires="").to_plain(), sort_keys=True).encode()
        return state_digest(self._forecaster.state_dict()), hashlib.sha256(contract).hexdigest()
