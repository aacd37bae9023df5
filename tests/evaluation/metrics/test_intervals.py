"""Metrics of intervals and of whole distributions against scoringrules, scipy, closed forms by hand and simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from cnn_lstm.evaluation.metrics.distribution import (
    crps_of_scores,
    gaussian_crps,
    pit,
    pit_metrics,
    spread_error_rank_correlation,
)
from cnn_lstm.evaluation.metrics.intervals import christoffersen_p, interval_metrics, kupiec_p, set_metrics, winkler

Floats = NDArray[np.float64]
SEEDS = range(10)


def normals(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def ensemble(seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Truth, forecast, scale and sorted scores; some truths lie beyond all members, some scores are equal."""
    random = np.random.default_rng(seed)
    scores = np.sort(np.concatenate([random.standard_t(3, 101), np.zeros(5)]))
    return 3 * random.normal(size=200), random.normal(size=200), random.exponential(size=200), scores


@pytest.mark.parametrize("seed", SEEDS)
def test_crps_of_scores_is_that_of_scoringrules(seed: int) -> None:
    rules = pytest.importorskip("scoringrules")
    true, forecast, scale, scores = ensemble(seed)
    members = forecast[:, None] + scores * scale[:, None]
    expected = rules.crps_ensemble(true, members, estimator="nrg")
    np.testing.assert_allclose(crps_of_scores(true, forecast, scale, scores), expected, atol=1e-10)


def test_crps_of_scores_is_the_definition() -> None:
    true, forecast, scale, scores = ensemble(0)
    members = forecast[0] + scores * scale[0]
    expected = np.mean(np.abs(members - true[0])) - np.mean(np.abs(members[:, None] - members)) / 2
    assert crps_of_scores(true[:1], forecast[:1], scale[:1], scores)[0] == pytest.approx(expected, abs=1e-12)


