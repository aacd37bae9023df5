"""Several levels judged together: root relative squared error and mean correlation of all series."""

import math

import numpy as np
import pandas as pd
from recompute.forecasts import pearson


def pooled(table: pd.DataFrame, names: dict) -> dict:
    """Under `pooled` the metrics of the levels that are forecast as many rows ahead, where there are several."""
    levels = {name: one for name, one in table.attrs["targets"].items() if one["kind"] == "level"}
    groups: dict = {}
    for name, about in levels.items():
        groups.setdefault(str(about["delay"] + about["horizon"]), []).append(table[table["target"] == name])
    found = {reach: group(parts, names) for reach, parts in groups.items() if len(parts) > 1}
    return {"pooled": found} if found else {}


def group(parts: list, names: dict) -> dict:
    """Metrics of the forecasters that all targets have, on the rows where truth and all forecasts are known."""
    parts = [part.dropna(axis=1, how="all") for part in parts]
    parts = [part.dropna(subset=[name for name in part if name.startswith("y_")]) for part in parts]
    columns = [name for name in parts[0] if name.startswith("y_") and name != "y_true"]
    columns = [name for name in columns if all(name in part for part in parts)]
    rows = pd.concat(parts)
    forecasts = {}
    for column in columns:
        squares = ((rows["y_true"] - rows[column]) ** 2).mean()
        each = [pearson(part, column) for _, part in rows.groupby(["target", "symbol"])]
        known = [value for value in each if not math.isnan(value)]
        forecasts[names.get(column, column[2:])] = {
            "rse": math.sqrt(squares / np.var(rows["y_true"])),
            "corr": np.mean(known) if known else math.nan,
        }
    return {"targets": len(parts), "rows": len(rows), "forecasts": forecasts}
