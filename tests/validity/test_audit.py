"""The audit names every planted leak by stage and column, and lets clean pipelines pass."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnn_lstm.data.column_targets import LabelColumn
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.feature_catalogue import available_features
from cnn_lstm.data.parts import SplitRows
from cnn_lstm.data.picks import evenly_spread
from cnn_lstm.data.prices import Checks
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.sources.base import PriceSource
from cnn_lstm.data.splits import FractionSplit
from cnn_lstm.data.statistics import TrainingStatistics
from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue, RealizedVolatility
from cnn_lstm.data.times import utc_times
from cnn_lstm.data.windows import Panel, complete_windows, cut_windows, labelled
from cnn_lstm.errors import ValidityError
from cnn_lstm.evaluation.audit import (
    decision_shift,
    every_row,
    invariance,
    labels,
    learning,
    lookahead,
    model_rows,
    run_audit,
)
from cnn_lstm.evaluation.audit.findings import FAILED, NOT_APPLICABLE, PASSED, WARNED, Result
from cnn_lstm.evaluation.audit.lookahead import cuts_of
from cnn_lstm.evaluation.audit.perturbations import moved
from cnn_lstm.evaluation.audit.run_audit import Audit, audit, short_form
from cnn_lstm.evaluation.audit.stages import Base, Pipeline, members
from cnn_lstm.inference import intervals
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.calibration import Calibration, calibrate
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.objectives import Classes
from tests import experiments
from tests.fits import small_network
from tests.markets import TableSource, market, walk
from tests.validity import zoo

FEATURES = ["log_return_1", "close_location"]
WITHOUT_CHECKPOINT = (
    learning.REFIT,
    learning.CALIBRATION,
    model_rows.BATCH,
    model_rows.STREAMING,
    decision_shift.SHIFTED,
)


@pytest.fixture(autouse=True)
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnn_lstm.specs._trusted", {"cnn_lstm", "tests"})


@functools.cache
def table(rows: int = 320) -> pd.DataFrame:
    return market(rows, seed=4)


def ready(prices: pd.DataFrame | PriceSource | None = None, **arguments: Any) -> MarketDataModule:
    source = prices if isinstance(prices, PriceSource) else TableSource(table() if prices is None else prices)
    settings: dict[str, Any] = {"features": FEATURES, "targets": [ForwardReturn(2)], "window": 6} | arguments
    data = MarketDataModule(source, **settings)
    data.setup()
    return data


def calibrated(data: MarketDataModule, predictor: Predictor, rows: Rows) -> Calibration:
    index, targets = torch.from_numpy(rows), data.targets
    columns = {"y_true": data.panel.labels[index], **predictor.forecast_rows(data.panel, rows)}
    return calibrate(columns, data.surprise_scale(index), targets[0].classes, [target.kind for target in targets])


def learnt(data: MarketDataModule) -> Predictor:
    """What a fit of no epoch would leave: random weights, the statistics, calibration on the validation part."""
    torch.manual_seed(0)
    classes = data.targets[0].classes
    network = small_network(n_features=data.n_features, conv_dropout=0.2)
    forecaster = Forecaster(network, Classes(classes) if classes else None, n_targets=data.n_targets).eval()
    forecaster.learn_statistics(data.statistics)
    forecaster.contract = Contract.from_plain(data.contract())
    predictor = Predictor(forecaster)
    give(predictor, calibrated(data, predictor, data.parts.validation))
    return predictor


def give(predictor: Predictor, calibration: Calibration) -> None:
    """Makes a calibration that of a predictor's checkpoint."""
    predictor.forecaster.contract = replace(predictor.forecaster.contract, calibration=calibration)


def based(data: MarketDataModule, predictor: Predictor | None = None) -> Base:
    return Base(Pipeline(data, predictor), data.prices)


def columns(result: Result, stage: str = "") -> set[str]:
    return {finding.column for finding in result.findings if stage in ("", finding.stage)}


def outcomes(found: Audit) -> dict[str, str]:
    """Outcomes by check, without the one for functions of the user's own where there are none."""
    outcomes = {part.name: str(part.outcome) for part in found.results}
    if outcomes[every_row.EVERY_ROW] == NOT_APPLICABLE:
        del outcomes[every_row.EVERY_ROW]
    return outcomes


