"""Bars as they come: forecast, embedding and intervals of each new bar, bit for bit those of the whole table.

Shapes: S symbols of one moment, T window length, F features, H targets, C columns of a bar.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cnn_lstm.data.arrow_frames import Frame
from cnn_lstm.data.features import latest_values, most_history, needed_history
from cnn_lstm.data.predictions import TargetInfo, predictions_table
from cnn_lstm.data.prices import check_bars, check_structure
from cnn_lstm.data.recipe import BoundRecipe
from cnn_lstm.data.targets import MEMORY
from cnn_lstm.data.times import utc_index
from cnn_lstm.data.windows import Panel
from cnn_lstm.inference.arrivals import moment_of, require_absent, require_next, require_together
from cnn_lstm.inference.ensemble import Ensemble
from cnn_lstm.inference.intervals import LiveIntervals
from cnn_lstm.inference.stream_state import (
    StreamState,
    Tail,
    Version,
    read_state,
    refused_if_damaged,
    version_of,
    write_state,
)
from cnn_lstm.model.contract import state_digest
from cnn_lstm.model.forecast_model import ForecastModel

DAY = 86_400_000_000  # microseconds
TARGETS_OF_OURS = ("cnn_lstm.data.targets", "cnn_lstm.data.column_targets")


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
        self._forecaster, self._recipe, self._targets, self._bound = forecaster, bound.recipe, bound.targets, bound
        self.symbols = tuple(sorted(symbols))
        self._columns, self._features = bound.needed_columns, bound.features
        self._crossing = [feature.name for feature in self._features if feature.cross_sectional]
        self._label_rows = max(MEMORY, *(target.reach for target in self._targets)) + 2
        longest = most_history(self._features)
        # nobody knows how far back a target of the user's own looks
        end = [type(t).__module__ in TARGETS_OF_OURS and t.bounded for t in self._targets]
        self.rows = max(longest, self._label_rows) if longest is not None and all(end) else None
        contract = forecaster.contract
        self._intervals = LiveIntervals(contract.calibration, contract.boundaries.test)
        self._tails: dict[str, Tail] = {}
        self._latest: int | None = None
        self._file: tuple[Path, Version | None] | None = None  # that of the state, as it was last read or written

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
        """
        read = self._bound.with_label_columns(self._recipe.read(bars, daily=self._daily()))
        check_structure(read, self._columns)
        moment, arrived = moment_of(read), read["symbol"].tolist()
        last = {symbol: int(tail.time[-1]) for symbol, tail in self._tails.items()}
        require_next(arrived, moment, self.symbols, last)
        require_absent(absent, arrived, self.symbols)
        if self._crossing:
            feature, symbols, latest = self._crossing[0], self.symbols, self._latest
            require_together(arrived, absent, moment, symbols=symbols, latest=latest, feature=feature)
        sound = check_bars(read, self._last_bars(), self._recipe.checks, self._columns, self._bound.label_columns)
        frames = self._longer(sound, moment)
        tails = self._advanced(frames)
        table, embeddings = self._forecast(tails, frames)
        # nothing below fails, so that a refused bar leaves no trace
        for symbol, tail in tails.items():
            self._observe(symbol, tail, frames[symbol])
        table = self._intervals.add(table)
        attrs, table.attrs = table.attrs, {}  # pandas copies them with every piece of the table
        table = pd.concat([table, embeddings], axis=1)
        table.attrs = attrs
        self._tails |= {symbol: self._cut(tail) for symbol, tail in tails.items()}
        self._latest = moment if self._latest is None else max(moment, self._latest)
        return table

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

    def _last_bars(self) -> pd.DataFrame:
        tails = self._tails
        last = np.array([tail.bars[-1] for tail in tails.values()]).reshape(len(tails), len(self._columns))
        when = utc_index(np.array([tail.time[-1] for tail in tails.values()], dtype=np.int64))
        keys = pd.DataFrame({"symbol": pd.array(list(tails), dtype="str"), "timestamp": when})
        return pd.concat([keys, pd.DataFrame(last, columns=self._columns)], axis=1)

    # -- features ------------------------------------------------------------------------------------------------

    def _longer(self, sound: pd.DataFrame, moment: int) -> dict[str, pd.DataFrame]:
        """The kept bars of each symbol of this moment, and the new one."""
        frames = {}
        for symbol, bar in zip(sound["symbol"], sound[self._columns].to_numpy(dtype=np.float64), strict=True):
            old = self._tails.get(symbol)
            time = np.array([moment]) if old is None else np.append(old.time, moment)
            bars = bar[None] if old is None else np.concatenate([old.bars, bar[None]])
            frame = pd.DataFrame(bars, columns=self._columns)
            frame.insert(0, "symbol", pd.Series([symbol] * len(frame), dtype="str"))
            frame.insert(1, "timestamp", utc_index(time))
            frames[symbol] = frame
        return frames

    def _advanced(self, frames: Mapping[str, pd.DataFrame]) -> dict[str, Tail]:
        """What is known of each symbol with its new bar, still with all rows of its frame."""
        seen = {symbol: self._tails[symbol].seen + 1 if symbol in self._tails else 1 for symbol in frames}
        values = latest_values(frames, seen, self._features)
        max_gap = round(self._recipe.checks.gap_limit() * 86_400e6)
        empty = Tail.empty(len(self._columns), self._recipe.window, len(self._features))
        tails = {}
        for symbol, frame in frames.items():
            row = torch.from_numpy(values[symbol].astype(np.float32))
            time = frame["timestamp"].to_numpy(dtype="datetime64[us]").astype(np.int64)
            bars = frame[self._columns].to_numpy(dtype=np.float64)
            tails[symbol] = self._tails.get(symbol, empty).followed_by(time, bars, row, max_gap)
        return tails

    def _cut(self, tail: Tail) -> Tail:
        """Without the rows that no later bar needs."""
        if self.rows is None:
            return tail
        return tail.cut(max(needed_history(self._features, tail.seen) - 1, self._label_rows))

    # -- forecasts -----------------------------------------------------------------------------------------------

    def _forecast(
        self, tails: Mapping[str, Tail], frames: Mapping[str, pd.DataFrame]
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Predictions table of the new bars without intervals, and the embeddings of its rows."""
        ready = {symbol: tail for symbol, tail in tails.items() if tail.complete >= self._recipe.window}
        panel = self._panel(ready, frames)
        forecaster = self._forecaster
        empty = torch.empty(0, self._recipe.window, len(self._features))
        windows = torch.stack([tail.window for tail in ready.values()]) if ready else empty
        with torch.inference_mode():
            columns, embedding = forecaster.forecast(windows.to(forecaster.device))
        columns = {name: values.cpu() for name, values in columns.items()}
        table = predictions_table(panel, self._targets, np.arange(len(ready)), columns, forecaster.contract.target_mean)
        repeated = np.tile(embedding.cpu().numpy(), (len(self._targets), 1))
        return table, pd.DataFrame(repeated, columns=[f"e{k}" for k in range(embedding.shape[1])])

    def _panel(self, tails: Mapping[str, Tail], frames: Mapping[str, pd.DataFrame]) -> Panel:
        """The new bars alone, each in a segment of its own: nothing that follows is known."""
        count, unknown = len(tails), torch.full((len(tails), len(self._targets)), torch.nan)
        present, volatility = (np.full(unknown.shape, np.nan, dtype=np.float32) for _ in range(2))
        for row, symbol in enumerate(tails):
            bars = self._of_targets(frames[symbol])
            for column, target in enumerate(self._targets):
                present[row, column] = target.present(bars)[-1]
                volatility[row, column] = target.volatility(bars)[-1]
        return Panel(
            values=torch.empty(count, len(self._features)),
            labels=unknown,
            present=torch.from_numpy(present),
            volatility=torch.from_numpy(volatility),
            bar_return=unknown,
            symbols=tuple(tails),
            symbol=np.arange(count, dtype=np.int32),
            time=np.array([tail.time[-1] for tail in tails.values()], dtype=np.int64).astype("datetime64[us]"),
            segment=np.arange(count, dtype=np.int32),
        )

    def _of_targets(self, bars: pd.DataFrame) -> pd.DataFrame:
        return bars if self.rows is None else bars.iloc[-self._label_rows :].reset_index(drop=True)

    def _observe(self, symbol: str, tail: Tail, frame: pd.DataFrame) -> None:
        """Gives the intervals the labels that have ended with this bar."""
        bars = self._of_targets(frame)
        for target in self._targets:
            if tail.unbroken > target.reach:
                label = float(target.future(bars)[-1 - target.reach].astype(np.float32))
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
            targets = {target.name: TargetInfo.of(target) for target in self._targets}
            self._intervals.go_on(state.intervals, targets)
        self._file = Path(path).absolute(), version

    def _identity(self) -> tuple[str, str]:
        """Digests of the weights and of the contract."""
        contract = json.dumps(self._forecaster.contract.to_plain(), sort_keys=True).encode()
        return state_digest(self._forecaster.state_dict()), hashlib.sha256(contract).hexdigest()
