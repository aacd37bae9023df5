"""PBO and the effective number of trials: another library, closed forms, useless trials and planted ones."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata

from cnn_lstm.evaluation.overfitting import (
    Overfitting,
    backtest_overfitting,
    effective_trials,
    expected_maximum,
    independent_trials,
)
from tests.data.make_purgedcv_table import gains

TABLE = json.loads((Path(__file__).parents[1] / "data" / "purgedcv_table.json").read_text())


def overfitting(values: np.ndarray, blocks: int = 16) -> Overfitting:
    found = backtest_overfitting(values, blocks)
    assert found is not None
    return found


@pytest.mark.parametrize("known", TABLE["overfits"], ids=lambda known: str(known["case"]))
def test_pbo_is_that_of_purgedcv(known: dict[str, Any]) -> None:
    seed, trials, dates, blocks, skill = known["case"]
    found = overfitting(gains(seed, trials, dates, skill), blocks)
    assert found.pbo == pytest.approx(known["pbo"], abs=1e-12)
    assert (found.blocks, found.splits) == (blocks, known["combinations"])


def test_pbo_is_that_of_the_papers_steps_taken_one_by_one() -> None:
    """Bailey et al., 2017, section 2.2, with an odd number of trials: one at the median counts half."""
    matrix = gains(7, 5, 50, 0.0)
    blocks = np.array_split(matrix, 6)
    below, lost = [], []
    for chosen in combinations(range(6), 3):
        inside = np.concatenate([blocks[k] for k in chosen]).mean(axis=0)
        outside = np.concatenate([blocks[k] for k in range(6) if k not in chosen]).mean(axis=0)
        best = int(np.argmax(inside))
        relative = rankdata(outside)[best] / 6
        below.append(1.0 if relative < 0.5 else 0.5 if relative == 0.5 else 0.0)
        lost.append(outside[best] <= 0)
    found = overfitting(matrix, 6)
    assert found.pbo == pytest.approx(np.mean(below))
    assert found.loss_probability == pytest.approx(np.mean(lost))
    assert 0.5 in below


@pytest.mark.parametrize("trials", [7, 12])
def test_useless_trials_have_half_on_average(trials: int) -> None:
    found = [overfitting(gains(seed, trials, 120, 0.0), 8).pbo for seed in range(200)]
    assert abs(np.mean(found) - 0.5) < 3 * np.std(found) / np.sqrt(len(found))
    assert np.std(found) > 0.1  # a single sweep of useless trials may look either way


def test_a_planted_best_trial_is_found_again() -> None:
    found = [overfitting(gains(seed, 12, 400, 0.5), 16).pbo for seed in range(10)]
    assert max(found) < 0.02
    assert overfitting(gains(0, 12, 400, 0.5)).loss_probability < 0.01


def test_trials_that_gain_nothing_over_all_dates_are_overfit_on_every_half() -> None:
    """What a trial gains on one half it loses on the other, so that the best one becomes the worst one."""
    values = gains(0, 6, 64, 0.0)
    found = overfitting(values - values.mean(axis=0))
    assert found.pbo == 1.0
    assert found.loss_probability > 0.9


def test_pbo_needs_two_trials_and_four_blocks() -> None:
    assert backtest_overfitting(gains(0, 1, 100, 0.0)) is None
    assert backtest_overfitting(gains(0, 5, 7, 0.0)) is None
    assert overfitting(gains(0, 5, 20, 0.0)).blocks == 10


def test_pbo_does_not_depend_on_what_moves_all_trials_alike() -> None:
    values = gains(3, 9, 160, 0.1)
    same = values + np.random.default_rng(0).normal(size=(160, 1))
    assert overfitting(same).pbo == overfitting(values).pbo


# -- effective number --------------------------------------------------------------------------------------------------


def correlated(common: float, trials: int, dates: int = 2000, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    shared, own = random.normal(size=(dates, 1)), random.normal(size=(dates, trials))
    values: np.ndarray = np.sqrt(common) * shared + np.sqrt(1 - common) * own
    return values


@pytest.mark.parametrize(("common", "trials"), [(0.0, 5), (0.3, 40), (0.5, 20), (0.9, 20)])
def test_a_common_correlation_has_a_closed_form(common: float, trials: int) -> None:
    """The common part does not choose among the trials: E max = sqrt(1 - c) E max of independent ones."""
    wanted = independent_trials(float(np.sqrt(1 - common)) * expected_maximum(trials), trials)
    found = effective_trials(correlated(common, trials))
    assert found == pytest.approx(wanted, rel=0.1)
    assert found is not None
    average = common + (1 - common) * trials  # Bailey and Lopez de Prado, 2014, appendix 3: never fewer
    assert found <= average * 1.05


def test_copies_of_a_trial_count_once() -> None:
    few = correlated(0.0, 4)
    found = effective_trials(np.repeat(few, 10, axis=1))
    assert found == pytest.approx(effective_trials(few), rel=0.03)
    assert effective_trials(few[:, [0, 0, 0]]) == 1.0


def test_scale_and_shift_of_a_trial_do_not_matter() -> None:
    values = correlated(0.4, 6)
    assert effective_trials(values * np.linspace(1, 6, 6) + 2.0) == pytest.approx(effective_trials(values))


def test_what_has_no_effective_number() -> None:
    assert effective_trials(np.zeros((0, 3))) is None
    assert effective_trials(np.zeros((50, 3))) is None
    assert effective_trials(np.random.default_rng(0).normal(size=(2, 3))) is None
    with_a_constant = np.column_stack([correlated(0.0, 1), np.zeros(2000)])
    assert effective_trials(with_a_constant) == 1.0


def test_the_expected_maximum_is_that_of_draws_and_of_known_values() -> None:
    assert expected_maximum(3) == pytest.approx(1.5 / np.sqrt(np.pi), abs=1e-9)
    draws = np.random.default_rng(0).standard_normal((200_000, 12)).max(axis=1)
    assert expected_maximum(12) == pytest.approx(draws.mean(), abs=4 * draws.std() / np.sqrt(len(draws)))
    assert [round(independent_trials(expected_maximum(n), 50), 5) for n in (1.0, 1.7, 33.0, 50.0)] == [1, 1.7, 33, 50]
