"""What agents are worth: track records, the metrics of the report, random timing, the claim."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.evaluation.metrics.book import make_book
from cnn_lstm.evaluation.metrics.strategy import strategy_metrics
from cnn_lstm.rl.accounts import TradingTerms
from cnn_lstm.rl.claim import claim_of
from cnn_lstm.rl.market import MarketEnv
from cnn_lstm.rl.market_data import MarketData
from cnn_lstm.rl.metrics import metrics_of
from cnn_lstm.rl.track_records import (
    at_random_times,
    joint_track_record,
    laddered,
    track_record,
    track_record_of_rule,
)
from tests.markets import market

METRICS = (
    "periods_per_year",
    "net_annual_return",
    "sharpe",
    "sharpe_se",
    "psr",
    "dsr",
    "max_drawdown",
    "annual_turnover",
    "mean_exposure",
)
TERMS = TradingTerms(delay=0, fee_bp=3, slippage_bp=4)


@pytest.fixture(scope="module")
def data() -> MarketData:
    table = market(400, ("AAA", "BBB"), gaps=False)
    first = table.groupby("symbol")["timestamp"].min().max()
    env = MarketEnv(table[table["timestamp"] >= first], features=["log_return_1"], window=3)
    return env.episodes.data


def signs(data: MarketData) -> np.ndarray:
    return np.sign(np.random.default_rng(0).normal(size=data.returns.shape))


def predicted(data: MarketData, wanted: np.ndarray, record: pd.DataFrame) -> pd.DataFrame:
    """The report's table of the same decisions, on the dates of a track record."""
    dates = pd.DatetimeIndex(data.dates, tz="UTC")
    days = [
        pd.DataFrame({"symbol": name, "as_of": dates, "y_pred": wanted[:, k], "bar_return": data.returns[:, k]})
        for k, name in enumerate(data.symbols)
    ]
    table = pd.concat(days)
    return table[table["as_of"].isin(record.index)]


def test_metrics_equal_those_of_the_reports_strategy(data: MarketData) -> None:
    wanted = signs(data)
    record = track_record_of_rule(data, TERMS, lambda at: wanted[at] / 2)
    metrics = strategy_metrics(make_book(predicted(data, wanted, record), 1, cost_bp=7.0), 3)
    values = asdict(metrics_of(data, TERMS, record, "signs", trials=3))
    assert tuple(values) == METRICS
    for name in METRICS:
        assert values[name] == pytest.approx(metrics[name], abs=1e-10), name


def test_random_timing_keeps_turnover_and_exposure(data: MarketData) -> None:
    wanted = signs(data)
    record = track_record_of_rule(data, TERMS, lambda at: wanted[at] / 2)
    records = at_random_times(data, TERMS, [record])
    seam = 2.0  # where the last positions meet the first ones
    for shifted in records[:20]:
        assert abs(shifted["turnover"].sum() - record["turnover"].sum()) <= seam
        np.testing.assert_allclose(shifted["net"], shifted["gross"] - shifted["turnover"] * 7e-4, atol=1e-15)
    held = track_record_of_rule(data, TERMS, lambda _: np.full(2, 0.5))
    for shifted in at_random_times(data, TERMS, [held])[:3]:
        np.testing.assert_allclose(shifted["net"], held["net"], atol=1e-15)


def test_random_timing_pays_for_the_trades_of_each_agent(data: MarketData) -> None:
    wanted = signs(data)
    with_signs = track_record_of_rule(data, TERMS, lambda at: wanted[at] / 2)
    opposite = [with_signs, track_record_of_rule(data, TERMS, lambda at: -wanted[at] / 2)]
    paid = joint_track_record(opposite)["turnover"].mean()
    assert paid > 0.5
    for shifted in at_random_times(data, TERMS, opposite)[:5]:
        assert shifted["turnover"].mean() == pytest.approx(paid, rel=0.02)


def test_random_timing_stays_within_its_stretch() -> None:
    days = pd.bdate_range("2024-01-01", periods=40, tz="UTC")
    days = pd.DatetimeIndex(days[:20].append(days[20:] + pd.Timedelta(60, "D")))
    table = pd.DataFrame({"symbol": "A", "timestamp": days, "close": np.linspace(100, 110, 40)})
    data = MarketEnv(table, features=["log_return_1"], window=3).episodes.data
    held = track_record_of_rule(data, TERMS, lambda _: np.ones(1))
    assert held["turnover"].sum() == 4
    for shifted in at_random_times(data, TERMS, [held])[:10]:
        np.testing.assert_allclose(shifted["net"], held["net"], atol=1e-15)


