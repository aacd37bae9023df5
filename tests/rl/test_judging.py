"""What agents are worth: the report's own metrics, random timing, the claim."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.evaluation.metrics.book import make_book
from cnn_lstm.evaluation.metrics.strategy import strategy_metrics
from cnn_lstm.rl.accounts import Rules
from cnn_lstm.rl.bars import Bars
from cnn_lstm.rl.judging import FIGURES, at_random, bars_played, claim, laddered, metrics_of, rule, together
from cnn_lstm.rl.market import MarketEnv
from tests.markets import market

RULES = Rules(delay=0, fee_bp=3, slippage_bp=4)


@pytest.fixture(scope="module")
def bars() -> Bars:
    table = market(400, ("AAA", "BBB"), gaps=False)
    first = table.groupby("symbol")["timestamp"].min().max()
    env = MarketEnv(table[table["timestamp"] >= first], features=["log_return_1"], window=3)
    return env.episodes.bars


def signs(bars: Bars) -> np.ndarray:
    return np.sign(np.random.default_rng(0).normal(size=bars.returns.shape))


def predicted(bars: Bars, wanted: np.ndarray, played: pd.DataFrame) -> pd.DataFrame:
    """The report's table of the same decisions, on the dates that were played."""
    dates = pd.DatetimeIndex(bars.dates, tz="UTC")
    days = [
        pd.DataFrame({"symbol": name, "as_of": dates, "y_pred": wanted[:, k], "bar_return": bars.returns[:, k]})
        for k, name in enumerate(bars.symbols)
    ]
    table = pd.concat(days)
    return table[table["as_of"].isin(played.index)]


def test_figures_are_those_of_the_reports_strategy(bars: Bars) -> None:
    wanted = signs(bars)
    played = rule(bars, RULES, lambda at: wanted[at] / 2)
    metrics = strategy_metrics(make_book(predicted(bars, wanted, played), 1, cost_bp=7.0), 3)
    found = metrics_of(bars, RULES, played, "signs", trials=3)
    assert tuple(found) == FIGURES
    for name in FIGURES:
        assert found[name] == pytest.approx(metrics[name], abs=1e-10), name


def test_random_timing_keeps_turnover_and_exposure(bars: Bars) -> None:
    wanted = signs(bars)
    played = rule(bars, RULES, lambda at: wanted[at] / 2)
    found = at_random(bars, RULES, [played])
    seam = 2.0  # where the last positions meet the first ones
    for turned in found[:20]:
        assert abs(turned["turnover"].sum() - played["turnover"].sum()) <= seam
        np.testing.assert_allclose(turned["net"], turned["gross"] - turned["turnover"] * 7e-4, atol=1e-15)
    held = rule(bars, RULES, lambda _: np.full(2, 0.5))
    for turned in at_random(bars, RULES, [held])[:3]:
        np.testing.assert_allclose(turned["net"], held["net"], atol=1e-15)


def test_random_timing_pays_for_the_trades_of_each_agent(bars: Bars) -> None:
    wanted = signs(bars)
    opposite = [rule(bars, RULES, lambda at, side=side: side * wanted[at] / 2) for side in (1, -1)]
    paid = together(opposite)["turnover"].mean()
    assert paid > 0.5
    for turned in at_random(bars, RULES, opposite)[:5]:
        assert turned["turnover"].mean() == pytest.approx(paid, rel=0.02)


def test_random_timing_stays_within_its_stretch() -> None:
    days = pd.bdate_range("2024-01-01", periods=40, tz="UTC")
    days = days[:20].append(days[20:] + pd.Timedelta(60, "D"))
    table = pd.DataFrame({"symbol": "A", "timestamp": days, "close": np.linspace(100, 110, 40)})
    bars = MarketEnv(table, features=["log_return_1"], window=3).episodes.bars
    held = rule(bars, RULES, lambda _: np.ones(1))
    assert held["turnover"].sum() == 4
    for turned in at_random(bars, RULES, [held])[:10]:
        np.testing.assert_allclose(turned["net"], held["net"], atol=1e-15)


