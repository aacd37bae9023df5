"""Sharpe metrics against the published example, closed forms, statsmodels' HAC covariance and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from cnn_lstm.evaluation.metrics.sharpe import (
    automatic_lags,
    calmar_ratio,
    deflated_sharpe_ratio,
    expected_best_sharpe,
    max_drawdown,
    minimum_track_record_length,
    probabilistic_sharpe_ratio,
    sharpe_ratio,
    sharpe_standard_error,
)

Floats = NDArray[np.float64]
SEEDS = range(10)


def draws(seed: int, count: int = 300, autocorrelation: float = 0.0) -> Floats:
    """Skewed, fat-tailed returns with a drift."""
    random = np.random.default_rng(seed)
    returns = 0.01 * (random.standard_t(5, count) + 0.5 * random.exponential(size=count))
    for row in range(1, count):
        returns[row] += autocorrelation * returns[row - 1]
    return np.asarray(returns, dtype=np.float64)


def variance_factor(returns: Floats) -> float:
    """Mertens (2002) from scipy's moments."""
    ratio = returns.mean() / returns.std(ddof=1)
    return float(1 - stats.skew(returns) * ratio + (stats.kurtosis(returns, fisher=False) - 1) / 4 * ratio**2)


def example_of_the_paper() -> Floats:
    """1,250 days, annual ratio 2.5, skewness -3, kurtosis 10.

    As kurtosis = 1 + skewness^2, only a distribution of two values has these moments.
    """
    returns = np.repeat([-1.0, 0.0], [105, 1145])
    returns = (returns - returns.mean()) / returns.std(ddof=1) + 2.5 / math.sqrt(250)
    assert stats.skew(returns) == pytest.approx(-3, abs=1e-3)
    assert stats.kurtosis(returns, fisher=False) == pytest.approx(10, abs=5e-3)
    return np.asarray(returns, dtype=np.float64)


