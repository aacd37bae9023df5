"""Losses against torch and scikit-learn, forecasts in original units."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from sklearn.metrics import mean_pinball_loss
from torch.nn import functional as F

from cnn_lstm import specs
from cnn_lstm.errors import ConfigError
from cnn_lstm.model.objectives import Classes, Gaussian, Mixture, Objective, Point, Quantiles
from tests.model.objectives.draws import ALL, LOC, NUMBERS, SCALE, B, H, draw, draw_classes, name_of

# -- points --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [0.3, 1.0, 2.5])
def test_point_losses(delta: float) -> None:
    raw, z = draw(1)
    error = (raw[..., 0] - z).abs()
    huber = torch.where(error < delta, 0.5 * error**2, delta * (error - 0.5 * delta)).mean()
    torch.testing.assert_close(Point("mse").loss(raw, z), (error**2).mean())
    torch.testing.assert_close(Point("mae").loss(raw, z), error.mean())
    torch.testing.assert_close(Point("huber", delta).loss(raw, z), huber)


def test_point_forecast_is_in_original_units() -> None:
    raw, _ = draw(1)
    columns = Point().forecast(raw, LOC, SCALE)
    assert list(columns) == ["y_pred"]
    torch.testing.assert_close(columns["y_pred"], LOC + SCALE * raw[..., 0])


# -- normal distributions ------------------------------------------------------------------------------------------


def test_gaussian_loss_is_the_likelihood_without_its_constant() -> None:
    raw, z = draw(2)
    normal = torch.distributions.Normal(raw[..., 0], raw[..., 1].exp().sqrt())
    torch.testing.assert_close(Gaussian().loss(raw, z), -normal.log_prob(z).mean() - 0.5 * math.log(2 * math.pi))


def test_gaussian_forecast_is_in_original_units() -> None:
    raw, _ = draw(2)
    columns = Gaussian().forecast(raw, LOC, SCALE)
    assert list(columns) == ["y_pred", "std"]
    torch.testing.assert_close(columns["y_pred"], LOC + SCALE * raw[..., 0])
    torch.testing.assert_close(columns["std"], SCALE * raw[..., 1].exp().sqrt())


def test_gaussian_loss_and_forecast_mean_the_same_spread() -> None:
    """The spread that minimises the loss is the one that is forecast."""
    z = torch.tensor([[2.0], [-2.0]])
    raw = torch.zeros(2, 1, 2, requires_grad=True)
    with torch.no_grad():
        raw[..., 1] = math.log(4.0)
    Gaussian().loss(raw, z).backward()
    assert raw.grad is not None
    torch.testing.assert_close(raw.grad[..., 1], torch.zeros(2, 1))
    torch.testing.assert_close(
        Gaussian().forecast(raw.detach(), torch.zeros(2, 1), torch.ones(1))["std"], torch.full((2, 1), 2.0)
    )


# -- quantiles -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [(0.5,), (0.1, 0.5, 0.9), (0.05, 0.25, 0.5, 0.75, 0.95)])
def test_pinball_loss_is_that_of_scikit_learn(levels: tuple[float, ...]) -> None:
    raw, z = draw(len(levels))
    expected = sum(
        mean_pinball_loss(z.flatten().double(), raw[..., k].flatten().double(), alpha=level)
        for k, level in enumerate(levels)
    ) / len(levels)
    assert float(Quantiles(levels).loss(raw, z)) == pytest.approx(expected, rel=1e-5)


def test_quantiles_never_cross_and_the_median_is_the_forecast() -> None:
    raw, _ = draw(5)
    columns = Quantiles().forecast(raw, LOC, SCALE)
    assert list(columns) == ["y_pred", "q05", "q25", "q50", "q75", "q95"]
    values = torch.stack(list(columns.values())[1:], dim=-1)
    torch.testing.assert_close(values, (LOC[..., None] + SCALE[:, None] * raw).sort(dim=-1).values)
    assert torch.equal(columns["y_pred"], columns["q50"])


def test_quantile_columns_are_named_by_percent() -> None:
    columns = Quantiles([0.001, 0.025, 0.29, 0.5, 0.975]).forecast(
        torch.zeros(1, 1, 5), torch.zeros(1, 1), torch.ones(1)
    )
    assert list(columns)[1:] == ["q00.1", "q02.5", "q29", "q50", "q97.5"]


# -- classes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_cross_entropy_without_weights(classes: int) -> None:
    raw, z = draw_classes(classes)
    expected = F.cross_entropy(raw.reshape(-1, classes), z.reshape(-1).long())
    torch.testing.assert_close(Classes(classes).loss(raw, z), expected)


def test_weighted_cross_entropy_is_that_of_torch() -> None:
    raw, z = draw_classes(3)
    objective = Classes(3, weighted=True)
    objective.learn_classes(torch.tensor([[10.0, 20.0, 70.0]]))
    expected = F.cross_entropy(raw[:, 0], z[:, 0].long(), weight=torch.tensor([100 / 30, 100 / 60, 100 / 210]))
    torch.testing.assert_close(objective.loss(raw[:, :1], z[:, :1]), expected)


def test_each_target_has_its_own_weights() -> None:
    raw, z = draw_classes(2)
    objective = Classes(2, weighted=True)
    objective.learn_classes(torch.tensor([[10.0, 30.0], [20.0, 20.0], [5.0, 35.0]]))
    losses = F.cross_entropy(raw.transpose(1, 2), z.long(), reduction="none")
    picked = torch.stack([objective.weights[h][z[:, h].long()] for h in range(H)], dim=1)
    torch.testing.assert_close(objective.loss(raw, z), (losses * picked).sum() / picked.sum())


def test_class_weights_have_mean_one_over_the_training_labels() -> None:
    counts = torch.tensor([[10.0, 20.0, 70.0], [1.0, 1.0, 98.0]])
    objective = Classes(3, weighted=True)
    objective.learn_classes(counts)
    torch.testing.assert_close((objective.weights * counts).sum(dim=1) / counts.sum(dim=1), torch.ones(2))
    assert float(objective.weights[0, 0] / objective.weights[0, 2]) == pytest.approx(7.0)


def test_missing_class_and_no_weights_stay_finite() -> None:
    objective = Classes(2, weighted=True)
    objective.learn_classes(torch.tensor([[0.0, 40.0]]))
    assert bool(torch.isfinite(objective.weights).all())
    plain = Classes(2)
    plain.learn_classes(torch.tensor([[1.0, 39.0]]))
    assert torch.equal(plain.weights, torch.ones(1, 2))


def test_classes_forecast_probabilities_and_the_most_probable() -> None:
    raw, _ = draw_classes(3)
    columns = Classes(3).forecast(raw, LOC, SCALE)
    assert list(columns) == ["y_pred", "p0", "p1", "p2"]
    probabilities = torch.stack([columns[f"p{k}"] for k in range(3)], dim=-1)
    torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones(B, H))
    torch.testing.assert_close(probabilities.log().diff(dim=-1), raw.diff(dim=-1), atol=1e-4, rtol=1e-4)
    assert torch.equal(columns["y_pred"], probabilities.argmax(dim=-1).float())


# -- all -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ALL, ids=name_of)
def test_objective_is_rebuilt_from_its_spec(objective: Objective) -> None:
    again = specs.build(objective.spec(), Objective)
    raw, z = draw_classes(objective.n_outputs)
    assert type(again) is type(objective)
    assert torch.equal(again.loss(raw, z.clamp(max=2)), objective.loss(raw, z.clamp(max=2)))


@pytest.mark.parametrize("objective", ALL, ids=name_of)
def test_loss_falls_along_its_gradient(objective: Objective) -> None:
    raw, z = draw_classes(objective.n_outputs)
    raw.requires_grad_()
    loss = objective.loss(raw, z.clamp(max=2))
    assert loss.ndim == 0
    (gradient,) = torch.autograd.grad(loss, raw)
    with torch.no_grad():
        assert objective.loss(raw - 0.1 * gradient, z.clamp(max=2)) < loss


@pytest.mark.parametrize("objective", ALL, ids=name_of)
def test_classes_are_named_by_the_path_that_users_write(objective: Objective) -> None:
    """Also in checkpoints: an old one names `cnn_lstm.model.objectives.Point`, and so does a new one."""
    path = objective.spec()["class_path"]
    assert path == f"cnn_lstm.model.objectives.{type(objective).__name__}"
    assert specs.imported(path) is type(objective)


@pytest.mark.parametrize("objective", NUMBERS, ids=name_of)
def test_loss_in_original_units_is_that_of_standardised_targets(objective: Objective) -> None:
    raw, z = draw(objective.n_outputs)
    losses = [objective.loss_of(raw, z * scale + LOC, LOC, scale) for scale in (SCALE, SCALE.expand(B, H))]
    if objective.spec()["class_path"].endswith("Qlike"):  # depends on the unit
        assert torch.equal(losses[0], losses[1])
        return
    for loss in losses:
        torch.testing.assert_close(loss, objective.loss(raw, z))


@pytest.mark.parametrize("objective", ALL, ids=name_of)
def test_each_row_may_have_a_scale_of_its_own(objective: Objective) -> None:
    raw, _ = draw(objective.n_outputs)
    wanted = objective.forecast(raw, LOC, SCALE)
    for name, values in objective.forecast(raw, LOC, SCALE.expand(B, H)).items():
        assert torch.equal(values, wanted[name]), name


@pytest.mark.parametrize("outlier", [-50.0, 50.0])
@pytest.mark.parametrize("size", [0.0, 1.0, 30.0, 1e4], ids=lambda size: f"outputs of {size:g}")
@pytest.mark.parametrize("objective", NUMBERS, ids=name_of)
def test_outliers_leave_loss_and_gradient_finite(objective: Objective, size: float, outlier: float) -> None:
    raw, z = draw(objective.n_outputs)
    if isinstance(objective, Gaussian) and size > 1:  # its log variance has no bound from above
        pytest.skip("exp overflows, as it always did")
    raw = (size * raw).requires_grad_()
    z[0] = outlier
    loss = objective.loss(raw, z)
    (gradient,) = torch.autograd.grad(loss, raw)
    assert bool(loss.isfinite())
    assert bool(gradient.isfinite().all())
    columns = objective.forecast(raw, LOC, SCALE)
    assert all(bool(values.isfinite().all()) for values in columns.values())


@pytest.mark.parametrize("objective", NUMBERS, ids=name_of)
def test_half_precision_outputs_lose_no_more_than_their_own_digits(objective: Objective) -> None:
    raw, z = draw(objective.n_outputs)
    half = raw.bfloat16()
    loss = objective.loss(half, z).float()
    torch.testing.assert_close(loss, objective.loss(half.float(), z), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Point(delta=0.0), "delta=0.0"),
        (lambda: Point("huber", delta=-1.0), "delta=-1.0"),
        (lambda: Quantiles([0.1, 0.9]), "levels=[0.1, 0.9]"),
        (lambda: Quantiles([0.5, 0.1]), "levels=[0.5, 0.1]"),
        (lambda: Quantiles([0.5, 0.5]), "levels=[0.5, 0.5]"),
        (lambda: Quantiles([0.0, 0.5]), "levels=[0.0, 0.5]"),
        (lambda: Quantiles([0.5, 1.0]), "levels=[0.5, 1.0]"),
        (lambda: Quantiles([]), "levels=[]"),
        (lambda: Classes(1), "classes=1"),
        (lambda: Mixture(1), "components=1"),
        (lambda: Mixture(33), "components=33"),
        (lambda: Mixture(2, "mse"), "loss='mse'"),  # type: ignore[arg-type]  # on purpose: not one of them
        (lambda: Point("rmse"), "rmse"),  # type: ignore[arg-type]
    ],
)
def test_invalid_argument_is_named(make: Any, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert named in str(caught.value)
    assert caught.value.exit_code == 2
