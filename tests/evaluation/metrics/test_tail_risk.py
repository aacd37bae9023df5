"""Tests of value at risk and expected shortfall: published tables, closed forms, right and wrong forecasts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cnn_lstm.evaluation.metrics.heads import NormalHead, StudentHead
from cnn_lstm.evaluation.metrics.intervals import coverage_ratio, independence_ratio
from cnn_lstm.evaluation.metrics.tail_risk import merged_p, shortfall_test, tail_risk


def table(true: np.ndarray, symbols: int = 1, **columns: float) -> pd.DataFrame:
    """Rows of a predictions table: the truth of all symbols, one after another."""
    days = len(true) // symbols
    rows = pd.DataFrame({"y_true": true, "y_pred": 0.0, "std": 1.0})
    rows["symbol"] = np.repeat([f"S{number}" for number in range(symbols)], days)
    rows["as_of"] = np.tile(pd.date_range("2020-01-01", periods=days, tz="UTC").to_numpy(), symbols)
    return rows.assign(**columns)


def breaches(pattern: list[int] | np.ndarray) -> pd.DataFrame:
    """A row per entry, a deep breach of both levels where it is 1."""
    return table(np.where(np.asarray(pattern) == 1, -3.0, 0.5))


# -- number and clusters of breaches -----------------------------------------------------------------------------------


# Kupiec (1995), as printed in Jorion (2007), Value at Risk, table 6.2: breaches that are not rejected at 5 %
@pytest.mark.parametrize(
    ("tail", "days", "above", "below"),
    [
        (0.01, 255, -1, 7),
        (0.01, 510, 1, 11),
        (0.01, 1000, 4, 17),
        (0.025, 255, 2, 12),
        (0.025, 510, 6, 21),
        (0.025, 1000, 15, 36),
        (0.05, 255, 6, 21),
        (0.05, 510, 16, 36),
        (0.05, 1000, 37, 65),
    ],
)
def test_kupiecs_region_is_the_published_one(tail: float, days: int, above: int, below: int) -> None:
    accepted = [n for n in range(days) if stats.chi2.sf(coverage_ratio(n, days, 1 - tail), 1) > 0.05]
    # the tables agree but for counts of 0, whose likelihood some authors do not use
    assert [n for n in accepted if n > 0] == [n for n in range(above + 1, below) if n > 0]


def test_christoffersens_statistics_are_those_of_the_transition_counts() -> None:
    """Counted by hand: 1 1 0 0 1 0 0 0 has pairs 00: 3, 01: 1, 10: 2, 11: 1."""
    pattern = [1, 1, 0, 0, 1, 0, 0, 0]
    n00, n01, n10, n11 = 3, 1, 2, 1
    pi0, pi1, pi = n01 / (n00 + n01), n11 / (n10 + n11), (n01 + n11) / 7
    free = n00 * math.log(1 - pi0) + n01 * math.log(pi0) + n10 * math.log(1 - pi1) + n11 * math.log(pi1)
    same = (n00 + n10) * math.log(1 - pi) + (n01 + n11) * math.log(pi)
    ratio = 2 * (free - same)
    tested = tail_risk(breaches(pattern), horizon=1)["5"]
    assert independence_ratio(np.array(pattern, dtype=bool), np.zeros(8), np.arange(8)) == pytest.approx(ratio)
    assert tested["independence_p"] == pytest.approx(stats.chi2.sf(ratio, 1))
    both = ratio + coverage_ratio(3, 8, 0.95)
    assert tested["conditional_p"] == pytest.approx(stats.chi2.sf(both, 2))
    assert tested["kupiec_p"] == pytest.approx(stats.chi2.sf(coverage_ratio(3, 8, 0.95), 1))


def test_clusters_are_found_where_the_number_is_right() -> None:
    clustered = np.zeros(1000)
    clustered[500:550] = 1
    tested = tail_risk(breaches(clustered), horizon=1)["5"]
    assert tested["breaches"] == 50
    assert tested["kupiec_p"] == pytest.approx(1.0)
    assert tested["independence_p"] is not None
    assert tested["independence_p"] < 1e-6
    assert tested["conditional_p"] is not None
    assert tested["conditional_p"] < 1e-6


def test_a_breach_is_a_return_below_the_quantile_of_the_long_position() -> None:
    low = stats.norm.ppf(0.05)
    tested = tail_risk(table(np.array([low - 1e-9, low + 1e-9, 3.0, -3.0])), horizon=1)
    assert (tested["5"]["breaches"], tested["1"]["breaches"]) == (2, 1)
    assert tested["5"]["breach_rate"] == 0.5


# -- expected shortfall ------------------------------------------------------------------------------------------------


def z2_of(true: np.ndarray, sigma: float = 1.0, level: float = 0.05, draws: int = 2000) -> tuple[float, float]:
    head = NormalHead(np.zeros(len(true)), np.full(len(true), sigma))
    return shortfall_test(true, head.quantile(level), head.lower_mean(level), head, level, draws=draws, seed=1)


def test_z2_is_its_formula() -> None:
    true = np.random.default_rng(0).standard_t(4, 300)
    var, shortfall = -stats.norm.ppf(0.05), stats.norm.pdf(stats.norm.ppf(0.05)) / 0.05
    wanted = sum(x / (300 * 0.05 * shortfall) for x in true if x + var < 0) + 1
    assert z2_of(true)[0] == pytest.approx(wanted, rel=1e-12)


def test_p_values_of_right_forecasts_are_uniform() -> None:
    random = np.random.default_rng(0)
    values = [z2_of(random.normal(size=250), draws=400)[1] for _ in range(200)]
    assert stats.kstest(values, "uniform").pvalue > 0.01


def test_critical_value_is_the_published_one() -> None:
    """Acerbi and Szekely (2014): for Z2 at 2.5 % and 250 days the 5 % critical value is about -0.7 for all tails."""
    for df in (5.0, 100.0):
        days = np.full(250, df)
        head = StudentHead(np.zeros(250), np.ones(250), days, np.zeros(250))
        random = np.random.default_rng(0)
        share = random.random((4000, 250))
        low, weight = head.quantile(0.025), 1 / (250 * 0.025 * head.lower_mean(0.025))
        sample, row = np.nonzero(share < 0.025)
        z2 = 1 - np.bincount(sample, head.take(row).quantile(share[sample, row]) * weight[row], minlength=4000)
        assert np.quantile(z2, 0.05) == pytest.approx(-0.7, abs=0.12)
        # a sample at the critical value has a p-value of 5 %
        true = np.full(250, 1.0)
        true[:10] = (1 - np.quantile(z2, 0.05)) / (10 * weight[0])
        assert (true[:10] < low[0]).all()
        found = shortfall_test(true, low, 1 / (250 * 0.025 * weight), head, 0.025, draws=4000, seed=1)
        assert found[0] == pytest.approx(float(np.quantile(z2, 0.05)))
        assert found[1] == pytest.approx(0.05, abs=0.015)


def test_a_risk_too_low_is_found_by_the_shortfall_though_breaches_are_as_many_as_promised() -> None:
    """Every breach is three times as deep as the quantile."""
    true = np.ones(1000)
    true[::20] = 3 * stats.norm.ppf(0.05)
    tested = tail_risk(table(true), horizon=1)["5"]
    assert tested["kupiec_p"] == pytest.approx(1.0)
    assert tested["shortfall_z2"] is not None
    assert tested["shortfall_z2"] < -1
    assert tested["shortfall_p"] is not None
    assert tested["shortfall_p"] < 0.01


@pytest.mark.parametrize(("sigma", "low", "high"), [(0.6, 0.0, 0.01), (1.0, 0.02, 0.98), (2.0, 0.95, 1.0)])
def test_normal_returns_judge_the_forecast_spread(sigma: float, low: float, high: float) -> None:
    true = np.random.default_rng(5).normal(size=1000)
    tested = tail_risk(table(true, std=sigma), horizon=1)["5"]
    assert tested["shortfall_p"] is not None
    assert low <= tested["shortfall_p"] <= high
    assert tested["kupiec_p"] is not None
    assert (tested["kupiec_p"] < 0.01) == (sigma != 1.0)


def test_the_same_seed_gives_the_same_p_value() -> None:
    true = np.random.default_rng(0).normal(size=300)
    assert tail_risk(table(true), 1, seed=3) == tail_risk(table(true), 1, seed=3)
    assert z2_of(true)[1] != z2_of(true, draws=300)[1]


# -- which rows, which columns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [1, 3, 10])
def test_every_horizon_th_row_of_a_symbol_is_tested(horizon: int) -> None:
    true = np.random.default_rng(0).normal(size=200)
    rows = table(true, symbols=2).sample(frac=1.0, random_state=0)  # in any order
    tested = tail_risk(rows, horizon)["5"]
    kept = np.concatenate([true[:100][::horizon], true[100:][::horizon]])
    assert (tested["rows"], tested["symbols"]) == (len(kept), 2)
    assert tested["breaches"] == int((kept < stats.norm.ppf(0.05)).sum())


def test_symbols_are_tested_by_themselves_and_merged() -> None:
    """Ten copies of one symbol give no more evidence than twice its own p-value allows."""
    true = np.random.default_rng(3).normal(size=300) * 1.3
    alone: dict[str, Any] = dict(tail_risk(table(true), 1)["5"])
    copies: dict[str, Any] = dict(tail_risk(table(np.tile(true, 10), symbols=10), 1)["5"])
    for name in ("kupiec_p", "independence_p", "conditional_p"):
        assert copies[name] == pytest.approx(min(1.0, 2 * alone[name]))
    assert copies["shortfall_z2"] == pytest.approx(alone["shortfall_z2"])
    assert copies["breach_rate"] == alone["breach_rate"]


def test_merged_p_values_stay_p_values_under_full_dependence() -> None:
    random = np.random.default_rng(0)
    p = random.random(4000)
    merged = np.array([merged_p([value, value, 1 - value]) for value in p])
    for level in (0.05, 0.2, 0.5):
        assert (merged <= level).mean() <= level + 0.01


def test_quantiles_have_no_shortfall_and_only_their_levels() -> None:
    rows = table(np.random.default_rng(0).normal(size=400)).drop(columns="std")
    assert tail_risk(rows, 1) == {}
    tested = tail_risk(rows.assign(q05=-1.645, q50=0.0), 1)
    assert list(tested) == ["5"]
    assert math.isnan(tested["5"]["shortfall_z2"] or 0.0)
    assert math.isnan(tested["5"]["shortfall_p"] or 0.0)
    whole = tail_risk(table(rows["y_true"].to_numpy()), 1)["5"]
    assert tested["5"]["breaches"] == whole["breaches"]
    assert tested["5"]["kupiec_p"] == whole["kupiec_p"]
    assert tail_risk(rows.assign(q05=np.nan), 1) == {}


def test_a_forecast_of_gains_even_in_the_tail_has_no_shortfall_test() -> None:
    rows = table(np.random.default_rng(0).normal(size=50), y_pred=10.0)
    tested = tail_risk(rows, 1)["5"]
    assert tested["breaches"] == 50
    assert math.isnan(tested["shortfall_z2"] or 0.0)


def test_no_rows_have_no_values() -> None:
    tested: dict[str, Any] = dict(tail_risk(table(np.zeros(0)), 1)["5"])
    assert (tested["rows"], tested["symbols"], tested["breaches"]) == (0, 0, 0)
    assert all(math.isnan(value) for name, value in tested.items() if name.endswith("_p"))
