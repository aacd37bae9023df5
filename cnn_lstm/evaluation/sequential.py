"""Evidence over time of one target: loss differences by date, their e-processes and their confidence sequences.

The baseline that is hardest to beat must not be chosen at each look, since that is a selection. So a wealth is kept
against each baseline, and the least of them counts: it is an e-process for "some baseline is as good as the model",
because it is never above the wealth against that baseline.

A bet counts only if it was made before its outcome was known. Where a model was trained on dates after those that it
forecasts, as in combinatorial cross-validation, the report leaves this section out, and the ledger keeps no losses.

Shapes: n dates.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from cnn_lstm.data.predictions import target_infos
from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.anytime import THRESHOLD, confidence_sequence, e_process
from cnn_lstm.evaluation.forecasts import FEWEST_ROWS, Forecast, judged_rows, known_forecasts
from cnn_lstm.evaluation.json_types import KeptDifferences, SequencePath, SequenceRecord, Sequential
from cnn_lstm.evaluation.loss_ledger import from_plain, keep, series_key, to_plain
from cnn_lstm.evaluation.verdict import LEAST_SHARE

LEVEL = 2 / THRESHOLD  # of the confidence sequence: its lower end is above 0 where the wealth is above the threshold
POINTS = 200  # of the path, at most
# of the attrs of a predictions table: what stays the same when a model is trained again; by target, the losses that the
# ledger has and the table has not
RECIPE, KEPT = "recipe", "kept_losses"
SAME = 1e-6  # of a standard deviation: a difference that other rounding makes


def loss_differences(rows: pd.DataFrame, forecasts: Mapping[str, Forecast]) -> pd.DataFrame:
    """Loss of each baseline - loss of the model, the mean over the rows of each date.

    Every date counts the same, whatever number of symbols it has: a weight that follows from the whole table would
    change what was seen before.

    Args:
        rows: Rows of one target, as `judged_rows` gives them.
        forecasts: Its forecasters, the model among them.

    Returns:
        By date of the decision (rows, ascending, UTC without zone) and baseline (columns); NaN where a baseline has no
        forecast.
    """
    own = forecasts["model"].loss
    assert own is not None, "the model has a loss"
    losses = {name: one.loss - own for name, one in forecasts.items() if name != "model" and one.loss is not None}
    dates = pd.DatetimeIndex(rows["as_of"])
    dates = dates.tz_convert("UTC").tz_localize(None) if dates.tz else dates
    by_date = pd.DataFrame(losses, index=dates.as_unit("us")).groupby(level=0).mean()
    return by_date.rename_axis(None)


def keep_losses(folder: Path, table: pd.DataFrame) -> None:
    """Adds the new dates of a predictions table to the ledger, and writes into its `attrs` what the ledger has instead.

    Args:
        folder: Folder of the report.
        table: Predictions table with baselines; `attrs["recipe"]` says what stays the same when a model is trained
            again, and `attrs["model"]` which one this is. A table without a recipe is left alone.
    """
    if not (recipe := table.attrs.get(RECIPE)):
        return
    given = table.attrs.pop(KEPT, {})
    way = "walk-forward" if "fold" in table else "test"
    for name, about in target_infos(table).items():
        rows = judged_rows(table, name, about)
        if len(rows) < FEWEST_ROWS or learnt_from_later(rows):
            continue
        own = loss_differences(rows, known_forecasts(rows, about))
        series = counted_differences(own, given.get(name))
        key = series_key([recipe, way], name, series.index[0])
        kept = replaced(own, keep(folder, key, str(table.attrs.get("model")), series))
        if kept is not None:
            table.attrs[KEPT] = {**table.attrs.get(KEPT, {}), name: kept}


def learnt_from_later(rows: pd.DataFrame) -> bool:
    """Whether a forecast comes from a model that was trained on its own date, or on a later one.

    Args:
        rows: Rows of a predictions table; where `train_last` is missing or unknown, training has come before them.

    Example:
        >>> rows = pd.DataFrame({"as_of": ["2020-01-02", "2020-03-02"], "train_last": ["2019-12-30", "2020-12-30"]})
        >>> learnt_from_later(rows), learnt_from_later(rows[:1])
        (True, False)
    """
    if "train_last" not in rows:
        return False
    trained, made = (pd.to_datetime(rows[name], utc=True) for name in ("train_last", "as_of"))
    return bool((trained >= made).any())


def kept_of(table: pd.DataFrame, target: str) -> KeptDifferences | None:
    """What the ledger has instead of the table's own losses; None where it has nothing else."""
    kept: KeptDifferences | None = table.attrs.get(KEPT, {}).get(target)
    return kept


