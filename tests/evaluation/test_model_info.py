"""The information sheet: clean data passes each check of leakage, and each check finds the fault that it is for."""

from __future__ import annotations

import copy
import json
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.prices import Checks
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.splits import DateSplit
from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue, RealizedVolatility
from cnn_lstm.evaluation.model_info import leakage_checks, model_info
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.objectives import Classes
from tests.fits import small_network
from tests.markets import TableSource, market, walk

MODULE = "own_features_of_the_sheet"
FEATURES = ["log_return_1", "close_location"]
VALIDATION, TEST = "2010-08-02", "2010-10-01"
SPLIT = DateSplit(VALIDATION, TEST)
Outcomes = dict[str, tuple[str, str]]


def ready(table: pd.DataFrame | None = None, **arguments: Any) -> MarketDataModule:
    settings: dict[str, Any] = {"features": FEATURES, "targets": [ForwardReturn(3)], "split": SPLIT, "window": 6}
    data = MarketDataModule(TableSource(market(260) if table is None else table), **settings | arguments)
    data.setup("fit")
    return data


def learnt(data: MarketDataModule, rows: Rows | None = None) -> Forecaster:
    """A forecaster with the statistics of the training rows, or of other rows."""
    classes = data.targets[0].classes
    network = small_network(n_features=data.n_features)
    forecaster = Forecaster(network, Classes(classes) if classes else None, n_targets=data.n_targets)
    statistics: Any = data.statistics if rows is None else data.statistics_of(data.panel, rows)
    forecaster.learn_statistics(statistics)
    return forecaster


def outcomes(data: MarketDataModule, model: Forecaster | None = None, **checkpoint: Any) -> Outcomes:
    """Outcome and metrics of each check, by its number."""
    results = leakage_checks(data, model or learnt(data), Contract.from_plain(data.contract() | checkpoint))
    return {check["kind"].split()[0]: (check["outcome"], check["found"]) for check in results}


def failed(results: Outcomes) -> list[str]:
    return [kind for kind, (outcome, _) in results.items() if outcome == "failed"]


def with_parts(data: MarketDataModule, **parts: Any) -> MarketDataModule:
    """The data module with other rows in its parts, and the statistics that follow from them."""
    other = copy.copy(data)
    other.parts = replace(data.parts, **parts)
    return other


@pytest.fixture(scope="module")
def data() -> MarketDataModule:
    return ready()


OwnFeature = Callable[[Callable[[pd.DataFrame], Any]], MarketDataModule]


@pytest.fixture
def user_feature(monkeypatch: pytest.MonkeyPatch) -> OwnFeature:
    """Makes a data module with a function of the user's as a feature."""

    def with_feature(function: Callable[[pd.DataFrame], Any]) -> MarketDataModule:
        module = types.ModuleType(MODULE)
        module.mine = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, MODULE, module)
        # the functions themselves are defined here
        monkeypatch.setattr("cnn_lstm.specs._trusted", {"cnn_lstm", MODULE, __name__.split(".")[0]})
        return ready(features=[*FEATURES, f"{MODULE}.mine"])

    return with_feature


# -- clean data --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"targets": [ForwardReturn(1, delay=0), RealizedVolatility(5)], "scaling": "robust"},
        {"targets": [Direction([-0.005, 0.005], horizon=2)]},
        {"features": ["close", "log_return_1"], "targets": [ForwardValue("close", 2)], "anchor": ["close"]},
        {"features": ["close_location", "return_rank_20", "market_return_1"], "split": None},
    ],
    ids=["return", "two_targets", "classes", "anchored_level", "cross_section"],
)
def test_clean_data_passes(arguments: dict[str, Any]) -> None:
    results = outcomes(ready(**arguments))
    assert {kind: outcome for kind, (outcome, _) in results.items()} == {
        "L1.1": "passed",
        "L1.2": "passed",
        "L1.3": "passed",
        "L1.4": "passed",
        "L2": "passed",
        "L3.1": "passed",
        "L3.2": "passed",
        "L3.3": "note",
    }
    assert results["L1.2"][1] == "equal in every bit"
    assert results["L2"][1].startswith("none changed; highest correlation 0.")


def test_checks_of_clean_data_count_rows_dates_and_symbols(data: MarketDataModule) -> None:
    parts, results = data.parts, outcomes(data)
    counts = f"{len(parts.train)} training, {len(parts.validation)} validation, {len(parts.test)} test rows, 0 shared;"
    assert results["L1.1"][1].startswith(counts)
    assert results["L1.3"][1] == "2 features, muted: none"
    assert results["L1.4"][1] == f"0 of {len(parts.test)} test rows have them"
    assert results["L3.1"][1].endswith(f" and {TEST}; {parts.purged} rows purged")
    assert results["L3.2"][1] == "0 shared dates, 3 symbols"
    assert results["L3.3"][1].endswith("; symbols that end before it: 0, that begin after training: 0")