def test_a_lost_stake_is_lost_for_good() -> None:
    days = pd.date_range("2024-01-01", periods=4).to_numpy()
    nets = [-0.6, -0.5, 0.4, 0.4]
    assert len(bars_played(days, [[net, 0.0, net, np.ones(1)] for net in nets])) == 2


@pytest.mark.parametrize("horizon", [1, 5])
def test_the_sign_rule_is_the_reports_strategy(bars: Bars, horizon: int) -> None:
    wanted = signs(bars)
    held = laddered(bars, wanted, horizon)
    played = rule(bars, RULES, lambda at: held[at] / 2)
    metrics = strategy_metrics(make_book(predicted(bars, wanted, played), horizon, cost_bp=7.0), 1)
    found = metrics_of(bars, RULES, played, "signs")
    for name in ("net_annual_return", "annual_turnover", "mean_exposure"):
        assert found[name] == pytest.approx(metrics[name], abs=1e-10), name


def test_agents_together_have_equal_parts_of_the_stake() -> None:
    days = pd.date_range("2024-01-01", periods=3).to_numpy()
    one = bars_played(days, [[0.1, 1.0, 0.09, np.array([1.0])]] * 3)
    lost = bars_played(days[:1], [[-1.0, 2.0, -1.02, np.array([-1.0])]])
    both = together([one, lost])
    assert both["gross"].tolist() == [-0.45, 0.05, 0.05]
    assert [weights.item() for weights in both["weights"]] == [0.0, 0.5, 0.5]


@pytest.mark.parametrize(("skill", "evidence"), [(0.0, False), (0.3, True)], ids=["luck", "skill"])
def test_only_skill_is_claimed(bars: Bars, skill: float, evidence: bool) -> None:
    random = np.random.default_rng(1)
    known = random.random(bars.returns.shape) < skill
    wanted = np.where(known, np.sign(bars.returns), np.sign(random.normal(size=bars.returns.shape)))
    free = Rules(delay=0, fee_bp=0, slippage_bp=0)
    played = rule(bars, free, lambda at: wanted[at] / 2)
    others = {"flat": rule(bars, free, lambda _: np.zeros(2)), "hold": rule(bars, free, lambda _: np.full(2, 0.5))}
    found = claim(played, others, metrics_of(bars, free, played, "agents", trials=5))
    assert found["evidence"] is evidence
    assert found["sentence"].startswith("Evidence" if evidence else "No evidence")


def test_agents_that_do_nothing_claim_nothing(bars: Bars) -> None:
    flat = rule(bars, RULES, lambda _: np.zeros(2))
    found = claim(flat, {"flat": flat}, metrics_of(bars, RULES, flat, "agents"))
    assert (found["evidence"], found["probability"], found["same"]) == (False, 0.5, ["flat"])


def test_agents_that_hold_what_a_rule_holds_are_said_to(bars: Bars) -> None:
    hold, flat = (rule(bars, RULES, lambda _, part=part: np.full(2, part)) for part in (0.5, 0.0))
    found = claim(hold, {"buy and hold": hold.copy(), "flat": flat}, metrics_of(bars, RULES, hold, "agents"))
    assert (found["evidence"], found["same"]) == (False, ["buy and hold"])
    assert "exactly what 'buy and hold' holds" in found["sentence"]
    assert "50.0%" not in found["sentence"]
    both = claim(hold, {"buy and hold": hold, "up": hold, "flat": flat}, metrics_of(bars, RULES, hold, "agents"))
    assert "exactly what 'buy and hold' and 'up' hold, so" in both["sentence"]
    less = rule(bars, RULES, lambda at: np.full(2, 0.4 if at == 100 else 0.5))
    found = claim(less, {"buy and hold": hold, "flat": flat}, metrics_of(bars, RULES, less, "agents"))
    assert found["same"] == []
    assert "exactly" not in found["sentence"]
