"""Explains a model on the validation part, or one forecast.

Shapes: n windows, T window length, F features, H targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cnn_lstm.data.arrow_frames import Frame
from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.picks import evenly_spread
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.sources.base import stamp
from cnn_lstm.data.targets import Floats
from cnn_lstm.data.times import time_text, utc_index
from cnn_lstm.data.windows import Panel, cut_windows
from cnn_lstm.errors import DataError, require
from cnn_lstm.evaluation.explanation.attribution import Attributed, attributed, require_captum
from cnn_lstm.evaluation.explanation.permutation import (
    Rises,
    block_length,
    correlated,
    moved_dates,
    permuted_losses,
    rows_of_dates,
)
from cnn_lstm.evaluation.explanation.results import Basis, Explanation, ForecastExplanation
from cnn_lstm.evaluation.same_recipe import take_over
from cnn_lstm.hints import counted, one_of
from cnn_lstm.inference.predictor import Predictor

DAY = np.timedelta64(1, "D")
ROWS, REPEATS = 1000, 5
SHARE_ATTRIBUTED = 4  # a window with its gradients costs as much as a hundred without


@dataclass(frozen=True)
class Effort:
    """How much is computed.

    Attributes:
        rows: Most windows of the validation part that are permuted, spread evenly over it; a quarter of them is taken
            for the integrated gradients.
        repeats: Permutations of each feature.
        seed: Of the permutations.
    """

    rows: int = ROWS
    repeats: int = REPEATS
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (("rows", 20, 100_000), ("repeats", 2, 100), ("seed", 0, 2**32 - 1)):
            value = getattr(self, name)
            require(low <= value <= high, f"{name}={value}", "explain", f"give {low} to {high}", code=224)


def explain(
    predictor: Predictor, data: MarketData, *, rows: int = ROWS, repeats: int = REPEATS, seed: int = 0
) -> Explanation:
    """Which features and bars the forecasts of the validation part owe themselves to.

    Args:
        predictor: The model.
        data: The data of its run, before or after their set-up; they take over the dates of the checkpoint.
        rows: See `Effort`, as the next two.
        repeats: Permutations of each feature.
        seed: Of the permutations.

    Raises:
        ConfigError: E229, if captum is not installed; E224, if a number is out of range.
        CheckpointError: E436, if the checkpoint is of another recipe.
        DataError: E380, if the validation part is too short for blocks of dates.

    Example:
        >>> explain(predictor, data).by_feature.head(3)  # doctest: +SKIP
    """
    require_captum()
    effort = Effort(rows, repeats, seed)
    take_over(data, predictor)
    data.setup()
    return explain_part(predictor, data, effort)


def explain_part(predictor: Predictor, data: MarketData, effort: Effort) -> Explanation:
    """`explain` of data that are set up and have the dates of the checkpoint.

    Args:
        predictor: The model.
        data: The data module.
        effort: How much is computed.

    Raises:
        ConfigError: E229, if captum is not installed.
        DataError: E380, if the validation part is too short for blocks of dates.
    """
    panel, window, every = data.panel, data.recipe.window, np.sort(data.parts.validation)
    names, columns = _features(predictor)
    times = np.unique(panel.time[every])
    block = block_length(len(times), data.bound.reach, window)
    if len(times) < 2 * block:
        what = f"{counted(len(times), 'date')} of validation, and blocks of {block} change places"
        raise DataError(what, "explain", "give a longer validation part", code=380)
    judged = every[evenly_spread(len(every), effort.rows)]
    random = np.random.default_rng(effort.seed)
    orders = [moved_dates(len(times), block, random) for _ in range(effort.repeats)]
    alike = correlated(panel.values[torch.from_numpy(judged)][:, columns])
    groups = [[column] for column in columns] + [[columns[k] for k in group] for group, _ in alike]
    taken = [rows_of_dates(panel, judged, every, order) for order in orders]
    rises = permuted_losses(predictor.forecaster, panel, window, judged, taken, groups)
    looked = judged[evenly_spread(len(judged), max(1, len(judged) // SHARE_ATTRIBUTED))]
    found = [_attributed(predictor, panel, looked, k) for k in range(len(data.targets))]
    targets = [target.name for target in data.targets]
    seen = ", which the final model has trained on" if predictor.forecaster.contract.fitted_on else ""
    part = f"the validation part{seen} ({time_text(times[0])} to {time_text(times[-1])})"
    last = found[int(np.argmax([one.gap for one in found]))]
    counts = (len(judged), len(looked), effort.repeats, block)
    basis = Basis(part, *counts, rises.loss, last.steps, last.gap, effort.seed)
    sizes = [one.values.abs().mean(dim=0)[:, columns] for one in found]
    tables = _by_feature(targets, names, sizes, rises), _by_bar(targets, sizes), _cells(targets, names, sizes)
    return Explanation(*tables, _groups(names, alike, rises), basis)


def _features(predictor: Predictor) -> tuple[list[str], list[int]]:
    """Names and positions of the features without the codes of the symbol and of static columns.

    A code cannot be more or less, and is the same on every date of a symbol.
    """
    every = [(k, name) for k, name in enumerate(predictor.recipe.features) if name not in predictor.recipe.codes]
    return [name for _, name in every], [k for k, _ in every]


def _attributed(predictor: Predictor, panel: Panel, rows: Rows, target: int) -> Attributed:
    device = predictor.forecaster.device
    windows = cut_windows(panel.values, torch.from_numpy(rows), predictor.recipe.window)
    return attributed(predictor.forecaster, windows.to(device), target)


def _by_feature(targets: list[str], names: list[str], sizes: list[Tensor], rises: Rises) -> pd.DataFrame:
    """One row per target and feature, of mean absolute attributions, (T, F) each."""
    parts = []
    for target, size in zip(targets, sizes, strict=True):
        of_feature = size.sum(dim=0).numpy()
        table = pd.DataFrame({"target": target, "feature": names, "attribution": of_feature})
        table["share"] = of_feature / (of_feature.sum() or 1.0)
        table["rise"], table["rise_std"] = _of_repeats(rises.rises[: len(names)])
        parts.append(table.sort_values("attribution", ascending=False, kind="stable"))
    return pd.concat(parts, ignore_index=True)


def _by_bar(targets: list[str], sizes: list[Tensor]) -> pd.DataFrame:
    """One row per target and bar, the last bar first."""
    parts = []
    for target, size in zip(targets, sizes, strict=True):
        of_bar = size.sum(dim=1).flip(0).numpy()
        shares = of_bar / (of_bar.sum() or 1.0)
        parts.append(
            pd.DataFrame({"target": target, "lag": np.arange(len(of_bar)), "attribution": of_bar, "share": shares})
        )
    return pd.concat(parts, ignore_index=True)


def _cells(targets: list[str], names: list[str], sizes: list[Tensor]) -> pd.DataFrame:
    """One row per target, feature and bar, of mean absolute attributions, (T, F) each; the last bar first."""
    parts = [
        pd.DataFrame({"target": target, **_long(names, size.numpy())})
        for target, size in zip(targets, sizes, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def _long(names: list[str], values: Floats, name: str = "attribution") -> dict[str, Any]:
    """Values of features at bars, (T, F), below each other; the last bar first."""
    bars = len(values)
    feature, lag = np.repeat(np.array(names, dtype=object), bars), np.tile(np.arange(bars), len(names))
    return {"feature": feature, "lag": lag, name: values[::-1].T.ravel()}


def _groups(names: list[str], alike: list[tuple[list[int], float]], rises: Rises) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "features": [", ".join(names[k] for k in group) for group, _ in alike],
            "correlation": [weakest for _, weakest in alike],
        }
    )
    table["rise"], table["rise_std"] = _of_repeats(rises.rises[len(names) :])
    return table


def _of_repeats(rises: Floats) -> tuple[Floats, Floats]:
    return rises.mean(axis=1), rises.std(axis=1, ddof=1)


# -- one forecast ------------------------------------------------------------------------------------------------------


def explain_forecast(
    predictor: Predictor, prices: Frame | MarketData, symbol: str | None = None, as_of: str | None = None
) -> ForecastExplanation:
    """Which features and bars moved one forecast.

    Args:
        predictor: The model.
        prices: Price table, as for `Predictor.predict`; or the data of the model's run, which take over the dates of
            the checkpoint. Facts known ahead and static columns of a table are those of `Predictor.keep`.
        symbol: Whose forecast; the only symbol of the table by default.
        as_of: Day or moment of the last bar that it used, ISO; of a day with several, the last one. The newest bar by
            default.

    Raises:
        ConfigError: E229, if captum is not installed; E224, if the symbol is unknown or not named.
        DataError: E380, if that bar has no forecast; or as `Predictor.predict`.

    Example:
        >>> explain_forecast(predictor, prices, "IBM", "2011-03-01").by_feature.head(3)  # doctest: +SKIP
    """
    require_captum()
    panel, rows = _windows(predictor, prices)
    row = _row_of(panel, rows, symbol, as_of)
    window = predictor.recipe.window
    names, columns = _features(predictor)
    steps = np.arange(row - window + 1, row + 1)
    times, values = utc_index(panel.time[steps]), panel.values[torch.from_numpy(steps)][:, columns].double().numpy()
    cells, heads = [], []
    for k, target in enumerate(predictor.targets):
        found = _attributed(predictor, panel, np.array([row]), k)
        parts = _long(names, values, "value") | _long(names, found.values[0][:, columns].numpy())
        cells.append(pd.DataFrame({"target": target.name, **parts}))
        ends = float(found.forecast[0]), float(found.baseline[0])
        heads.append((target.name, *ends, found.gap, target.unit))
    table = pd.concat(cells, ignore_index=True)
    table.insert(3, "timestamp", times[::-1].take(table["lag"].to_numpy()))
    forecasts = pd.DataFrame(heads, columns=["target", "forecast", "baseline", "gap", "unit"])
    by_bar = table.groupby(["target", "lag", "timestamp"], sort=False)["attribution"].sum().reset_index()
    whose = str(panel.symbols[panel.symbol[row]])
    return ForecastExplanation(whose, times[-1], forecasts, _signed_by_feature(table), by_bar, table)


def _windows(predictor: Predictor, prices: Frame | MarketData) -> tuple[Panel, Rows]:
    """A panel, and the last rows of its complete windows."""
    if not isinstance(prices, MarketData):
        return predictor.windows(prices)[:2]
    take_over(prices, predictor)
    prices.setup()
    return prices.panel, prices.windows


def _row_of(panel: Panel, rows: Rows, symbol: str | None, as_of: str | None) -> int:
    """The last row of the window that is asked for."""
    known = list(panel.symbols)
    require(
        symbol is not None or len(known) == 1, "no symbol is named", "explain", f"name one of {len(known)}", code=224
    )
    chosen = known[0] if symbol is None else symbol
    require(chosen in known, f"no symbol {chosen!r}", "explain", one_of(str(chosen), known), code=224)
    mine = rows[panel.symbol[rows] == known.index(chosen)]
    if as_of is not None:
        moment = stamp(as_of, "as_of")
        whole_day = moment == moment.astype("datetime64[D]")
        exact = panel.time[mine] == moment
        within = (panel.time[mine] >= moment) & (panel.time[mine] < moment + DAY) if whole_day else exact
        before = mine[panel.time[mine] < moment]
        mine = mine[within]
    if not len(mine):
        nearest = f"the one before is as of {time_text(panel.time[before[-1]])}" if as_of and len(before) else ""
        what = f"no forecast of {chosen} as of {as_of or 'any bar'}"
        raise DataError(what, nearest, "choose a bar that ends a complete window", code=380)
    return int(mine[-1])


def _signed_by_feature(cells: pd.DataFrame) -> pd.DataFrame:
    """The parts of each feature, the largest first, with its value at the last bar."""
    table = cells.groupby(["target", "feature"], sort=False)["attribution"].sum().reset_index()
    last = cells[cells["lag"] == 0].set_index(["target", "feature"])["value"]
    table.insert(2, "value", last.loc[list(zip(table["target"], table["feature"], strict=True))].to_numpy())
    table["size"] = table["attribution"].abs()
    whole = table.groupby("target")["size"].transform("sum").clip(lower=np.finfo(float).tiny)
    table["share"], table["order"] = table["size"] / whole, pd.factorize(table["target"])[0]
    table = table.sort_values(["order", "size"], ascending=[True, False], kind="stable", ignore_index=True)
    return table.drop(columns=["size", "order"])
