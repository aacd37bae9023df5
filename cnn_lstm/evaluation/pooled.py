"""Several levels judged together, as papers on multivariate series do: one RSE and one CORR of all series.

Shapes: n forecasts of all targets of a group.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from cnn_lstm.data.predictions import target_infos
from cnn_lstm.evaluation.forecasts import judged_rows, read_forecasts
from cnn_lstm.evaluation.json_types import PooledLevels
from cnn_lstm.evaluation.metrics.errors import level_correlation, root_relative_error


def pooled_levels(table: pd.DataFrame) -> dict[str, PooledLevels]:
    """RSE and CORR of the levels that are forecast as many rows ahead, all series in their own unit.

    The RSE of a pool is mostly a matter of the series with the largest values; those of single series are in the
    metrics of their targets.

    Args:
        table: Predictions table.

    Returns:
        For each distance in rows of which there are several targets, by its number as text.

    Source:
        Lai, Chang, Yang, Liu (2018), Modeling Long- and Short-Term Temporal Patterns with Deep Neural Networks.
    """
    infos = target_infos(table)
    groups: dict[int, list[str]] = {}
    for name, about in infos.items():
        if about.quantity.is_level:
            groups.setdefault(about.delay + about.horizon, []).append(name)
    pooled: dict[str, PooledLevels] = {}
    for reach, names in groups.items():
        if len(names) > 1:
            parts = pd.concat([part for name in names for part in _forecasts(table, name)], ignore_index=True)
            everywhere = parts.groupby("forecaster", sort=False)["target"].nunique() == len(names)
            kept = [(str(name), rows) for name, rows in parts.groupby("forecaster", sort=False) if everywhere[name]]
            pooled[str(reach)] = {
                "targets": len(names),
                "rows": len(kept[0][1]),
                "forecasts": {name: _metrics(rows) for name, rows in kept},
            }
    return pooled


def _forecasts(table: pd.DataFrame, target: str) -> Iterator[pd.DataFrame]:
    """Truth and forecasts of a target, one part per forecaster."""
    about = target_infos(table)[target]
    rows = judged_rows(table, target, about)
    for name, forecast in read_forecasts(rows, about).items():
        columns = {"true": rows["y_true"].to_numpy(), "forecast": forecast.point, "symbol": rows["symbol"].to_numpy()}
        yield pd.DataFrame({**columns, "target": target, "forecaster": name})


def _metrics(rows: pd.DataFrame) -> dict[str, float]:
    series = rows["target"] + " " + rows["symbol"].astype(str)
    return {
        "rse": root_relative_error(rows["true"], rows["forecast"]),
        "corr": level_correlation(rows["true"], rows["forecast"], series),
    }