# -- test rows in training -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_row_in_two_parts_fails(data: MarketDataModule, part: str) -> None:
    mixed = with_parts(data, **{part: np.append(getattr(data.parts, part), data.parts.test[:2])})
    results = outcomes(mixed)
    assert results["L1.1"][0] == "failed"
    assert ", 2 shared;" in results["L1.1"][1]
    assert {"L3.1", "L3.2"} <= set(failed(results))


def test_statistics_of_all_rows_fail(data: MarketDataModule) -> None:
    every = np.concatenate([data.parts.train, data.parts.validation, data.parts.test])
    results = outcomes(data, learnt(data, every))
    assert failed(results) == ["L1.2"]
    assert results["L1.2"][1] == "different: feature means, feature scales, target means, target scales"


@pytest.mark.parametrize(
    ("buffer", "expected"),
    [
        ("network.standardize.loc", "feature means"),
        ("network.standardize.scale", "feature scales"),
        ("y_loc", "target means"),
        ("y_scale", "target scales"),
    ],
)
def test_the_last_bit_of_a_statistic_decides(data: MarketDataModule, buffer: str, expected: str) -> None:
    model = learnt(data)
    values = model.get_buffer(buffer)
    values[-1] = torch.nextafter(values[-1], torch.tensor(torch.inf))
    results = outcomes(data, model)
    assert (failed(results), results["L1.2"][1]) == (["L1.2"], f"different: {expected}")


def test_statistics_of_labels_that_reach_the_validation_part_fail(data: MarketDataModule) -> None:
    unpurged = with_parts(data, train=data.windows[data.panel.time[data.windows] < np.datetime64(VALIDATION)])
    results = outcomes(unpurged, learnt(unpurged, unpurged.parts.train))
    assert failed(results) == ["L1.2", "L3.1"]
    assert "target means" in results["L1.2"][1]


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"fingerprint": "another"},
        {"boundaries": {"train": "1999-01-01T00:00:00.000000"}},
        {"boundaries": {"validation": "2010-08-03T00:00:00.000000"}},
    ],
    ids=["fingerprint", "training_date", "validation_date"],
)
def test_a_checkpoint_of_other_data_or_dates_is_noted(data: MarketDataModule, checkpoint: dict[str, Any]) -> None:
    dates = data.contract()["boundaries"]
    assert (dates["train"], dates["validation"]) == ("2010-01-04T00:00:00.000000", f"{VALIDATION}T00:00:00.000000")
    if "boundaries" in checkpoint:
        checkpoint = {"boundaries": dates | checkpoint["boundaries"]}
    results = outcomes(data, learnt(data, data.windows[:50]), **checkpoint)
    assert failed(results) == []
    assert results["L1.2"] == ("note", "the checkpoint was trained on other data or dates than those of this test")


def test_features_muted_by_later_rows_fail() -> None:
    table = market(260)
    table["flag"] = (table["timestamp"] >= pd.Timestamp(TEST, tz="UTC")).astype(float)
    data = ready(table, features=[*FEATURES, "flag"])
    assert outcomes(data)["L1.3"] == ("passed", "3 features, muted: flag")
    model, every = learnt(data), np.concatenate([data.parts.train, data.parts.test])
    data.statistics = data.statistics_of(data.panel, every)
    results = outcomes(data, model)
    assert (failed(results), results["L1.3"][1]) == (["L1.3"], "3 features, muted: none")


def test_equal_features_are_noted() -> None:
    table = market(260)
    table["weekday"] = table["timestamp"].dt.day_of_week.astype(float)
    assert outcomes(ready(table, features=["weekday"]))["L1.4"] == ("note", "5 of 5 test rows have them")


def test_features_equal_in_some_columns_only_pass() -> None:
    table = market(260)
    table["weekday"] = table["timestamp"].dt.day_of_week.astype(float)
    assert outcomes(ready(table, features=[*FEATURES, "weekday"]))["L1.4"][0] == "passed"


# -- features of the future ----------------------------------------------------------------------------------------


def peeks(since: str = "2000-01-01", until: str = "2100-01-01") -> Callable[[pd.DataFrame], pd.Series]:
    """The volume of the next row, between two dates."""

    def feature(bars: pd.DataFrame) -> pd.Series:
        days = bars["timestamp"]
        looks = (days >= pd.Timestamp(since, tz="UTC")) & (days < pd.Timestamp(until, tz="UTC"))
        return bars["volume"].where(~looks, bars["volume"].shift(-1))

    return feature


@pytest.mark.parametrize(
    "feature",
    [
        peeks(),
        peeks(until=VALIDATION),
        peeks(since=TEST),
        lambda bars: bars["volume"] / bars["volume"].mean(),
        lambda bars: bars["volume"].rolling(5, center=True).mean(),
        lambda bars: bars["volume"][::-1].cummax()[::-1],
    ],
    ids=["next_row", "in_training_only", "in_test_only", "mean_of_all", "centred_mean", "highest_to_come"],
)
def test_a_feature_that_looks_ahead_fails(user_feature: OwnFeature, feature: Callable[[pd.DataFrame], Any]) -> None:
    results = outcomes(user_feature(feature))
    assert results["L2"][0] == "failed"
    assert results["L2"][1].startswith(f"changed: {MODULE}.mine; highest correlation ")


