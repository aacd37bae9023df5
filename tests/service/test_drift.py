"""The cumulative sum: what it knows, when it speaks, and that no later date moves an earlier one."""

from __future__ import annotations

import numpy as np
import pytest

from cnn_lstm.service.drift import ALLOWANCE, YEAR, Detection, detect_worse, steady_scores


def noise(dates: int, seed: int = 0) -> np.ndarray:
    """Independent heavy-tailed values."""
    return np.random.default_rng(seed).standard_t(5, dates)


def page(values: np.ndarray, mean: float, std: float) -> list[float]:
    """Page's sums, written down a second time."""
    sums, total = [], 0.0
    for value in values:
        total = max(0.0, total + (value - mean) / std - ALLOWANCE)
        sums.append(total)
    return sums


def test_the_sum_is_that_of_page() -> None:
    reference, service = noise(200), noise(80, seed=1) + 0.5
    found = detect_worse(reference, service)
    assert found.statistic == pytest.approx(page(service, reference.mean(), reference.std()))


def test_a_later_date_moves_nothing() -> None:
    reference, service = noise(200), noise(100, seed=1)
    changed = service.copy()
    changed[60:] = 1e6
    for one, other in zip(steady_scores(reference, service), steady_scores(reference, changed), strict=True):
        assert np.array_equal(one[:60], other[:60])
    early, late = detect_worse(reference, service[:60]), detect_worse(reference, changed)
    assert np.array_equal(early.statistic, late.statistic[:60])
    assert early.threshold == late.threshold


def test_no_score_is_scaled_by_itself_or_drawn_in_by_the_service() -> None:
    reference = noise(200)
    calm, wild = (steady_scores(reference, service)[0] for service in (noise(50, seed=1), 100 * noise(50, seed=1)))
    assert np.array_equal(calm, wild)
    _, service = steady_scores(reference, np.array([50.0]))
    assert service[0] == pytest.approx(steady_scores(reference, np.array([500.0]))[1][0])


def test_scores_do_not_depend_on_the_unit() -> None:
    one, other = (np.concatenate(steady_scores(unit * noise(100), unit * noise(20, seed=1))) for unit in (1.0, 1e-4))
    assert one == pytest.approx(other)


def test_the_threshold_holds_in_most_calm_years() -> None:
    alarms = 0
    for seed in range(40):
        values = noise(250 + YEAR, seed)
        found = detect_worse(values[:250], values[250:], error=0.02)
        alarms += bool((found.statistic > found.threshold).any())
    assert alarms <= 4  # 0.8 are expected


def test_a_shorter_reference_has_a_higher_threshold() -> None:
    values = noise(2000)
    assert detect_worse(values[:80], values[:1]).threshold > detect_worse(values, values[:1]).threshold


def test_overlapping_labels_have_a_higher_threshold() -> None:
    sums = np.convolve(noise(520), np.ones(20) / np.sqrt(20), mode="valid")
    alone = np.random.default_rng(0).permutation(sums)
    assert detect_worse(sums, sums[:1], horizon=20).threshold > 3 * detect_worse(alone, alone[:1]).threshold


@pytest.mark.parametrize("reference", [noise(59), np.ones(200), noise(90)[:0]])
def test_a_reference_that_says_nothing_raises_no_alarm(reference: np.ndarray) -> None:
    found = detect_worse(reference, np.full(50, 100.0))
    assert found.threshold == np.inf
    assert found.alarm is None


def test_an_alarm_stands_until_the_sum_is_back_at_zero() -> None:
    assert Detection(np.array([0.0, 5.0, 3.0, 2.0]), 4.0).alarm == 1
    assert Detection(np.array([5.0, 0.0, 2.0]), 4.0).alarm is None
    assert Detection(np.array([5.0, 0.0, 5.0]), 4.0).alarm == 2
    assert Detection(np.array([5.0, 0.0, 2.0, 3.0]), 4.0).begun == 2


def test_a_promise_counts_where_the_reference_was_better_than_it() -> None:
    reference = (np.arange(300) % 50 == 0).astype(float)  # 2 % of misses
    service = (np.arange(200) % 8 == 0).astype(float)  # 12 %
    assert detect_worse(reference, service, least=0.1).statistic[-1] < detect_worse(reference, service).statistic[-1]
