"""Forecasts and embeddings from nothing but a checkpoint and a raw price table.

Shapes: B windows, T window length, F features, H targets, D embedding, N panel rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cnn_lstm.data.arrow_frames import Frame
from cnn_lstm.data.feature_catalogue import raw_columns
from cnn_lstm.data.predictions import TargetInfo, prediction_columns, predictions_table
from cnn_lstm.data.recipe import BoundRecipe, Recipe
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.sources.base import stamp
from cnn_lstm.data.times import utc_index
from cnn_lstm.data.windows import Panel, complete_windows, cut_windows
from cnn_lstm.errors import DataError, require
from cnn_lstm.hints import counted
from cnn_lstm.inference.ensemble import Ensemble, model_from
from cnn_lstm.inference.given_tables import Facts, GivenTables, Statics
from cnn_lstm.inference.intervals import PastIntervals, add_intervals, intervals_since
from cnn_lstm.inference.remembered import RememberedForecasts
from cnn_lstm.inference.stream import Stream
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import refuse_expired, state_digest, warn_of_unscaled
from cnn_lstm.model.devices import require_device
from cnn_lstm.model.fixed_shape import INFERENCE_BATCH
from cnn_lstm.model.forecast_model import Forecast, ForecastModel


class Predictor:
    """Forecasts and embeddings of price tables, bit for bit those of the run that trained the checkpoint.

    Args:
        forecaster: Trained forecaster, or an ensemble of several.
        allow_expired: Whether it forecasts also at and after the day on which its checkpoint expires.

    Example:
        >>> predictor = Predictor.from_checkpoint("runs/quickstart/checkpoints/best.ckpt")  # doctest: +SKIP
        >>> predictor.predict(prices)[["symbol", "as_of", "y_pred"]].tail(3)  # doctest: +SKIP
    """

    def __init__(self, forecaster: ForecastModel | Ensemble, allow_expired: bool = False) -> None:
        self.forecaster = forecaster.eval()
        if allow_expired:
            forecaster.contract = replace(forecaster.contract, expires="")
        self.recipe = Recipe.from_plain(forecaster.contract.recipe)
        self._side = GivenTables()
        self.targets = self.recipe.build_targets()
        self._remembered, self._past = RememberedForecasts(), PastIntervals()
        self._named = set[str]()  # symbols whose scale was looked for: each is named once

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu", allow_expired: bool = False) -> Predictor:
        """Loads a checkpoint with nothing else at hand, and without running any code in it.

        Args:
            path: Checkpoint file written by `fit`, or an ensemble written by `write_ensemble`.
            device: Where to compute.
            allow_expired: As for the class.

        Raises:
            CheckpointError: If the file is missing, damaged, unsafe or not ours.
            ConfigError: E238, if the device is not there.
        """
        require_device(device, "device")
        return cls(model_from(read_checkpoint(path)).to(device), allow_expired)

    def keep(self, known_future: Facts | None = None, static: Statics | None = None, open_end: bool = False) -> Self:
        """Keeps the tables that the checkpoint needs next to prices, for all calls that give none.

        Args:
            known_future: Facts known ahead, as a file or a frame that reaches beyond the last bar, or `KnownFuture`.
            static: Static columns, as a file or a frame, or `StaticColumns`.
            open_end: See `GivenTables`.
        """
        self._side = replace(self._side.replaced(known_future, static), open_end=open_end)
        return self

    def predict(
        self,
        prices: Frame,
        start: str | None = None,
        samples: int = 0,
        known_future: Facts | None = None,
        static: Statics | None = None,
    ) -> pd.DataFrame:
        """Forecasts of all complete windows of a price table.

        Args:
            prices: Table with symbol, timestamp and the columns that the features need; frames as yfinance, Polars and
                others give them are taken too, see `price_table`.
            start: First decision day, ISO; everything by default. Intervals adapt to all forecasts since the test part:
                earlier ones are computed too, and left out; asked again, a predictor computes new windows alone.
            samples: Passes of Monte Carlo dropout; 0 for one plain pass. Intervals lie around their mean, with the
                scores of the plain pass.
            known_future: Facts known ahead, if the checkpoint reads any; see `keep`.
            static: Static columns, if the checkpoint reads any; see `keep`.

        Returns:
            Predictions table, see `predictions_table` and `add_intervals`; truth is NaN where it is not known yet.

        Raises:
            DataError: If a table is damaged, or too short for a window before `start`.
            CheckpointError: E429, if the checkpoint needs a table next to the prices and gets none; E430, if it has
                expired before the last forecast.
        """
        panel, wanted, _, rows = self._windows(prices, start, self._side.replaced(known_future, static))
        if start is None:
            return self.predict_rows(panel, wanted, samples)
        return self.predict_since(panel, rows, stamp(start, "start"), samples)

    def predict_since(self, panel: Panel, rows: Rows, first: np.datetime64, samples: int = 0) -> pd.DataFrame:
        """`predict` with a first decision, of a panel that is built already; no row is left where none is so late.

        Args:
            panel: Panel of this predictor's recipe.
            rows: Last rows of all complete windows, (n,), as `windows` gives them: intervals adapt to the earlier ones.
            first: First decision, UTC.
            samples: As for `predict`.

        Raises:
            CheckpointError: E430, if the checkpoint has expired before the last forecast.
        """
        self._refuse_expired(panel, rows)
        contract, infos = self.forecaster.contract, {target.name: TargetInfo.of(target) for target in self.targets}
        if contract.calibration is None:
            return self.predict_rows(panel, rows[panel.time[rows] >= first], samples)
        rows = rows[panel.time[rows] >= min(first, np.datetime64(contract.boundaries.test))]
        columns = self._remembered_columns(panel, rows) if not samples else self.forecast_rows(panel, rows, samples)
        every = prediction_columns(panel, self.targets, rows, columns, contract.target_mean)
        past = None if samples else self._past
        return intervals_since(first, every, infos, contract.calibration, contract.boundaries.test, past)

    def predict_if_any(self, prices: Frame, zone: str | None = None, side: GivenTables | None = None) -> pd.DataFrame:
        """`predict`, with an empty table of the same columns where no window is complete.

        Args:
            prices: As for `predict`.
            zone: Zone of times without one; None refuses them unless all are midnight.
            side: Tables next to the prices; those that the predictor keeps by default.
        """
        panel, rows, *_ = self._complete(prices, zone, side)
        self._refuse_expired(panel, rows)
        return self.predict_rows(panel, rows)

    def predict_rows(self, panel: Panel, rows: Rows, samples: int = 0) -> pd.DataFrame:
        """Predictions table of chosen windows of a panel that is built already, such as a part of a data module's.

        Args:
            panel: Panel of this predictor's recipe.
            rows: Last row of each window, (n,).
            samples: Passes of Monte Carlo dropout; 0 for none.
        """
        contract = self.forecaster.contract
        return add_intervals(self.plain_rows(panel, rows, samples), contract.calibration, contract.boundaries.test)

    def forecast_rows(self, panel: Panel, rows: Rows, samples: int = 0) -> dict[str, Tensor]:
        """Forecast columns alone, each (n, H) on the CPU, of chosen windows; see `predict_rows`."""
        return _joined(
            forecast.columns for forecast in _forecasts(self.forecaster, panel, rows, self.recipe.window, samples)
        )

    def forecast_and_encode(self, panel: Panel, rows: Rows, samples: int = 0) -> tuple[dict[str, Tensor], Tensor]:
        """Forecast columns, each (n, H), and embeddings, (n, D), of chosen windows in one pass, on the CPU."""
        every = _forecasts(self.forecaster, panel, rows, self.recipe.window, samples)
        joined = _joined(forecast.columns | {EMBEDDING: forecast.embedding} for forecast in every)
        return {name: values for name, values in joined.items() if name != EMBEDDING}, joined[EMBEDDING]

    def plain_rows(self, panel: Panel, rows: Rows, samples: int = 0) -> pd.DataFrame:
        """`predict_rows` without intervals."""
        columns = self.forecast_rows(panel, rows, samples)
        return predictions_table(panel, self.targets, rows, columns, self.forecaster.contract.target_mean)

    def _remembered_columns(self, panel: Panel, rows: Rows) -> dict[str, Tensor]:
        """`forecast_rows`, without those of the last call: one evening's table is the last one's and a day."""
        model = (state_digest(self.forecaster.state_dict()), self.forecaster.device, torch.get_num_threads())
        forecast = partial(self.forecast_rows, panel)
        return self._remembered.columns(panel, rows, self.recipe.window, model, forecast)

    def stream(
        self,
        history: Frame | None = None,
        state: str | Path | None = None,
        known_future: Facts | None = None,
        static: Statics | None = None,
    ) -> Stream:
        """Forecasts of bars as they come, one moment at a time; see `Stream.update`.

        Args:
            history: Price table to start from, of the symbols that will come. Without one the symbols are those of the
                training, and each has forecasts once it has enough rows.
            state: File of `Stream.save`, to go on with instead. It does not hold the next two tables.
            known_future: Facts known ahead, if the checkpoint reads any; see `keep`, `Stream.replace_known_future`.
            static: Static columns, if the checkpoint reads any; see `keep`.

        Raises:
            ConfigError: If both are given.
            DataError: If the history is damaged.
            CheckpointError: If the state is damaged, or of another checkpoint; E429, if a table is needed and missing.
        """
        side = self._side.replaced(known_future, static)
        both = history is not None and state is not None
        require(not both, "both a history and a state were given", "Predictor.stream", "give one of them", code=255)
        if history is None:
            recipe = side.join(self.recipe, self.forecaster.contract.static)
            bound = recipe.bind(raw_columns(recipe.of_prices), self.targets)
            stream = Stream(self.forecaster, bound, self.forecaster.contract.symbols)
            if state is not None:
                stream.restore(state)
            return stream
        panel, rows, checked, bound = self._complete(history, side=side)
        stream = Stream(self.forecaster, bound, panel.symbols)
        tested = panel.time[rows] >= np.datetime64(self.forecaster.contract.boundaries.test)
        stream.begin(checked, panel, self.plain_rows(panel, rows[tested]))
        return stream

    def encode(
        self, prices: Frame, start: str | None = None, known_future: Facts | None = None, static: Statics | None = None
    ) -> pd.DataFrame:
        """Embeddings of all complete windows of a price table.

        Args:
            prices: As for `predict`.
            start: First decision day, ISO; everything by default.
            known_future: As for `predict`.
            static: As for `predict`.

        Returns:
            symbol, as_of, and the columns e0 ... e{D-1}. `attrs["checkpoint"]` is the digest of the weights, so that
            `EncoderObservation` knows whose they are.
        """
        panel, rows, *_ = self._windows(prices, start, self._side.replaced(known_future, static))
        table = self.encode_rows(panel, rows)
        table.attrs["checkpoint"] = state_digest(self.forecaster.state_dict())
        return table

    def encode_rows(self, panel: Panel, rows: Rows) -> pd.DataFrame:
        """Embeddings of chosen windows of a panel; see `predict_rows` and `encode`."""
        return embeddings_of(panel, rows, self.forecast_and_encode(panel, rows)[1])

    def windows(self, prices: Frame, start: str | None = None) -> tuple[Panel, Rows, pd.DataFrame]:
        """The panel of a price table, the last rows of its complete windows, and the checked table.

        Args:
            prices: As for `predict`.
            start: First decision day, ISO; everything by default.

        Raises:
            DataError: If the table is damaged, or too short for a window before `start`.
            CheckpointError: E430, if the checkpoint has expired before the last window.
        """
        return self._windows(prices, start, self._side)[:3]

    def _windows(self, prices: Frame, start: str | None, side: GivenTables) -> tuple[Panel, Rows, pd.DataFrame, Rows]:
        """`windows`, and the last rows of all complete windows."""
        panel, every, checked, bound = self._complete(prices, side=side)
        rows = every
        if start is not None:
            _require_history(panel, stamp(start, "start"), bound.needed_rows)
            rows = every[panel.time[every] >= stamp(start, "start")]
        if not len(rows):
            raise _no_window(checked, bound.needed_rows)
        self._refuse_expired(panel, rows)
        return panel, rows, checked, every

    def _refuse_expired(self, panel: Panel, rows: Rows) -> None:
        refuse_expired(self.forecaster.contract, panel.time[rows].max() if len(rows) else None)

    def _complete(
        self, prices: Frame, zone: str | None = None, side: GivenTables | None = None
    ) -> tuple[Panel, Rows, pd.DataFrame, BoundRecipe]:
        """The panel, the last rows of its complete windows, the checked table, and the recipe bound to its columns."""
        recipe = (side or self._side).join(self.recipe, self.forecaster.contract.static)
        table = recipe.read(prices, zone)
        bound = recipe.bind_to(table, self.targets)
        checked = bound.check(bound.with_label_columns(table), warn=False).table
        panel = bound.panel(checked)
        warn_of_unscaled(set(panel.symbols) - self._named, self.forecaster.contract)
        self._named.update(panel.symbols)
        return panel, complete_windows(panel, self.recipe.window), checked, bound


EMBEDDING = " embedding"  # no column of a forecast


def _joined(parts: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Columns of batches, joined on the CPU."""
    columns: dict[str, list[Tensor]] = {}
    for part in parts:
        for name, values in part.items():
            columns.setdefault(name, []).append(values.cpu())
    return {name: torch.cat(values) for name, values in columns.items()}