def of(found: Audit, name: str) -> Result:
    (result,) = [part for part in found.results if part.name == name]
    return result


# -- leaks in features -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def infested() -> Audit:
    """One audit of all leaking features of the zoo, with clean ones between them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnn_lstm.specs._trusted", {"cnn_lstm", "tests"})
        names = [zoo.path(function) for pair in zip(zoo.LEAKS, zoo.CLEAN * 4, strict=True) for function in pair]
        return audit(ready(features=[*dict.fromkeys(names), "close_to_sma_20"], window=2))


@pytest.mark.parametrize("leak", zoo.LEAKS, ids=lambda leak: leak.__name__)
def test_a_leaking_feature_is_caught_by_name(infested: Audit, leak: Any) -> None:
    result = of(infested, lookahead.FUTURE)
    assert result.outcome == FAILED
    (finding,) = [f for f in result.findings if (f.stage, f.column) == ("features", zoo.path(leak))]
    assert finding.symbol in ("AAA", "BBB", "CCC")
    assert finding.first >= "2010-01-04"
    assert "it changed when all rows were " in finding.what


@pytest.mark.parametrize("clean", [*map(zoo.path, zoo.CLEAN), "close_to_sma_20"])
def test_a_clean_feature_among_them_is_not(infested: Audit, clean: str) -> None:
    for result in infested.results:
        assert clean not in columns(result), result


def test_there_are_a_dozen_leaks() -> None:
    assert len(zoo.LEAKS) >= 12


def test_the_short_form_catches_leaks_too() -> None:
    data = ready(features=[zoo.path(zoo.centred_mean), "close_to_sma_20", zoo.path(zoo.full_sample_zscore)], window=2)
    found = short_form(data)
    assert columns(found, "features") == {zoo.path(zoo.centred_mean), zoo.path(zoo.full_sample_zscore)}


def test_the_first_row_that_moved_is_the_earliest_that_sees_the_future() -> None:
    data = ready(features=[zoo.path(zoo.negative_shift)])
    cuts = replace(cuts_of(data, data.prices, 0), times=np.unique(data.panel.time)[[120, 90]])
    (finding,) = [f for f in lookahead.future_perturbation(based(data), cuts).findings if f.stage == "features"]
    assert finding.first == str(np.unique(data.panel.time)[90])[:10]
    assert finding.times == 6  # two cuts, three futures


def test_the_target_itself_is_refused_before_any_audit() -> None:
    with pytest.raises(ValidityError, match=r"E819.*next_return is the target return_1"):
        ready(features=[zoo.path(zoo.next_return)], targets=[ForwardReturn()])


def test_values_filled_from_the_past_pass_and_each_run_of_them_has_a_cut() -> None:
    holes = table().copy()
    holes["rate"] = np.arange(len(holes), dtype=float)
    for first in (40, 41, 42, 90, 400):
        holes.loc[first, "rate"] = np.nan
    data = ready(holes, features=[*FEATURES, "rate"], checks=Checks(fill_max_gap=3))
    cuts = cuts_of(data, holes, 0)
    starts = {utc_times(holes["timestamp"])[row] for row in (40, 90, 400)}
    assert starts <= set(cuts.times)
    assert outcomes(audit(data))[lookahead.FUTURE] == PASSED


def test_cuts_are_where_leaks_show() -> None:
    data = ready()
    cuts = set(cuts_of(data, table(), 0).times)
    for part in (data.parts.train, data.parts.validation, data.parts.test):
        assert {data.panel.time[part].min(), data.panel.time[part].max()} <= cuts
    pause = np.flatnonzero((np.diff(data.panel.segment) != 0) & (np.diff(data.panel.symbol) == 0))
    assert len(pause) == 1
    assert set(data.panel.time[pause]) <= cuts
    assert cuts_of(data, table(), 0).times.tolist() == cuts_of(data, table(), 0).times.tolist()
    assert cuts_of(data, table(), 1).times.tolist() != cuts_of(data, table(), 0).times.tolist()


def test_many_runs_and_last_rows_are_spread_over_time() -> None:
    times = np.arange("2010-01-01", "2011-01-01", dtype="datetime64[D]")
    for most in (1, 7, 30, 1000):
        taken = times[evenly_spread(len(times), most)]
        assert len(taken) == min(most, 365)
        assert taken[0] == times[0]
        assert most == 1 or taken[-1] == times[-1]
        assert np.ptp(np.diff(taken).astype(int)) <= 1 if most > 2 else True
    assert len(evenly_spread(0, 5)) == 0


# -- leaks elsewhere ---------------------------------------------------------------------------------------------------


class LaterPresent(ForwardReturn):
    """Says that what it will know tomorrow is known today."""

    def present(self, bars: pd.DataFrame) -> NDArray[np.float64]:
        return np.concatenate([super().present(bars)[1:], [np.nan]])

    def future(self, bars: pd.DataFrame) -> NDArray[np.float64]:
        return ForwardReturn(self.horizon, self.delay).future(bars)


class TooEarly(ForwardReturn):
    """Says that it trades at the next close, and takes the one of the decision."""

    def future(self, bars: pd.DataFrame) -> NDArray[np.float64]:
        return ForwardReturn(self.horizon, self.delay - 1).future(bars)


def test_a_target_that_knows_its_value_too_early() -> None:
    data = ready(targets=[LaterPresent(2)])
    cuts = cuts_of(data, data.prices, 0)
    assert columns(lookahead.future_perturbation(based(data), cuts)) == {"value of return_2"}
    assert columns(labels.label_alignment(data)) == {"label of return_2"}


def test_a_label_that_is_filled_at_the_price_of_its_decision() -> None:
    found = labels.label_alignment(ready(targets=[TooEarly(2, delay=1)]))
    assert found.outcome == FAILED
    assert columns(found) == {"label of return_2"}
    assert "it reads the row t+0, outside of t+1..t+3" in found.findings[0].what


@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize("horizon", [1, 5])
def test_all_targets_lie_where_they_say(delay: int, horizon: int) -> None:
    numbers = [ForwardReturn(horizon, delay), RealizedVolatility(horizon, delay), ForwardValue("close", horizon, delay)]
    for targets in (numbers, [Direction([-0.01, 0.01], horizon, delay)]):
        assert labels.label_alignment(ready(targets=targets)).findings == ()


def test_a_window_scaled_by_what_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normalised over lookback and horizon together."""

    def over_the_horizon(values: Tensor, rows: Tensor, length: int) -> Tensor:
        windows = cut(values, rows, length)
        end = (rows + 2).clamp(max=len(values) - 1)
        return windows / (1.0 + torch.nan_to_num(values[end]).abs()[:, None])

    cut = cut_windows
    data = ready()
    predictor = learnt(data)
    monkeypatch.setattr("cnn_lstm.inference.predictor.cut_windows", over_the_horizon)
    found = lookahead.future_perturbation(based(data, predictor), cuts_of(data, data.prices, 0))
    assert "y_pred of return_2" in columns(found, "forecasts")
    assert {"lower_90 of return_2", "upper_90 of return_2"} <= columns(found, "intervals")
    assert "e0" in columns(found, "embeddings")
    assert not columns(found, "features") | columns(found, "windows")


