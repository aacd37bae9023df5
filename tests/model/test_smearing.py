"""The smearing factor removes the bias of a variance forecast, in the next period and not only in the last one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from cnn_lstm.model.smearing import BLOCKS, LogRatios, log_ratios, smearing

Array = NDArray[np.float64]


def factor(true: Array, forecast: Array, kind: str = "volatility") -> float:
    return smearing(log_ratios(kind, torch.from_numpy(true), torch.from_numpy(forecast)))


def errors(values: Array, date: NDArray[np.int64] | None = None) -> LogRatios:
    """Log ratios of given sizes; each row has a date of its own by default."""
    return LogRatios(torch.from_numpy(values), torch.from_numpy(np.arange(len(values)) if date is None else date))


# -- one part ----------------------------------------------------------------------------------------------------------


def test_factor_has_the_lowest_qlike() -> None:
    random = np.random.default_rng(0)
    forecast = np.exp(random.normal(-4, 0.5, 500))
    true = forecast * np.exp(random.normal(0, 0.4, 500))

    def qlike(log_factor: float) -> float:
        ratio = true**2 / (np.exp(log_factor) * forecast**2)
        return float(np.mean(ratio - np.log(ratio) - 1))

    best = minimize_scalar(qlike, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10}).x
    assert factor(true, forecast) == pytest.approx(np.exp(best), rel=1e-6)


def test_factor_of_a_log_normal_error() -> None:
    random = np.random.default_rng(1)
    true = np.exp(random.normal(-4, 0.3, 200_000))
    assert factor(true, np.full(len(true), np.exp(-4.0))) == pytest.approx(np.exp(2 * 0.3**2), rel=0.01)


def test_rows_without_a_ratio_are_left_out() -> None:
    true, forecast = np.array([2.0, 5.0, 5.0, np.nan, 5.0, 0.0]), np.array([1.0, 0.0, np.nan, 1.0, -1.0, 1.0])
    assert factor(true, forecast) == pytest.approx(4.0)
    assert factor(true[1:3], forecast[1:3]) == 1.0


def test_logarithms_have_the_factor_of_their_volatilities() -> None:
    true, forecast = np.array([0.01, 0.04, np.nan]), np.array([0.02, 0.03, 0.02])
    assert factor(np.log(true), np.log(forecast), "log_volatility") == pytest.approx(factor(true, forecast))


# -- two parts ---------------------------------------------------------------------------------------------------------


def period(random: np.random.Generator, days: int, spread: float, drift: float = 0.12) -> Array:
    """Log ratios of three symbols a day in a regime that moves slowly; they share half of a day's news."""
    regime = np.zeros(days)
    for day in range(1, days):
        regime[day] = 0.99 * regime[day - 1] + drift * random.normal() * math.sqrt(1 - 0.99**2)
    news, own = (random.normal(size=size) for size in ((days, 1), (days, 3)))
    wild = np.where(random.random((days, 1)) < 0.05, 1.8, 0.94)  # days on which everything is far off
    return regime[:, None] + spread * wild * (news + own) / math.sqrt(2)


def excess(best: float, chosen: float) -> float:
    """QLIKE that a factor costs above the best one of the same rows."""
    return best / chosen - math.log(best / chosen) - 1


@pytest.mark.parametrize("shown", [1.0, 0.85, 0.6])
@pytest.mark.parametrize("drift", [0.12, 0.2])
def test_both_parts_together_cost_less_than_the_better_one_alone(shown: float, drift: float) -> None:
    """The next period has errors of the size that validation had, and training shows a share of it, or all."""
    costs: dict[str, list[float]] = {"both": [], "training": [], "validation": []}
    for seed in range(100):
        random = np.random.default_rng(seed)
        spread = 0.7 * np.exp(0.1 * random.normal())
        sizes = ((1500, shown * spread), (400, spread), (1000, spread))
        parts = [period(random, days, size, drift) for days, size in sizes]
        dates = [np.repeat(np.arange(len(part)), 3) for part in parts]
        train, validation, later = (errors(part.ravel(), date) for part, date in zip(parts, dates, strict=True))
        best = smearing(later)
        costs["both"].append(excess(best, smearing(validation, train)))
        costs["training"].append(excess(best, smearing(train)))
        costs["validation"].append(excess(best, smearing(validation)))
    mean = {name: float(np.mean(values)) for name, values in costs.items()}
    assert mean["both"] < mean["training"]
    assert mean["both"] < 0.5 * mean["validation"]
    assert mean["both"] < 0.7 * mean["training"] or shown > 0.8


