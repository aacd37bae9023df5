"""Tests of equal accuracy: their values by other means, and how often they are wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import StationaryBootstrap
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.tsa.stattools import diebold_mariano_test

from cnn_lstm.evaluation.series import bootstrap_means, clustered_by_date, newey_west_t
from cnn_lstm.evaluation.significance import (
    Comparison,
    compare,
    diebold_mariano,
    standard_error,
    superior_predictive_ability,
)
from cnn_lstm.evaluation.verdict import holds_up


def hac_t(values: np.ndarray, lags: int, kernel: str = "bartlett") -> float:
    """The t-statistic of the mean by statsmodels."""
    fit = OLS(values, np.ones_like(values)).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "kernel": kernel})
    return float(fit.tvalues[0])


def overlapping(seed: int, rows: int, horizon: int) -> np.ndarray:
    """Loss differences without a mean, each the sum of `horizon` shocks, as overlapping targets make them."""
    shocks = np.random.default_rng(seed).normal(size=rows + horizon - 1)
    return np.convolve(shocks, np.ones(horizon), mode="valid")


def losses(seed: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Losses of a model, and of a baseline that is worse by about a fifth."""
    random = np.random.default_rng(seed)
    shared = random.chisquare(1, rows)
    return 0.5 * shared + random.chisquare(1, rows) * 0.3, shared


@pytest.mark.parametrize("horizon", [1, 2, 5, 20])
def test_newey_west_and_diebold_mariano_are_those_of_statsmodels(horizon: int) -> None:
    for seed in range(50):
        random = np.random.default_rng(seed)
        rows = int(random.integers(40 * horizon, 60 * horizon))
        values = overlapping(seed, rows, horizon) + random.normal()
        assert newey_west_t(values, horizon - 1) == pytest.approx(hac_t(values, horizon - 1), rel=1e-6)
        harvey = np.sqrt((rows + 1 - 2 * horizon + horizon * (horizon - 1) / rows) / rows)
        expected = harvey * hac_t(values, horizon - 1, kernel="uniform")
        statistic, p = diebold_mariano(values, horizon)
        assert statistic == pytest.approx(expected, rel=1e-6)
        assert p == pytest.approx(2 * stats.t.sf(abs(expected), rows - 1), rel=1e-6, abs=1e-12)


def test_one_step_ahead_it_is_the_whole_test_of_statsmodels() -> None:
    """With more steps statsmodels lets the weights of the lags fall."""
    for seed in range(200):
        random = np.random.default_rng(seed)
        true, first, second = random.normal(size=(3, int(random.integers(3, 90))))
        expected = diebold_mariano_test(true, first, second, lags=0, harvey_adj=True, horizon=1)
        result = diebold_mariano((true - first) ** 2 - (true - second) ** 2, 1)
        assert result == pytest.approx((expected.statistic, expected.pvalue), rel=1e-6)


def test_where_the_lags_outweigh_the_variance_their_weights_fall() -> None:
    values = np.tile([1.0, -1.0], 20) + 0.01 * np.arange(40)
    assert np.isnan(hac_t(values, 1, kernel="uniform")), "the root of a variance below 0"
    expected = np.sqrt((40 + 1 - 4 + 2 / 40) / 40) * hac_t(values, 1)
    assert diebold_mariano(values, 2)[0] == pytest.approx(expected, rel=1e-6)


def test_one_step_ahead_it_is_the_ordinary_t_test() -> None:
    """Harvey's factor makes up for the variance's n instead of n - 1."""
    values = overlapping(3, 60, 1) + 0.2
    statistic, p = diebold_mariano(values, 1)
    ordinary = stats.ttest_1samp(values, 0.0)
    assert statistic == pytest.approx(ordinary.statistic, rel=1e-9)
    assert p == pytest.approx(ordinary.pvalue, rel=1e-9)


@pytest.mark.parametrize("series", [[0.0] * 9, [0.3] * 8 + [0.1 + 0.2], [1.0], [1.0, 2.0, 4.0, 8.0, 16.0]])
def test_a_series_that_shows_nothing_is_no_evidence(series: list[float]) -> None:
    assert diebold_mariano(series, horizon=5) == (0.0, 1.0)
    assert np.isnan(newey_west_t(series, lags=4))


