"""Reads a table of forecasts in the forms of other libraries; nothing is guessed that could be two things.

A row says of a symbol what was forecast for a target. It is placed by the last bar that it knew (`as_of`), by the bar
that it is about (`target_end`), or by both.

- Ours: what `test` and `predict` write.
- neuralforecast: `unique_id`, `ds`, often `cutoff`; `MODEL` or `MODEL-median`, `MODEL-lo-90`, `MODEL-hi-90`.
- darts: an index of times, a column per component; `NAME_q0.050` are quantiles, `NAME_s0` sample paths.
- Qlib: an index of `datetime` and `instrument`, and `score`.
- Sample paths: one row per symbol, time and `sample`, with a value.
- Any other: columns that have one of the usual names, or that `columns` names.

Shapes: n forecasts, S samples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from cnn_lstm.data.frames import price_times
from cnn_lstm.data.predictions import TARGETS, TargetInfo, target_infos
from cnn_lstm.errors import DataError
from cnn_lstm.hints import first_names, one_of
from cnn_lstm.model.objectives.quantiles import quantile_name

PLACE = "the table of forecasts"
# what other tables call ours, in the order in which they are looked for
CALLED: dict[str, tuple[str, ...]] = {
    "symbol": ("symbol", "unique_id", "instrument", "ticker", "tic", "asset", "series_id"),
    "as_of": ("as_of", "cutoff", "datetime", "asof", "date", "timestamp", "time"),
    "target_end": ("target_end", "ds", "valid_time", "forecast_date", "target_date"),
    "y_pred": ("y_pred", "forecast", "prediction", "pred", "yhat", "y_hat", "score", "value"),
    "sample": ("sample", "sample_id", "path", "draw"),
}
INTERVAL = re.compile(r"(?P<model>.+)-(?P<side>lo|hi)-(?P<level>\d+(\.\d+)?)")
MEDIAN = "-median"  # neuralforecast's forecast of a model that has quantiles
QUANTILE = re.compile(r"(?P<name>.+)_q(?P<level>0?\.\d+)")
SAMPLE = re.compile(r"(?P<name>.+)_s(?P<number>\d+)")
# columns of a predictions table that come from the forecaster, and the truth as it knew it
OF_THE_FORECASTER = re.compile(
    r"y_true|y_pred|y_linear|scale|variance_pred|variance_linear|(mc_|ensemble_)?std|df|skew|(weight|mean|std)_\d+|"
    r"q\d+(\.\d)?|(linear_)?p\d+|(lower|upper|set)_\d+|sample_\d+"
)


@dataclass(frozen=True)
class Given:
    """Forecasts in one form, whatever table they came in.

    Attributes:
        table: `symbol`; `as_of`, `target_end` or both, in UTC; `target` where the table names them; `issued` where it
            was asked for; the columns of the forecaster, `y_pred` among them.
        infos: What a table of ours says of its targets; empty for others.
    """

    table: pd.DataFrame
    infos: Mapping[str, TargetInfo]

    @property
    def by_target_end(self) -> bool:
        """Whether the rows say only which bar they are about."""
        return "as_of" not in self.table


def read_forms(
    frame: pd.DataFrame, columns: Mapping[str, str] | None = None, model: str | None = None, issued: str | None = None
) -> Given:
    """Forecasts out of a table in any of the forms above.

    Args:
        frame: The table.
        columns: The table's names for `symbol`, `as_of`, `target_end`, `y_pred` or `sample`.
        model: Which model's forecasts, where a table has those of several.
        issued: Column with the time at which each forecast was made.

    Raises:
        DataError: E357, if a column is missing, not clear, or holds no numbers.

    Example:
        >>> days = pd.to_datetime(["2024-01-02", "2024-01-03"], utc=True)
        >>> theirs = pd.DataFrame({"unique_id": "A", "ds": days, "LSTM": [0.1, 0.2], "LSTM-lo-90": [0.0, 0.1]})
        >>> list(read_forms(theirs).table)
        ['symbol', 'target_end', 'y_pred', 'lower_90']
    """
    if TARGETS in frame.attrs and {"symbol", "as_of", "target", "y_pred"} <= set(frame.columns):
        return Given(_kept(frame, ["symbol", "as_of", "target"], issued), target_infos(frame))
    table = _flat(frame)
    columns = dict(columns or {})
    for name, theirs in columns.items():
        if name not in CALLED:
            raise DataError(f"--columns names {name}", PLACE, one_of(name, list(CALLED)), code=357)
        _require_column(table, theirs)
    roles = {role: columns.get(role) or _called(table, role) for role in CALLED}
    table = table.rename(columns={theirs: role for role, theirs in roles.items() if theirs})
    if "symbol" not in table:
        table = _components(table, model)
    if "sample" in table:
        table = _of_samples(table)
    if "y_pred" not in table:
        table = _of_models(table, model)
    # a column of numbers of this name is a truth
    named = ["target"] if "target" in table and pd.api.types.is_string_dtype(table["target"].dtype) else []
    return Given(_kept(_placed(table), ["symbol", "as_of", "target_end", *named], issued), {})


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with what its index says as columns, and names that are text."""
    if frame.index.name is None and pd.api.types.is_integer_dtype(frame.index.dtype):
        table = frame.reset_index(drop=True)
    else:
        nameless = "time" if frame.index.nlevels == 1 else "level"
        names = [nameless if name is None else str(name) for name in frame.index.names]
        table = frame.rename_axis(index=names).reset_index()
    return table.set_axis([str(name) for name in table.columns], axis=1)