def test_a_few_days_of_a_crisis_move_both_parts_less_than_validation_alone() -> None:
    random = np.random.default_rng(3)
    train, calm = random.normal(0, 0.5, 2000), random.normal(0, 0.5, 500)
    crisis = np.where(np.arange(500) // 4 == 60, 3.0, calm)  # four days in a row
    alone = math.log(smearing(errors(crisis)) / smearing(errors(calm)))
    together = math.log(smearing(errors(crisis), errors(train)) / smearing(errors(calm), errors(train)))
    assert 0 < together < 0.5 * alone


def test_an_overfitted_training_part_has_no_say_in_the_spread() -> None:
    random = np.random.default_rng(4)
    validation, train = errors(random.normal(0, 1.0, 2000)), errors(random.normal(0, 0.2, 8000))
    assert smearing(validation, train) == pytest.approx(smearing(validation), rel=0.1)
    assert smearing(validation, train) > 0.9 * math.exp(0.5) > 1.3 * smearing(train)


def test_the_level_is_the_mean_over_the_time_of_both() -> None:
    """Errors without spread: the factor is the level alone, whatever the number of rows of a date or part."""
    validation, train = np.full(100, 0.4), np.full(300, 0.0)
    assert smearing(errors(validation), errors(train)) == pytest.approx(math.exp(0.1))
    copies = np.repeat(np.arange(100), 5)
    assert smearing(errors(validation[copies], copies), errors(train)) == pytest.approx(math.exp(0.1))
    every_third = np.arange(0, 300, 3)
    assert smearing(errors(validation), errors(train[every_third], every_third)) == pytest.approx(math.exp(0.1))


def test_copies_of_a_symbol_and_the_order_of_rows_change_nothing() -> None:
    random = np.random.default_rng(5)
    validation, train = random.normal(0, 0.6, 300), random.normal(0, 0.5, 900)
    one = smearing(errors(validation), errors(train))
    copies = [np.repeat(np.arange(len(part)), 20) for part in (validation, train)]
    many = smearing(errors(validation[copies[0]], copies[0]), errors(train[copies[1]], copies[1]))
    assert many == pytest.approx(one, rel=1e-12)
    mixed = random.permutation(300)
    assert smearing(errors(validation[mixed], mixed), errors(train)) == pytest.approx(one, rel=1e-12)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_part_that_says_nothing_of_its_spread_leaves_it_to_the_other(rows: int) -> None:
    other = errors(np.random.default_rng(6).normal(0, 0.5, 400))
    few = errors(np.zeros(rows))
    assert smearing(few, other) == pytest.approx(smearing(other), rel=0.01)
    assert smearing(other, few) == pytest.approx(smearing(other), rel=0.01)
    assert smearing(few, few) == 1.0
    assert smearing(few) == 1.0


def test_blocks_keep_together_what_overlaps() -> None:
    """Errors that last for a block say as little as one error a block: the other part has more weight."""
    random = np.random.default_rng(7)
    train = errors(random.normal(0, 0.5, 4000))
    days = 40 * BLOCKS
    fresh, lasting = random.normal(0, 0.65, days), np.repeat(random.normal(0, 0.65, BLOCKS), 40)
    lasting = (lasting - lasting.mean()) / lasting.std() * fresh.std() + fresh.mean()

    def share(values: Array) -> float:
        """How far the factor goes from training to validation, the levels aside."""
        ends = [math.log(smearing(errors(part))) - float(part.mean()) for part in (values, train.values.numpy())]
        level = (float(values.sum()) + float(train.values.sum())) / (days + 4000)
        return (math.log(smearing(errors(values), train)) - level - ends[1]) / (ends[0] - ends[1])

    assert share(lasting) < share(fresh) <= 1
