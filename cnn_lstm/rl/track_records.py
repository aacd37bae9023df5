"""Track records: what a policy held and earned on each date of a market, for agents and for simple rules.

A track record is a table indexed by date, with the columns gross, turnover and net of each bar and `weights`, the (S,)
held over it. Shapes: d dates of a track record, D dates of the market, S symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from cnn_lstm.evaluation.metrics.book import ladder
from cnn_lstm.rl.accounts import Decisions, TradingTerms
from cnn_lstm.rl.episodes import Episodes
from cnn_lstm.rl.market_data import Floats, Integers, MarketData

SHIFTS = 200  # random times of the same positions
Line = tuple[float, float, float, Floats]


def track_record(dates: Sequence[np.datetime64], lines: Sequence[Line]) -> pd.DataFrame:
    """The track record of a policy.

    Args:
        dates: Date at which each bar begins, d.
        lines: Gross return, turnover, net return and weights (S,) of each bar, d.

    Returns:
        The track record up to the bar with which the stake is lost; what comes after a gap does not bring it back.
    """
    names = ["gross", "turnover", "net", "weights"]
    table = pd.DataFrame(list(lines), columns=names, index=pd.DatetimeIndex(list(dates), tz="UTC", name="date"))
    lost = np.flatnonzero(1.0 + table["net"].cumsum() <= 0)
    return table.iloc[: lost[0] + 1] if len(lost) else table


def track_record_of_rule(data: MarketData, terms: TradingTerms, weights: Callable[[int], Floats]) -> pd.DataFrame:
    """The track record of a rule without an agent, under the same delay and costs.

    Args:
        data: The market.
        terms: Delay and costs.
        weights: Wanted weights (S,) at a position in `data.dates`.
    """
    decisions = Decisions("continuous", (-1.0, 1.0), len(data.symbols))
    episodes = Episodes(data, terms, decisions, observe="account")
    dates: list[np.datetime64] = []
    lines: list[Line] = []
    for first in episodes.stretches():
        episodes.begin(0, np.random.default_rng(0), first)
        done = False
        while not done:
            at = int(episodes.position[0])
            result, last = episodes.step(weights(at)[None])
            dates.append(data.dates[at])
            lines.append((result.gross[0], result.turnover[0], result.net[0], result.weights[0]))
            done = bool(last[0] or result.ruined[0])
    return track_record(dates, lines)


def laddered(data: MarketData, signs: Floats, horizon: int) -> Floats:
    """Positions of a rule that holds each decision for the horizon of its forecast, as the report's strategy does.

    Args:
        data: The market.
        signs: Decision on each date and symbol, (D, S).
        horizon: Bars that a forecast is for.

    Returns:
        Mean of the last `horizon` decisions since the stretch began, (D, S); 0 on dates outside of all stretches.
    """
    held, inside = np.zeros_like(signs), np.flatnonzero(data.last >= 0)
    for number in range(signs.shape[1]):
        held[inside, number] = ladder(signs[inside, number], data.last[inside], horizon)
    return held


def joint_track_record(agents: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The track record of all agents with equal parts of the stake, each of which pays for its own trades.

    Args:
        agents: Their track records, of the same dates. One that lost its stake is shorter, and earns nothing more.
    """
    index = agents[0].index
    for agent in agents[1:]:
        index = index.union(agent.index)
    means = {
        name: np.mean([agent[name].reindex(index).fillna(0.0).to_numpy() for agent in agents], axis=0)
        for name in ("gross", "turnover", "net")
    }
    weights = np.zeros((len(index), len(agents[0]["weights"].iloc[0])))
    for agent in agents:
        weights[index.get_indexer(agent.index)] += np.stack(agent["weights"].to_list()) / len(agents)
    return pd.DataFrame(means | {"weights": list(weights)}, index=index)


def at_random_times(
    data: MarketData, terms: TradingTerms, agents: Sequence[pd.DataFrame], seed: int = 0
) -> list[pd.DataFrame]:
    """Track records of the same positions at random other times.

    Turnover and exposure stay as they are, so only the timing differs. Each of them rotates the weights of every agent
    within each gap-free stretch, by one random share of the stretch.

    Args:
        data: The market.
        terms: Delay and costs.
        agents: Track record of each agent.
        seed: Seed of the shares.

    Returns:
        The joint track record of all agents, for each of the random shares.
    """
    shares = np.random.default_rng(seed).random(SHIFTS)
    return [joint_track_record([_rotated(data, terms, agent, share) for agent in agents]) for share in shares]


def _rotated(data: MarketData, terms: TradingTerms, agent: pd.DataFrame, share: float) -> pd.DataFrame:
    """A track record whose weights are rotated within each stretch by a share of its length."""
    at, weights = positions_of(data, agent), np.stack(agent["weights"].to_list())
    turnover = np.zeros(len(at))
    for last in np.unique(data.last[at]):
        rows = np.flatnonzero(data.last[at] == last)
        weights[rows] = moved = np.roll(weights[rows], 1 + int(share * (len(rows) - 1)), axis=0)
        turnover[rows] = np.abs(np.diff(moved, axis=0, prepend=0.0)).sum(axis=1)
        turnover[rows[-1]] += np.abs(moved[-1]).sum()
    gross = (weights * data.returns[at]).sum(axis=1)
    columns = {"gross": gross, "turnover": turnover, "net": gross - turnover * terms.cost, "weights": list(weights)}
    return pd.DataFrame(columns, index=agent.index)


def positions_of(data: MarketData, record: pd.DataFrame) -> Integers:
    """Positions of the dates of a track record in `data.dates`, (d,).

    Args:
        data: The market.
        record: A track record.
    """
    times = pd.DatetimeIndex(record.index).tz_localize(None).to_numpy(data.dates.dtype)
    return np.searchsorted(data.dates, times)