def _require_history(panel: Panel, start: np.datetime64, needed: int) -> None:
    """Refuses a start whose first decisions could not be made, instead of beginning later without a word."""
    if not (panel.time >= start).any():
        last = str(panel.time.max())[:10]
        raise DataError(f"no bar at or after {str(start)[:10]}", f"the last is of {last}", code=335)
    for code, symbol in enumerate(panel.symbols):
        days = panel.time[panel.rows_of(code)]
        before = int((days < start).sum())
        if before < needed - 1 and (days >= start).any():
            what = f"need {counted(needed - 1, 'row')} before {str(start)[:10]}, have {before}"
            raise DataError(what, symbol, "give a longer price table, or a later start", code=335)


def _no_window(checked: pd.DataFrame, needed: int) -> DataError:
    longest = int(checked.groupby("symbol").size().max())
    what = f"no complete window: need {counted(needed, 'row')} of history, have {longest}"
    return DataError(what, "longest symbol", "give a longer price table", code=335)


def _forecasts(
    forecaster: ForecastModel | Ensemble, panel: Panel, rows: Rows, window: int, samples: int
) -> Iterator[Forecast]:
    """Forecasts of each batch of chosen windows."""
    for windows in _batches(panel.values.to(forecaster.device), rows, window):
        with torch.inference_mode():
            yield forecaster.forecast(windows, samples)


def _batches(values: Tensor, rows: Rows, window: int) -> Iterator[Tensor]:
    """Windows, (B, T, F), of a panel (N, F) in the order of the rows, which end them, (n,)."""
    if not len(rows):
        yield values.new_empty(0, window, values.shape[1])
        return
    for part in torch.from_numpy(rows).to(values.device).split(INFERENCE_BATCH):
        yield cut_windows(values, part, window)


def embeddings_of(panel: Panel, rows: Rows, embeddings: Tensor) -> pd.DataFrame:
    """The table of `Predictor.encode` of embeddings, (n, D), of windows with the last rows (n,)."""
    table = pd.DataFrame(embeddings.numpy(), columns=[f"e{k}" for k in range(embeddings.shape[1])])
    table.insert(0, "symbol", np.asarray(panel.symbols, dtype=object)[panel.symbol[rows]])
    table.insert(1, "as_of", utc_index(panel.time[rows]))
    return table.astype({"symbol": "str"})