def test_batch_norm_in_training_mode_under_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ready()
    predictor = learnt(data)
    assert model_rows.batch_independence(based(data, predictor)).outcome == PASSED
    monkeypatch.setattr("cnn_lstm.model.dropout.nn.Module.eval", lambda module: module.train())
    found = model_rows.batch_independence(based(data, predictor))
    # the passes of a window are a batch of their own, so that other windows cannot move its forecast
    assert columns(found, "weights") == {"state_dict"}


def test_calibration_from_test_rows() -> None:
    data = ready()
    predictor = learnt(data)
    assert learning.calibration(data, predictor, same=True).outcome == PASSED
    for rows in (data.parts.test, np.concatenate([data.parts.validation, data.parts.test])):
        give(predictor, calibrated(data, predictor, rows))
        found = learning.calibration(data, predictor, same=True)
        assert columns(found, "calibration") == {"scores of return_2"}


def test_calibration_from_some_validation_rows_and_in_reduced_precision() -> None:
    data = ready()
    predictor = learnt(data)
    give(predictor, calibrated(data, predictor, data.parts.validation[:20]))
    assert learning.calibration(data, predictor, same=True).outcome == PASSED
    whole = calibrated(data, predictor, data.parts.validation)
    noise = np.random.default_rng(0).normal(0, 0.01, len(whole.scores[0]))
    give(predictor, replace(whole, scores=[np.sort(whole.scores[0] + noise).tolist()]))
    assert learning.calibration(data, predictor, same=True).outcome == PASSED
    assert learning.calibration(data, predictor, same=False).outcome == NOT_APPLICABLE