def test_the_shortest_series_that_can_be_tested() -> None:
    assert diebold_mariano([1.0, 2.0, 4.0], horizon=2)[1] < 1
    assert diebold_mariano([1.0, 2.0, 4.0], horizon=3) == (0.0, 1.0)


def test_overlapping_targets_do_not_fool_the_test() -> None:
    """Five-step losses, 250 of them, 400 times, no difference at all: a naive t-test finds one far too often."""
    result = naive = 0
    for seed in range(400):
        values = overlapping(seed, 250, 5)
        result += diebold_mariano(values, 5)[1] < 0.05
        naive += stats.ttest_1samp(values, 0.0).pvalue < 0.05
    assert result / 400 < 0.12
    assert naive / 400 > 0.25


def test_clustering_keeps_the_mean_and_orders_the_dates() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        rows = int(random.integers(1, 60))
        day = random.integers(0, 9, rows)
        date = pd.Series(pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(day, unit="D"))
        values = random.normal(size=(rows, 2))
        daily = clustered_by_date(values, date)
        assert daily.shape == (len(set(day)), 2)
        np.testing.assert_allclose(daily.mean(axis=0), values.mean(axis=0), atol=1e-12)
        per_date = rows / len(set(day))
        expected = [values[day == number].sum(axis=0) / per_date for number in sorted(set(day))]
        np.testing.assert_allclose(daily, expected, atol=1e-12)
        np.testing.assert_allclose(clustered_by_date(values[:, 1], date), daily[:, 1])


def test_one_row_per_date_is_its_own_cluster() -> None:
    np.testing.assert_allclose(clustered_by_date([3.0, 1.0, 2.0], [2, 0, 1]), [1.0, 2.0, 3.0])


def test_twenty_copies_of_a_symbol_are_no_more_evidence_than_one() -> None:
    model, baseline = losses(5, rows=60)
    baseline = baseline + 0.08
    date = np.arange(60)
    once = compare(model, {"b": baseline}, date, 1, 500, seed=1)["b"]
    many = compare(np.tile(model, 20), {"b": np.tile(baseline, 20)}, np.tile(date, 20), 1, 500, seed=1)["b"]
    for name in ("loss_model", "loss_baseline", "skill", "dm_statistic", "dm_p", "bootstrap_p"):
        assert getattr(many, name) == pytest.approx(getattr(once, name), abs=1e-9), name
    np.testing.assert_allclose(many.skill_interval, once.skill_interval, atol=1e-9)
    unclustered = compare(np.tile(model, 20), {"b": np.tile(baseline, 20)}, np.arange(1200), 1, 500, seed=1)["b"]
    assert unclustered.dm_p < 1e-3 * once.dm_p


def test_clustered_statistic_is_that_of_a_cluster_robust_regression() -> None:
    random = np.random.default_rng(2)
    date = np.sort(random.integers(0, 80, 600))
    values = random.normal(0.1, 1, 600) + random.normal(size=80)[date]
    fit = OLS(values, np.ones(600)).fit(cov_type="cluster", cov_kwds={"groups": date, "use_correction": False})
    # the two differ by the spread of the number of rows a date only
    assert newey_west_t(clustered_by_date(values, date), 0) == pytest.approx(fit.tvalues[0], rel=0.05)
    naive = OLS(values, np.ones(600)).fit().tvalues[0]
    assert abs(fit.tvalues[0]) < 0.6 * abs(naive)


def test_bootstrap_means_are_those_of_the_gathered_rows() -> None:
    values = np.random.default_rng(0).normal(size=(80, 3))
    means = bootstrap_means(values, horizon=3, resamples=20, seed=7)
    bootstrap = StationaryBootstrap(6, values, seed=7)
    expected = [data[0][0].mean(axis=0) for data in bootstrap.bootstrap(20)]
    np.testing.assert_allclose(means, expected, atol=1e-12)


def test_blocks_are_as_long_as_the_cube_root_of_the_rows() -> None:
    values = np.random.default_rng(0).normal(size=(1000, 1))
    expected = [data[0][0].mean(axis=0) for data in StationaryBootstrap(10, values, seed=1).bootstrap(5)]
    np.testing.assert_allclose(bootstrap_means(values, 2, 5, seed=1), expected, atol=1e-12)
    assert not np.allclose(bootstrap_means(values, 6, 5, seed=1), expected, atol=1e-12)


