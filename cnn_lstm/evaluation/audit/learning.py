"""What was learnt, was learnt from the training rows: statistics, parts, labels' ends, calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from cnn_lstm.data.checks import KEYS
from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.muted_warnings import muted_warnings
from cnn_lstm.data.panel_checks import muted_features
from cnn_lstm.data.picks import evenly_spread
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.statistics import TrainingStatistics
from cnn_lstm.data.times import Times, time_text, utc_times
from cnn_lstm.errors import DataError
from cnn_lstm.evaluation.audit.combinations import memory_ends, touched_rows
from cnn_lstm.evaluation.audit.findings import NOT_APPLICABLE, Finding, Result, result
from cnn_lstm.evaluation.audit.perturbations import as_floats, few_numbers, moved
from cnn_lstm.evaluation.audit.stages import bits, earliest, tolerant
from cnn_lstm.hints import counted
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.calibration import Calibration, calibrate
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecast_model import ForecastModel

if TYPE_CHECKING:
    from cnn_lstm.data.datamodule import MarketDataModule

STATISTICS, REFIT = "training-only statistics", "statistics of the checkpoint"
PURGE, PARTS, CALIBRATION = "purge", "rows of each part", "calibration"
PER_FEATURE = ("x_loc", "x_scale", "x_anchored")
TENFOLD = 10.0
MOST_TRAINING = 4096  # whose forecasts take about a second
MUCH_NEARER = 0.1


class Prefix:
    """The panel of a data module as it would have been, had the table ended at a date.

    Args:
        data: A data module that has read its data.
        end: First timestamp that is left out.
    """

    def __init__(self, data: MarketDataModule, end: np.datetime64) -> None:
        self.kept = data.panel.time < end
        self.panel = data.bound.panel(data.prices[self.kept].reset_index(drop=True))
        self._position = np.cumsum(self.kept) - 1

    def rows(self, rows: Rows) -> Rows:
        """Where rows of the whole panel stand in this one."""
        return self._position[rows]


# -- statistics ------------------------------------------------------------------------------------------------------


def training_statistics(data: MarketDataModule, table: pd.DataFrame) -> Result:
    """Sets the data module up on other prices from the validation date on: training rows and statistics stay.

    Args:
        data: A data module that has read its data.
        table: Raw price table.
    """
    times = utc_times(table["timestamp"])
    later = times >= data.fit_end
    if memory_ends(data):
        later |= data.parts.boundaries.inside("test", times)
    if not later.any():
        return Result(STATISTICS, NOT_APPLICABLE, "the features remember the test dates, which lie between")
    tenfold = as_floats(table)
    sizes = [name for name in table.columns.difference(KEYS) if not few_numbers(table[name])]
    tenfold.loc[later, sizes] *= TENFOLD
    findings: list[Finding] = []
    for done, changed in (("moved", moved(table, later)), ("taken tenfold", tenfold)):
        what = f"it changed when the rows of validation and test were {done}"
        try:
            with muted_warnings():
                again = data.on_prices(changed, tolerant(data.recipe.checks))
        except DataError as error:
            return Result(STATISTICS, NOT_APPLICABLE, f"the changed table has no such parts: {error.what}")
        findings += _other_training_rows(data, again, what)
        findings += different_statistics(data, data.statistics, again.statistics, what)
    return result(STATISTICS, f"2 other futures, {len(data.fit_rows):,} training rows", findings)


def _other_training_rows(data: MarketDataModule, again: MarketDataModule, what: str) -> Iterator[Finding]:
    """Training rows, by symbol and date, that only one of two set-ups has."""
    keys = []
    for module in (data, again):
        symbols, rows = np.asarray(module.panel.symbols, dtype=object), module.fit_rows
        keys.append(set(zip(module.panel.time[rows].tolist(), symbols[module.panel.symbol[rows]], strict=True)))
    different = keys[0] ^ keys[1]
    if different:
        time, symbol = min(different)
        yield Finding("split", "training rows", symbol, time_text(np.datetime64(time)), what, len(different))


def different_statistics(
    data: MarketDataModule, one: TrainingStatistics, other: TrainingStatistics, what: str
) -> Iterator[Finding]:
    """Statistics that differ in any bit, by feature or target."""
    names = list(data.recipe.features), [target.name for target in data.targets]
    whole = {"codes": "symbols with a scale of their own", "categories": "categories of static columns"}
    for name, of_all in whole.items():
        if not torch.equal(getattr(one, name), getattr(other, name)):
            yield Finding("statistics", of_all, what=what)
            return
    for name in (field.name for field in fields(TrainingStatistics) if field.name not in whole):
        columns = names[0] if name in PER_FEATURE else names[1]
        pair = [getattr(part, name).double().numpy() for part in (one, other)]
        different = bits(pair[0]) != bits(pair[1])
        by_column = different if name == "class_counts" else different.reshape(-1, len(columns)).T
        for k in np.flatnonzero(by_column.any(axis=1)):
            yield Finding("statistics", f"{name} of {columns[k]}", what=what)
    if muted_features(one, names[0]) != muted_features(other, names[0]):
        yield Finding("statistics", "muted features", what=what)


def refit(data: MarketDataModule, models: list[ForecastModel], same: bool, past: Prefix | None = None) -> Result:
    """Means and scales of a table that ends before the validation part are the checkpoint's.

    Args:
        data: A data module that has read its data.
        models: The forecaster, or the members of an ensemble.
        same: Whether the checkpoint was trained on these prices and dates.
        past: The panel until the validation date, if it is at hand.
    """
    if not same:
        reason = "the checkpoint was trained on other data or dates than those of this test"
        return Result(REFIT, NOT_APPLICABLE, reason)
    past = past or Prefix(data, data.fit_end)
    again = data.statistics_of(past.panel, past.rows(data.fit_rows))
    findings = [Finding("statistics", name, what="not that of the training rows") for name in _unlike(again, models)]
    return result(REFIT, f"{len(data.fit_rows):,} training rows, {data.n_features} features", findings)


def _unlike(again: TrainingStatistics, models: list[ForecastModel]) -> Iterator[str]:
    """Names of the statistics that differ from a model's."""
    for model in models:
        standardize = model.network.standardize
        pairs = {
            "feature means": (again.x_loc, standardize.loc),
            "feature scales": (again.x_scale, standardize.scale),
            "target means": (again.y_loc, model.y_loc),
            "target scales": (again.y_scale, model.y_scale),
            "symbols with a scale of their own": (again.codes, standardize.codes),
            "categories of static columns": (again.categories, model.categories.known),
        }
        yield from (name for name, (one, other) in pairs.items() if not torch.equal(one, other.cpu()))


