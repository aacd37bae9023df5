"""The accounts: costs, delay, closing, ruin and rewards, by closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from cnn_lstm.errors import ConfigError
from cnn_lstm.rl.accounts import MEMORY, Accounts, StepResult, TradingTerms

GOES_ON, ENDS = np.array([False]), np.array([True])


def walk(accounts: Accounts, weights: list[float], returns: list[float]) -> list[StepResult]:
    """The results of the steps of one episode of one symbol."""
    lasts = [GOES_ON] * (len(returns) - 1) + [ENDS]
    return [
        accounts.step(np.array([[weight]]), np.array([[earned]]), last)
        for weight, earned, last in zip(weights, returns, lasts, strict=True)
    ]


def test_a_decision_waits_for_the_delay_and_pays_when_it_is_executed() -> None:
    accounts = Accounts(TradingTerms(delay=2, fee_bp=100, slippage_bp=50), 1, 1)
    steps = walk(accounts, [1.0, -1.0, 0.0, 0.0], [0.5, 0.5, 0.1, 0.2])
    assert [step.turnover.item() for step in steps] == [0, 0, 1, 3]  # -1 from +1, and the last exit
    assert [step.weights.item() for step in steps] == [0, 0, 1, -1]
    np.testing.assert_allclose([step.net.item() for step in steps], [0, 0, 0.1 - 0.015, -0.2 - 0.045], atol=1e-15)
    assert accounts.equity.item() == pytest.approx(1 + 0.085 - 0.245, abs=1e-15)


def test_an_observation_lists_positions_and_waiting_orders_in_the_order_of_their_execution() -> None:
    accounts = Accounts(TradingTerms(delay=2), 1, 1)
    for weight in (0.25, 0.5, 0.75):
        accounts.step(np.array([[weight]]), np.zeros((1, 1)), GOES_ON)
    assert accounts.observation().tolist() == [[0.25, 0.5, 0.75]]


def test_a_lost_stake_ends_the_episode_without_a_position() -> None:
    accounts = Accounts(TradingTerms(delay=0, fee_bp=0, slippage_bp=0), 2, 1)
    result = accounts.step(np.array([[-1.0], [-0.5]]), np.array([[1.5], [1.5]]), np.array([False, False]))
    assert result.ruined.tolist() == [True, False]
    assert accounts.held.tolist() == [[0.0], [-0.5]]
    assert result.turnover.tolist() == [2.0, 0.5]


def test_clearing_an_episode_leaves_the_others_as_they_are() -> None:
    accounts = Accounts(TradingTerms(), 2, 1)
    for _ in range(2):
        accounts.step(np.ones((2, 1)), np.full((2, 1), 0.1), np.array([False, False]))
    before = accounts.equity[1]
    accounts.clear(0)
    assert accounts.equity.tolist() == [1.0, before]
    assert accounts.observation().tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_log_return_is_the_logarithm_of_the_net_return() -> None:
    accounts = Accounts(TradingTerms(delay=0, reward="log_return"), 1, 1)
    results = walk(accounts, [1.0, -1.0], [0.03, 1.2])
    assert results[0].reward.item() == pytest.approx(np.log1p(0.03 - 0.001), abs=1e-15)
    assert results[1].reward.item() == np.log(1e-3)


def test_differential_sharpe_ratio_is_the_derivative_of_the_ratio_by_the_weight_of_the_newest_return() -> None:
    random = np.random.default_rng(0)
    returns = random.normal(0.001, 0.01, 40)
    accounts = Accounts(TradingTerms(delay=0, fee_bp=0, slippage_bp=0, reward="differential_sharpe"), 1, 1)
    rewards = [accounts.step(np.ones((1, 1)), np.full((1, 1), value), GOES_ON).reward.item() for value in returns]
    assert rewards[0] == 0
    mean = square = 0.0
    for value in returns[:-1]:
        mean, square = mean + MEMORY * (value - mean), square + MEMORY * (value**2 - square)
    step = 1e-7

    def ratio_at(rate: float) -> float:
        first, second = mean + rate * (returns[-1] - mean), square + rate * (returns[-1] ** 2 - square)
        return float(first / np.sqrt(second - first**2))

    slope = (ratio_at(step) - ratio_at(-step)) / (2 * step)
    assert rewards[-1] == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [{"delay": -1}, {"fee_bp": -1.0}, {"slippage_bp": float("nan")}, {"reward": "profit"}],
    ids=["delay", "fee", "slippage", "reward"],
)
def test_impossible_terms_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="E266"):
        TradingTerms(**arguments)  # type: ignore[arg-type]
