"""Distributions of heads against scipy, arch, scoringrules, and the integrals that define them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from arch.univariate import SkewStudent
from scipy import integrate, stats

from cnn_lstm.evaluation.metrics.heads import Head, MixtureHead, NormalHead, StudentHead, read_head
from cnn_lstm.model.objectives import Gaussian, Mixture, Objective, SkewStudentT, StudentT

N = 40
RANDOM = np.random.default_rng(0)
MEAN, STD = RANDOM.normal(size=N), np.exp(RANDOM.normal(size=N))
DF, SKEW = 2.1 + RANDOM.gamma(2, 3, size=N), RANDOM.uniform(-0.95, 0.95, N)
TRUE = MEAN + 2 * STD * RANDOM.normal(size=N)
WEIGHTS = RANDOM.dirichlet(np.ones(3), size=N)
HEADS: list[Head] = [
    NormalHead(MEAN, STD),
    StudentHead(MEAN, STD, DF, np.zeros(N)),
    StudentHead(MEAN, STD, DF, SKEW),
    MixtureHead(WEIGHTS, RANDOM.normal(size=(N, 3)), np.exp(RANDOM.normal(size=(N, 3)))),
]
LEVELS = (0.01, 0.05, 0.5, 0.93)


def table_of(objective: Objective, seed: int = 0) -> tuple[pd.DataFrame, torch.Tensor]:
    """Forecast columns of random outputs as a predictions table has them, and the outputs."""
    raw = torch.randn(N, 1, objective.n_outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    columns = objective.forecast(raw, torch.zeros(N, 1), torch.ones(1))
    return pd.DataFrame({name: values[:, 0].numpy() for name, values in columns.items()}), raw


@pytest.mark.parametrize("objective", [Gaussian(), StudentT(), SkewStudentT(), Mixture(3)])
def test_the_columns_describe_the_distribution_that_was_learnt(objective: Objective) -> None:
    """The slope of the distribution function that is read back is the density whose log is the loss."""
    table, raw = table_of(objective)
    head = read_head(table)
    assert head is not None
    at, step = np.full(N, 0.3), 1e-5
    density = (head.cdf(at + step) - head.cdf(at - step)) / (2 * step)
    losses = [float(objective.loss(raw[[row]], torch.full((1, 1), 0.3, dtype=torch.float64))) for row in range(N)]
    constant = 0.5 * np.log(2 * np.pi) if isinstance(objective, Gaussian) else 0.0
    np.testing.assert_allclose(-np.log(density), np.array(losses) + constant, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.name)
@pytest.mark.parametrize("level", LEVELS)
def test_quantile_is_the_inverse_of_the_distribution(head: Head, level: float) -> None:
    np.testing.assert_allclose(head.cdf(head.quantile(level)), level, rtol=1e-9)
    levels = np.linspace(0.001, 0.999, N)
    np.testing.assert_allclose(head.cdf(head.quantile(levels)), levels, rtol=1e-9)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.name)
@pytest.mark.parametrize("level", LEVELS)
def test_lower_mean_is_the_mean_of_the_quantiles_below(head: Head, level: float) -> None:
    one = head.take(slice(0, 1))
    # in u = t^8 the quantile near 0 is smooth enough for quadrature
    wanted = integrate.quad(
        lambda t: float(one.quantile(level * t**8)[0]) * 8 * t**7, 0, 1, limit=200, epsabs=1e-10, epsrel=1e-10
    )[0]
    assert float(one.lower_mean(level)[0]) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.name)
@pytest.mark.parametrize("row", range(4))
def test_crps_is_the_integral_that_defines_it(head: Head, row: int) -> None:
    one, true = head.take(slice(row, row + 1)), float(TRUE[row])
    left = integrate.quad(lambda x: float(one.cdf(np.array([x]))[0]) ** 2, -np.inf, true, limit=400)[0]
    right = integrate.quad(lambda x: (1 - float(one.cdf(np.array([x]))[0])) ** 2, true, np.inf, limit=400)[0]
    assert float(one.crps(np.array([true]))[0]) == pytest.approx(left + right, rel=1e-6)


def test_students_t_is_that_of_scipy_and_scoringrules() -> None:
    head, scale = StudentHead(MEAN, STD, DF, np.zeros(N)), STD * np.sqrt((DF - 2) / DF)
    np.testing.assert_allclose(head.cdf(TRUE), stats.t.cdf(TRUE, DF, MEAN, scale), rtol=1e-10)
    scores = pytest.importorskip("scoringrules").crps_t(TRUE, DF, MEAN, scale)
    np.testing.assert_allclose(head.crps(TRUE), scores, rtol=1e-10)


def test_skewed_t_is_that_of_arch() -> None:
    head = StudentHead(MEAN, STD, DF, SKEW)
    law = SkewStudent()
    for row in range(N):
        shape, one = np.array([DF[row], SKEW[row]]), head.take([row])
        surprise = (TRUE[[row]] - MEAN[row]) / STD[row]
        np.testing.assert_allclose(one.cdf(TRUE[[row]]), law.cdf(surprise, shape), rtol=1e-9)
        low = one.quantile(0.05)
        np.testing.assert_allclose(low, MEAN[row] + STD[row] * law.ppf(0.05, shape), rtol=1e-9)
        moment = law.partial_moment(1, float(law.ppf(0.05, shape)), shape)
        np.testing.assert_allclose(one.lower_mean(0.05), MEAN[row] + STD[row] * moment / 0.05, rtol=1e-7)


def test_mixture_is_that_of_scipy_and_scoringrules() -> None:
    head = HEADS[-1]
    assert isinstance(head, MixtureHead)
    wanted = (head.weights * stats.norm.cdf(TRUE[:, None], head.means, head.spreads)).sum(axis=1)
    np.testing.assert_allclose(head.cdf(TRUE), wanted, rtol=1e-12)
    scores = pytest.importorskip("scoringrules").crps_mixnorm(TRUE, head.means, head.spreads, head.weights)
    np.testing.assert_allclose(head.crps(TRUE), scores, rtol=1e-9)


def test_one_component_is_a_normal_distribution() -> None:
    mixture, normal = MixtureHead(np.ones((N, 1)), MEAN[:, None], STD[:, None]), NormalHead(MEAN, STD)
    for level in LEVELS:
        np.testing.assert_allclose(mixture.quantile(level), normal.quantile(level), atol=1e-12)
        np.testing.assert_allclose(mixture.lower_mean(level), normal.lower_mean(level), rtol=1e-10)
    np.testing.assert_allclose(mixture.crps(TRUE), normal.crps(TRUE), rtol=1e-9)


def test_heads_are_told_apart_by_their_columns() -> None:
    objectives = [Gaussian(), StudentT(), SkewStudentT(), Mixture(2)]
    heads = [read_head(table_of(objective)[0]) for objective in objectives]
    names = [head.name for head in heads if head is not None]
    assert names == ["normal", "Student's t", "skewed Student's t", "normal mixture"]


@pytest.mark.parametrize("spoilt", ["std", "df", "weight_0", "std_1"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_distribution_with_an_unknown_value_is_none(spoilt: str, value: float) -> None:
    table = table_of(Mixture(2) if spoilt[-1].isdigit() else StudentT())[0]
    assert read_head(table) is not None
    table.loc[3, spoilt] = value
    assert read_head(table) is None
    assert read_head(table[["y_pred"]]) is None


def test_a_spread_of_zero_is_no_distribution() -> None:
    table = table_of(Gaussian())[0]
    table.loc[3, "std"] = 0.0
    assert read_head(table) is None
