"""The linear path: the model starts as scikit-learn's line; then it stays, or learns, and travels with the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue
from cnn_lstm.errors import ConfigError
from cnn_lstm.model.checkpoints import forecaster_from, read_checkpoint
from cnn_lstm.model.contract import CHECKPOINT_KEY, Contract, with_digest
from cnn_lstm.model.forecast_model import ForecastModel
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.line import Line, input_maps
from cnn_lstm.model.linear import LinearPath
from cnn_lstm.model.logistic import fit_logistic
from cnn_lstm.model.objectives import Classes, Gaussian, Objective, Point, Quantiles
from cnn_lstm.model.ridge import fit_ridge
from cnn_lstm.model.training_data import Part
from tests.fits import FEATURES, price_file, small_checkpoint, small_data, small_network, small_trainer


def predictable(folder: Path, **arguments: Any) -> MarketDataModule:
    """Data on which a line has something to read."""
    price_file(folder, momentum=0.9, rows=300)
    return small_data(folder, **arguments)


def started(data: MarketDataModule, objective: Objective | None = None, **arguments: Any) -> Forecaster:
    """A forecaster before its first step."""
    torch.manual_seed(0)
    data.setup()
    forecaster = Forecaster(small_network(n_features=data.n_features), objective, data.n_targets, **arguments)
    forecaster.learn_statistics(data.statistics)
    forecaster.learn_line(data)
    return forecaster.eval()


def columns_of(forecaster: ForecastModel, data: MarketDataModule, part: Part) -> dict[str, torch.Tensor]:
    (batch,) = data.windows_of(part, 10_000)
    with torch.no_grad():
        columns: dict[str, torch.Tensor] = forecaster(batch.x)
    return columns


def by_scikit_learn(data: MarketDataModule, line: Line, k: int) -> np.ndarray:
    """Ridge's forecasts of the validation windows in original units, on the chosen inputs, with the chosen penalty."""
    statistics = data.statistics
    parts = []
    for part in ("train", "validation"):
        (batch,) = data.windows_of(part, 10_000)
        x = batch.x.double()
        x = (x - statistics.x_anchored * x[:, -1:] - statistics.x_loc) / statistics.x_scale
        rows = input_maps(x.shape[1], x.shape[2])[line.inputs[k]]
        anchor = int(statistics.y_anchor[k])
        loc = statistics.y_loc[k] + (batch.x[:, -1, anchor].double() if anchor >= 0 else 0.0)
        flat = torch.einsum("it,ntf->nif", rows, x).flatten(1).numpy()
        parts.append((flat, ((batch.y[:, k].double() - loc) / statistics.y_scale[k]).numpy(), loc))
    (train, labels, _), (held_out, _, loc) = parts
    values = Ridge(alpha=line.penalties[k]).fit(train, labels).predict(held_out)
    return np.asarray(values * float(statistics.y_scale[k]) + np.asarray(loc))


@pytest.mark.parametrize(
    "objective", [Point(), Point("mae"), Gaussian(), Quantiles()], ids=lambda one: type(one).__name__
)
def test_the_model_starts_as_ridge(tmp_path: Path, objective: Objective) -> None:
    data = predictable(tmp_path, targets=[ForwardReturn(), ForwardReturn(horizon=2)])
    forecaster = started(data, objective)
    (train,), (validation,) = (
        [(forecaster.network.standardize(b.x), (b.y.double() - forecaster._loc(b.x)) / forecaster.y_scale)]
        for part in ("train", "validation")
        for b in data.windows_of(part, 10_000)
    )
    line = fit_ridge([train], [validation])
    forecasts = columns_of(forecaster, data, "validation")
    for k in range(2):
        expected = by_scikit_learn(data, line, k)
        scale = float(data.statistics.y_scale[k])
        for name in ("y_pred", "y_linear"):
            np.testing.assert_allclose(forecasts[name][:, k].numpy() / scale, expected / scale, rtol=0, atol=2e-6)


def test_an_anchored_level_is_forecast_as_a_change(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"features": [*FEATURES, "close"], "anchor": ["close"]}
    data = predictable(tmp_path, targets=[ForwardValue("close")], **arguments)
    forecaster = started(data)
    (batch,) = data.windows_of("validation", 10_000)
    with torch.no_grad():
        moved = batch.x.clone()
        moved[..., -1] += 50.0
        change, of_moved = (forecaster(x)["y_linear"][:, 0] - x[:, -1, -1] for x in (batch.x, moved))
    torch.testing.assert_close(change, of_moved, rtol=0, atol=1e-3)


def test_classes_start_as_logistic_regression(tmp_path: Path) -> None:
    data = predictable(tmp_path, targets=[Direction()])
    forecasts = columns_of(started(data, Classes(2)), data, "validation")
    assert torch.equal(forecasts["p1"], forecasts["linear_p1"])
    assert torch.equal(forecasts["y_pred"], forecasts["y_linear"])
    torch.testing.assert_close(forecasts["linear_p0"] + forecasts["linear_p1"], torch.ones_like(forecasts["p0"]))


