"""Bars as they come: forecast, embedding and intervals of each new bar, bit for bit those of the whole table.

Shapes: S symbols of one moment, T window length, F features, H targets, C columns of a bar.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnn_lstm.data.checks import PRICES, day
from cnn_lstm.data.features import latest_values, most_history, needed_history
from cnn_lstm.data.predictions import TargetInfo, predictions_table
from cnn_lstm.data.prices import check_bars, check_structure, require_table
from cnn_lstm.data.recipe import BoundRecipe
from cnn_lstm.data.targets import MEMORY, Target
from cnn_lstm.data.times import utc_index
from cnn_lstm.data.windows import Panel
from cnn_lstm.errors import CheckpointError, DataError
from cnn_lstm.files import write_whole
from cnn_lstm.inference.ensemble import Ensemble
from cnn_lstm.inference.intervals import LiveIntervals
from cnn_lstm.model.forecaster import Forecaster, state_digest

FORMAT = 1
TARGETS_OF_OURS = "cnn_lstm.data.targets"


@dataclass(frozen=True)
class Tail:
    """What is kept of one symbol.

    Attributes:
        time: Of the last rows, microseconds since 1970 in UTC, (n,).
        bars: Their columns, (n, C).
        window: Features of the last T rows, (T, F) float32; NaN where not known.
        seen: Rows so far.
        unbroken: Rows so far of the segment that the last one belongs to.
        complete: Rows up to the last one in this segment that miss no feature.
    """

    time: NDArray[np.int64]
    bars: NDArray[np.float64]
    window: Tensor
    seen: int
    unbroken: int
    complete: int


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

    def __init__(self, forecaster: Forecaster | Ensemble, bound: BoundRecipe, symbols: Collection[str]) -> None:
        self._forecaster, self._recipe, self._targets = forecaster, bound.recipe, bound.targets
        self.symbols = tuple(sorted(symbols))
        self._columns, self._features = bound.needed_columns, bound.features
        self._crossing = [feature.name for feature in self._features if feature.cross_sectional]
        self._label_rows = max(MEMORY, *(target.reach for target in self._targets)) + 2
        longest = most_history(self._features)
        kept = longest is not None and all(_ends(target) for target in self._targets)
        self.rows = max(longest or 0, self._label_rows) if kept else None
        contract = forecaster.contract
        self._intervals = LiveIntervals(contract.get("calibration"), contract["boundaries"]["test"])
        self._tails: dict[str, Tail] = {}
        self._latest: int | None = None

    # -- bars ----------------------------------------------------------------------------------------------------

    def update(self, bars: pd.DataFrame, absent: Collection[str] = ()) -> pd.DataFrame:
        """Takes the bars of one moment, one of each symbol that has one.

        Args:
            bars: symbol, timestamp and the columns that features and targets need; all of one timestamp.
            absent: Symbols without a bar at this moment; needed only where a feature compares the symbols, so that one
                that is late is not taken for one that does not trade.

        Returns:
            The rows of `Predictor.predict` for these bars, y_true not known yet, and the embedding as e0 ... e{D-1}. A
            symbol without a complete window has no row.

        Raises:
            DataError: If the bars are damaged, late, given twice, of several moments or of an unknown symbol, or one is
                missing; the stream is as it was before.
        """
        require_table(bars)
        check_structure(bars, self._columns)
        moment = self._moment_of(bars)
        self._require_order(bars, moment)
        self._require_all(set(bars["symbol"]), set(absent))
        sound = check_bars(bars, self._last_bars(), self._recipe.checks, self._columns)
        frames = self._longer(sound, moment)
        tails = self._advanced(frames)
        table, embeddings = self._forecast(tails, frames)
        # nothing below fails, so that a refused bar leaves no trace
        for symbol, tail in tails.items():
            self._observe(symbol, tail, frames[symbol])
        found = self._intervals.add(table)
        attrs, found.attrs = found.attrs, {}  # pandas copies them with every piece of the table
        found = pd.concat([found, embeddings], axis=1)
        found.attrs = attrs
        self._tails |= {symbol: self._cut(tail) for symbol, tail in tails.items()}
        self._latest = moment if self._latest is None else max(moment, self._latest)
        return found

    def _moment_of(self, bars: pd.DataFrame) -> int:
        moments = bars["timestamp"].dt.as_unit("us").astype("int64").unique()  # in UTC, whatever the zone
        if len(moments) > 1:
            raise _refused(f"bars of {len(moments)} moments", "", "give the bars of one timestamp at a time")
        return int(moments[0])

    def _require_order(self, bars: pd.DataFrame, moment: int) -> None:
        told = day(pd.Timestamp(moment, unit="us", tz="UTC"))
        twice = bars["symbol"][bars["symbol"].duplicated()]
        if len(twice):
            raise _refused("two bars of one moment", f"{twice.iloc[0]} @ {told}", "give one")
        for symbol in bars["symbol"]:
            if symbol not in self.symbols:
                known = ", ".join(self.symbols[:5])
                raise _refused(f"unknown symbol {symbol!r}", f"known: {known}", "start with a history that holds it")
            last = int(self._tails[symbol].time[-1]) if symbol in self._tails else None
            if last is not None and moment <= last:
                what = "a bar that was given already" if moment == last else "a late bar"
                where = f"{symbol} @ {told}, the last is of {day(pd.Timestamp(last, unit='us', tz='UTC'))}"
                raise _refused(what, where, "give bars in the order of time, each once")
        if self._crossing and self._latest is not None and moment <= self._latest:
            fix = "give the bars of all symbols in one call, in the order of time"
            raise _refused(f"a moment that is over, and {self._crossing[0]} compares the symbols", told, fix)

    def _require_all(self, given: set[str], absent: set[str]) -> None:
        for symbol in sorted(absent):
            if symbol not in self.symbols or symbol in given:
                what = "given and absent at once" if symbol in given else "unknown"
                raise _refused(f"absent {symbol!r} is {what}", "absent", f"symbols of {', '.join(self.symbols[:5])}")
        missing = sorted({*self.symbols} - given - absent)
        if self._crossing and missing:
            what = f"no bar of {', '.join(missing[:5])}, and {self._crossing[0]} compares the symbols"
            fix = "give the bars of all symbols in one call; name those that do not trade in absent"
            raise _refused(what, f"{len(given)} of {len(self.symbols)} symbols", fix)

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
        tails = {}
        for symbol, frame in frames.items():
            row = torch.from_numpy(values[symbol].astype(np.float32))
            time = frame["timestamp"].to_numpy(dtype="datetime64[us]").astype(np.int64)
            bars = frame[self._columns].to_numpy(dtype=np.float64)
            tails[symbol] = self._next(self._tails.get(symbol), time, bars, row)
        return tails

    def _next(self, old: Tail | None, time: NDArray[np.int64], bars: NDArray[np.float64], row: Tensor) -> Tail:
        if old is None:
            old = Tail(time[:0], bars[:0], torch.full((self._recipe.window, len(row)), torch.nan), 0, 0, 0)
        broken = len(time) > 1 and int(time[-1] - time[-2]) > round(self._recipe.checks.max_gap_days * 86_400e6)
        whole = bool(torch.isfinite(row).all())
        return Tail(
            time=time,
            bars=bars,
            window=torch.cat([old.window[1:], row[None]]),
            seen=old.seen + 1,
            unbroken=1 if broken else old.unbroken + 1,
            complete=int(whole) if broken or not whole else old.complete + 1,
        )

    def _cut(self, tail: Tail) -> Tail:
        """Without the rows that no later bar needs."""
        if self.rows is None:
            return tail
        kept = max(needed_history(self._features, tail.seen) - 1, self._label_rows)
        return replace(tail, time=tail.time[-kept:].copy(), bars=tail.bars[-kept:].copy())

    # -- forecasts -----------------------------------------------------------------------------------------------

    def _forecast(
        self, tails: Mapping[str, Tail], frames: Mapping[str, pd.DataFrame]
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Predictions table of the new bars without intervals, and the embeddings beside it."""
        ready = {symbol: tail for symbol, tail in tails.items() if tail.complete >= self._recipe.window}
        panel = self._panel(ready, frames)
        forecaster = self._forecaster
        empty = torch.empty(0, self._recipe.window, len(self._features))
        windows = torch.stack([tail.window for tail in ready.values()]) if ready else empty
        with torch.inference_mode():
            columns, embedding = forecaster.forecast_and_encode(windows.to(forecaster.device))
        columns = {name: values.cpu() for name, values in columns.items()}
        table = predictions_table(
            panel, self._targets, np.arange(len(ready)), columns, forecaster.contract["target_mean"]
        )
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
        """Tells the intervals of the labels that have ended with this bar."""
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
        whole = torch.isfinite(panel.values).all(dim=1).numpy()
        for code, symbol in enumerate(panel.symbols):
            own = np.flatnonzero(panel.symbol == code)
            self._tails[symbol] = self._cut(self._tail_of(checked.iloc[own], panel, own, whole))
        self._latest = int(panel.time.max().astype(np.int64))

    def _tail_of(self, bars: pd.DataFrame, panel: Panel, own: NDArray[np.int64], whole: NDArray[np.bool_]) -> Tail:
        same = panel.segment[own] == panel.segment[own[-1]]
        broken = np.flatnonzero(~(same & whole[own]))
        window = torch.full((self._recipe.window, len(self._features)), torch.nan)
        known = panel.values[own[-self._recipe.window :]]
        window[-len(known) :] = known
        return Tail(
            time=panel.time[own].astype(np.int64),
            bars=bars[self._columns].to_numpy(dtype=np.float64),
            window=window,
            seen=len(own),
            unbroken=int(same.sum()),
            complete=len(own) - 1 - int(broken[-1]) if len(broken) else len(own),
        )

    def save(self, path: str | Path) -> None:
        """Writes the state, for `Predictor.stream(state=path)` of the same checkpoint: numbers and text, no objects.

        Args:
            path: The file, an NPZ; an old one is replaced in one step.

        Raises:
            ResourceError: If it cannot be written.
        """
        counts = ("seen", "unbroken", "complete")
        state = {
            **self._identity(),
            "columns": self._columns,
            "symbols": list(self.symbols),
            "tails": {symbol: {name: getattr(t, name) for name in counts} for symbol, t in self._tails.items()},
            "latest": self._latest,
            "intervals": self._intervals.to_plain(),
        }
        arrays: dict[str, NDArray[Any]] = {"state": np.frombuffer(json.dumps(state).encode(), dtype=np.uint8)}
        for number, tail in enumerate(self._tails.values()):
            arrays |= {
                f"time_{number}": tail.time,
                f"bars_{number}": tail.bars,
                f"window_{number}": tail.window.numpy(),
            }
        write_whole(Path(path), lambda partial: _savez(partial, arrays))

    def restore(self, path: str | Path) -> None:
        """Goes on where `save` left off; called by `Predictor.stream`.

        Raises:
            CheckpointError: If the file is missing, damaged, or of another checkpoint.
        """
        if not Path(path).is_file():
            raise CheckpointError("no such state of a stream", str(path), "write one with Stream.save", code=411)
        try:
            # opened here, since numpy leaves a damaged file open
            with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            state = json.loads(arrays["state"].tobytes())
            identity = {name: state[name] for name in self._identity()}
        except Exception as error:  # zip, numpy and JSON stumble over damage in any way
            raise CheckpointError(
                "the state of the stream is damaged", str(path), "start from a history", code=411
            ) from error
        if identity != self._identity():
            what = "the state was saved by a stream of another checkpoint"
            raise CheckpointError(what, str(path), "use that checkpoint, or start from a history", code=410)
        try:
            self._take(state, arrays)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise CheckpointError(
                "the state of the stream is damaged", str(path), "start from a history", code=411
            ) from error

    def _take(self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self.symbols, self._latest = tuple(state["symbols"]), state["latest"]
        for number, (symbol, counts) in enumerate(state["tails"].items()):
            time, bars, window = (arrays[f"{name}_{number}"] for name in ("time", "bars", "window"))
            self._tails[symbol] = self._sound(Tail(time, bars, torch.from_numpy(window), **counts))
        self._intervals.go_on(state["intervals"], {target.name: TargetInfo.of(target) for target in self._targets})

    def _sound(self, tail: Tail) -> Tail:
        """A tail of a file, whose parts go together.

        Raises:
            ValueError: If they do not.
        """
        rows, width = len(tail.time), (self._recipe.window, len(self._features))
        counts = (tail.seen, tail.unbroken, tail.complete)
        kinds = (tail.time.dtype.str, tail.bars.dtype.str, tail.window.dtype) == ("<i8", "<f8", torch.float32)
        shapes = tail.time.shape == (rows,) and tail.bars.shape == (rows, len(self._columns))
        if not (kinds and shapes and rows and tuple(tail.window.shape) == width):
            raise ValueError("arrays that do not go together")
        if not all(type(count) is int and count >= 0 for count in counts) or tail.seen < rows:
            raise ValueError("counts that do not go together")
        return tail

    def _identity(self) -> dict[str, Any]:
        forecaster = self._forecaster
        contract = json.dumps(forecaster.contract, sort_keys=True).encode()
        return {
            "format": FORMAT,
            "weights": state_digest(forecaster.state_dict()),
            "contract": hashlib.sha256(contract).hexdigest(),
        }


def _savez(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with path.open("wb") as file:  # given a path, numpy would change its name
        np.savez(file, allow_pickle=False, **arrays)


def _ends(target: Target) -> bool:
    """Whether the memory of a target ends: it is of ours, and its column has a return at every bar, or needs none."""
    return type(target).__module__ == TARGETS_OF_OURS and (target.column in PRICES or target.level)


def _refused(what: str, where: str, fix: str) -> DataError:
    return DataError(what, where, fix, code=338)
