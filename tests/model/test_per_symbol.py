"""With scales per symbol, the unit of one symbol does not matter, and the scales travel with the weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cnn_lstm.data.column_targets import RealizedMeasure
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.prices import Checks
from cnn_lstm.data.symbol_codes import code_of
from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue, Target
from cnn_lstm.errors import ConfigError
from cnn_lstm.evaluation.audit import learning
from cnn_lstm.evaluation.baselines.baseline_inputs import BaselineInputs
from cnn_lstm.evaluation.baselines.boosting import fit_boosting
from cnn_lstm.evaluation.baselines.dlinear import fit_dlinear
from cnn_lstm.evaluation.baselines.linear import ridge_baseline
from cnn_lstm.inference.ensemble import write_ensemble
from cnn_lstm.inference.export import export
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.inference.pyfunc import PriceModel
from cnn_lstm.model.checkpoints import forecaster_from, read_checkpoint
from cnn_lstm.model.contract import state_digest
from cnn_lstm.model.forecast_model import ForecastModel
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.layers import Standardize
from cnn_lstm.model.objectives import Classes, Gaussian, Mixture, Objective, Point, Qlike, Quantiles, StudentT
from cnn_lstm.model.scales import of_windows
from cnn_lstm.rl.encoder import Encoder
from tests.fits import small_network, small_trainer
from tests.markets import PRICES, TableSource, market

FEATURES = ["log_return_1", "close"]
LEVEL, RETURN = ForwardValue("close", horizon=2), ForwardReturn(horizon=2)


def table_of(factor: float = 1.0) -> pd.DataFrame:
    """Three random walks, the prices of BBB in another unit."""
    table = market(240, gaps=False).sort_values(["symbol", "timestamp"], ignore_index=True)
    table.loc[table["symbol"] == "BBB", PRICES] *= factor
    return table


def data_of(table: pd.DataFrame, *targets: Target, **arguments: Any) -> MarketDataModule:
    values: dict[str, Any] = {
        "features": FEATURES,
        "window": 6,
        "batch_size": 64,
        "per_symbol": True,
        "checks": Checks(allow_jumps=True),
        **arguments,
    }
    return MarketDataModule(TableSource(table), targets=list(targets) or [LEVEL], **values)


def fitted(data: MarketDataModule, objective: Objective | None = None, **arguments: Any) -> Forecaster:
    torch.manual_seed(0)
    forecaster = Forecaster(small_network(n_features=data.n_features), objective, data.n_targets, **arguments)
    small_trainer(max_epochs=2).fit(forecaster, datamodule=data)
    return forecaster.eval()


def forecasts(forecaster: ForecastModel, data: MarketDataModule) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """Columns of the test rows, and whether each is of BBB."""
    batches = list(data.test_dataloader())
    with torch.no_grad():
        columns = [forecaster(batch.x) for batch in batches]
    rows = torch.cat([batch.row for batch in batches]).numpy()
    joined = {name: torch.cat([part[name] for part in columns]) for name in columns[0]}
    return joined, data.panel.symbol[rows] == data.panel.symbols.index("BBB")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = data_of(table_of(1e-3), LEVEL, RETURN)
    torch.manual_seed(0)
    forecaster = Forecaster(small_network(n_features=data.n_features), Gaussian(), 2)
    trainer = small_trainer()
    trainer.fit(forecaster, datamodule=data)
    path = tmp_path_factory.mktemp("per_symbol") / "one.ckpt"
    trainer.save_checkpoint(path)
    return path


# -- the unit of one symbol ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anchor", [[], ["close"]], ids=["level", "anchored"])
@pytest.mark.parametrize("objective", [Point, Gaussian, Quantiles, StudentT, Mixture])
def test_another_unit_of_one_symbol_moves_its_levels_by_that_factor(
    objective: type[Objective], anchor: list[str]
) -> None:
    """A power of two rounds nothing, so that the whole fit is the same bit for bit."""
    factor = 1024.0
    parts = []
    for table in (table_of(), table_of(factor)):
        data = data_of(table, anchor=anchor)
        parts.append(forecasts(fitted(data, objective()), data))
    (before, moved), (after, _) = parts
    assert moved.any()
    assert not moved.all()
    for name, values in before.items():
        free = name == "df" or name.startswith("weight_")
        expected = torch.where(torch.from_numpy(moved)[:, None], values * (1.0 if free else factor), values)
        torch.testing.assert_close(after[name], expected, rtol=1e-6, atol=0)


def test_another_unit_of_a_measured_volatility_moves_its_forecasts_by_that_factor() -> None:
    parts = []
    for factor in (1.0, 1024.0):
        table = table_of()
        table["rv"] = (table["high"] / table["low"] - 1.0) * np.where(table["symbol"] == "BBB", factor, 1.0)
        target = RealizedMeasure("rv", log=False, measure="volatility")
        data = data_of(table, target, features=["log_return_1", "rv"])
        parts.append(forecasts(fitted(data, Qlike()), data))
    (before, moved), (after, _) = parts
    expected = before["y_pred"] * torch.from_numpy(np.where(moved, 1024.0, 1.0)).float()[:, None]
    torch.testing.assert_close(after["y_pred"], expected, rtol=1e-5, atol=0)


def test_without_scales_per_symbol_it_changes_the_others() -> None:
    parts = []
    for table in (table_of(), table_of(1024.0)):
        data = data_of(table, per_symbol=False)
        parts.append(forecasts(fitted(data), data))
    (before, moved), (after, _) = parts
    assert not torch.allclose(before["y_pred"][~moved], after["y_pred"][~moved], rtol=1e-3)


@pytest.mark.parametrize(("target", "objective"), [(RETURN, Point), (Direction(horizon=2), Classes)])
def test_another_unit_of_one_symbol_leaves_returns_and_classes_alone(
    target: Target, objective: type[Objective]
) -> None:
    parts = []
    for table in (table_of(), table_of(1024.0)):
        data = data_of(table, target)
        parts.append(forecasts(fitted(data, objective()), data)[0])
    for name, values in parts[0].items():
        torch.testing.assert_close(parts[1][name], values, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("fit", [ridge_baseline, fit_dlinear, fit_boosting])
def test_it_moves_the_forecasts_of_baselines_by_that_factor(fit: Any) -> None:
    if fit is fit_boosting:
        pytest.importorskip("lightgbm", reason="the extra `gbm`")
    parts = []
    for factor in (1.0, 1000.0):
        data = data_of(table_of(factor), LEVEL, RETURN, anchor=["close"])
        data.setup()
        rows = data.parts.test
        level, change = fit(BaselineInputs.of(data)).forecast(rows)
        moved = data.panel.symbol[rows] == data.panel.symbols.index("BBB")
        parts.append([next(iter(columns.values())) for columns in (level, change)])
    assert moved.any()
    np.testing.assert_allclose(parts[1][0], parts[0][0] * np.where(moved, 1000.0, 1.0), rtol=1e-4)
    np.testing.assert_allclose(parts[1][1], parts[0][1], rtol=2e-2, atol=1e-5)


def test_the_model_starts_as_ridge_of_the_same_scales() -> None:
    data = data_of(table_of(1e-3), LEVEL, anchor=["close"])
    data.setup()
    forecaster = Forecaster(small_network(n_features=data.n_features)).eval()
    forecaster.learn_statistics(data.statistics)
    forecaster.learn_line(data)
    rows = data.parts.test
    (ridge,) = ridge_baseline(BaselineInputs.of(data)).forecast(rows)
    columns, _ = forecasts(forecaster, data)
    np.testing.assert_allclose(columns["y_pred"][:, 0], ridge["y_ridge"], rtol=1e-6)


# -- which scale a window takes --------------------------------------------------------------------------------------


def test_a_window_takes_the_row_of_its_code() -> None:
    layer, x = Standardize(2), torch.randn(4, 5, 2)
    x[..., 1] = torch.tensor([7.0, 3.0, 8.0, 7.0])[:, None]
    loc, scale = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]), torch.tensor([[4.0], [5.0], [6.0]])
    layer.take(loc, torch.cat([scale, torch.full((3, 1), torch.inf)], dim=1), torch.zeros(2), torch.tensor([3.0, 7.0]))
    scaled, rows = layer(x), [1, 0, 2, 1]
    for window, row in enumerate(rows):
        torch.testing.assert_close(scaled[window, :, 0], (x[window, :, 0] - loc[row, 0]) / scale[row, 0])
    assert not scaled[..., 1].any()
    assert torch.equal(layer(x[2:3]), scaled[2:3])
    assert torch.equal(of_windows(loc, layer.codes, x), loc[rows])


def test_half_precision_cannot_tell_codes_apart() -> None:
    data = data_of(table_of())
    data.setup()
    with pytest.raises(ConfigError, match="per_symbol"):
        Forecaster(small_network(n_features=3)).to(torch.bfloat16).learn_statistics(data.statistics)


def test_an_unknown_symbol_is_named_and_takes_the_scale_of_all(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table, predictor = table_of(1e-3), Predictor.from_checkpoint(checkpoint)
    stranger = table[table["symbol"] == "AAA"].assign(symbol="ZZZ")
    with caplog.at_level(logging.WARNING, logger="cnn_lstm"):
        known = predictor.predict(table)
        assert caplog.records == []
        found = predictor.predict(pd.concat([table, stranger], ignore_index=True))
        predictor.predict(stranger)
        (record,) = caplog.records
    assert "[W343] no scale of its own for ZZZ" in record.getMessage()
    assert len(record.getMessage()) <= 400
    pd.testing.assert_frame_equal(found[found["symbol"] != "ZZZ"].reset_index(drop=True), known)
    panel, model = predictor.recipe.bind_to(stranger, predictor.targets).panel(stranger), predictor.forecaster
    assert isinstance(model, ForecastModel)
    pooled = Forecaster(small_network(n_features=3), Gaussian(), 2).eval()
    pooled.load_state_dict({name: values for name, values in model.state_dict().items() if "codes" not in name})
    for part in (pooled.network.standardize, pooled):
        for name in ("loc", "scale") if part is pooled.network.standardize else ("y_loc", "y_scale"):
            setattr(part, name, part.get_buffer(name)[-1])
    rows = torch.arange(100, 110)
    windows = torch.stack([panel.values[row - 5 : row + 1] for row in rows])
    as_of = pd.to_datetime(panel.time[rows.numpy()], utc=True)
    with torch.no_grad():
        expected = pooled(windows)["y_pred"]
    mine = found[(found["symbol"] == "ZZZ") & found["as_of"].isin(as_of)]
    np.testing.assert_allclose(mine["y_pred"], expected.T.flatten(), rtol=1e-5)


def test_a_test_on_more_symbols_names_them(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = table_of(1e-3)
    table = pd.concat([table, table[table["symbol"] == "CCC"].assign(symbol="DDD")], ignore_index=True)
    with caplog.at_level(logging.WARNING, logger="cnn_lstm"):
        model = Forecaster.load_from_checkpoint(checkpoint)
        small_trainer().test(model, datamodule=data_of(table, LEVEL, RETURN), ckpt_path=str(checkpoint))
    messages = [record.getMessage() for record in caplog.records]
    assert sum("[W343] no scale of its own for DDD" in message for message in messages) == 1
    assert model.contract.scaled_symbols == ["AAA", "BBB", "CCC"]


# -- it travels with the weights -------------------------------------------------------------------------------------


def test_three_ways_of_loading_are_equal(checkpoint: Path) -> None:
    content = read_checkpoint(checkpoint)
    state = content["state_dict"]
    assert state["network.standardize.codes"].tolist() == [code_of(name) for name in ("AAA", "BBB", "CCC")]
    assert state["network.standardize.loc"].shape == (4, 3)
    assert state["y_scale"].shape == (4, 2)
    data = data_of(table_of(1e-3), LEVEL, RETURN)
    data.setup()
    fresh = Forecaster(small_network(n_features=3), Gaussian(), 2)
    fresh.load_state_dict(state)
    models = [forecaster_from(content), Forecaster.load_from_checkpoint(checkpoint).eval(), fresh.eval()]
    expected, *others = (forecasts(model, data)[0] for model in models)
    for columns in others:
        assert all(torch.equal(columns[name], values) for name, values in expected.items())


def test_a_checkpoint_without_them_is_as_it_was() -> None:
    data = data_of(table_of(), per_symbol=False)
    forecaster = fitted(data)
    state = {name: values.clone() for name, values in forecaster.state_dict().items()}
    names = {"network.standardize.loc", "network.standardize.scale", "network.standardize.anchored"}
    assert {name for name in state if "standardize" in name} == names
    assert state["y_loc"].shape == state["y_scale"].shape == state["y_anchor"].shape == (1,)
    expected, _ = forecasts(forecaster, data)
    with_scales = data_of(table_of())
    other = fitted(with_scales)
    assert other.network.standardize.loc.shape == (4, 3)
    again = Forecaster(small_network(n_features=2))
    again.load_state_dict(state)
    assert torch.equal(forecasts(again.eval(), data)[0]["y_pred"], expected["y_pred"])
    assert "scaled_symbols" not in forecaster.contract.to_plain()


def test_weights_without_scales_per_symbol_replace_those_with() -> None:
    layer = Standardize(2)
    layer.take(torch.zeros(3, 2), torch.ones(3, 2), torch.zeros(2), torch.tensor([1.0, 2.0]))
    layer.load_state_dict(Standardize(2).state_dict())
    assert layer.loc.shape == (2,)
    assert set(layer.state_dict()) == {"loc", "scale", "anchored"}


def test_a_resumed_fit_is_an_uninterrupted_one(tmp_path: Path) -> None:
    data = data_of(table_of(1e-3))
    torch.manual_seed(0)
    forecaster, path = (
        Forecaster(small_network(n_features=3, conv_dropout=0.0, lstm_dropout=0.0)),
        tmp_path / "one.ckpt",
    )
    trainer = small_trainer()
    trainer.fit(forecaster, datamodule=data)
    trainer.save_checkpoint(path)
    torch.manual_seed(1)
    again = Forecaster(small_network(n_features=3, conv_dropout=0.0, lstm_dropout=0.0))
    small_trainer(max_epochs=1).fit(again, datamodule=data_of(table_of(1e-3)), ckpt_path=str(path))
    for name, values in forecaster.state_dict().items():
        assert torch.equal(again.state_dict()[name], values), name


def test_an_ensemble_averages_its_members(checkpoint: Path, tmp_path: Path) -> None:
    path, table = tmp_path / "ensemble.ckpt", table_of(1e-3)
    write_ensemble([checkpoint, checkpoint], path)
    one, both = (Predictor.from_checkpoint(part).predict(table) for part in (checkpoint, path))
    np.testing.assert_allclose(both["y_pred"], one["y_pred"], rtol=1e-6)


@pytest.mark.parametrize("format", ["onnx", "pt2", "safetensors"])
def test_an_export_agrees_for_each_symbol(checkpoint: Path, tmp_path: Path, format: Any) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `export`")
    result = export(checkpoint, tmp_path / f"model.{format}", format=format)
    assert max(result.differences.values()) < 1e-5
    described = pd.read_json(result.description, typ="series")
    assert described["features"][-1] == "symbol_code"
    assert described["symbol_codes"] == {name: code_of(name) for name in ("AAA", "BBB", "CCC")}


def test_a_stream_gives_the_forecasts_of_the_table(checkpoint: Path, tmp_path: Path) -> None:
    table, predictor = table_of(1e-3), Predictor.from_checkpoint(checkpoint)
    days = table["timestamp"].drop_duplicates().nlargest(5).min()
    stream = predictor.stream(table[table["timestamp"] < days])
    parts = [stream.update(bars) for _, bars in table[table["timestamp"] >= days].groupby("timestamp")]
    streamed = pd.concat(parts).sort_values(["target", "symbol", "as_of"], ignore_index=True)
    whole = predictor.predict(table, start=str(days.date())).sort_values(
        ["target", "symbol", "as_of"], ignore_index=True
    )
    assert streamed["y_pred"].tolist() == whole["y_pred"].tolist()
    assert streamed["upper_90"].tolist() == whole["upper_90"].tolist()
    stream.save(tmp_path / "state.npz")
    assert predictor.stream(state=tmp_path / "state.npz").symbols == ("AAA", "BBB", "CCC")


def test_a_served_model_gives_the_forecasts_of_the_predictor(checkpoint: Path) -> None:
    table, predictor = table_of(1e-3), Predictor.from_checkpoint(checkpoint)
    served = PriceModel(predictor).predict(table.drop(columns="volume"))
    assert served["y_pred"].tolist() == predictor.predict(table)["y_pred"].tolist()


def test_an_agents_encoder_takes_the_scales_with_its_weights(checkpoint: Path) -> None:
    encoder = Encoder.from_checkpoint(checkpoint, forecast=True)
    untrained = Encoder(encoder.plan, forecast=True)
    untrained.load_state_dict(encoder.state_dict())
    x = torch.randn(5, 6, 3)
    x[..., -1] = torch.tensor([code_of("AAA"), code_of("BBB"), code_of("CCC"), 1, code_of("AAA")])[:, None]
    assert torch.equal(untrained(x), encoder(x))
    model, windows = forecaster_from(read_checkpoint(checkpoint)), x
    with torch.no_grad():
        columns = model(windows)
        z = (columns["y_pred"] - model._loc(windows)) / model._scale(windows)
    torch.testing.assert_close(encoder(x)[:, -2:], z, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("per_symbol", [True, False])
def test_robust_scales_have_a_digest(per_symbol: bool) -> None:
    data = data_of(table_of(1e-3), scaling="robust", per_symbol=per_symbol)
    data.setup()
    forecaster = Forecaster(small_network(n_features=data.n_features))
    forecaster.learn_statistics(data.statistics)
    assert len(state_digest(forecaster.state_dict())) == 64
    assert all(values.is_contiguous() for values in forecaster.state_dict().values())


# -- the audit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_symbol", [True, "auto"])
def test_the_audit_finds_training_rows_only(per_symbol: Any) -> None:
    data = data_of(table_of(1e-3), per_symbol=per_symbol)
    forecaster = fitted(data)
    assert len(data.statistics.codes) == 3
    assert learning.training_statistics(data, data.prices).findings == ()
    assert learning.refit(data, [forecaster], same=True).findings == ()
    forecaster.y_scale[1] *= 2.0
    (finding,) = learning.refit(data, [forecaster], same=True).findings
    assert finding.column == "target scales"


def test_the_audit_names_scales_that_saw_later_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(table_of(1e-3))
    measured = MarketDataModule.statistics_of
    monkeypatch.setattr(
        MarketDataModule, "statistics_of", lambda self, panel, _: measured(self, panel, self.windows[:-5])
    )
    data.setup()
    columns = {finding.column for finding in learning.training_statistics(data, data.prices).findings}
    assert {"x_loc of close", "x_scale of close", "y_scale of close_2"} <= columns