def replaced(own: pd.DataFrame, kept: pd.DataFrame) -> KeptDifferences | None:
    """What a kept series has other than the table: on its other dates the table is right.

    Args:
        own: Differences of the table.
        kept: The kept series, with the same baselines.

    Returns:
        Plain values for the `attrs` of the table, with None for a date that does not count; None if nothing differs.
    """
    dates = own.index.union(kept.index)
    one, other = own.reindex(dates), kept.reindex(dates)
    differs = ~((one == other) | (one.isna() & other.isna())).all(axis=1)
    return to_plain(other[differs]) if differs.any() else None


def counted_differences(own: pd.DataFrame, kept: KeptDifferences | None) -> pd.DataFrame:
    """The series that counts: that of the table, with what the ledger has kept in its place.

    Args:
        own: Differences of the table.
        kept: What `replaced` gave.
    """
    if kept is None:
        return own
    before = from_plain(kept).reindex(columns=own.columns)
    series = own.reindex(own.index.union(before.index))
    series.loc[before.index] = before
    return series.dropna(how="all")


def sequential(own: pd.DataFrame, kept: KeptDifferences | None, horizon: int) -> Sequential:
    """What the report says of the evidence over time.

    Args:
        own: Differences of the table, see `loss_differences`.
        kept: Those that the ledger has in their place.
        horizon: Steps that a target spans.
    """
    series = counted_differences(own, kept)
    wealth = {str(name): _on_all_dates(column, horizon) for name, column in series.items()}
    known = series.notna().mean()
    enough = [name for name in wealth if known[name] >= LEAST_SHARE] or list(wealth)
    least = np.min([wealth[name] for name in enough], axis=0)
    hardest = min(enough, key=lambda name: (wealth[name][-1], series[name].mean()))
    reached = np.flatnonzero(least >= THRESHOLD)
    return {
        "threshold": THRESHOLD,
        "level": LEVEL,
        "dates": len(series),
        "kept": _of_another_model(own, series),
        "first": series.index[0].isoformat(),
        "last": series.index[-1].isoformat(),
        "wealth": float(least[-1]),
        "highest": float(least.max()),
        "reached": series.index[reached[0]].isoformat() if len(reached) else None,
        "evidence": bool(len(reached)),
        "baseline": hardest,
        "baselines": {name: _record(series[name].dropna(), wealth[name], horizon) for name in wealth},
        "path": _path(series[hardest], least, horizon),
    }


def _of_another_model(own: pd.DataFrame, series: pd.DataFrame) -> int:
    """Number of dates whose losses are not those of the table, by more than other rounding explains."""
    distance = (series - own.reindex(series.index)).abs()
    same = (distance <= SAME * series.std()) | series.isna()
    return int((~same.all(axis=1)).sum())


def _on_all_dates(column: pd.Series[float], horizon: int) -> Floats:
    """Wealth against one baseline after each date of the series, (n,); it rests where the baseline has no forecast."""
    known = column.dropna()
    after = pd.Series(e_process(known.to_numpy(), horizon), index=known.index)
    return np.asarray(after.reindex(column.index).ffill().fillna(1.0), dtype=np.float64)


def _record(known: pd.Series[float], wealth: Floats, horizon: int) -> SequenceRecord:
    sequence = confidence_sequence(known.to_numpy(), horizon, LEVEL, at=[len(known) - 1])
    return {
        "dates": len(known),
        "wealth": float(wealth[-1]),
        "mean": float(sequence.mean[0]),
        "low": float(sequence.low[0]),
        "high": float(sequence.high[0]),
    }


def _path(column: pd.Series[float], least: Floats, horizon: int) -> SequencePath:
    """The sequence against the hardest baseline, and the least wealth, on dates that a plot can show."""
    known = column.dropna()
    at = np.unique(np.linspace(0, len(known) - 1, min(POINTS, len(known))).round().astype(np.int64))
    sequence = confidence_sequence(known.to_numpy(), horizon, LEVEL, at=at)
    there = column.index.get_indexer(known.index[at])
    return {
        "dates": [date.isoformat() for date in known.index[at]],
        "wealth": least[there].tolist(),
        "mean": sequence.mean.tolist(),
        "low": sequence.low.tolist(),
        "high": sequence.high.tolist(),
    }