def test_crps_of_many_scores_is_that_of_their_distribution() -> None:
    true, forecast, scale, _ = ensemble(1)
    scores = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    expected = gaussian_crps(true, forecast, scale)
    np.testing.assert_allclose(crps_of_scores(true, forecast, scale, scores), expected, atol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_gaussian_crps_is_that_of_scoringrules(seed: int) -> None:
    rules = pytest.importorskip("scoringrules")
    true, mean, std, _ = ensemble(seed)
    np.testing.assert_allclose(gaussian_crps(true, mean, std), rules.crps_normal(true, mean, std), atol=1e-10)


def test_without_a_scale_crps_is_the_absolute_error() -> None:
    true, nothing = np.array([1.0, -2.0]), np.zeros(2)
    assert crps_of_scores(true, nothing, nothing, np.array([-1.0, 1.0])).tolist() == [1, 2]
    assert gaussian_crps(true, nothing, nothing).tolist() == [1, 2]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_interval_score_is_that_of_scoringrules(seed: int) -> None:
    rules = pytest.importorskip("scoringrules")
    true, middle, width, _ = ensemble(seed)
    expected = rules.interval_score(true, middle - width, middle + width, 0.2)
    np.testing.assert_allclose(winkler(true, middle - width, middle + width, 0.8), expected, rtol=1e-10)


def test_winkler_is_smallest_at_the_quantiles() -> None:
    true = normals(0, 20_000)
    scores = {z: winkler(true, np.full(20_000, -z), np.full(20_000, z), 0.9).mean() for z in (1.3, 1.645, 2.0)}
    assert min(scores, key=lambda z: scores[z]) == 1.645


def test_interval_metrics_by_hand() -> None:
    """Six rows of two symbols; the row without a truth counts nowhere."""
    metrics = interval_metrics(
        np.array([0.0, 1.0, 2.0, np.nan, 5.0, -3.0, 0.5]),
        np.full(7, -1.0),
        np.full(7, 1.0),
        0.5,
        volatility=np.array([1.0, 2.0, 3.0, 9.0, 4.0, 5.0, np.nan]),
    )
    assert metrics["rows"] == 6
    assert metrics["coverage"] == pytest.approx(3 / 6)
    assert metrics["mean_width"] == 2
    assert metrics["winkler"] == pytest.approx(2 + 4 * (1 + 4 + 2) / 6)
    assert metrics["kupiec_p"] == pytest.approx(1)
    # volatilities 1 2 | 3 | 4 5 with the thirds at 2.33 and 3.67
    names = [f"coverage_{name}_volatility" for name in ("low", "middle", "high")]
    assert [metrics[name] for name in names] == [1, 0, 0]
    assert math.isnan(metrics["lowest_rolling_coverage"])


def test_ends_of_infinite_intervals_hold_everything() -> None:
    metrics = interval_metrics(np.zeros(3), np.full(3, -np.inf), np.full(3, np.inf))
    assert (metrics["coverage"], metrics["mean_width"], metrics["winkler"]) == (1, np.inf, np.inf)


def test_without_rows_all_interval_metrics_are_nan() -> None:
    nothing = np.array([np.nan])
    metrics = interval_metrics(nothing, nothing, nothing, 0.9)
    assert metrics.pop("rows") == 0
    assert metrics.pop("level") == 0.9
    assert all(math.isnan(value) for value in metrics.values())


def test_lowest_rolling_coverage_is_over_dates_of_all_symbols() -> None:
    random = np.random.default_rng(0)
    dates = np.tile(np.arange(600), 3)
    missed = random.uniform(size=1800) < np.where((dates >= 300) & (dates < 400), 0.5, 0.1)
    shuffled = random.permutation(1800)
    true = np.where(missed, 2.0, 0.0)[shuffled]
    stamps = pd.Series(pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(dates[shuffled], unit="D"))
    metrics = interval_metrics(true, np.full(1800, -1.0), np.full(1800, 1.0), as_of=stamps)
    daily = pd.Series(~missed).groupby(dates).mean()
    assert metrics["lowest_rolling_coverage"] == pytest.approx(daily.rolling(250).mean().min(), abs=1e-12)
    assert metrics["lowest_rolling_coverage"] < metrics["coverage"] - 0.05


@pytest.mark.parametrize("dates", [249, 250, 251])
def test_rolling_coverage_needs_250_dates(dates: int) -> None:
    """The first date is a miss, so the lowest window begins there."""
    true = np.zeros(dates)
    true[0] = 2.0
    lowest = interval_metrics(true, np.full(dates, -1.0), np.full(dates, 1.0))["lowest_rolling_coverage"]
    assert math.isnan(lowest) if dates < 250 else lowest == pytest.approx(249 / 250)


def test_coverage_is_split_at_the_terciles_of_volatility() -> None:
    random = np.random.default_rng(0)
    true, volatility = 0.65 * random.normal(size=999), random.exponential(size=999)
    metrics = interval_metrics(true, np.full(999, -1.0), np.full(999, 1.0), volatility=volatility)
    assert 1e-6 < metrics["kupiec_p"] == kupiec_p(int(np.sum(np.abs(true) > 1)), 999, 0.9)
    expected = pd.Series(np.abs(true) <= 1).groupby(pd.qcut(volatility, 3, labels=False)).mean()
    values = [metrics[f"coverage_{name}_volatility"] for name in ("low", "middle", "high")]
    np.testing.assert_allclose(values, expected, atol=1e-12)


@pytest.mark.parametrize(("misses", "count", "level"), [(25, 250, 0.95), (0, 100, 0.9), (7, 7, 0.5), (3, 90, 0.9)])
def test_kupiec_is_the_binomial_likelihood_ratio(misses: int, count: int, level: float) -> None:
    promised = stats.binom.logpmf(misses, count, 1 - level)
    ratio = 2 * (stats.binom.logpmf(misses, count, misses / count) - promised)
    assert kupiec_p(misses, count, level) == pytest.approx(stats.chi2.sf(ratio, 1), abs=1e-9)


def test_kupiec_rejects_a_right_interval_as_often_as_promised() -> None:
    misses = np.random.default_rng(0).binomial(1000, 0.1, size=2000)
    assert np.mean([kupiec_p(int(m), 1000, 0.9) < 0.05 for m in misses]) == pytest.approx(0.05, abs=0.02)
    assert kupiec_p(200, 1000, 0.9) < 1e-6


def test_christoffersen_by_hand() -> None:
    """Two symbols: transitions within each, none from one to the other; order of rows does not matter."""
    missed = np.array([0, 1, 1, 0, 1, 1, 0, 0], dtype=bool)
    symbol, date = np.repeat(["A", "B"], 4), np.tile(np.arange(4), 2)
    # A: 01 11 10; B: 11 10 00
    n00, n01, n10, n11 = 1, 1, 2, 2
    same = (n00 + n10) * math.log(3 / 6) + (n01 + n11) * math.log(3 / 6)
    free = n00 * math.log(1 / 2) + n01 * math.log(1 / 2) + n10 * math.log(2 / 4) + n11 * math.log(2 / 4)
    assert same == pytest.approx(free)
    assert christoffersen_p(missed, symbol, date) == 1
    more = np.array([0, 1, 1, 1, 0, 0, 0, 0], dtype=bool)
    # A: 01 11 11; B: 00 00 00
    same = 3 * math.log(3 / 6) + 3 * math.log(3 / 6)
    free = 3 * math.log(3 / 4) + math.log(1 / 4) + 2 * math.log(1)
    expected = stats.chi2.sf(2 * (free - same), 1)
    shuffled = np.random.default_rng(0).permutation(8)
    assert christoffersen_p(more, symbol, date) == pytest.approx(expected, abs=1e-12)
    assert christoffersen_p(more[shuffled], symbol[shuffled], date[shuffled]) == pytest.approx(expected, abs=1e-12)


def test_christoffersen_rejects_clusters_only() -> None:
    random = np.random.default_rng(1)
    rejected = [christoffersen_p(random.uniform(size=1000) < 0.1, np.zeros(1000), np.arange(1000)) for _ in range(500)]
    assert np.mean(np.array(rejected) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert christoffersen_p(np.ones(5, dtype=bool), np.zeros(5), np.arange(5)) == 1
    assert math.isnan(christoffersen_p(np.ones(2, dtype=bool), np.arange(2), np.zeros(2)))


@pytest.mark.parametrize("seed", SEEDS)
def test_pit_is_uniform_for_a_right_model(seed: int) -> None:
    scale = np.random.default_rng(seed).uniform(0.5, 2, 2000)
    scores = stats.norm.ppf((np.arange(1001) + 0.5) / 1001)
    values = pit(scale * normals(seed, 2000), np.zeros(2000), scale, scores)
    metrics: Any = pit_metrics(values)
    histogram = np.array(metrics["histogram"])
    assert values.mean() == pytest.approx(0.5, abs=0.02)
    assert histogram.sum() == pytest.approx(1)
    assert np.abs(histogram - 0.1).max() < 0.03
    assert metrics["ks_p"] > 0.001
    assert metrics["cramer_von_mises_p"] > 0.001


@pytest.mark.parametrize(("bias", "spread"), [(0.3, 1.0), (0.0, 1.5), (0.0, 0.6)], ids=["biased", "narrow", "wide"])
def test_pit_is_not_uniform_for_a_wrong_model(bias: float, spread: float) -> None:
    scores = stats.norm.ppf((np.arange(1001) + 0.5) / 1001)
    metrics: Any = pit_metrics(pit(bias + spread * normals(0, 2000), np.zeros(2000), np.ones(2000), scores))
    assert metrics["ks_p"] < 1e-6
    assert metrics["cramer_von_mises_p"] < 1e-6


def test_pit_is_the_middle_of_the_rank() -> None:
    """Truth among its equals and without a scale; four ranks of three scores."""
    scores = np.array([-1.0, 0.0, 1.0])
    true = np.array([-9.0, -1.0, 0.5, 0.0, 2.0, -2.0])
    scale = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    assert pit(true, np.zeros(6), scale, scores).tolist() == [0.125, 0.25, 0.625, 0.5, 0.875, 0.125]


def test_pit_metrics_without_rows_are_nan() -> None:
    metrics = pit_metrics(np.array([np.nan, 0.5]))
    assert metrics["rows"] == 1
    assert math.isnan(float(str(metrics["ks_p"])))


@pytest.mark.parametrize("seed", SEEDS)
def test_spread_error_rank_correlation_is_that_of_scipy(seed: int) -> None:
    spread = np.round(np.random.default_rng(seed).exponential(size=300), 1)
    error = np.abs(normals(seed, 300)) * spread
    expected = stats.spearmanr(spread, error).statistic
    assert spread_error_rank_correlation(spread, error) == pytest.approx(expected, abs=1e-12)


def test_rank_correlation_of_a_constant_spread_is_nan() -> None:
    assert math.isnan(spread_error_rank_correlation(np.ones(9), np.arange(9.0)))
    assert math.isnan(spread_error_rank_correlation(np.array([np.nan, 1.0]), np.ones(2)))


def test_set_metrics_by_hand() -> None:
    metrics = set_metrics(np.array([0.0, 1.0, 2.0, 1.0, np.nan]), ["01", "1", "", "02", "012"], classes=3, level=0.9)
    assert (metrics["rows"], metrics["coverage"], metrics["mean_size"]) == (4, 0.5, 1.25)
    assert metrics["kupiec_p"] == kupiec_p(2, 4, 0.9)
    empty = set_metrics(np.array([]), [], classes=3, level=0.9)
    assert math.isnan(empty["coverage"])
    assert math.isnan(empty["kupiec_p"])


def test_sets_of_more_than_ten_classes_have_blanks_between_them() -> None:
    metrics = set_metrics(np.array([1.0, 11.0]), ["10 11", "10 11"], classes=12, level=0.5)
    assert (metrics["coverage"], metrics["mean_size"]) == (0.5, 2.0)
