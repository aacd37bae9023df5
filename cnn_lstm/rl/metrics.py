"""Metrics of a track record after costs, those of the report's strategy, and what may be claimed of agents by them.

Shapes: d dates of the track record, S symbols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from cnn_lstm.evaluation.metrics.book import Book, periods_per_year
from cnn_lstm.evaluation.metrics.sharpe import automatic_lags, probabilistic_sharpe_ratio
from cnn_lstm.evaluation.metrics.strategy import strategy_metrics
from cnn_lstm.evaluation.plain_language import probability
from cnn_lstm.evaluation.report import json_values
from cnn_lstm.rl.accounts import TradingTerms
from cnn_lstm.rl.market_data import MarketData
from cnn_lstm.rl.track_records import positions_of, track_record_of_rule

CONFIDENCE = 0.95


@dataclass(frozen=True)
class AgentMetrics:
    """What an agent or a simple rule earned; None where a metric is not defined, such as the ratio of no returns.

    Attributes:
        periods_per_year: Bars per year.
        net_annual_return: Return per year after costs, as a share of the stake.
        sharpe: Sharpe ratio of a year.
        sharpe_se: Standard error of the Sharpe ratio.
        psr: Probability that the true Sharpe ratio is above 0.
        dsr: Deflated Sharpe ratio: the same probability, once the number of trials is paid for.
        max_drawdown: Largest drawdown, as a share of the stake.
        annual_turnover: Turnover per year, both sides, in stakes.
        mean_exposure: Mean absolute position.
    """

    periods_per_year: float | None
    net_annual_return: float | None
    sharpe: float | None
    sharpe_se: float | None
    psr: float | None
    dsr: float | None
    max_drawdown: float | None
    annual_turnover: float | None
    mean_exposure: float | None


def metrics_of(data: MarketData, terms: TradingTerms, record: pd.DataFrame, name: str, trials: int = 1) -> AgentMetrics:
    """Metrics of a track record after costs.

    Args:
        data: The market.
        terms: Delay and costs.
        record: The track record.
        name: Name of the agent or rule.
        trials: Number of models among which it was chosen, for the deflated Sharpe ratio.
    """
    metrics = strategy_metrics(_book(data, terms, record, name), trials)
    return AgentMetrics(**{field.name: json_values(dict(metrics)[field.name]) for field in fields(AgentMetrics)})


def _book(data: MarketData, terms: TradingTerms, record: pd.DataFrame, name: str) -> Book:
    """The book of a track record, next to buying and holding all symbols in equal parts."""
    part = np.full(len(data.symbols), 1 / len(data.symbols))
    held = track_record_of_rule(data, terms, lambda _: part).reindex(record.index)
    dates, weights = pd.DatetimeIndex(record.index), np.stack(record["weights"].to_list())
    returns = data.returns[positions_of(data, record)]
    return Book(
        dates=dates,
        gross=record["gross"].to_numpy(),
        turnover=record["turnover"].to_numpy(),
        exposure=np.abs(weights).sum(axis=1),
        timing=((weights - weights.mean(axis=0)) * returns).sum(axis=1),
        market=held["gross"].to_numpy(),
        market_turnover=held["turnover"].to_numpy(),
        cost_bp=terms.cost * 1e4,
        periods=periods_per_year(dates),
        rule=name,
        unknown_returns=0,
    )


# -- what may be claimed of them -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """The claim about all agents together.

    Attributes:
        evidence: Whether there is evidence that they earn more than each simple rule.
        weakest: The rule that they beat with the lowest probability.
        probability: Probability that they earn more than this rule per unit of risk; 0.5 where they earn the same.
        same: The rules whose positions they hold at all times.
        sentence: The claim in words.
    """

    evidence: bool
    weakest: str
    probability: float
    same: list[str]
    sentence: str


def claim_of(agents: pd.DataFrame, rules: Mapping[str, pd.DataFrame], metrics: AgentMetrics) -> Claim:
    """The claim of agents against simple rules, doing nothing among them.

    Args:
        agents: Joint track record of all agents.
        rules: Track records of the simple rules, by name; `flat` is one of them.
        metrics: Metrics of all agents together.
    """
    beaten = {name: _probability_to_beat(agents, rule) for name, rule in rules.items()}
    same = [name for name, rule in rules.items() if _same_positions(agents, rule)]
    weakest = min(beaten, key=beaten.__getitem__)
    deflated = 0.5 if metrics.dsr is None else metrics.dsr
    evidence = bool(deflated > CONFIDENCE and beaten[weakest] > CONFIDENCE and not same)
    claim = f"{'Evidence' if evidence else 'No evidence'} that the agents earn more after costs than each simple rule."
    sentence = f"{claim} {_comparison(same, weakest, beaten[weakest], deflated)}"
    return Claim(evidence, weakest, beaten[weakest], same, sentence)


def _probability_to_beat(agents: pd.DataFrame, rule: pd.DataFrame) -> float:
    """Probability that the mean difference of the net returns is above 0; 0.5 where there is no difference at all."""
    more = (agents["net"] - rule["net"].reindex(agents.index).fillna(0.0)).to_numpy()
    ratio = probabilistic_sharpe_ratio(more, lags=automatic_lags(len(more)))
    return ratio if np.isfinite(ratio) else 0.5


def _same_positions(agents: pd.DataFrame, rule: pd.DataFrame) -> bool:
    """Whether two hold the same over all bars, up to the rounding of floats."""
    if not agents.index.equals(rule.index):
        return False
    held, other = (np.stack(record["weights"].to_list()) for record in (agents, rule))
    return bool(np.allclose(held, other, rtol=0.0, atol=1e-6))


def _comparison(same: Sequence[str], weakest: str, beaten: float, deflated: float) -> str:
    """How the agents compare with the simple rules, in one or two sentences."""
    if same:
        names = " and ".join(f"'{name}'" for name in same)
        return (
            f"At all times they hold exactly what {names} {'holds' if len(same) == 1 else 'hold'}, so there is nothing "
            "to compare. The probability that their Sharpe ratio is above zero, once the number of trials is paid for, "
            f"is {probability(deflated)}."
        )
    return (
        f"The probability that they beat '{weakest}' is {probability(beaten)}, and that their Sharpe ratio is above "
        f"zero, once the number of trials is paid for, {probability(deflated)}; a claim needs {CONFIDENCE:.0%} of both."
    )