def trained_on(data: MarketDataModule, contract: Contract) -> bool:
    """Whether a checkpoint was trained on the prices and dates of a data module.

    Args:
        data: A data module that has read its data.
        contract: What the checkpoint says of its data.
    """
    edges, trained = data.parts.boundaries, contract.boundaries
    same_dates = (trained.train, trained.validation) == (str(edges.train), str(edges.validation))
    same_dates &= trained.spans == edges.to_plain().get("spans")
    same_rows = (contract.fitted_on or "train") == data.fit_on
    return same_dates and same_rows and contract.fingerprint == data.fingerprint


# -- parts -----------------------------------------------------------------------------------------------------------


def purge(data: MarketDataModule) -> Result:
    """The last label of each part ends before the first decision of the next one, over all symbols.

    Of a combination: what a row reads and its label touch no label of a later part.

    Args:
        data: A data module that has read its data.
    """
    panel, parts = data.panel, data.parts
    reach = data.bound.reach
    findings: list[Finding] = []
    in_order = parts.boundaries.spans is None
    if not in_order:
        findings += touched_rows(data, {part: label_ends(data, rows, reach) for part, rows in parts.by_name.items()})
    for one, other in (("train", "validation"), ("validation", "test")) if in_order else ():
        rows = np.sort(getattr(parts, one))
        first = panel.time[getattr(parts, other)].min()
        ends = label_ends(data, rows, reach)
        late = rows[ends >= first]
        if len(late):
            row = late[panel.time[late].argmin()]
            what = f"its label ends {time_text(panel.time[min(row + reach, len(panel) - 1)])}, the next part decides "
            what += f"from {time_text(first)}"
            findings.append(Finding("split", f"{one} labels", *earliest(panel, late), what, len(late)))
    reached, purged = counted(reach, "row"), counted(parts.purged, "row")
    compared = f"{counted(len(panel.symbols), 'symbol')}, labels reach {reached}, {purged} purged"
    return result(PURGE, compared, findings)


def label_ends(data: MarketDataModule, rows: Rows, reach: int) -> Times:
    """When the longest label of each row ends; the decision itself where the symbol has no such row."""
    panel = data.panel
    end = np.minimum(rows + reach, len(panel) - 1)
    ends: Times = np.where(panel.symbol[end] == panel.symbol[rows], panel.time[end], panel.time[rows])
    return ends