def _called(table: pd.DataFrame, role: str) -> str | None:
    """The first column that has one of the usual names."""
    lower = {name.lower(): name for name in reversed(list(table.columns))}
    return next((lower[name] for name in CALLED[role] if name in lower), None)


def _require_column(table: pd.DataFrame, name: str) -> None:
    if name not in table:
        where, names = f"{PLACE} has {first_names(list(table.columns))}", list(table.columns)
        raise DataError(f"no column {name}", where, one_of(name, names), code=357)


def _components(table: pd.DataFrame, model: str | None) -> pd.DataFrame:
    """darts: a column per series becomes rows of a symbol each, its quantiles and samples columns of it."""
    times = [name for name in ("as_of", "target_end") if name in table]
    if not times:
        raise _missing(table, "as_of")
    parts: dict[str, dict[str, str]] = {}
    for name in table.columns.drop(times):
        quantile, sample = QUANTILE.fullmatch(name), SAMPLE.fullmatch(name)
        if quantile:
            parts.setdefault(quantile["name"], {})[name] = quantile_name(float(quantile["level"]))
        elif sample:
            parts.setdefault(sample["name"], {})[name] = f"sample_{int(sample['number'])}"
        else:
            parts.setdefault(name, {})[name] = "y_pred"
    if model is not None:
        raise DataError(f"--model {model}", PLACE, "a table without a column of symbols has one per column", code=357)
    rows = [table[[*times, *names]].rename(columns=names).assign(symbol=symbol) for symbol, names in parts.items()]
    joined = _with_intervals(pd.concat(rows, ignore_index=True))
    # the time of such a table is that of the value, whatever its index is called
    return joined.rename(columns={"as_of": "target_end"}) if "target_end" not in table else joined


