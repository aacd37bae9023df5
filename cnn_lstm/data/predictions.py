"""The predictions table: one row a forecast, with its dates, in original units.

Shapes: n forecasts of H targets, N panel rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from cnn_lstm.data.targets import Target
from cnn_lstm.data.windows import Panel, Rows


def predictions_table(
    panel: Panel,
    targets: Sequence[Target],
    rows: Rows,
    columns: Mapping[str, Tensor],
    target_mean: Sequence[float],
) -> pd.DataFrame:
    """Forecasts beside the truth and two trivial forecasts.

    Args:
        panel: The panel that the windows were cut from.
        targets: Its targets.
        rows: Panel row of each forecast's last bar, (n,).
        columns: Forecast columns, each (n, H); `y_pred` among them.
        target_mean: Mean of each target over the training rows.

    Returns:
        Sorted by target, symbol and date, with the columns symbol, as_of (last bar used), target_start and
        target_end (the label is about what happens after the one until the other; NaT where not known yet),
        horizon, target, y_true (NaN where not known yet), y_pred, further columns of the objective, y_last (latest
        known value of the same quantity), y_mean (training mean), volatility (of one bar, as known at `as_of`), scale
        (size of the label's surprise, which intervals grow with) and bar_return (simple return of the first bar after
        the delay; NaN where not known yet or nothing is traded). `attrs["targets"]` says of each target what kind of
        quantity it is, its unit, horizon, delay and classes; Parquet keeps it.
    """
    parts = []
    for k, target in enumerate(targets):
        volatility = panel.volatility[:, k].numpy()[rows].astype(np.float64)
        part = {
            "symbol": np.asarray(panel.symbols, dtype=object)[panel.symbol[rows]],
            "as_of": _utc(panel.time[rows]),
            "target_start": _utc(_ahead(panel, rows, target.delay)),
            "target_end": _utc(_ahead(panel, rows, target.reach)),
            "horizon": target.horizon,
            "target": target.name,
            "y_true": panel.labels[:, k].numpy()[rows].astype(np.float64),
            **{name: values[:, k].numpy().astype(np.float64) for name, values in columns.items()},
            "y_last": panel.present[:, k].numpy()[rows].astype(np.float64),
            "y_mean": float(target_mean[k]),
            "volatility": volatility,
            "scale": target.scale(volatility),
            "bar_return": panel.bar_return[:, k].numpy()[rows].astype(np.float64),
        }
        parts.append(pd.DataFrame(part).astype({"symbol": "str", "target": "str"}))
    table = pd.concat(parts, ignore_index=True)
    table.attrs["targets"] = described(targets)
    return table


def collected_table(
    panel: Panel, targets: Sequence[Target], collected: Mapping[str, Tensor], target_mean: Sequence[float]
) -> pd.DataFrame:
    """`predictions_table` of what a forecaster collected in an epoch.

    Args:
        panel: The panel that the windows were cut from.
        targets: Its targets.
        collected: `row`, (n,), and the forecast columns, each (n, H); `y_true` and `loss` are left out.
        target_mean: Mean of each target over the training rows.
    """
    columns = {name: values for name, values in collected.items() if name not in ("row", "y_true", "loss")}
    return predictions_table(panel, targets, collected["row"].numpy(), columns, target_mean)


def described(targets: Sequence[Target]) -> dict[str, dict[str, Any]]:
    """What a predictions table says of its targets in `attrs["targets"]`."""
    names = ("kind", "unit", "horizon", "delay", "classes")
    return {target.name: {name: getattr(target, name) for name in names} for target in targets}


def _ahead(panel: Panel, rows: Rows, steps: int) -> NDArray[np.datetime64]:
    """Timestamp that many rows later in the same segment, else NaT."""
    target = np.minimum(rows + steps, len(panel) - 1)
    known = (rows + steps < len(panel)) & (panel.segment[target] == panel.segment[rows])
    return np.where(known, panel.time[target], np.datetime64("NaT"))


def _utc(times: NDArray[np.datetime64]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(times.astype("datetime64[us]"), tz="UTC")
