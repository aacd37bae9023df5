"""The model information sheet: what was trained on what, and the eight kinds of leakage with the test of each.

Source:
    Kapoor and Narayanan (2023), Leakage and the reproducibility crisis in machine-learning-based science.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.panel_checks import LEAK_CORRELATION, label_correlations, muted_features
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.windows import Panel
from cnn_lstm.evaluation.audit.combinations import parted
from cnn_lstm.evaluation.audit.findings import FAILED, NOT_APPLICABLE, PASSED
from cnn_lstm.evaluation.audit.learning import Prefix, label_ends, purge, refit, trained_on
from cnn_lstm.evaluation.audit.run_audit import short_form
from cnn_lstm.evaluation.audit.stages import members
from cnn_lstm.evaluation.json_types import CheckRecord, DataRecord, ModelInfo, ModelRecord, PartRecord, SplitRecord
from cnn_lstm.hints import counted
from cnn_lstm.inference.ensemble import Ensemble
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecast_model import ForecastModel

if TYPE_CHECKING:
    from cnn_lstm.data.datamodule import MarketDataModule

NOTE = "note"
ORDER = "L3.1 temporal leakage"


def model_info(data: MarketDataModule, model: ForecastModel | Ensemble, contract: Contract) -> ModelInfo:
    """The sheet, in plain values.

    Args:
        data: The data module of the test.
        model: The tested forecaster, or an ensemble.
        contract: What its checkpoint says of its data.
    """
    record, split = data_record(data, contract.fingerprint), split_record(data, data.parts.test)
    checks = leakage_checks(data, model, contract)
    return {"model": _model(model, contract), "data": record, "split": split, "leakage": checks}


def data_record(data: MarketData, trained_on: str) -> DataRecord:
    """What the sheet says of the data.

    Args:
        data: The data module.
        trained_on: Fingerprint of the prices that the model was trained on.
    """
    return {
        "source": type(data.source).__name__,
        "sha256": data.fingerprint,
        "trained_on_sha256": trained_on,
        "rows": len(data.panel),
        "symbols": list(data.panel.symbols),
        "first": _day(data.panel.time.min()),
        "last": _day(data.panel.time.max()),
        "features": list(data.recipe.features),
        "targets": [dict(target) for target in data.recipe.targets],
        "window": data.recipe.window,
    }


def split_record(data: MarketData, judged: Rows) -> SplitRecord:
    """What the sheet says of the parts.

    Args:
        data: The data module.
        judged: Panel rows of the forecasts that are judged, (n,).
    """
    return {
        "purged_rows": data.parts.purged,
        "train": _part(data.panel, data.fit_rows),
        "validation": _part(data.panel, data.parts.validation),
        "test": _part(data.panel, judged),
    }


def _model(model: ForecastModel | Ensemble, contract: Contract) -> ModelRecord:
    """Network and objective, those of the first member of an ensemble, and the number of all parameters."""
    first = members(model)[0]
    record: ModelRecord = {
        "network": first.network.spec(),
        "objective": first.objective.spec(),
        "parameters": sum(weights.numel() for weights in model.parameters()),
    }
    if contract.members:
        record["ensemble_of"] = list(contract.members)
    return record


def _part(panel: Panel, rows: Rows) -> PartRecord:
    time = panel.time[rows]
    return {"forecasts": len(rows), "first": _day(time.min()), "last": _day(time.max())}


def leakage_checks(data: MarketDataModule, model: ForecastModel | Ensemble, contract: Contract) -> list[CheckRecord]:
    """Tests each kind of leakage on the data of this run.

    Args:
        data: The data module of the test.
        model: The tested forecaster or ensemble, with the statistics of its checkpoint.
        contract: What its checkpoint says of its data.
    """
    past = Prefix(data, data.fit_end)
    return [
        _separate_parts(data),
        _training_statistics(data, model, past, trained_on(data, contract)),
        _feature_choice(data, past),
        _duplicates(data),
        _features_of_the_future(data),
        _order_of_time(data),
        _shared_dates(data),
        _test_population(data),
    ]


def _separate_parts(data: MarketDataModule) -> CheckRecord:
    parts = data.parts
    everything = np.concatenate([parts.train, parts.validation, parts.test])
    shared = len(everything) - len(np.unique(everything))
    return _check(
        "L1.1 no separate test set",
        "no row is in two parts",
        shared == 0,
        f"{len(parts.train):,} training, {len(parts.validation):,} validation, {len(parts.test):,} test rows, "
        f"{shared} shared; fit and its choice of the best epoch see training and validation rows only",
    )


def _training_statistics(
    data: MarketDataModule, model: ForecastModel | Ensemble, past: Prefix, same: bool
) -> CheckRecord:
    kind = "L1.2 preprocessing on training and test data"
    test = "means and scales computed from a table that ends before the validation part equal the checkpoint's"
    result = refit(data, members(model), same, past)
    if result.outcome == NOT_APPLICABLE:
        return _check(kind, test, NOTE, result.compared)
    different = ", ".join(finding.column for finding in result.findings)
    return _check(kind, test, not different, f"different: {different}" if different else "equal in every bit")


def _feature_choice(data: MarketDataModule, past: Prefix) -> CheckRecord:
    names = data.recipe.features
    muted = muted_features(data.statistics_of(past.panel, past.rows(data.fit_rows)), names)
    used = muted_features(data.statistics, names)
    return _check(
        "L1.3 feature selection on training and test data",
        "features are named in the configuration; which of them are muted follows from training rows alone",
        muted == used,
        f"{len(names)} features, muted: {', '.join(used) or 'none'}",
    )


def _duplicates(data: MarketDataModule) -> CheckRecord:
    """Rows whose features are equal in every bit make equal last rows of windows."""
    values = data.panel.values.numpy()
    train, test = ({values[row].tobytes() for row in rows} for rows in (data.fit_rows, data.parts.test))
    doubled = len(train & test)
    return _check(
        "L1.4 duplicates in the data",
        "no symbol has a date twice, and no test row has the features of a training row",
        NOTE if doubled else PASSED,  # features of few values, such as the day of the week, repeat by nature
        f"{doubled} of {len(test):,} test rows have them",
    )


def _features_of_the_future(data: MarketDataModule) -> CheckRecord:
    result = short_form(data)
    # the first stage that moved is enough: the windows follow from the features
    moved = sorted({finding.column for finding in result.findings if finding.stage == result.findings[0].stage})
    highest = max(
        float(values.abs().max()) for values in label_correlations(data.panel, data.fit_rows, data.targets).values()
    )
    return _check(
        "L2 features that are not legitimate",
        "the short form of the audit: nothing known at a date changes in any bit when all later rows are changed or "
        "removed, at the first validation date and in the middle of the test part; no feature correlates above "
        f"{LEAK_CORRELATION} with a label",
        not moved,
        f"{'changed: ' + ', '.join(moved) if moved else 'none changed'}; highest correlation {highest:.3f}",
    )


def _order_of_time(data: MarketDataModule) -> CheckRecord:
    panel, parts = data.panel, data.parts
    reach = max(target.reach for target in data.targets)
    if parts.boundaries.spans is not None:
        test = "what a row reads and its label touch no label of a later part, before and after it in time"
        found = f"test stretches begin {parted(data)}; {parts.purged} rows purged"
        return _check(ORDER, test, purge(data).outcome == PASSED, found)
    train, validation = (label_ends(data, rows, reach).max() for rows in (parts.train, parts.validation))
    return _check(
        ORDER,
        "the last label of each part ends before the first decision of the next one",
        purge(data).outcome == PASSED,
        f"labels end {_day(train)} and {_day(validation)}, the next decisions are of "
        f"{_day(panel.time[parts.validation].min())} and {_day(panel.time[parts.test].min())}; "
        f"{parts.purged} rows purged",
    )


def _shared_dates(data: MarketDataModule) -> CheckRecord:
    dates = [set(data.panel.time[rows].tolist()) for rows in (data.parts.train, data.parts.validation, data.parts.test)]
    shared = sum(map(len, dates)) - len(set().union(*dates))
    return _check(
        "L3.2 training and test samples that depend on each other",
        "the parts are cut by date over all symbols, so that no date is in two parts; tests cluster by date",
        shared == 0,
        f"{shared} shared dates, {counted(len(data.panel.symbols), 'symbol')}",
    )


def _test_population(data: MarketDataModule) -> CheckRecord:
    panel, parts = data.panel, data.parts
    trained, tested = set(panel.symbol[parts.train].tolist()), set(panel.symbol[parts.test].tolist())
    in_test = parts.boundaries.inside("test", panel.time)
    return _check(
        "L3.3 a test set that is not the population of interest",
        "which rows and symbols the test part holds; whether they are the market of interest is for the reader to say",
        NOTE,
        f"{len(parts.test) / max(int(in_test.sum()), 1):.1%} of the rows after the test date; "
        f"symbols that end before it: {len(trained - tested)}, that begin after training: {len(tested - trained)}",
    )


def _check(kind: str, test: str, outcome: bool | str, result: str) -> CheckRecord:
    """The record of a check, whose outcome is whether it passed, or `note`."""
    if not isinstance(outcome, str):
        outcome = PASSED if outcome else FAILED
    return {"kind": kind, "test": test, "outcome": outcome, "found": result}


def _day(time: Any) -> str:
    return str(np.datetime64(time, "D"))