def test_early_stopping_on_test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ready()
    assert learning.part_rows(data).outcome == PASSED
    monkeypatch.setattr(MarketDataModule, "val_dataloader", MarketDataModule.test_dataloader)
    found = learning.part_rows(data)
    assert columns(found, "batches") == {"validation rows"}
    assert found.findings[0].first == str(data.panel.time[data.parts.test].min())[:10]


def test_a_best_epoch_that_a_test_figure_chose() -> None:
    states: dict[str, Any] = {"ModelCheckpoint{'monitor': 'val_loss', 'mode': 'min'}": {}}
    assert learning.part_rows(ready(), {"callbacks": states}).outcome == PASSED
    states["EarlyStopping{'monitor': 'test_loss', 'mode': 'min'}"] = {}
    assert columns(learning.part_rows(ready(), {"callbacks": states}), "checkpoint") == {"best epoch"}


def test_statistics_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_all(data: MarketDataModule, panel: Panel, rows: Rows) -> TrainingStatistics:
        every = complete_windows(panel, data.recipe.window)
        return honest(data, panel, every[labelled(panel, every)])

    honest = MarketDataModule.statistics_of
    monkeypatch.setattr(MarketDataModule, "statistics_of", of_all)
    data = ready()
    found = learning.training_statistics(data, data.prices)
    assert {"x_loc of log_return_1", "x_scale of log_return_1", "y_scale of return_2"} <= columns(found, "statistics")
    monkeypatch.undo()
    monkeypatch.setattr("cnn_lstm.specs._trusted", {"cnn_lstm", "tests"})
    refit = learning.refit(data, members(learnt(data).forecaster), same=True)
    assert "feature means" in columns(refit)


def test_class_counts_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_all(data: MarketDataModule, panel: Panel, rows: Rows) -> TrainingStatistics:
        found = honest(data, panel, rows)
        known = panel.labels[torch.isfinite(panel.labels[:, 0]), 0].long()
        return replace(found, class_counts=torch.bincount(known, minlength=2)[None].float())

    honest = MarketDataModule.statistics_of
    monkeypatch.setattr(MarketDataModule, "statistics_of", of_all)
    data = ready(targets=[Direction()])
    assert columns(learning.training_statistics(data, data.prices)) == {"class_counts of direction_1"}