def _with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the central intervals between those quantiles that lie as far from the median, of whole levels."""
    pairs = {level: (quantile_name(0.5 - level / 200), quantile_name(0.5 + level / 200)) for level in range(1, 100)}
    whole = {level: pair for level, pair in pairs.items() if {*pair} <= {*table.columns}}
    sides = {f"lower_{level}": table[low] for level, (low, _) in whole.items()}
    return table.assign(**sides, **{f"upper_{level}": table[high] for level, (_, high) in whole.items()})


def _of_samples(table: pd.DataFrame) -> pd.DataFrame:
    """Sample paths, one row each, as columns `sample_0`.. of one row per forecast; their mean is the forecast."""
    keys = [name for name in ("symbol", "as_of", "target_end") if name in table]
    if "y_pred" not in table:
        raise _missing(table, "y_pred")
    number = table.groupby(keys, sort=False).cumcount()
    wide = table.assign(number=number).pivot(index=keys, columns="number", values="y_pred")
    wide.columns = pd.Index([f"sample_{k}" for k in wide.columns])
    return wide.reset_index()


def _of_models(table: pd.DataFrame, model: str | None) -> pd.DataFrame:
    """The forecasts of one of the models whose columns are named after them, and its intervals."""
    sampled = [name for name in table.columns if re.fullmatch(r"sample_\d+", name)]
    if sampled:
        return table.assign(y_pred=table[sampled].mean(axis=1))
    if "q50" in table:
        return table.assign(y_pred=table["q50"])
    chosen, forecast = _chosen(table, model)
    sides = {"lo": "lower", "hi": "upper"}
    renamed = {forecast: "y_pred"}
    for name in table.columns:
        found = INTERVAL.fullmatch(name)
        if found and found["model"] == chosen and float(found["level"]).is_integer():
            renamed[name] = f"{sides[found['side']]}_{int(float(found['level']))}"
    return table.rename(columns=renamed)


def _chosen(table: pd.DataFrame, model: str | None) -> tuple[str, str]:
    """Name of the model whose forecasts are read, and their column: its own, or that of its median."""
    keys = {*CALLED, "target", "y", "index"}
    forecasts = [
        name
        for name in table.columns
        if name not in keys and not INTERVAL.fullmatch(name) and pd.api.types.is_numeric_dtype(table[name])
    ]
    models = list(dict.fromkeys(name.removesuffix(MEDIAN) for name in forecasts))
    if model is None and len(models) != 1:
        what = "no column of forecasts" if not models else f"forecasts of several models: {first_names(models)}"
        fix = "name it: --columns y_pred=NAME" if not models else "choose one: --model NAME"
        raise DataError(what, f"{PLACE} has {first_names(list(table.columns))}", fix, code=357)
    wanted = models[0] if model is None else model
    forecast = wanted if wanted in table or wanted + MEDIAN not in table else wanted + MEDIAN
    _require_column(table, forecast)
    return wanted.removesuffix(MEDIAN), forecast


def _placed(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its times in UTC; refused without any."""
    if "symbol" not in table:
        raise _missing(table, "symbol")
    times = [name for name in ("as_of", "target_end") if name in table]
    if not times:
        raise _missing(table, "as_of")
    return table.assign(symbol=table["symbol"].astype("str"), **{name: _moments(table[name]) for name in times})


def _moments(cells: pd.Series) -> pd.Series:
    """Times in UTC; an empty cell stays empty, as of a label that has not ended."""
    known = cells.notna()
    if known.all():
        return price_times(cells)
    return price_times(cells[known]).reindex(cells.index)


def _kept(table: pd.DataFrame, keys: Sequence[str], issued: str | None) -> pd.DataFrame:
    """The columns that a judgement reads, with numbers as float64."""
    found = {name: table[name] for name in keys if name in table}
    for name in [name for name in table.columns if name != "y_true" or "target" in found]:
        if OF_THE_FORECASTER.fullmatch(str(name)):
            found[str(name)] = table[name] if str(name).startswith("set_") else _numbers(table[name])
    if issued is not None:
        _require_column(table, issued)
        found["issued"] = _moments(table[issued])
    kept = pd.DataFrame(found).reset_index(drop=True)
    twice = kept.duplicated([name for name in keys if name in kept])
    if twice.any():
        row = kept[twice].iloc[0]
        when = row["as_of"] if "as_of" in kept else row["target_end"]
        what = f"{int(twice.sum())} forecasts are there twice"
        raise DataError(what, f"{row['symbol']} @ {when:%Y-%m-%d}", "keep one for each symbol and time", code=357)
    return kept


def _numbers(cells: pd.Series) -> pd.Series:
    if not pd.api.types.is_numeric_dtype(cells.dtype):
        raise DataError(f"column {cells.name} is {cells.dtype}", PLACE, "give numbers", code=357)
    return pd.Series(cells.to_numpy(dtype="float64", na_value=float("nan")), index=cells.index, name=cells.name)


def _missing(table: pd.DataFrame, role: str) -> DataError:
    fix = f"name it: --columns {role}=NAME"
    return DataError(f"no column {role}", f"{PLACE} has {first_names(list(table.columns))}", fix, code=357)
