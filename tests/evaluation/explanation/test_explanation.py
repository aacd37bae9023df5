"""A planted feature and its lag rank first by both methods, and every number is what its name says."""

from __future__ import annotations

import html
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.known_future import KnownFuture
from cnn_lstm.data.splits import FractionSplit
from cnn_lstm.data.static_columns import StaticColumns
from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue, RealizedVolatility
from cnn_lstm.data.windows import cut_windows
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.evaluation.explanation import attribution
from cnn_lstm.evaluation.explanation.attribution import attributed, neutral_windows, point_forecast
from cnn_lstm.evaluation.explanation.explain import explain, explain_forecast
from cnn_lstm.evaluation.explanation.page import explanation_page
from cnn_lstm.evaluation.explanation.permutation import (
    block_length,
    correlated,
    moved_dates,
    permuted_losses,
    rows_of_dates,
)
from cnn_lstm.inference.ensemble import Ensemble
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model import objectives
from cnn_lstm.model.forecast_model import ForecastModel
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.layers import Standardize
from cnn_lstm.model.network import CNNLSTM
from tests.evaluation.explanation.planted import FEATURES, Planted, planted, planted_prices
from tests.evaluation.test_html import Page
from tests.fits import small_network, small_trainer
from tests.markets import market

pytest.importorskip("captum")
FEW = {"rows": 120, "repeats": 3}


@pytest.fixture(scope="module")
def found() -> Planted:
    return planted(3)


def highest(table: pd.DataFrame, column: str) -> pd.Series:
    return table.iloc[int(table[column].argmax())]


def ranks_first(one: Planted, learnt: bool = True) -> None:
    explained = explain(one.predictor, one.data, rows=200)
    by_feature, by_bar = explained.by_feature, explained.by_bar
    assert highest(by_feature, "attribution")["feature"] == one.feature
    assert highest(by_feature, "rise")["feature"] == one.feature
    assert explained.basis.gap < 0.02
    if learnt:
        top, others = by_feature.iloc[0], by_feature.iloc[1:]
        assert top["rise"] > 5 * top["rise_std"]
        assert (others["rise"].abs() < 0.2 * top["rise"]).all()
        assert highest(by_bar, "attribution")["lag"] == one.lag
        strongest = highest(explained.cells, "attribution")
        assert (strongest["feature"], strongest["lag"]) == (one.feature, one.lag)