def test_a_shuffled_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def shuffled(chunks: Any, boundaries: Any, collector: Any) -> SplitRows:
        rows = np.concatenate([rows for rows, *_ in chunks()])
        order = np.random.default_rng(0).permutation(rows)
        train, validation, test = np.split(order, [len(rows) * 6 // 10, len(rows) * 8 // 10])
        return SplitRows(np.sort(train), np.sort(validation), np.sort(test), 0, boundaries)

    monkeypatch.setattr("cnn_lstm.data.market_data.split_chunks", shuffled)
    found = audit(ready())
    assert columns(of(found, learning.PURGE), "split") == {"train labels", "validation labels"}
    assert columns(of(found, learning.PARTS), "batches") == {"train rows", "validation rows"}


def test_a_split_without_a_purge() -> None:
    data = copy.copy(ready())
    assert learning.purge(data).outcome == PASSED
    edges, time = data.parts.boundaries, data.panel.time[data.windows]
    data.parts = replace(data.parts, train=data.windows[time < edges.validation])
    (finding,) = learning.purge(data).findings
    assert (finding.stage, finding.column) == ("split", "train labels")
    assert finding.times == 9  # three rows of each of three symbols


class Survivors(TableSource):
    """Only symbols that have a bar on the last day that was asked for."""

    def load(self, symbols: Sequence[str] | None, start: str | None, end: str | None) -> pd.DataFrame:
        found = super().load(symbols, start, end)
        alive = found.loc[found["timestamp"] == found["timestamp"].max(), "symbol"]
        return found[found["symbol"].isin(alive)]


class Rebased(TableSource):
    """Prices in units of the last one, as adjusted prices are."""

    def load(self, symbols: Sequence[str] | None, start: str | None, end: str | None) -> pd.DataFrame:
        found = super().load(symbols, start, end).copy()
        prices = ["open", "high", "low", "close"]
        found[prices] = found[prices].div(found.groupby("symbol")["close"].transform("last"), axis=0)
        return found


def test_a_universe_of_survivors() -> None:
    prices = table()
    gone = prices[(prices["symbol"] != "BBB") | (prices["timestamp"] < "2010-10-01")]
    data = ready(Survivors(gone))
    assert data.panel.symbols == ("AAA", "CCC")
    found = lookahead.prices_as_known(data, data.source.load(None, None, None))
    assert found.outcome == FAILED
    assert {(f.stage, f.column, f.symbol) for f in found.findings} == {("prices", "rows", "BBB")}


def test_prices_rebased_by_their_source() -> None:
    data = ready(Rebased(table()))
    found = lookahead.prices_as_known(data, data.source.load(None, None, None))
    assert columns(found, "prices") == {"open", "high", "low", "close"}


def test_intervals_that_learn_from_labels_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(series: Any, *given: Any) -> Any:
        series.end = series.as_of.copy()
        return replay(series, *given)

    replay = intervals._Series.replay
    data = ready()
    predictor = learnt(data)
    assert model_rows.streaming(based(data, predictor)).outcome == PASSED
    monkeypatch.setattr("cnn_lstm.inference.intervals._Series.replay", at_once)
    found = model_rows.streaming(based(data, predictor))
    assert {name.rstrip("0589") for name in columns(found, "intervals")} == {"lower_", "upper_"}


def with_edge(data: MarketDataModule, lives: int, monkeypatch: pytest.MonkeyPatch) -> Base:
    """A checkpoint whose forecasts are the sum of the next so many returns that are traded."""

    def all_knowing(predictor: Predictor, panel: Panel, rows: Rows) -> pd.DataFrame:
        found = honest(predictor, panel, rows)
        of = found.groupby(["target", "symbol"], observed=True)["bar_return"]
        found["y_pred"] = sum(of.shift(-later).fillna(0.0) for later in range(lives))
        return found

    base, honest = based(data, learnt(data)), Predictor.predict_rows
    monkeypatch.setattr(Predictor, "predict_rows", all_knowing)
    return base


@pytest.mark.parametrize(("lives", "horizon", "outcome"), [(1, 5, WARNED), (5, 5, PASSED), (1, 1, PASSED)])
def test_an_edge_that_one_bar_takes_away(
    lives: int, horizon: int, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label of one bar may lose its edge with that bar; one of five may not."""
    base = with_edge(ready(targets=[ForwardReturn(horizon)]), lives, monkeypatch)
    found = decision_shift.shifted_decision(base)
    assert found.outcome == outcome
    assert found.compared.count("(") == 1 + len(decision_shift.DELAYS)
    if outcome == WARNED:
        assert columns(found, "forecasts") == {f"y_pred of return_{horizon}"}
        assert decision_shift.shifted_decision(base, warnings_fail=True).outcome == FAILED


def test_forecasts_that_are_all_the_same_have_no_edge_to_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    base = with_edge(ready(targets=[ForwardReturn(5)]), 0, monkeypatch)
    assert decision_shift.shifted_decision(base).outcome == PASSED


# -- what must not matter ----------------------------------------------------------------------------------------------


def test_levels_are_a_warning_and_a_failure_where_warnings_fail() -> None:
    base = based(ready(features=[*FEATURES, "close", zoo.path(zoo.dollars)]))
    found = invariance.adjustment(base)
    assert (found.outcome, columns(found)) == (WARNED, {"close", zoo.path(zoo.dollars)})
    assert invariance.adjustment(base, warnings_fail=True).outcome == FAILED


def test_a_memory_without_a_warm_up() -> None:
    found = invariance.start_up(based(ready(features=[*FEATURES, zoo.path(zoo.undeclared_memory), "close_to_sma_20"])))
    assert (found.outcome, columns(found)) == (FAILED, {zoo.path(zoo.undeclared_memory)})


def test_a_feature_that_remembers_another_symbol() -> None:
    found = invariance.symbol_isolation(based(ready(features=[*FEATURES, zoo.path(zoo.reads_other_symbols)])))
    assert zoo.path(zoo.reads_other_symbols) in columns(found, "features")
    assert not columns(found, "features") & set(FEATURES)


def test_one_symbol_and_no_prices() -> None:
    prices = table()[table()["symbol"] == "AAA"][["symbol", "timestamp", "close"]].rename(columns={"close": "rate"})
    data = ready(prices, features=["rate"], targets=[ForwardValue("rate")], anchor=["rate"])
    found = outcomes(audit(data))
    assert found.pop(invariance.ADJUSTMENT) == NOT_APPLICABLE
    assert {name for name, outcome in found.items() if outcome != PASSED} == set(WITHOUT_CHECKPOINT)


def test_a_feature_that_is_not_the_same_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    monkeypatch.setattr(zoo, "dollars", lambda bars: bars["close"] * 0 + random.normal(size=len(bars)))
    found = invariance.determinism(based(ready(features=[*FEATURES, "tests.validity.zoo.dollars"])))
    assert columns(found, "features") == {"tests.validity.zoo.dollars"}


# -- clean -------------------------------------------------------------------------------------------------------------


def random_pipeline(seed: int) -> MarketDataModule:
    """A few shipped features, a window, a horizon, a delay and a split, all drawn from a seed."""
    random = np.random.default_rng(seed)
    offered = [offer.default for offer in available_features() if offer.warmup < 60]
    names = random.choice(offered, random.integers(2, 7), replace=False).tolist()
    horizon, delay = int(random.integers(1, 8)), int(random.integers(0, 3))
    targets = [ForwardReturn(horizon, delay), RealizedVolatility(max(horizon, 2))][: int(random.integers(1, 3))]
    window, train = int(random.integers(2, 20)), float(random.uniform(0.5, 0.65))
    return ready(
        market(420, seed=seed), features=names, targets=targets, window=window, split=FractionSplit(train, 0.2)
    )


def failures(found: Audit) -> list[str]:
    return [str(finding) for result in found.failed for finding in result.findings]


@pytest.mark.parametrize("seed", range(5))
def test_a_clean_random_pipeline_is_not_flagged(seed: int) -> None:
    assert failures(audit(random_pipeline(seed), seed=seed)) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5, 105))
def test_a_hundred_clean_random_pipelines_are_not_flagged(seed: int) -> None:
    data = random_pipeline(seed)
    predictor = learnt(data) if seed % 5 == 0 else None
    assert failures(audit(data, predictor, seed=seed)) == []


def test_every_shipped_feature_passes() -> None:
    offered = [offer.default for offer in available_features()]
    data = ready(market(900, seed=2), features=offered)
    found = {**outcomes(audit(data))}
    assert {name for name, outcome in found.items() if outcome != PASSED} == set(WITHOUT_CHECKPOINT)


@pytest.mark.parametrize(
    "arguments",
    [
        {"targets": [ForwardReturn(2), RealizedVolatility(5)]},
        {"targets": [Direction([-0.005, 0.005], horizon=2)]},
        {"features": ["close", "log_return_1"], "targets": [ForwardValue("close", 2)], "anchor": ["close"]},
        {"features": ["return_rank_20", "market_return_1"], "scaling": "robust"},
    ],
    ids=["numbers", "classes", "anchored_level", "cross_section"],
)
def test_a_clean_checkpoint_passes_every_check(arguments: dict[str, Any]) -> None:
    data = ready(**arguments)
    found = outcomes(audit(data, learnt(data)))
    level = found.pop(invariance.ADJUSTMENT)
    assert level == (WARNED if "anchor" in arguments else PASSED)
    traded = all(target.traded for target in data.targets[:1])
    assert found.pop(decision_shift.SHIFTED) == (PASSED if traded else NOT_APPLICABLE)
    assert set(found.values()) == {PASSED}


def test_the_short_form_is_quick() -> None:
    data = ready()
    found = short_form(data)
    assert (found.outcome, found.findings) == (PASSED, ())
    assert found.compared.startswith("2 cuts; 4 trials x 3 stages, ")


# -- the command -----------------------------------------------------------------------------------------------------


def test_audit_of_a_run_writes_into_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = experiments.experiment(tmp_path, table())
    run = experiments.fit(config, tmp_path / "run")
    capsys.readouterr()
    assert experiments.run("audit", "--config", run / "config.yaml", "--ckpt_path", "best") == 0
    printed = capsys.readouterr()
    written = json.loads((run / "audit.json").read_text())
    assert written["passed"]
    by_check = {check["name"]: check["outcome"] for check in written["checks"]}
    assert by_check.pop(every_row.EVERY_ROW) == NOT_APPLICABLE
    lines = [line for line in printed.out.splitlines()[: len(written["checks"])] if every_row.EVERY_ROW not in line]
    assert by_check == dict.fromkeys([line.split("  ")[0] for line in lines], PASSED)
    assert re.search(r"^auditing [\d,]+ rows of 3 symbols, 4 features, 0 of them your own$", printed.err, re.MULTILINE)


def test_each_result_is_printed_before_the_next_check_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []

    def noted(data: MarketDataModule, *given: Any) -> Result:
        printed.append(capsys.readouterr().out)
        return honest(data, *given)

    honest = learning.training_statistics
    monkeypatch.setattr(learning, "training_statistics", noted)
    assert experiments.run("audit", "--config", experiments.experiment(tmp_path, table())) == 0
    assert [line.split("  ")[0] for line in printed[0].splitlines()] == [
        *(lookahead.SOURCE, lookahead.FUTURE, every_row.EVERY_ROW)
    ]


def test_a_terminal_shows_the_check_that_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    run_audit._say(lookahead.FUTURE, None)
    assert capsys.readouterr().out == f"{lookahead.FUTURE} ...\r"


def test_a_leak_ends_with_code_8_and_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leak = zoo.path(zoo.centred_mean)
    config = experiments.experiment(tmp_path, table(), {"features": ["log_return_1", leak], "window": 4})
    words = ["--trust-imports", "tests", "--config", config, "--output", tmp_path / "found.json"]
    assert experiments.run("audit", *words) == 8
    printed = capsys.readouterr()
    assert f"  features: {leak} — " in printed.out
    assert printed.err.splitlines()[-1].startswith("error[E820]: the audit failed: future perturbation (")
    assert leak in printed.err
    assert not json.loads((tmp_path / "found.json").read_text())["passed"]


def test_strict_refuses_a_level(tmp_path: Path) -> None:
    config = experiments.experiment(tmp_path, table(), {"features": ["log_return_1", "close"]})
    assert experiments.run("audit", "--config", config) == 0
    assert experiments.run("audit", "--config", config, "--warnings_fail") == 8


def test_a_checkpoint_of_another_window_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = experiments.experiment(tmp_path, table())
    run = experiments.fit(config, tmp_path / "run")
    words = ["--config", run / "config.yaml", "--ckpt_path", "best", "--data.window", 9]
    assert experiments.run("audit", *words) == 4
    assert "window: 8 -> 9" in capsys.readouterr().err


def test_classes_in_a_column_are_shuffled_and_stay_classes() -> None:
    """A label times a random factor would not be a label any more: nothing could be trained on the changed table."""
    table = walk(300).assign(label=np.tile([1.0, -1.0, np.nan], 100), size=np.arange(300.0) / 7)
    later = np.arange(300) >= 200
    changed = moved(table, later)
    assert changed["label"][:200].equals(table["label"][:200])
    one, other = (np.sort(labels["label"].to_numpy()[200:]) for labels in (changed, table))
    assert np.array_equal(one, other, equal_nan=True)
    assert (changed["label"][200:] != table["label"][200:]).sum() > 30
    assert (changed["size"][200:] != table["size"][200:]).all()


def test_statistics_are_audited_where_labels_are_classes_of_a_column() -> None:
    table = walk(400)
    table["label"] = np.sign(table["close"].diff())
    target = LabelColumn("label", values=[-1, 1], price="close")
    data = MarketDataModule(TableSource(table), targets=[target], features=["log_return_1"], window=5)
    data.setup()
    assert learning.training_statistics(data, table).outcome == PASSED


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_label_that_stands_at_its_decision_is_no_look_ahead(horizon: int) -> None:
    table = walk(300)
    table["ahead"] = table["close"].shift(-horizon) / table["close"] - 1
    target = LabelColumn("ahead", horizon, stands="decision")
    data = MarketDataModule(TableSource(table), targets=[target], features=["log_return_1"], window=5)
    data.setup()
    assert labels.label_alignment(data).outcome == PASSED
    assert not short_form(data).findings
