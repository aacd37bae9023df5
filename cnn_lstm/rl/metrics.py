"""Metrics of a track record after costs, those of the report's strategy.

Shapes: d dates of the track record, S symbols.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from cnn_lstm.evaluation.metrics.book import Book, periods_per_year
from cnn_lstm.evaluation.metrics.strategy import strategy_metrics
from cnn_lstm.evaluation.report import plain_values
from cnn_lstm.rl.accounts import TradingTerms
from cnn_lstm.rl.market_data import MarketData
from cnn_lstm.rl.track_records import positions_of, track_record_of_rule


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
    return AgentMetrics(**{field.name: plain_values(dict(metrics)[field.name]) for field in fields(AgentMetrics)})


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