def part_rows(data: MarketDataModule, checkpoint: Mapping[str, Any] | None = None) -> Result:
    """What the loaders of fit hand out are rows of the training and validation dates, and none of the test part.

    Args:
        data: A data module that has read its data.
        checkpoint: The whole checkpoint; its best epoch must not have been chosen by a metric of the test part.
    """
    edges, panel, findings = data.parts.boundaries, data.panel, []
    spans = {
        "train": (data.train_dataloader(), edges.train, data.fit_end),
        "validation": (data.val_dataloader(), edges.validation, edges.test),
    }
    seen = 0
    for name, (loader, start, stop) in spans.items():
        rows = np.concatenate([batch.row.cpu().numpy() for batch in loader])
        seen += len(rows)
        time = panel.time[rows]
        outside = (time < start) | (time >= stop) if edges.spans is None else ~edges.inside(name, time)
        strange = rows[outside | np.isin(rows, data.parts.test)]
        if len(strange):
            what = f"outside of {time_text(start)}..{time_text(stop)}" if edges.spans is None else "not of its dates"
            findings.append(Finding("batches", f"{name} rows", *earliest(panel, strange), what, len(strange)))
    for key in (checkpoint or {}).get("callbacks") or {}:
        if "'monitor': 'test" in str(key):
            findings.append(Finding("checkpoint", "best epoch", what=f"chosen by a metric of the test part: {key}"))
    return result(PARTS, f"{seen:,} rows of the loaders of fit", findings)


# -- calibration -----------------------------------------------------------------------------------------------------


def calibration(data: MarketDataModule, predictor: Predictor, same: bool) -> Result:
    """The scores of the checkpoint are those of the validation part, and not those of later rows.

    Args:
        data: A data module that has read its data.
        predictor: The checkpoint.
        same: Whether the checkpoint was trained on these prices and dates.
    """
    stored = predictor.forecaster.contract.calibration
    if stored is None:
        return Result(CALIBRATION, NOT_APPLICABLE, "the checkpoint has no calibration scores")
    if predictor.forecaster.contract.fitted_on:
        return Result(CALIBRATION, NOT_APPLICABLE, "the scores of a final model are those of the fit before it")
    if not same or str(data.parts.boundaries.test) != predictor.forecaster.contract.boundaries.test:
        return Result(CALIBRATION, NOT_APPLICABLE, "the checkpoint was trained on other data or dates")
    validation, test = data.parts.validation, data.parts.test
    expected, *others = (
        calibration_of(predictor, data, rows, most=0).scores
        for rows in (validation, test, np.concatenate([validation, test]))
    )
    findings = []
    for k, target in enumerate(data.targets):
        near = _distance(stored.scores[k], expected[k])
        # a fit in reduced precision, or on some of the validation batches, has scores that are a little apart
        if min(_distance(stored.scores[k], other[k]) for other in others) < MUCH_NEARER * near:
            findings.append(Finding("calibration", f"scores of {target.name}", what="they are those of test rows"))
    return result(CALIBRATION, f"scores of {len(validation):,} validation rows", findings)


def calibration_of(
    predictor: Predictor, data: MarketData, rows: Rows | None = None, most: int = MOST_TRAINING
) -> Calibration:
    """Conformal calibration of a forecaster.

    Args:
        predictor: The forecaster.
        data: A data module that has read its data.
        rows: Panel rows to calibrate on; the validation part by default.
        most: Most training rows that the smearing factors rest on too, spread evenly over all of them; 0 for none.
    """
    rows = data.parts.validation if rows is None else rows
    training = data.parts.train[evenly_spread(len(data.parts.train), most)] if most else None
    columns, trained = (None if part is None else _dated(predictor, data, part) for part in (rows, training))
    assert columns is not None, "there are rows to calibrate on"
    kinds, index = [target.kind for target in data.targets], torch.from_numpy(rows)
    return calibrate(columns, data.surprise_scale(index), data.targets[0].classes, kinds, trained)


def _dated(predictor: Predictor, data: MarketData, rows: Rows) -> dict[str, torch.Tensor]:
    """Truth, forecasts and dates of panel rows, as `calibrate` takes them."""
    index = torch.from_numpy(rows)
    known = {"y_true": data.panel.labels[index], "date": data.dates(index)}
    return known | predictor.forecast_rows(data.panel, rows)


def _distance(scores: Sequence[float], ascending: Sequence[float]) -> float:
    """Mean distance of scores to the nearest one of another sample."""
    known = np.array([-np.inf, *ascending, np.inf])
    right = np.searchsorted(known, scores)
    nearest = np.minimum(known[right] - scores, scores - known[right - 1])
    return float(nearest.mean())