def test_bootstrap_repeats_with_its_seed_and_draws_the_same_rows_of_all_columns() -> None:
    column = np.random.default_rng(0).normal(size=300)
    means = bootstrap_means(np.column_stack([column, 2 * column, column + 1]), 1, 100, seed=3)
    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0], atol=1e-12)
    np.testing.assert_allclose(means[:, 2], means[:, 0] + 1, atol=1e-12)
    np.testing.assert_allclose(bootstrap_means(column[:, None], 1, 100, seed=3), means[:, :1], atol=1e-12)
    assert not np.allclose(bootstrap_means(column[:, None], 1, 100, seed=4), means[:, :1])
    assert means[:, 0].std() == pytest.approx(column.std() / np.sqrt(300), rel=0.25)


def test_spread_of_the_bootstrap_knows_the_overlap() -> None:
    values = overlapping(1, 2000, 10)
    spread = bootstrap_means(values[:, None], 10, 400, seed=0).std()
    true = np.sqrt(10**2 / 2000)
    assert spread == pytest.approx(true, rel=0.3)
    assert values.std() / np.sqrt(2000) < 0.5 * true


def test_a_comparison_follows_its_definitions() -> None:
    model, baseline = losses(0)
    other = baseline[::-1] * 2
    date = np.arange(400)
    result = compare(model, {"a": baseline, "b": other}, date, 4, 999, seed=5)
    assert list(result) == ["a", "b"]
    draws = bootstrap_means(np.column_stack([model, baseline, other]), 4, 999, seed=5)
    for column, (name, loss) in enumerate({"a": baseline, "b": other}.items(), start=1):
        one = result[name]
        assert one.loss_model == pytest.approx(model.mean())
        assert one.loss_baseline == pytest.approx(loss.mean())
        assert one.skill == pytest.approx(1 - model.mean() / loss.mean())
        assert (one.dm_statistic, one.dm_p) == pytest.approx(diebold_mariano(loss - model, 4), rel=1e-9)
        gain = np.sort(draws[:, column] - draws[:, 0])
        np.testing.assert_allclose(one.difference_interval, np.quantile(gain, [0.025, 0.975]))
        ratio = 1 - draws[:, 0] / draws[:, column]
        np.testing.assert_allclose(one.skill_interval, np.quantile(ratio, [0.025, 0.975]))
        mean = (loss - model).mean()
        beyond = sum(abs(draw - mean) >= abs(mean) for draw in gain)
        assert one.bootstrap_p == pytest.approx((beyond + 1) / 1000)


def test_order_of_rows_changes_nothing() -> None:
    model, baseline = losses(1)
    date = np.arange(400) // 4
    shuffled = np.random.default_rng(0).permutation(400)
    first = compare(model, {"b": baseline}, date, 2, 99, seed=0)["b"]
    second = compare(model[shuffled], {"b": baseline[shuffled]}, date[shuffled], 2, 99, seed=0)["b"]
    assert second.dm_p == pytest.approx(first.dm_p, rel=1e-9)
    assert second.skill_interval == pytest.approx(first.skill_interval, rel=1e-9)


def test_evidence_needs_a_better_model() -> None:
    model, baseline = losses(0)
    date = np.arange(400)
    better = compare(model, {"b": baseline}, date, 1, 999, seed=0)["b"]
    worse = compare(baseline, {"b": model}, date, 1, 999, seed=0)["b"]
    same = compare(model, {"b": model.copy()}, date, 1, 999, seed=0)["b"]
    assert holds_up(better)
    assert not holds_up(worse)
    assert worse.dm_p == pytest.approx(better.dm_p, rel=1e-9)
    assert worse.dm_statistic == pytest.approx(-better.dm_statistic, rel=1e-9)
    assert not holds_up(same)
    assert (same.skill, same.dm_p, same.bootstrap_p) == (0.0, 1.0, 1.0)


SKILLED = Comparison(0.9, 1.0, 0.1, (0.02, 0.2), (0.02, 0.2), 2.5, 0.02, 0.03)