def test_the_deflated_sharpe_ratio_is_that_of_the_paper() -> None:
    """Bailey and Lopez de Prado (2014), "A numerical example": 0.9004 for 100 trials."""
    assert deflated_sharpe_ratio(example_of_the_paper(), 100, 0.5 / 250) == pytest.approx(0.9004, abs=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_without_lags_the_standard_error_is_that_of_mertens(seed: int) -> None:
    returns = draws(seed)
    expected = math.sqrt(variance_factor(returns) / (len(returns) - 1))
    assert sharpe_standard_error(returns) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("lags", [0, 1, 7])
@pytest.mark.parametrize("seed", SEEDS)
def test_standard_error_is_the_delta_method_on_a_hac_covariance(seed: int, lags: int) -> None:
    """The two moments as two regressions on a constant; statsmodels' kernel on the residuals, then the gradient."""
    sandwich = pytest.importorskip("statsmodels.stats.sandwich_covariance")
    returns = draws(seed, autocorrelation=0.3)
    count, mean, deviation = len(returns), returns.mean(), returns.std()
    moments = np.column_stack([returns - mean, (returns - mean) ** 2 - deviation**2])
    covariance = sandwich.S_hac_simple(moments, nlags=lags) / count
    # the gradient at the reported ratio, whose deviation is that of n - 1
    gradient = np.array([1 / deviation, -sharpe_ratio(returns) / (2 * deviation**2)])
    expected = math.sqrt(gradient @ covariance @ gradient / (count - 1))
    assert sharpe_standard_error(returns, lags) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_standard_error_is_that_of_a_regression_with_newey_west(seed: int) -> None:
    linear = pytest.importorskip("statsmodels.api")
    returns = draws(seed, autocorrelation=0.3)
    scores = (returns - returns.mean()) / returns.std()
    influence = scores - sharpe_ratio(returns) / 2 * (scores**2 - 1)
    fit = linear.OLS(influence, np.ones(len(returns))).fit(cov_type="HAC", cov_kwds={"maxlags": 5})
    count = len(returns)
    assert sharpe_standard_error(returns, 5) == pytest.approx(
        float(fit.bse[0]) * math.sqrt(count / (count - 1)), rel=1e-9
    )


def test_standard_error_is_the_scatter_of_the_ratio() -> None:
    """Autocorrelated returns: the plain error is too small, the one with lags is right."""
    samples = [draws(seed, 1000, autocorrelation=0.4) for seed in range(300)]
    scatter = np.std([sharpe_ratio(returns) for returns in samples])
    with_lags = np.mean([sharpe_standard_error(returns, 12) for returns in samples])
    assert with_lags == pytest.approx(scatter, rel=0.12)
    assert np.mean([sharpe_standard_error(returns) for returns in samples]) < 0.8 * scatter


def test_automatic_lags_follow_the_rule_and_stay_below_the_rows() -> None:
    assert [automatic_lags(count) for count in (0, 1, 2, 100, 2500)] == [0, 0, 1, 4, 8]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_probabilistic_sharpe_ratio_is_the_normal_probability(seed: int) -> None:
    returns = draws(seed)
    expected = stats.norm.cdf((sharpe_ratio(returns) - 0.05) * math.sqrt(299) / math.sqrt(variance_factor(returns)))
    assert probabilistic_sharpe_ratio(returns, 0.05) == pytest.approx(expected, abs=1e-12)


def test_expected_best_is_the_mean_of_the_best() -> None:
    best = np.random.default_rng(0).normal(size=(20_000, 50)).max(axis=1).mean()
    assert expected_best_sharpe(50, 4.0) == pytest.approx(2 * best, rel=0.02)
    assert expected_best_sharpe(1, 4.0) == 0


def test_one_trial_deflates_nothing_and_more_trials_more() -> None:
    returns = draws(3)
    values = [deflated_sharpe_ratio(returns, trials) for trials in (1, 2, 10, 1000)]
    assert values[0] == probabilistic_sharpe_ratio(returns)
    assert values == sorted(values, reverse=True)
    assert deflated_sharpe_ratio(returns, 10) == deflated_sharpe_ratio(returns, 10, 1 / 299)


def test_best_of_many_useless_trials_is_not_deflated_to_significance() -> None:
    """Twenty useless trials, 400 times: the PSR of the best is above 0.95 in most, its DSR seldom."""
    random = np.random.default_rng(0)
    psr, dsr = [], []
    for _ in range(400):
        trials = random.normal(size=(20, 250))
        best = trials[np.argmax(trials.mean(axis=1) / trials.std(axis=1))]
        psr.append(probabilistic_sharpe_ratio(best) > 0.95)
        dsr.append(deflated_sharpe_ratio(best, 20) > 0.95)
    assert np.mean(psr) > 0.5
    assert np.mean(dsr) < 0.05


def test_minimum_track_record_length_is_where_psr_reaches_the_level() -> None:
    returns = draws(1)
    length = minimum_track_record_length(returns, 0.02, level=0.9)
    ratio = sharpe_ratio(returns) - 0.02
    reached = stats.norm.cdf(ratio * math.sqrt(length - 1) / math.sqrt(variance_factor(returns)))
    assert reached == pytest.approx(0.9, abs=1e-9)
    assert minimum_track_record_length(-returns) == math.inf


@pytest.mark.parametrize("seed", SEEDS)
def test_drawdown_by_hand(seed: int) -> None:
    returns = draws(seed, 40)
    wealth = [0.0, *np.cumsum(returns)]
    deepest = max(wealth[i] - wealth[j] for i in range(len(wealth)) for j in range(i, len(wealth)))
    assert max_drawdown(returns) == pytest.approx(deepest, abs=1e-12)
    assert calmar_ratio(returns, 252) == pytest.approx(returns.mean() * 252 / deepest, rel=1e-9)


def test_a_loss_from_the_start_is_a_drawdown() -> None:
    assert max_drawdown(np.array([-0.25, 0.125])) == 0.25
    assert max_drawdown(np.array([0.25, 0.125])) == 0
    assert math.isnan(calmar_ratio(np.array([0.25, 0.125]), 1))


@pytest.mark.parametrize("returns", [[], [0.1], [0.1] * 7, [0.0] * 7], ids=["none", "one", "constant", "zero"])
def test_returns_that_never_differ_have_no_ratio(returns: list[float]) -> None:
    values = np.array(returns)
    assert math.isnan(sharpe_ratio(values))
    assert math.isnan(sharpe_standard_error(values, 2))
    assert math.isnan(probabilistic_sharpe_ratio(values))
    assert math.isnan(deflated_sharpe_ratio(values, 10))
    assert math.isnan(minimum_track_record_length(values))
