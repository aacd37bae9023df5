"""The smallest skill that a test could have found is found in 8 of 10 tables, and does not hang on the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cnn_lstm.evaluation.metrics.errors import qlike
from cnn_lstm.evaluation.power import smallest_skill
from cnn_lstm.evaluation.significance import Comparison, compare
from cnn_lstm.evaluation.verdict import holds_up

Array = NDArray[np.float64]
# losses of model and baseline, divergence, date
Table = tuple[Array, Array, Array, NDArray[np.int64]]


def returns(random: np.random.Generator, r2: float, right: bool = True, dates: int = 538, symbols: int = 1) -> Table:
    """Returns against zero; the model knows a share of their variance, or forecasts noise of the same size."""
    shape = (dates, symbols)

    def drawn() -> Array:
        """Standard normal, half of it common to the symbols of a date."""
        own, common = random.normal(size=shape), random.normal(size=(dates, 1))
        return own if symbols == 1 else (own + common) / math.sqrt(2)

    known, noise = drawn(), drawn()
    forecast = math.sqrt(r2) * (known if right else random.normal(size=shape))
    true = math.sqrt(r2) * known + math.sqrt(1 - r2) * noise
    date = np.repeat(np.arange(dates), symbols)
    return ((true - forecast) ** 2).ravel(), (true**2).ravel(), (forecast**2).ravel(), date


def variances(random: np.random.Generator, spread: float) -> Table:
    """Realised variances of four degrees of freedom around a variance that only the model knows."""
    right = np.exp(spread * random.normal(size=538))
    true = right * random.chisquare(4, 538) / 4
    constant = np.full(538, math.exp(spread**2 / 2))
    return qlike(true, right), qlike(true, constant), qlike(right, constant), np.arange(538)


def compared(table: Table, horizon: int = 1, resamples: int = 99) -> tuple[Comparison, float]:
    model, baseline, divergence, date = table
    comparison = compare(model, {"baseline": baseline}, date, horizon, resamples, seed=0)["baseline"]
    return comparison, smallest_skill(comparison, float(divergence.mean()), 0.05)


def shares(make: Callable[[np.random.Generator], Table], tables: int = 120, resamples: int = 99) -> tuple[float, float]:
    """Share of tables with evidence, and the median of the smallest skills."""
    results = [compared(make(np.random.default_rng(seed)), resamples=resamples) for seed in range(tables)]
    return float(np.mean([holds_up(one) for one, _ in results])), float(np.median([skill for _, skill in results]))


def test_a_perfect_forecast_of_one_percent_is_found_in_8_of_40_tables() -> None:
    found, smallest = shares(
        lambda random: returns(random, 0.01), tables=200, resamples=999
    )  # as a test has; few find less
    assert found == pytest.approx(8 / 40, abs=0.07)
    assert smallest == pytest.approx(0.055, abs=0.006)  # z^2 * 4 / 538 with normal errors


def test_the_smallest_skill_is_found_in_8_of_10_tables() -> None:
    assert shares(lambda random: returns(random, 0.056))[0] == pytest.approx(0.8, abs=0.08)


def test_symbols_that_share_dates_count_as_fewer() -> None:
    """Ten symbols with half of their variance in common show more than one symbol, and far less than ten."""
    _, many = shares(lambda random: returns(random, 0.02, symbols=10), tables=40)
    assert 0.055 / 10 * 2 < many < 0.055
    found, _ = shares(lambda random: returns(random, many, symbols=10), tables=60)
    assert found == pytest.approx(0.8, abs=0.15)


def test_variance_forecasts_are_found_as_often_as_it_says() -> None:
    _, smallest = shares(lambda random: variances(random, 0.17), tables=60)
    model, baseline, *_ = (part.mean() for part in variances_of_many(0.17))
    assert 1 - model / baseline == pytest.approx(smallest, abs=0.012)
    assert shares(lambda random: variances(random, 0.17), tables=60)[0] == pytest.approx(0.8, abs=0.15)


def variances_of_many(spread: float) -> list[Array]:
    parts = [variances(np.random.default_rng(1000 + seed), spread) for seed in range(200)]
    return [np.concatenate([part[k] for part in parts]) for k in range(2)]


@pytest.mark.parametrize("r2", [0.002, 0.01, 0.1])
def test_a_model_that_knows_nothing_is_given_nearly_the_same_number(r2: float) -> None:
    _, useless = shares(lambda random: returns(random, r2, right=False), tables=40)
    assert useless == pytest.approx(0.058, abs=0.008)


def test_overlapping_targets_count_as_fewer() -> None:
    def overlapping(random: np.random.Generator) -> Table:
        """Sums over 5 days, of which the forecast knows a part of each day."""
        daily, known = random.normal(size=542), 0.2 * random.normal(size=542)
        true, forecast = (np.convolve(part, np.ones(5), mode="valid") for part in (daily + known, known))
        return (true - forecast) ** 2, true**2, forecast**2, np.arange(538)

    smallest = [compared(overlapping(np.random.default_rng(seed)), 5)[1] for seed in range(30)]
    assert np.median(smallest) > 2 * 0.055


def test_what_cannot_be_said_has_no_value() -> None:
    comparison = Comparison(1.0, 1.0, 0.0, (-0.1, 0.1), (-0.1, 0.1), 0.0, 1.0, 1.0, 0.01, 100, 100)
    assert smallest_skill(comparison, 0.01, 0.05) == pytest.approx(0.0797, rel=0.02)
    for changed, divergence in (
        (comparison, 0.0),
        (replace(comparison, standard_error=0.0), 0.01),
        (replace(comparison, loss_baseline=0.0, loss_model=0.0), 0.01),
    ):
        assert math.isnan(smallest_skill(changed, divergence, 0.05))
    assert smallest_skill(replace(comparison, standard_error=1.0), 0.01, 0.05) == 1.0
    assert smallest_skill(comparison, 0.01, 0.01) > smallest_skill(comparison, 0.01, 0.05)