@pytest.mark.parametrize(
    "changes",
    [
        {"dm_p": 0.05},
        {"bootstrap_p": 0.05},
        {"skill_interval": (0.0, 0.2)},
        {"dm_statistic": -2.5},
        {"dm_p": float("nan")},
        {"skill_interval": (float("nan"), float("nan"))},
    ],
    ids=["dm", "bootstrap", "interval", "worse", "unknown p", "unknown interval"],
)
def test_evidence_needs_everything(changes: dict[str, Any]) -> None:
    assert holds_up(SKILLED)
    assert not holds_up(SKILLED, level=0.03)
    assert not holds_up(replace(SKILLED, **changes))


def test_against_a_baseline_without_any_loss_there_is_no_skill() -> None:
    result = compare(np.ones(50), {"perfect": np.zeros(50)}, np.arange(50), 1, 50, seed=0)["perfect"]
    assert np.isnan([result.skill, *result.skill_interval]).all()
    assert result.difference_interval == (-1.0, -1.0)
    assert not holds_up(result)


@pytest.mark.parametrize("horizon", [1, 5])
def test_evidence_without_skill_is_as_rare_as_the_level(horizon: int) -> None:
    """Two forecasts of equal mean loss: both tests together are wrong, in the model's favour, in about 1 of 40."""
    wrong = 0
    smooth = np.ones(horizon) / horizon
    for seed in range(200):
        model, baseline = losses(seed, 400 + horizon - 1)
        equal = baseline - 0.2  # the means of `losses` are 0.8 and 1
        model, equal = (np.convolve(loss, smooth, mode="valid") for loss in (model, equal))
        wrong += holds_up(compare(model, {"b": equal}, np.arange(400), horizon, 199, seed)["b"])
    assert wrong <= 12


def test_a_baseline_that_knows_fewer_rows_is_compared_on_those() -> None:
    """As if the rows that it does not know were not in the table; another baseline does not notice."""
    model, baseline = losses(3)
    date = np.arange(400) // 2
    known = np.random.default_rng(0).random(400) < 0.7
    partial = np.where(known, baseline, np.nan)
    both = compare(model, {"part": partial, "all": baseline}, date, 2, 99, seed=1)
    alone = compare(model[known], {"part": baseline[known]}, date[known], 2, 99, seed=1)
    assert both["part"] == alone["part"]
    assert both["all"] == compare(model, {"all": baseline}, date, 2, 99, seed=1)["all"]
    assert (both["part"].rows, both["part"].dates) == (known.sum(), len(set(date[known])))
    assert (both["all"].rows, both["all"].dates) == (400, 200)
    assert both["all"].standard_error * both["all"].dm_statistic == pytest.approx((baseline - model).mean())


def test_single_precision_is_compared_in_double() -> None:
    """Losses of a network are float32; a sum of many of them in float32 loses digits."""
    model, baseline = (loss.astype(np.float32) + np.float32(1000) for loss in losses(4))
    double = model.astype(np.float64), baseline.astype(np.float64)
    date = np.arange(400)
    assert compare(model, {"b": baseline}, date, 3, 99, seed=0) == compare(double[0], {"b": double[1]}, date, 3, 99, 0)
    steps = [1, 2, 4, 2, 8, 3]
    for series in (baseline - model, np.array(steps, dtype=np.int8), steps):
        as_double = np.array(series, dtype=np.float64)
        assert diebold_mariano(series, 2) == diebold_mariano(as_double, 2)
        assert standard_error(series, 2) == standard_error(as_double, 2)


def test_a_draw_as_far_out_as_the_mean_counts_whatever_its_last_bits() -> None:
    """Two dates, one of them without a difference: a draw of one date twice is as far from the mean as 0 is."""
    random = np.random.default_rng(0)
    ps = set()
    for _ in range(100):
        model = random.chisquare(1, 2)
        ps.add(compare(model, {"b": model + np.array([0, random.normal()])}, [0, 1], 1, 199, seed=0)["b"].bootstrap_p)
    assert len(ps) == 1
    assert 0.1 < ps.pop() < 0.9


def test_a_variance_of_exactly_nothing_is_estimated_by_falling_weights() -> None:
    """Their lags outweigh the variance to the last bit: 2 - 2 x 1, and with half the weight 2 - 1."""
    assert standard_error([1.0, -1.0, 0.0, 0.0], 2) == pytest.approx(np.sqrt(1 / 4**2 / ((4 + 1 - 4 + 2 / 4) / 4)))


