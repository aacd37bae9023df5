"""Embeddings and forecasts of a whole price table by a frozen encoder: one row per decision."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from cnn_lstm.data.arrow_frames import Frame
from cnn_lstm.data.predictions import predictions_blocks, symbol_blocks
from cnn_lstm.data.prices import data_fingerprint
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.stored_tables import BLOCK_ROWS
from cnn_lstm.data.windows import Panel
from cnn_lstm.inference.outputs import with_intervals
from cnn_lstm.inference.predictor import Predictor, embeddings_of
from cnn_lstm.model.contract import state_digest

# columns of a predictions table that come from the model; the others are known without it, or are the truth
OF_THE_MODEL = re.compile(r"y_pred|y_linear|\w*std|q\d+(\.\d)?|(linear_)?p\d+|(lower|upper|set)_\d+")


def embeddings_table(predictor: Predictor, prices: Frame, samples: int = 0) -> pd.DataFrame:
    """Embeddings and forecasts of all complete windows of a price table.

    Args:
        predictor: The trained forecaster with its recipe.
        prices: As for `Predictor.predict`.
        samples: Passes of Monte Carlo dropout for the column `mc_std__TARGET`; 0 for none.

    Returns:
        Sorted by symbol and date: symbol, as_of, e0 ... e{D-1}, and for each target what the model says of it:
        `y_pred__TARGET`, spreads, quantiles or probabilities, and the bounds of the intervals. `attrs`, which Parquet
        keeps, name the checkpoint (digest of its weights), the data (fingerprint), the first and last decision that
        was trained on and the beginning of the test part: a row before it is not a forecast out of sample.

    Raises:
        DataError: If the table is damaged, or too short for a window.

    Example:
        >>> table = embeddings_table(Predictor.from_checkpoint("best.ckpt"), prices)  # doctest: +SKIP
        >>> table.attrs["training"]  # doctest: +SKIP
        {'first': '2000-06-01T00:00:00.000000', 'last': '2008-12-30T00:00:00.000000'}
    """
    every = EmbeddingBlocks(predictor, prices, samples)
    blocks = list(every.blocks())
    for block in blocks:
        block.attrs = {}  # pandas compares them where it joins
    table = pd.concat(blocks, ignore_index=True)
    table.attrs = every.attrs
    return table


class EmbeddingBlocks:
    """`embeddings_table` in blocks of whole symbols.

    Args:
        predictor: As for `embeddings_table`.
        prices: As for `embeddings_table`.
        samples: As for `embeddings_table`.

    Attributes:
        rows: Rows of all blocks.
        attrs: What the table says of itself.
    """

    def __init__(self, predictor: Predictor, prices: Frame, samples: int = 0) -> None:
        self._predictor, self._samples = predictor, samples
        panel, self._rows, checked = predictor.windows(prices)
        self._panel = replace(panel, values=panel.values.to(predictor.forecaster.device))  # once for all blocks
        self.rows = len(self._rows)
        contract, recipe = predictor.forecaster.contract, predictor.recipe
        self.attrs: dict[Hashable | None, Any] = {
            "checkpoint": state_digest(predictor.forecaster.state_dict()),
            "data": data_fingerprint(checked),
            "training": asdict(contract.training) if contract.training else {},
            "test": contract.boundaries.test,
            "features": list(recipe.features),
            "window": recipe.window,
        }

    def blocks(self, max_rows: int = BLOCK_ROWS) -> Iterator[pd.DataFrame]:
        """The table, block by block, each with all `attrs`.

        Args:
            max_rows: Rows of a block, unless a single symbol has more.
        """
        for piece in symbol_blocks(self._panel.symbol[self._rows], max_rows):
            block = self._block(self._panel, self._rows[piece])
            block.attrs = dict(self.attrs)
            yield block

    def _block(self, panel: Panel, rows: Rows) -> pd.DataFrame:
        """Embeddings, and next to them the model's columns of each target."""
        predictor, contract = self._predictor, self._predictor.forecaster.contract
        columns, embeddings = predictor.forecast_and_encode(panel, rows, self._samples)
        table = embeddings_of(panel, rows, embeddings)
        parts = predictions_blocks(
            panel, predictor.targets, rows, columns, contract.target_mean, max_rows=max(1, len(rows))
        )
        forecasts = with_intervals(parts, contract.calibration, contract.boundaries.test)
        wide = [table]
        for target, forecast in zip(predictor.targets, forecasts, strict=True):
            forecast.attrs = {}  # pandas copies them with every piece of the table
            names = [name for name in forecast if OF_THE_MODEL.fullmatch(str(name))]
            wide.append(forecast[names].rename(columns={name: f"{name}__{target.name}" for name in names}))
        return pd.concat(wide, axis=1)
