"""Baselines beside the model, in the predictions table."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pandas as pd

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.evaluation.baselines.fit import fit_baselines
from cnn_lstm.evaluation.baselines.material import Material


def add_baselines(table: pd.DataFrame, data: MarketDataModule, season: int | None = None) -> pd.DataFrame:
    """The predictions table with the forecasts of the baselines, each fitted on the training rows alone.

    Args:
        table: Predictions table of the test part.
        data: The data module that it was made from.
        season: Rows of a season for the seasonal naive forecast; guessed from the dates by default.

    Returns:
        The table with a column for each baseline, `naive_mae` and `naive_mse`; `attrs["targets"]` has the smearing
        factors of volatility targets. A column that does not suit a target is NaN there.
    """
    rows = data.parts.test
    found = fit_baselines(Material.of(data), season).forecast(rows)
    key = pd.DataFrame({"symbol": data.panel.symbol[rows], "as_of": data.panel.time[rows]})
    key["symbol"] = key["symbol"].map(dict(enumerate(data.panel.symbols))).astype("str")
    key["as_of"] = key["as_of"].dt.tz_localize("UTC")
    parts = [
        key.assign(
            target=target, **columns, naive_mae=found.naive_mae[target], naive_mse=found.naive_mse[target]
        ).astype({"target": "str"})
        for target, columns in found.columns.items()
    ]
    joined = table.merge(pd.concat(parts), on=["target", "symbol", "as_of"], how="left", validate="one_to_one")
    targets: dict[str, Any] = deepcopy(table.attrs["targets"])
    for target, factors in found.smearing.items():
        targets[target]["smearing"] = {**targets[target].get("smearing", {}), **factors}
    joined.attrs = {**table.attrs, "targets": targets}
    return joined