def test_a_lost_stake_is_lost_for_good() -> None:
    days = list(pd.date_range("2024-01-01", periods=4).to_numpy())
    nets = [-0.6, -0.5, 0.4, 0.4]
    assert len(track_record(days, [(net, 0.0, net, np.ones(1)) for net in nets])) == 2


@pytest.mark.parametrize("horizon", [1, 5])
def test_the_sign_rule_earns_what_the_reports_strategy_earns(data: MarketData, horizon: int) -> None:
    wanted = signs(data)
    held = laddered(data, wanted, horizon)
    record = track_record_of_rule(data, TERMS, lambda at: held[at] / 2)
    metrics = strategy_metrics(make_book(predicted(data, wanted, record), horizon, cost_bp=7.0), 1)
    values = metrics_of(data, TERMS, record, "signs")
    for name in ("net_annual_return", "annual_turnover", "mean_exposure"):
        assert getattr(values, name) == pytest.approx(metrics[name], abs=1e-10), name


def test_the_joint_track_record_gives_each_agent_an_equal_part_of_the_stake() -> None:
    days = list(pd.date_range("2024-01-01", periods=3).to_numpy())
    one = track_record(days, [(0.1, 1.0, 0.09, np.array([1.0]))] * 3)
    lost = track_record(days[:1], [(-1.0, 2.0, -1.02, np.array([-1.0]))])
    both = joint_track_record([one, lost])
    assert both["gross"].tolist() == [-0.45, 0.05, 0.05]
    assert [weights.item() for weights in both["weights"]] == [0.0, 0.5, 0.5]


@pytest.mark.parametrize(("skill", "evidence"), [(0.0, False), (0.3, True)], ids=["luck", "skill"])
def test_only_skill_is_claimed(data: MarketData, skill: float, evidence: bool) -> None:
    random = np.random.default_rng(1)
    known = random.random(data.returns.shape) < skill
    wanted = np.where(known, np.sign(data.returns), np.sign(random.normal(size=data.returns.shape)))
    free = TradingTerms(delay=0, fee_bp=0, slippage_bp=0)
    record = track_record_of_rule(data, free, lambda at: wanted[at] / 2)
    rules = {
        "flat": track_record_of_rule(data, free, lambda _: np.zeros(2)),
        "hold": track_record_of_rule(data, free, lambda _: np.full(2, 0.5)),
    }
    claim = claim_of(record, rules, metrics_of(data, free, record, "agents", trials=5))
    assert claim.evidence is evidence
    assert claim.sentence.startswith("Evidence" if evidence else "No evidence")


def test_agents_that_do_nothing_claim_nothing(data: MarketData) -> None:
    flat = track_record_of_rule(data, TERMS, lambda _: np.zeros(2))
    claim = claim_of(flat, {"flat": flat}, metrics_of(data, TERMS, flat, "agents"))
    assert (claim.evidence, claim.probability, claim.same) == (False, 0.5, ["flat"])


def test_the_claim_names_the_rules_whose_positions_the_agents_hold(data: MarketData) -> None:
    hold = track_record_of_rule(data, TERMS, lambda _: np.full(2, 0.5))
    flat = track_record_of_rule(data, TERMS, lambda _: np.zeros(2))
    claim = claim_of(hold, {"buy and hold": hold.copy(), "flat": flat}, metrics_of(data, TERMS, hold, "agents"))
    assert (claim.evidence, claim.same) == (False, ["buy and hold"])
    assert "exactly what 'buy and hold' holds" in claim.sentence
    assert "50.0%" not in claim.sentence
    both = claim_of(hold, {"buy and hold": hold, "up": hold, "flat": flat}, metrics_of(data, TERMS, hold, "agents"))
    assert "exactly what 'buy and hold' and 'up' hold, so" in both.sentence
    less = track_record_of_rule(data, TERMS, lambda at: np.full(2, 0.4 if at == 100 else 0.5))
    claim = claim_of(less, {"buy and hold": hold, "flat": flat}, metrics_of(data, TERMS, less, "agents"))
    assert claim.same == []
    assert "exactly" not in claim.sentence