def test_weighted_classes_start_as_logistic_regression_too(tmp_path: Path) -> None:
    data = small_data(tmp_path, targets=[Direction(thresholds=[0.01])])
    forecasts = columns_of(started(data, Classes(2, weighted=True)), data, "validation")
    torch.testing.assert_close(forecasts["p1"], forecasts["linear_p1"])
    assert torch.equal(forecasts["y_pred"], forecasts["y_linear"])


def test_a_distribution_starts_with_the_spread_of_the_residuals(tmp_path: Path) -> None:
    data = predictable(tmp_path, targets=[ForwardReturn()])
    forecasts = columns_of(started(data, Gaussian()), data, "train")
    (batch,) = data.windows_of("train", 10_000)
    spread = (batch.y - forecasts["y_linear"]).square().mean().sqrt()
    torch.testing.assert_close(forecasts["std"], spread.expand_as(forecasts["std"]), rtol=1e-4, atol=0)


def test_quantiles_start_at_those_of_the_residuals(tmp_path: Path) -> None:
    data = predictable(tmp_path, targets=[ForwardReturn()])
    forecasts = columns_of(started(data, Quantiles()), data, "train")
    (batch,) = data.windows_of("train", 10_000)
    residual = (batch.y - forecasts["y_linear"])[:, 0]
    distance = (forecasts["q95"] - forecasts["q05"])[0, 0]
    assert float(distance) == pytest.approx(float(residual.quantile(0.95) - residual.quantile(0.05)), rel=1e-4)


def test_rows_of_the_test_part_change_nothing(tmp_path: Path) -> None:
    data = predictable(tmp_path)
    before = started(data).linear.weight.clone()
    later = torch.from_numpy(data.panel.time >= data.parts.boundaries.test)
    data.panel.values[later] = 100.0
    data.panel.labels[later] = -100.0
    assert torch.equal(started(data).linear.weight, before)


@pytest.mark.parametrize(("mode", "same"), [("fixed", True), ("fine_tuned", False)])
def test_only_a_fine_tuned_line_learns(tmp_path: Path, mode: Any, same: bool) -> None:
    data = predictable(tmp_path)
    first = started(data, linear=mode).linear.weight.clone()
    torch.manual_seed(0)
    forecaster = Forecaster(small_network(), linear=mode)
    small_trainer().fit(forecaster, datamodule=data)
    assert torch.equal(forecaster.linear.weight.cpu(), first) == same
    assert bool(forecaster.head.weight.any())
    assert ("linear.weight" in dict(forecaster.named_parameters())) != same


@pytest.mark.parametrize("off", ["off", False], ids=["by name", "as YAML reads it"])
def test_off_leaves_it_out(tmp_path: Path, off: Any) -> None:
    data = predictable(tmp_path)
    forecaster = started(data, linear=off)
    assert "y_linear" not in columns_of(forecaster, data, "validation")
    assert bool(forecaster.head.weight.any())
    assert not [name for name in forecaster.state_dict() if name.startswith("linear")]


def test_a_second_fit_goes_on_with_the_head(tmp_path: Path) -> None:
    data = predictable(tmp_path)
    forecaster = Forecaster(small_network())
    small_trainer().fit(forecaster, datamodule=data)
    head = forecaster.head.weight.clone()
    forecaster.learn_line(data)
    assert torch.equal(forecaster.head.weight, head)


@pytest.mark.parametrize("mode", ["fixed", "fine_tuned"])
def test_it_travels_with_the_checkpoint(tmp_path: Path, mode: Any) -> None:
    forecaster = Forecaster(small_network(), linear=mode)
    path = small_checkpoint(tmp_path, forecaster)
    loaded, data = forecaster_from(read_checkpoint(path)), predictable(tmp_path)
    data.setup()
    for name, values in columns_of(forecaster.eval(), data, "validation").items():
        assert torch.equal(values, columns_of(loaded, data, "validation")[name])
    assert loaded.linear.mode == mode
    by_lightning = Forecaster.load_from_checkpoint(path)
    assert torch.equal(by_lightning.linear.weight, loaded.linear.weight)


def test_a_checkpoint_of_before_there_was_a_line_forecasts_as_it_did(tmp_path: Path) -> None:
    data = predictable(tmp_path)
    content = read_checkpoint(small_checkpoint(tmp_path, Forecaster(small_network(), linear="off")))
    del content["hyper_parameters"]["linear"]
    content[CHECKPOINT_KEY] = with_digest(Contract.of(content), content["state_dict"])
    path = tmp_path / "old.ckpt"
    torch.save(content, path)
    data.setup()
    for old in (forecaster_from(read_checkpoint(path)), Forecaster.load_from_checkpoint(path).eval()):
        assert not old.linear.learnt
        forecasts = columns_of(old, data, "validation")
        (batch,) = data.windows_of("validation", 10_000)
        with torch.no_grad():
            expected = old.head(old.network(batch.x)) * old.y_scale + old.y_loc
        torch.testing.assert_close(forecasts["y_pred"], expected)
        assert "y_linear" not in forecasts