@pytest.mark.parametrize("seed", [1, 4])
def test_the_planted_feature_and_its_lag_rank_first(seed: int) -> None:
    ranks_first(planted(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_in_ten_of_ten_seeds(seed: int) -> None:
    ranks_first(planted(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_the_network_alone_in_ten_of_ten_seeds(seed: int) -> None:
    """It learns something of the feature in eight short epochs, but not always at which bar it stands."""
    ranks_first(planted(seed, linear="off", epochs=8), learnt=False)


# -- integrated gradients --------------------------------------------------------------------------------------------


def test_a_line_is_explained_by_its_weights() -> None:
    """Integrated gradients of a line are weight times distance from the mean: the oracle is a product."""
    model = ForecastModel(CNNLSTM(3, channels=[4], kernel_sizes=[3], lstm_hidden=4, attention_heads=2)).eval()
    torch.nn.init.zeros_(model.head.weight)
    loc, scale = torch.tensor([5.0, 0.0, -1.0]), torch.tensor([2.0, 1.0, torch.inf])
    model.network.standardize.take(loc, scale, torch.zeros(3), torch.zeros(0))
    weight, y_scale = torch.randn(6 * 3, generator=torch.Generator().manual_seed(0)), 0.01
    model.linear._set(weight.view(-1, 1, 1), torch.tensor([0.3]))
    model.y_scale.fill_(y_scale)
    x = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(1))
    result = attributed(model, x, 0)
    expected = (x - loc) / scale * weight.view(6, 3) * y_scale
    torch.testing.assert_close(result.values, expected.double(), rtol=1e-4, atol=1e-7)
    assert (result.values[..., 2] == 0).all()
    assert result.gap < 1e-4


HEADS: dict[str, tuple[Any, Any]] = {
    "point": (None, ForwardReturn()),
    "gaussian": (objectives.Gaussian(), ForwardReturn()),
    "student_t": (objectives.StudentT(), ForwardReturn()),
    "skewed_t": (objectives.SkewStudentT(), ForwardReturn()),
    "mixture": (objectives.Mixture(2), ForwardReturn()),
    "quantiles": (objectives.Quantiles(), ForwardReturn()),
    "qlike": (objectives.Qlike(), RealizedVolatility(5)),
    "classes": (objectives.Classes(2), Direction()),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("head", HEADS)
def test_attributions_of_every_head_add_up(head: str) -> None:
    objective, target = HEADS[head]
    table = market(220, gaps=False)
    data = MarketDataModule(table, features=["log_return_1", "close_location", "close"], anchor=["close"], window=6,
                            targets=[target], per_symbol=True, cache=None)  # fmt: skip
    forecaster = Forecaster(small_network(n_features=data.n_features), objective)
    small_trainer().fit(forecaster, datamodule=data)
    explained = explain(Predictor(forecaster), data, **FEW)
    assert explained.basis.gap < 0.02
    assert set(explained.by_feature["feature"]) == {
        "log_return_1",
        "close_location",
        "close",
    }  # without the symbol's code
    one = explain_forecast(Predictor(forecaster), table, "BBB")
    head_line = one.forecasts.iloc[0]
    parts = one.cells["attribution"]
    assert abs(parts.sum() - (head_line["forecast"] - head_line["baseline"])) < 0.02 * parts.abs().sum()
    row = Predictor(forecaster).predict(table).query("symbol == 'BBB'").iloc[-1]
    expected = row["p1"] if head == "classes" else row["y_pred"]
    assert head_line["forecast"] == pytest.approx(expected, rel=1e-4)


def test_a_level_is_explained_by_its_changes() -> None:
    table = market(220, gaps=False)
    data = MarketDataModule(table, features=["close", "log_return_1"], anchor=["close"], window=6,
                            targets=[ForwardValue("close")], cache=None)  # fmt: skip
    forecaster = Forecaster(small_network(n_features=2))
    small_trainer().fit(forecaster, datamodule=data)
    predictor = Predictor(forecaster)
    one = explain_forecast(predictor, table, "AAA")
    close = table[table["symbol"] == "AAA"]["close"].iloc[-1]
    assert one.forecasts["baseline"][0] == pytest.approx(close, rel=0.05)  # the level itself is no part of it
    last = one.cells[(one.cells["feature"] == "close") & (one.cells["lag"] == 0)]
    assert last["attribution"].item() == 0
    # moving the course of a level does not move the level
    assert explain(predictor, data, **FEW).by_feature["rise"].abs().max() < 1


def test_the_baseline_is_the_training_mean() -> None:
    layer = Standardize(4)
    loc = torch.tensor([[1.0, 2.0, 3.0, 0.0], [4.0, 5.0, 6.0, 0.0]])
    scale = torch.tensor([[2.0, 2.0, 2.0, torch.inf]] * 2)
    layer.take(loc, scale, torch.tensor([0.0, 1.0, 0.0, 0.0]), torch.tensor([7.0]))
    x = torch.randn(2, 5, 4)
    x[0, :, 3], x[1, :, 3] = 7.0, 9.0  # a known symbol, and an unknown one
    scaled = layer(neutral_windows(layer, x))
    assert (scaled[:, :-1] == 0).all()
    assert (scaled[:, -1, [0, 2]] == 0).all()
    torch.testing.assert_close(scaled[:, -1, 1], layer(x)[:, -1, 1])


def test_an_ensemble_is_the_mean_of_its_members(found: Planted) -> None:
    other = planted(3, epochs=1).predictor.forecaster
    members = [found.predictor.forecaster, other]
    ensemble = Ensemble(members, members[0].contract).eval()  # type: ignore[arg-type]
    rows = torch.from_numpy(found.data.parts.validation[:20])
    x = cut_windows(found.data.panel.values, rows, found.data.recipe.window)
    whole, *parts = (attributed(one, x, 0) for one in (ensemble, *members))
    mean = (parts[0].values + parts[1].values) / 2
    assert (whole.values - mean).abs().sum() < 0.05 * mean.abs().sum()  # the steps may differ
    explained = explain(Predictor(ensemble), found.data, **FEW)
    assert explained.by_feature["feature"][0] == found.feature
    assert highest(explained.by_feature, "rise")["feature"] == found.feature


# -- permutation -----------------------------------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(1, 9), st.integers(0, 2**32 - 1), st.integers(0, 8))
def test_blocks_change_places_whole_and_none_stays(blocks: int, block: int, seed: int, more: int) -> None:
    dates = blocks * block + more
    order = moved_dates(dates, block, np.random.default_rng(seed))
    assert sorted(order) == list(range(dates))
    cuts = np.flatnonzero(np.diff(order) != 1) + 1
    assert all(len(piece) >= block for piece in np.split(order, cuts))
    if dates % block == 0:
        assert (order != np.arange(dates)).all()
        assert (np.abs(order - np.arange(dates)) >= block).all()


@pytest.mark.parametrize("dates", [12, 60, 100, 1000])
def test_a_block_is_never_shorter_than_the_horizon(dates: int) -> None:
    for reach, window in ((1, 5), (6, 60), (21, 10)):
        assert block_length(dates, reach, window) >= reach
        assert dates // block_length(dates, reach, window) >= 10 or block_length(dates, reach, window) == reach


def test_a_window_is_replaced_by_one_of_its_symbol_and_of_the_date_that_moves_there() -> None:
    data = MarketDataModule(market(300), window=6, features=["log_return_1"], split=FractionSplit(), cache=None)
    data.setup()
    panel, every = data.panel, np.sort(data.parts.validation)
    dates, code = np.unique(panel.time[every], return_inverse=True)
    order = moved_dates(len(dates), 7, np.random.default_rng(0))
    taken = rows_of_dates(panel, every, every, order)
    np.testing.assert_array_equal(panel.symbol[taken], panel.symbol[every])
    wanted = dates[order[code]]
    exact = panel.time[taken] == wanted
    assert exact.mean() > 0.8
    for row, date in zip(taken[~exact], wanted[~exact], strict=True):
        mine = every[panel.symbol[every] == panel.symbol[row]]
        assert abs(panel.time[row] - date) <= np.abs(panel.time[mine] - date).min() + np.timedelta64(3, "D")
        assert not (panel.time[mine] == date).any()


def test_a_feature_that_the_model_does_not_read_raises_nothing(found: Planted) -> None:
    """The line alone reads one feature; its rise is computed by hand."""
    data = found.data
    model = ForecastModel(CNNLSTM(6, channels=[4], kernel_sizes=[3], lstm_hidden=4, attention_heads=2)).eval()
    torch.nn.init.zeros_(model.head.weight)
    weight = torch.zeros(data.recipe.window, 6)
    weight[-2, 2] = 0.7
    model.linear._set(weight.view(-1, 1, 1), torch.zeros(1))
    every = np.sort(data.parts.validation)
    order = moved_dates(len(np.unique(data.panel.time[every])), 9, np.random.default_rng(1))
    taken = rows_of_dates(data.panel, every, every, order)
    rises = permuted_losses(model, data.panel, data.recipe.window, every, [taken], [[0], [2], [0, 1, 3, 4, 5]])
    y, x = data.panel.labels[every, 0].double().numpy(), data.panel.values[:, 2].double().numpy()
    by_hand = ((y - 0.7 * x[taken - 1]) ** 2).mean() - ((y - 0.7 * x[every - 1]) ** 2).mean()
    assert rises.rises[0, 0] == rises.rises[2, 0] == 0
    assert rises.rises[1, 0] == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_features_that_tell_the_same_are_a_group() -> None:
    prices = planted_prices(5, feature=0, lag=1).assign(twin=lambda t: 100 - 3 * t["signal_0"])
    one = planted(5, prices=prices, features=[*FEATURES, "twin"])
    explained = explain(one.predictor, one.data, **FEW)
    group = explained.groups.iloc[0]
    assert (group["features"], len(explained.groups)) == ("signal_0, twin", 1)
    assert group["correlation"] > 0.99
    alone = explained.by_feature.set_index("feature")["rise"]
    assert group["rise"] > 1.5 * max(alone["signal_0"], alone["twin"])


def test_a_constant_feature_is_in_no_group() -> None:
    values = torch.randn(100, 3)
    values[:, 1] = 2.0
    values[:, 2] = -values[:, 0]
    assert [group for group, _ in correlated(values)] == [[0, 2]]
    assert correlated(values[:, :1]) == []


# -- the door --------------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_numbers_and_leave_everything_as_it_was(found: Planted) -> None:
    before = {name: value.clone() for name, value in found.predictor.forecaster.state_dict().items()}
    state = torch.random.get_rng_state()
    one, two = (explain(found.predictor, found.data, **FEW) for _ in range(2))
    pd.testing.assert_frame_equal(one.by_feature, two.by_feature, check_exact=True)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in found.predictor.forecaster.state_dict().items())
    assert not found.predictor.forecaster.training
    assert all(parameter.grad is None for parameter in found.predictor.forecaster.parameters())
    other = explain(found.predictor, found.data, seed=1, **FEW)
    assert not one.by_feature["rise"].equals(other.by_feature["rise"])


def test_tables_add_up_and_show_themselves(found: Planted) -> None:
    explained = explain(found.predictor, found.data, **FEW)
    size = explained.cells["attribution"].sum()
    assert explained.by_feature["attribution"].sum() == pytest.approx(size)
    assert explained.by_bar["attribution"].sum() == pytest.approx(size)
    assert explained.by_bar["share"].sum() == pytest.approx(1)
    assert explained.basis.windows <= FEW["rows"]
    assert found.feature in repr(explained)
    assert found.feature in explained._repr_html_()
    assert len(explained.plot().plots) == 3
    one = explain_forecast(found.predictor, found.prices, "AAA", "2011-10-03")
    for table in (one.by_feature, one.by_bar):
        assert table["attribution"].sum() == pytest.approx(one.cells["attribution"].sum())
    assert str(one.as_of)[:10] == "2011-10-03"
    last = found.prices[(found.prices["symbol"] == "AAA") & (found.prices["timestamp"] == one.as_of)]
    values = one.by_feature.set_index("feature")["value"]
    assert values[found.feature] == pytest.approx(last[found.feature].item())
    assert one.by_bar["timestamp"].iloc[0] == one.as_of
    assert one.by_bar["timestamp"].is_monotonic_decreasing
    assert len(one.plot().plots) == 3


def test_pages_need_nothing_else_and_write_any_name(found: Planted) -> None:
    names = {name: f"<b>{name}</b> ä$" for name in FEATURES}
    prices = found.prices.rename(columns=names)
    one = planted(3, prices=prices, features=list(names.values()), epochs=1)
    for result in (explain(one.predictor, one.data, **FEW), explain_forecast(one.predictor, prices, "AAA")):
        text = explanation_page(result)
        page = Page(text)
        assert html.escape(names[found.feature]) in text
        assert names[found.feature] not in text
        assert len([tag for tag, _ in page.tags if tag == "img"]) == 3
        assert all(str(attributes["src"]).startswith("data:") for tag, attributes in page.tags if tag == "img")
        assert names[found.feature] in [line[0] for table in page.tables for line in table]


def test_a_final_model_says_that_it_knows_these_rows() -> None:
    one = planted(1, epochs=1)
    model = one.predictor.forecaster
    model.contract = replace(model.contract, fitted_on="train_and_validation")
    assert "has trained on" in explain(one.predictor, one.data, **FEW).basis.part


def test_several_targets_have_tables_of_their_own() -> None:
    one = planted(1, targets=[ForwardReturn(1), ForwardReturn(3)])
    explained = explain(one.predictor, one.data, **FEW)
    assert explained.by_feature.groupby("target").size().to_dict() == {"return_1": 6, "return_3": 6}
    assert len(explained.plot().plots) == 6
    assert len(explained.plot("return_3").plots) == 3
    shares = explained.by_feature.groupby("target")["share"].sum()
    np.testing.assert_allclose(shares, 1)


def test_what_cannot_be_explained_is_refused(found: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"E224.*no symbol 'AAB'.*AAA"):
        explain_forecast(found.predictor, found.prices, "AAB")
    with pytest.raises(ConfigError, match=r"E224.*no symbol is named"):
        explain_forecast(found.predictor, found.prices)
    with pytest.raises(DataError, match=r"E380.*no forecast of AAA as of 2011-10-02.*2011-09-30"):
        explain_forecast(found.predictor, found.prices, "AAA", "2011-10-02")
    with pytest.raises(ConfigError, match=r"E224.*rows=1"):
        explain(found.predictor, found.data, rows=1)
    data = found.data.on_prices(found.prices, found.data.recipe.checks)
    data.parts = replace(data.parts, validation=data.parts.validation[:3])
    with pytest.raises(DataError, match=r"E380.*3 dates of validation"):
        explain(found.predictor, data)
    monkeypatch.setattr(attribution, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"E229.*pip install .*explain"):
        explain(found.predictor, found.data)
    with pytest.raises(ConfigError, match="E229"):
        explain_forecast(found.predictor, found.prices, "AAA")


def test_static_columns_have_no_part_and_facts_known_ahead_have_theirs() -> None:
    """The fact of the day of the return drives it; sector and symbol are codes."""
    prices = planted_prices(2, feature=0, lag=1, strength=0.0)
    days = prices["timestamp"].drop_duplicates().tolist()
    days += pd.bdate_range(days[-1] + pd.Timedelta("1D"), periods=5).tolist()
    fact = np.random.default_rng(0).normal(size=len(days))
    of_day = dict(zip(days, fact, strict=True))
    moved = np.exp((0.01 * prices["timestamp"].map(of_day)).groupby(prices["symbol"]).cumsum())
    prices = prices.assign(**{name: prices[name] * moved for name in ("open", "high", "low", "close")})
    facts = KnownFuture(pd.DataFrame({"timestamp": days, "fact": fact}), ["fact"])
    sectors = StaticColumns(["sector"], pd.DataFrame({"symbol": ["AAA", "BBB"], "sector": ["x", "y"]}))
    one = planted(2, prices=prices, known_future=facts, static=sectors, per_symbol=True)
    explained = explain(one.predictor, one.data, **FEW)
    assert set(explained.by_feature["feature"]) == {*FEATURES, "fact_ahead_2"}
    assert highest(explained.by_feature, "attribution")["feature"] == "fact_ahead_2"
    assert highest(explained.by_feature, "rise")["feature"] == "fact_ahead_2"
    assert highest(explained.by_bar, "attribution")["lag"] == 0
    assert explained.basis.gap < 0.02
    of_run = explain_forecast(one.predictor, one.data, "AAA", "2011-10-03")
    of_prices = explain_forecast(one.predictor.keep(facts, sectors), prices, "AAA", "2011-10-03")
    pd.testing.assert_frame_equal(of_run.cells, of_prices.cells)
    assert "sector" not in "".join(of_run.by_feature["feature"])


def test_the_point_of_classes_is_their_mean() -> None:
    model = ForecastModel(CNNLSTM(2, channels=[4], kernel_sizes=[3], lstm_hidden=4, attention_heads=2),
                          objectives.Classes(3), n_targets=2).eval()  # fmt: skip
    x = torch.randn(7, 9, 2)
    columns = model(x)
    for k in range(2):
        expected = columns["p1"][:, k] + 2 * columns["p2"][:, k]
        torch.testing.assert_close(point_forecast(model, x, k), expected)
