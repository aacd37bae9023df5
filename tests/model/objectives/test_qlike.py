"""QLIKE as a loss: that of the report, whatever the unit, and never infinite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cnn_lstm.data.quantities import quantity
from cnn_lstm.data.targets import ForwardReturn, RealizedVolatility, Target
from cnn_lstm.errors import ConfigError
from cnn_lstm.evaluation.metrics.errors import qlike
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecast_model import ForecastModel
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.objectives import Qlike
from tests.fits import small_checkpoint, small_data, small_network, small_trainer
from tests.markets import market
from tests.model.objectives.draws import LOC, SCALE, B, H, draw

KINDS = ["log_volatility", "volatility", "log_volatility"]


def of_kinds(kinds: list[str]) -> Qlike:
    objective = Qlike()
    objective.prepare(len(kinds))
    objective.learn_kinds(kinds)
    return objective


@pytest.mark.parametrize("kinds", [KINDS, ["volatility"] * 3, ["log_volatility"] * 3], ids=["both", "plain", "log"])
def test_loss_is_the_qlike_of_the_report(kinds: list[str]) -> None:
    objective, (raw, z) = of_kinds(kinds), draw(1)
    loc, scale = LOC + torch.tensor([4.0, 12.0, 5.0]), SCALE.clamp(max=0.8)
    y = z * scale + loc
    y = torch.where(objective.is_log, y, y.abs())
    point = objective.forecast(raw, loc, scale)["y_pred"].double().numpy()
    truth = y.double().numpy()
    wanted = [
        qlike(quantity(kind).variance(truth[:, k]), quantity(kind).variance(point[:, k]))
        for k, kind in enumerate(kinds)
    ]
    assert float(objective.loss_of(raw, y, loc, scale)) == pytest.approx(np.mean(wanted), rel=1e-3)


@pytest.mark.parametrize("kind", ["log_volatility", "volatility"])
def test_the_best_constant_is_the_mean_of_the_variance(kind: str) -> None:
    objective = of_kinds([kind])
    sizes = torch.rand(2000, 1, generator=torch.Generator().manual_seed(0)) + 0.1
    y = sizes.log() if kind == "log_volatility" else sizes
    best = sizes.square().mean().sqrt()
    best = best.log() if kind == "log_volatility" else best
    raw = torch.full((2000, 1, 1), float(best)).requires_grad_()
    (gradient,) = torch.autograd.grad(objective.loss(raw, y), raw)
    assert abs(float(gradient.sum())) < 1e-5


def test_loss_does_not_depend_on_the_standardisation() -> None:
    """The same forecast in original units costs the same, with locations of each row as anchored targets have them."""
    objective, (raw, z) = of_kinds(KINDS), draw(1)
    y = z.abs() + 0.1
    loc, scale = 3.0 + LOC, SCALE
    moved = (raw[..., 0] * scale + loc - 1.0) / 0.5  # with location 1 and scale 0.5
    losses = [
        objective.loss_of(raw, y, loc, scale),
        objective.loss_of(moved[..., None], y, torch.ones(B, H), torch.full((H,), 0.5)),
    ]
    above = raw[..., 0] * scale + loc > scale  # there the floor does nothing
    assert float(above.float().mean()) > 0.5
    rows = above.all(dim=1)
    losses = [
        objective.loss_of(raw[rows], y[rows], loc[rows], scale),
        objective.loss_of(moved[rows][..., None], y[rows], torch.ones(B, H)[rows], torch.full((H,), 0.5)),
    ]
    torch.testing.assert_close(losses[0], losses[1])


def test_volatilities_are_positive_and_those_above_the_floor_are_themselves() -> None:
    objective = of_kinds(["volatility"])
    raw = torch.linspace(-1e4, 50, 4001).reshape(-1, 1, 1)
    loc, scale = torch.full((4001, 1), 0.02), torch.tensor([0.01])
    found = objective.forecast(raw, loc, scale)["y_pred"]
    line = 0.02 + 0.01 * raw[..., 0]
    assert float(found.min()) > 0
    assert bool((found.diff(dim=0) >= 0).all())
    above = line > 0.001
    assert torch.equal(found[above], line[above])


def test_gradient_of_a_forecast_far_below_zero_points_up() -> None:
    objective = of_kinds(["volatility"])
    raw = torch.full((1, 1, 1), -40.0).requires_grad_()
    loss = objective.loss_of(raw, torch.full((1, 1), 1.0), torch.ones(1, 1), torch.ones(1))
    (gradient,) = torch.autograd.grad(loss, raw)
    assert bool(loss.isfinite())
    assert float(gradient) < 0


def test_rows_without_movement_do_not_count() -> None:
    objective, (raw, _) = of_kinds(["volatility"] * H), draw(1)
    y, loc = torch.rand(B, H, generator=torch.Generator().manual_seed(0)) + 0.5, torch.full((B, H), 12.0)
    wanted = objective.loss_of(raw[1:], y[1:], loc[1:], torch.ones(H))
    y[0] = 0.0
    raw.requires_grad_()
    found = objective.loss_of(raw, y, loc, torch.ones(H))
    torch.testing.assert_close(found.detach(), wanted)
    (gradient,) = torch.autograd.grad(found, raw)
    assert bool(gradient.isfinite().all())
    assert not gradient[0].any()
    assert not objective.loss_of(raw, 0 * y, loc, torch.ones(H)).detach().any()


@pytest.mark.parametrize(
    ("kinds", "named"), [(["log_volatility", "return"], "return"), (["class"], "class"), ([], "unknown")]
)
def test_other_targets_are_refused_in_one_line(kinds: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=rf"Qlike for targets of kind {named} — model.objective — .*") as caught:
        Qlike().learn_kinds(kinds)
    assert "\n" not in str(caught.value)


def test_a_fit_on_returns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="targets of kind return"):
        small_trainer().fit(Forecaster(small_network(), Qlike()), datamodule=small_data(tmp_path))


def test_kinds_are_in_the_checkpoint(tmp_path: Path) -> None:
    """The predictor of a file knows which targets are logarithms."""
    targets: list[Target] = [RealizedVolatility(5), RealizedVolatility(3, log=True)]
    forecaster = Forecaster(small_network(), Qlike(), n_targets=2)
    path = small_checkpoint(tmp_path, forecaster, targets=targets)
    predictor = Predictor.from_checkpoint(path)
    table = predictor.predict(market(60, symbols=("AAA", "CCC")))
    assert isinstance(predictor.forecaster, ForecastModel)
    assert predictor.forecaster.objective.get_buffer("is_log").tolist() == [False, True]
    plain = table[table["target"] == "volatility_5"]["y_pred"]
    assert (plain > 0).all()
    assert (table[table["target"] == "log_volatility_3"]["y_pred"] < 0).any()
    assert ForwardReturn().kind == "return"
