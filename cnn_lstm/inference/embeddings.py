"""Embeddings and forecasts of a whole price table by a frozen encoder: one row per decision."""

from __future__ import annotations

import re
from dataclasses import asdict

import pandas as pd

from cnn_lstm.data.arrow_frames import Frame
from cnn_lstm.data.prices import data_fingerprint
from cnn_lstm.inference.predictor import Predictor

KEYS = ["symbol", "as_of"]
# columns of a predictions table that come from the model; the others are known without it, or are the truth
OF_THE_MODEL = re.compile(r"y_pred|y_linear|\w*std|q\d+|(linear_)?p\d+|(lower|upper|set)_\d+")


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
    read = predictor.recipe.read(prices)
    table, forecasts = predictor.encode(read), predictor.predict(read, samples=samples)
    attrs = table.attrs
    forecasts.attrs = {}  # pandas copies them with every piece of the table
    names = [name for name in forecasts if OF_THE_MODEL.fullmatch(str(name))]
    for target in predictor.targets:
        columns = forecasts.loc[forecasts["target"] == target.name, [*KEYS, *names]]
        table = table.merge(columns.rename(columns={name: f"{name}__{target.name}" for name in names}), on=KEYS)
    contract, recipe = predictor.forecaster.contract, predictor.recipe
    table.attrs = attrs | {
        "data": data_fingerprint(recipe.bind_to(read, predictor.targets).check(read).table),
        "training": asdict(contract.training) if contract.training else {},
        "test": contract.boundaries.test,
        "features": list(recipe.features),
        "window": recipe.window,
    }
    return table
