"""The normal mixture against scipy and scoringrules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from cnn_lstm.model.objectives import Gaussian, Mixture
from cnn_lstm.model.objectives.mixture import mixture_crps
from tests.model.objectives.draws import LOC, SCALE, H, draw


def parts(raw: torch.Tensor, components: int) -> list[np.ndarray]:
    """Weights, means and standard deviations of standardised targets, (B, H, k) each."""
    columns = Mixture(components).forecast(raw.double(), torch.zeros(raw.shape[:2]).double(), torch.ones(H))
    return [
        np.stack([columns[f"{name}_{k}"].numpy() for k in range(components)], axis=-1)
        for name in ("weight", "mean", "std")
    ]


@pytest.mark.parametrize("components", [2, 3, 5])
def test_negative_log_likelihood_is_that_of_scipy(components: int) -> None:
    raw, z = draw(3 * components)
    weights, means, spreads = parts(raw, components)
    density = (weights * stats.norm.pdf(z.numpy()[..., None], means, spreads)).sum(axis=-1)
    assert float(Mixture(components).loss(raw, z)) == pytest.approx(-np.log(density).mean(), rel=1e-5)


@pytest.mark.parametrize("components", [2, 3, 5])
def test_crps_is_that_of_scoringrules(components: int) -> None:
    raw, z = draw(3 * components)
    weights, means, spreads = parts(raw, components)
    wanted = pytest.importorskip("scoringrules").crps_mixnorm(z.double().numpy(), means, spreads, weights)
    assert float(Mixture(components, "crps").loss(raw, z)) == pytest.approx(float(np.mean(wanted)), rel=1e-5)


def test_crps_is_the_integral_that_defines_it() -> None:
    weights, means, spreads = np.array([0.2, 0.5, 0.3]), np.array([-1.0, 0.2, 2.0]), np.array([0.3, 1.0, 0.5])

    def gap(x: float) -> float:
        return float(((weights * stats.norm.cdf(x, means, spreads)).sum() - (x >= 0.7)) ** 2)

    wanted = integrate.quad(gap, -12, 0.7)[0] + integrate.quad(gap, 0.7, 12)[0]
    one, two, three = (torch.from_numpy(values)[None, None] for values in (weights, means, spreads))
    found = mixture_crps(one, two, three, torch.tensor([[0.7]], dtype=torch.float64))
    assert float(found) == pytest.approx(wanted, rel=1e-6)


def test_mean_and_standard_deviation_are_those_of_the_components() -> None:
    raw, _ = draw(9)
    weights, means, spreads = parts(raw, 3)
    columns = Mixture(3).forecast(raw, LOC, SCALE)
    mean = (weights * means).sum(axis=-1)
    variance = (weights * (spreads**2 + means**2)).sum(axis=-1) - mean**2
    np.testing.assert_allclose(columns["y_pred"], LOC.numpy() + SCALE.numpy() * mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(columns["std"], SCALE.numpy() * np.sqrt(variance), rtol=1e-4)
    for k in range(3):
        np.testing.assert_allclose(columns[f"weight_{k}"], weights[..., k], rtol=1e-5)
        np.testing.assert_allclose(
            columns[f"mean_{k}"], LOC.numpy() + SCALE.numpy() * means[..., k], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(columns[f"std_{k}"], SCALE.numpy() * spreads[..., k], rtol=1e-5)


def test_equal_components_are_one_normal_distribution() -> None:
    raw, z = draw(2)
    narrow = 0.5 * raw[..., 1:]  # log variance -> log standard deviation, where the bound does nothing
    same = torch.cat([torch.zeros_like(raw), raw[..., :1], raw[..., :1], 0.1 * narrow, 0.1 * narrow], dim=-1)
    normal = torch.cat([raw[..., :1], 0.2 * narrow], dim=-1)
    constant = 0.5 * np.log(2 * np.pi)
    assert float(Mixture(2).loss(same, z)) == pytest.approx(float(Gaussian().loss(normal, z)) + constant, rel=1e-3)
    assert torch.equal(Mixture(2).forecast(same, LOC, SCALE)["y_pred"], raw[..., 0] * SCALE + LOC)