def test_a_feature_that_looks_back_passes(user_feature: OwnFeature) -> None:
    results = outcomes(user_feature(lambda bars: bars["volume"].shift(1).rolling(5).mean()))
    assert failed(results) == []
    assert results["L2"][1].startswith("none changed; ")


# -- test rows that are not the future -----------------------------------------------------------------------------


@pytest.mark.parametrize(("part", "end"), [("train", VALIDATION), ("validation", TEST)])
def test_labels_that_reach_the_next_part_fail(data: MarketDataModule, part: str, end: str) -> None:
    time = data.panel.time[data.windows]
    start = np.datetime64("2000-01-01" if part == "train" else VALIDATION)
    unpurged = with_parts(data, **{part: data.windows[(time >= start) & (time < np.datetime64(end))]})
    results = outcomes(unpurged, learnt(data))
    assert results["L3.1"][0] == "failed"
    assert {"L1.1", "L3.2"}.isdisjoint(failed(results))


def test_the_longest_label_counts() -> None:
    data = ready(targets=[ForwardReturn(1, delay=0), ForwardReturn(4)])
    unpurged = with_parts(data, train=np.append(data.parts.train, data.parts.train.max() + 1))
    assert outcomes(unpurged, learnt(data))["L3.1"][0] == "failed"


def test_one_label_that_ends_with_the_first_decision_of_the_next_part_fails(data: MarketDataModule) -> None:
    panel, parts = data.panel, data.parts
    first = panel.time[parts.validation].min()
    row = int(np.flatnonzero(panel.time == first)[0]) - 4  # horizon 3, delay 1
    assert row not in parts.train
    results = outcomes(with_parts(data, train=np.sort(np.append(parts.train, row))), learnt(data))
    assert results["L3.1"][0] == "failed"


@pytest.mark.parametrize("part", ["train", "validation"])
def test_symbols_cut_at_different_dates_fail(data: MarketDataModule, part: str) -> None:
    """All rows of one symbol in the part, the later rows of the others in the test part."""
    symbol = data.panel.symbol
    later = data.parts.test[symbol[data.parts.test] == 0]
    others = data.parts.test[symbol[data.parts.test] != 0]
    cut = with_parts(data, test=others, **{part: np.append(getattr(data.parts, part), later)})
    results = outcomes(cut, learnt(data))
    shared = len(np.intersect1d(data.panel.time[later], data.panel.time[others]))
    assert results["L1.1"][0] == "passed"
    assert results["L3.2"] == ("failed", f"{shared} shared dates, 3 symbols")


def test_symbols_that_come_and_go_are_noted() -> None:
    gone = walk(160, "GONE", 1)  # ends in August
    fresh = walk(80, "NEW", 2, start="2010-09-20")
    table = pd.concat([market(260, gaps=False), gone, fresh, walk(75, "NEWER", 3, "2010-09-27")], ignore_index=True)
    data = ready(table, checks=Checks(on_short="skip"))
    results = outcomes(data)
    assert failed(results) == []
    outcome, expected = results["L3.3"]
    assert outcome == "note"
    assert expected.endswith("; symbols that end before it: 1, that begin after training: 2")
    panel, edges = data.panel, data.parts.boundaries
    share = len(data.parts.test) / int((panel.time >= edges.test).sum())
    assert 0.5 < share < 1
    assert expected.startswith(f"{share:.1%} of the rows after the test date;")


# -- the sheet ---------------------------------------------------------------------------------------------------------


def test_the_sheet_holds_model_data_split_and_leakage_in_plain_values(data: MarketDataModule) -> None:
    model = learnt(data)
    sheet = model_info(data, model, Contract.from_plain(data.contract() | {"fingerprint": "trained on"}))
    assert json.loads(json.dumps(sheet, allow_nan=False)) == sheet
    assert list(sheet) == ["model", "data", "split", "leakage"]
    assert sheet["model"] == {
        "network": model.network.spec(),
        "objective": model.objective.spec(),
        "parameters": sum(weights.numel() for weights in model.parameters()),
    }
    assert sheet["data"] == {
        "source": "TableSource",
        "sha256": data.fingerprint,
        "trained_on_sha256": "trained on",
        "rows": len(data.panel),
        "symbols": ["AAA", "BBB", "CCC"],
        "first": str(data.panel.time.min())[:10],
        "last": str(data.panel.time.max())[:10],
        "features": FEATURES,
        "targets": [ForwardReturn(3).spec()],
        "window": 6,
    }
    assert sheet["split"]["purged_rows"] == data.parts.purged > 0
    for name in ("train", "validation", "test"):
        rows = getattr(data.parts, name)
        days = data.panel.time[rows].astype("datetime64[D]")
        assert sheet["split"][name] == {"forecasts": len(rows), "first": str(days.min()), "last": str(days.max())}
    assert [check["kind"].split()[0] for check in sheet["leakage"]] == list(outcomes(data))
    assert all(set(check) == {"kind", "test", "outcome", "found"} for check in sheet["leakage"])