# -- the best of many ------------------------------------------------------------------------------------------------


def many(seed: int, models: int, rows: int, horizon: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Losses of a baseline, and of models that are as good, all related over the horizon."""
    columns = np.random.default_rng(seed).chisquare(1, (rows + horizon - 1, models + 1))
    smooth = np.ones(horizon) / horizon
    columns = np.apply_along_axis(np.convolve, 0, columns, smooth, mode="valid")
    return columns[:, 0], columns[:, 1:]


@pytest.mark.parametrize("horizon", [1, 5])
def test_the_best_of_twenty_useless_models_is_seldom_taken_for_skill(horizon: int) -> None:
    """At a level of 5 %, in 60 sweeps (6 % and 11 % in 200).

    Taken alone, the best of them convinces a test of its own in 10 or more.
    """
    result, alone = 0, 0
    for seed in range(60):
        baseline, models = many(seed, 20, 300, horizon)
        result += superior_predictive_ability(baseline, models, np.arange(300), horizon, 199, seed) < 0.05
        best = models[:, models.mean(axis=0).argmin()]
        statistic, p = diebold_mariano(baseline - best, horizon)
        alone += statistic > 0 and p < 0.05
    assert result <= {1: 8, 5: 12}[horizon]
    assert alone >= 10


def test_one_good_model_among_many_is_found() -> None:
    baseline, models = many(0, 20, 300)
    models[:, 7] = 0.8 * baseline
    assert superior_predictive_ability(baseline, models, np.arange(300), 1, 199) < 0.01


def test_copies_of_a_symbol_are_no_evidence_for_the_best_of_many_either() -> None:
    baseline, models = many(3, 20, 100)
    one = superior_predictive_ability(baseline, models, np.arange(100), 1, 199)
    copies = np.repeat(np.arange(100), 20)
    assert superior_predictive_ability(baseline[copies], models[copies], copies, 1, 199) == one


def test_models_that_differ_by_a_constant_are_not_evidence() -> None:
    baseline, models = many(0, 1, 100)
    same = np.column_stack([baseline, baseline + 1.0])
    assert superior_predictive_ability(baseline, same, np.arange(100), 1, 199) == 1.0
    compared = np.column_stack([same, models])
    alone = superior_predictive_ability(baseline, models, np.arange(100), 1, 199)
    assert superior_predictive_ability(baseline, compared, np.arange(100), 1, 199) == alone


def test_an_erratic_model_does_not_hide_a_steady_one() -> None:
    baseline, models = many(0, 20, 300)
    steady = np.column_stack([models * 10, baseline - np.random.default_rng(1).normal(0.05, 0.1, 300)])
    assert superior_predictive_ability(baseline, steady, np.arange(300), 1, 199) < 0.01


def test_the_draws_for_the_best_of_many_repeat_themselves() -> None:
    baseline, models = many(1, 5, 120)
    first = superior_predictive_ability(baseline, models, np.arange(120), 1)
    assert superior_predictive_ability(baseline, models, np.arange(120), 1, resamples=1000, seed=0) == first
    assert superior_predictive_ability(baseline, models, np.arange(120), 1, resamples=1000, seed=1) != first
    assert round(first * 1000) == pytest.approx(first * 1000), "a share of 1000 draws"
    of_200 = {superior_predictive_ability(baseline, models, np.arange(120), 1, 200, seed) for seed in range(9)}
    assert all(round(p * 200) == pytest.approx(p * 200) for p in of_200)
    assert len(of_200) > 1


def test_the_best_of_many_knows_no_order_of_rows_and_no_unit() -> None:
    baseline, models = many(2, 5, 120)
    date = np.arange(120) // 2
    shuffled = np.random.default_rng(0).permutation(120)
    p = superior_predictive_ability(baseline, models, date, 3, 199)
    assert superior_predictive_ability(baseline[shuffled], models[shuffled], date[shuffled], 3, 199) == p
    worth = 1e6 * baseline, 1e6 * models
    assert superior_predictive_ability(*worth, date, 3, 199) == p
    scaled = baseline[:, None] + np.array([1.0, 5.0, 0.1, 1.0, 2.0]) * (models - baseline[:, None])
    assert superior_predictive_ability(baseline, scaled, date, 3, 199) == p, "each model has a scale of its own"
