"""A head that adds to a linear forecast: its locations are moved, and it starts as the line itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from cnn_lstm.model.objectives import Classes, Gaussian, Mixture, Objective, Point, Quantiles, SkewStudentT, StudentT
from tests.model.objectives.draws import ALL, LOC, NUMBERS, SCALE, B, H, draw, name_of


def residuals(rows: int = 4000) -> Tensor:
    """Heavy tails, a skewed distribution that is not centred, and a narrow one, each in a column, (n, 3)."""
    random = np.random.default_rng(0)
    columns = [random.standard_t(4, rows), random.gamma(2.0, 1.0, rows) - 1.5, 0.003 * random.normal(size=rows)]
    return torch.from_numpy(np.stack(columns, axis=1)).float()


def at_start(objective: Objective) -> Tensor:
    """Raw outputs at the start, the same in all B rows, (B, H, K)."""
    return objective.start(residuals()).expand(B, H, -1)


@pytest.mark.parametrize("objective", NUMBERS, ids=name_of)
def test_a_linear_forecast_moves_the_forecast_by_itself(objective: Objective) -> None:
    raw, linear = draw(objective.n_outputs)
    columns = objective.forecast(raw, LOC, SCALE)
    moved = objective.forecast(objective.shifted(raw, linear[..., None]), LOC, SCALE)
    assert objective.linear_outputs == 1
    for name, values in moved.items():
        is_location = name == "y_pred" or name.startswith(("q", "mean"))
        wanted = columns[name] + SCALE * linear * is_location
        torch.testing.assert_close(values, wanted, rtol=1e-4, atol=1e-4, msg=name)


def test_logits_of_classes_are_added() -> None:
    objective, (raw, _), (logits, _) = Classes(3), draw(3), draw(3, seed=1)
    assert objective.linear_outputs == 3
    torch.testing.assert_close(objective.shifted(raw, logits), raw + logits)


@pytest.mark.parametrize("objective", ALL, ids=name_of)
def test_shapes_at_the_start(objective: Objective) -> None:
    start = objective.start(residuals())
    assert start.shape == (H, objective.n_outputs)
    assert start.dtype == torch.float32
    assert bool(start.isfinite().all())


@pytest.mark.parametrize("objective", NUMBERS, ids=name_of)
def test_the_forecast_at_the_start_is_the_line(objective: Objective) -> None:
    _, linear = draw(1)
    raw = objective.shifted(at_start(objective), linear[..., None])
    torch.testing.assert_close(
        objective.forecast(raw, LOC, SCALE)["y_pred"], linear * SCALE + LOC, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("objective", [StudentT(), SkewStudentT(), Gaussian(), Quantiles(), Mixture(3)], ids=name_of)
def test_missing_labels_are_left_out(objective: Objective) -> None:
    known = residuals(500)
    holes = torch.cat([known, torch.full((5, 3), torch.nan)])
    torch.testing.assert_close(objective.start(holes), objective.start(known), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("objective", [o for o in NUMBERS if not isinstance(o, Point)], ids=name_of)
def test_residuals_of_zero_and_no_rows_at_all_stay_usable(objective: Objective) -> None:
    assert bool(objective.start(torch.zeros(50, 2)).isfinite().all())
    if not isinstance(objective, Gaussian | Quantiles):
        assert bool(objective.start(torch.full((3, 1), torch.nan)).isfinite().all())


def test_gaussian_starts_with_the_mean_squared_residual() -> None:
    std = Gaussian().forecast(at_start(Gaussian()), 0 * LOC, torch.ones(H))["std"][0]
    torch.testing.assert_close(std, residuals().square().mean(dim=0).sqrt())


def test_quantiles_start_with_those_of_the_residuals_around_their_median() -> None:
    start, known = Quantiles().start(residuals()), residuals().double().numpy()
    wanted = np.quantile(known, Quantiles().levels, axis=0) - np.median(known, axis=0)
    np.testing.assert_allclose(start.T.numpy(), wanted, atol=1e-5)


def test_student_t_starts_with_the_most_likely_spread_and_tails() -> None:
    """Scipy fits the same likelihood with the location held at 0."""
    columns = StudentT().forecast(at_start(StudentT()), 0 * LOC, torch.ones(H))
    df, _, scale = stats.t.fit(residuals()[:, 0].double().numpy(), floc=0)
    assert float(columns["df"][0, 0]) == pytest.approx(df, rel=0.01)
    assert float(columns["std"][0, 0]) == pytest.approx(scale * np.sqrt(df / (df - 2)), rel=0.01)
    assert float(columns["df"][0, 2]) > 30  # the normal column


def test_skewed_t_starts_with_the_skew_of_the_residuals() -> None:
    skew = SkewStudentT().forecast(at_start(SkewStudentT()), 0 * LOC, torch.ones(H))["skew"][0]
    assert abs(float(skew[0])) < 0.05
    assert float(skew[1]) > 0.2


@pytest.mark.parametrize("objective", [StudentT(), SkewStudentT(), Mixture(2), Mixture(4), Mixture(3, "crps")])
def test_no_constant_of_the_family_with_a_free_spread_is_much_better(objective: Objective) -> None:
    """The start has a lower loss than any scaling of its spread."""
    known = residuals()[:, :1]
    start = objective.start(known)
    losses = []
    for factor in (0.5, 0.8, 1.0, 1.25, 2.0):
        other = start.clone()
        spreads = slice(2 * objective.components, None) if isinstance(objective, Mixture) else slice(1, 2)
        other[:, spreads] += np.log(factor)
        losses.append(float(objective.loss(other.expand(len(known), 1, -1), known)))
    assert np.argmin(losses) == 2


@pytest.mark.parametrize("components", [2, 4])
def test_components_start_apart_so_that_they_learn_different_things(components: int) -> None:
    """Components with the same gradient would stay the same for ever; also on normal residuals."""
    objective = Mixture(components)
    normal = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    raw = objective.start(normal).expand(4000, 1, -1).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective.loss(raw, normal), raw)
    means = gradient[..., objective.locations.start : objective.locations.stop][:, 0]  # (n, k)
    shares = means / means.norm(dim=0)
    likeness = (shares.T @ shares)[~torch.eye(components, dtype=torch.bool)]
    assert float(likeness.max()) < 0.999


def test_a_mixture_is_as_good_as_a_normal_distribution_at_the_start() -> None:
    normal = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    losses = [
        float(objective.loss(objective.start(normal).expand(4000, 1, -1), normal)) + constant
        for objective, constant in ((Mixture(4), 0.0), (StudentT(), 0.0), (Gaussian(), 0.5 * np.log(2 * np.pi)))
    ]
    assert losses[0] == pytest.approx(losses[2], abs=0.003)
    assert losses[1] == pytest.approx(losses[2], abs=0.003)