def test_an_unlearnt_line_forecasts_zero() -> None:
    assert not LinearPath(2, 3)(torch.ones(4, 6, 5)).any()


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"linear='on' — model\.linear — one of off, fixed, fine_tuned"):
        Forecaster(small_network(), linear="on")  # type: ignore[arg-type]  # on purpose: not one of them


def test_many_features_leave_room_for_the_averages() -> None:
    maps = input_maps(60, 600)
    assert set(maps) == {"averages", "last 1 rows"}
    assert {name: len(rows) for name, rows in input_maps(168, 8).items()} == {
        "averages": 8,
        "last 1 rows": 1,
        "last 5 rows": 5,
        "last 22 rows": 22,
        "last 168 rows": 168,
    }


def test_inputs_beyond_the_most_rows_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that is too long for all of its rows still has the average over all of them."""
    monkeypatch.setattr("cnn_lstm.model.line.MAX_INPUTS", 40)
    random = torch.Generator().manual_seed(0)
    x = torch.randn(500, 30, 2, generator=random)
    y = x.mean(dim=1)[:, :1] * 8 + 0.1 * torch.randn(500, 1, generator=random)
    line = fit_ridge([(x[:400], y[:400])], [(x[400:], y[400:])])
    assert line.inputs == ["averages"]
    assert float((line(x[400:]) - y[400:]).square().mean()) < 0.02


@pytest.mark.parametrize("refit", [False, True])
def test_a_line_that_does_not_hold_on_the_validation_rows_reads_nothing(refit: bool) -> None:
    """One target follows its input all the time, the other turns its sign after the training rows."""
    draw = torch.Generator().manual_seed(0)
    train, validation = (torch.randn(400, 4, 2, generator=draw, dtype=torch.float64) for _ in range(2))

    def labels(windows: Tensor, sign: float) -> Tensor:
        return torch.stack([windows[:, -1, 0], sign * windows[:, -1, 1] + sign * 0.5], dim=1)

    line = fit_ridge([(train, labels(train, 1.0))], [(validation, labels(validation, -1.0))], refit)
    forecast = line(validation.float())
    torch.testing.assert_close(forecast[:, 0], validation[:, -1, 0].float(), atol=1e-3, rtol=0)
    assert line.inputs[1] == "no inputs"
    assert forecast[:, 1].eq(0).all(), "neither weights nor the intercept of the training rows"


def test_many_targets_without_anything_to_find_seldom_get_a_line() -> None:
    """Of 60 sets of eight such targets, one in 20 may have a line; with 5 % for each target it would be one in 3."""
    draw = torch.Generator().manual_seed(0)
    with_a_line = 0
    for _ in range(60):
        x, y = torch.randn(500, 2, 1, generator=draw), torch.randn(500, 8, generator=draw)
        with_a_line += set(fit_ridge([(x[:300], y[:300])], [(x[300:], y[300:])]).inputs) != {"no inputs"}
    assert with_a_line <= 8  # more with a chance of 1 % if it is one in 20


def test_a_final_line_is_fitted_on_both_parts() -> None:
    """With the inputs and the penalty that the validation rows chose."""
    random = torch.Generator().manual_seed(1)
    x = torch.randn(600, 6, 2, generator=random)
    y = (
        x[:, -1:, 0]
        + torch.cat([torch.zeros(400, 1), torch.full((200, 1), 0.5)])
        + 0.5 * torch.randn(600, 1, generator=random)
    )
    train, validation = (x[:400], y[:400]), (x[400:], y[400:])
    chosen, line = fit_ridge([train], [validation]), fit_ridge([train], [validation], refit=True)
    assert line.inputs == chosen.inputs
    assert line.penalties[0] == pytest.approx(chosen.penalties[0] * 600 / 400)
    inputs = torch.einsum("it,ntf->nif", input_maps(6, 2)[line.inputs[0]], x.double()).flatten(1).numpy()
    expected = Ridge(alpha=line.penalties[0]).fit(inputs, y.double().numpy()[:, 0]).predict(inputs)
    np.testing.assert_allclose(line(x)[:, 0].numpy(), expected, rtol=0, atol=1e-5)


def test_a_final_logistic_line_is_fitted_on_both_parts() -> None:
    random = torch.Generator().manual_seed(1)
    x = torch.randn(600, 6, 2, generator=random)
    y = (x[:, -1:, 0] + torch.randn(600, 1, generator=random) > 0).float()
    train, validation = (x[:400], y[:400]), (x[400:], y[400:])
    chosen, line = fit_logistic([train], [validation], 2), fit_logistic([train], [validation], 2, refit=True)
    assert line.inputs == chosen.inputs
    assert line.penalties[0] == pytest.approx(chosen.penalties[0] * 400 / 600)
    assert not torch.equal(line.weight, chosen.weight)
    assert ((line(x).argmax(dim=1) == y[:, 0]).float().mean()) > 0.7
