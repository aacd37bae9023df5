"""What agents are worth on dates that they never saw: their books, those of simple rules beside them, and the claim.

Shapes: d bars, S symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cnn_lstm.evaluation.metrics.book import Book, ladder, periods_per_year
from cnn_lstm.evaluation.metrics.sharpe import automatic_lags, probabilistic_sharpe_ratio
from cnn_lstm.evaluation.metrics.strategy import strategy_metrics
from cnn_lstm.evaluation.plain_language import probability
from cnn_lstm.rl.accounts import Rules
from cnn_lstm.rl.bars import Bars, Floats, Integers
from cnn_lstm.rl.episodes import Decisions, Episodes

CONFIDENCE = 0.95
SHIFTS = 200
FIGURES = (
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


def bars_played(dates: Sequence[np.datetime64], lines: Sequence[Sequence[Any]]) -> pd.DataFrame:
    """A table of played bars.

    Args:
        dates: Date that each bar begins at.
        lines: Gross return, turnover, net return and weights (S,) of each.

    Returns:
        Indexed by date, with gross, turnover, net and `weights`, the (S,) held over the bar; up to the bar with which
        the stake is lost, for good, whatever comes after a gap.
    """
    names = ["gross", "turnover", "net", "weights"]
    table = pd.DataFrame(list(lines), columns=names, index=pd.DatetimeIndex(list(dates), tz="UTC", name="date"))
    lost = np.flatnonzero(1.0 + table["net"].cumsum() <= 0)
    return table.iloc[: lost[0] + 1] if len(lost) else table


def rule(bars: Bars, rules: Rules, weights: Callable[[int], Floats]) -> pd.DataFrame:
    """Bars of a rule without an agent, under the same delay and costs.

    Args:
        bars: The market.
        rules: Delay and costs.
        weights: Wanted weights (S,) at a position in `bars.dates`.
    """
    episodes = Episodes(bars, rules, Decisions("continuous", (-1.0, 1.0), len(bars.symbols)), observe="account")
    lines: list[list[Any]] = []
    dates = []
    for first in episodes.stretches():
        episodes.begin(0, np.random.default_rng(0), first)
        done = False
        while not done:
            at = int(episodes.position[0])
            metrics, last = episodes.step(weights(at)[None])
            dates.append(bars.dates[at])
            lines.append([metrics.gross[0], metrics.turnover[0], metrics.net[0], metrics.weights[0]])
            done = bool(last[0] or metrics.ruined[0])
    return bars_played(dates, lines)


def laddered(bars: Bars, signs: Floats, horizon: int) -> Floats:
    """Positions of a rule that holds each decision for the horizon of its forecast, as the report's strategy does.

    Args:
        bars: The market.
        signs: Decision on each date and symbol, (D, S).
        horizon: Bars that a forecast is for.

    Returns:
        Mean of the last `horizon` decisions since the stretch began, (D, S); 0 where no episode lies.
    """
    held, inside = np.zeros_like(signs), np.flatnonzero(bars.last >= 0)
    for number in range(signs.shape[1]):
        held[inside, number] = ladder(signs[inside, number], bars.last[inside], horizon)
    return held


def market_book(bars: Bars, rules: Rules, played: pd.DataFrame, name: str) -> Book:
    """The book of played bars, for the metrics of the report's strategy.

    Args:
        bars: The market.
        rules: Delay and costs.
        played: See `bars_played`.
        name: What decided, in words.
    """
    held = rule(bars, rules, lambda _: np.full(len(bars.symbols), 1 / len(bars.symbols))).reindex(played.index)
    dates, weights = pd.DatetimeIndex(played.index), np.stack(played["weights"].to_list())
    returns = bars.returns[_places(bars, played)]
    return Book(
        dates=dates,
        gross=played["gross"].to_numpy(),
        turnover=played["turnover"].to_numpy(),
        exposure=np.abs(weights).sum(axis=1),
        timing=((weights - weights.mean(axis=0)) * returns).sum(axis=1),
        market=held["gross"].to_numpy(),
        market_turnover=held["turnover"].to_numpy(),
        cost_bp=rules.cost * 1e4,
        periods=periods_per_year(dates),
        rule=name,
        unknown_returns=0,
    )


def metrics_of(bars: Bars, rules: Rules, played: pd.DataFrame, name: str, trials: int = 1) -> dict[str, Any]:
    """Metrics of played bars after costs.

    Args:
        bars: The market.
        rules: Delay and costs.
        played: See `bars_played`.
        name: What decided.
        trials: Agents among which it was chosen, for the deflated Sharpe ratio.
    """
    metrics = dict[str, Any](strategy_metrics(market_book(bars, rules, played, name), trials))
    return {key: metrics[key] for key in FIGURES}


def at_random(bars: Bars, rules: Rules, agents: Sequence[pd.DataFrame], seed: int = 0) -> list[pd.DataFrame]:
    """Books of the same positions at other times: turnover and exposure stay, and what is left is no timing.

    Each turns the course of every agent's weights round, within each gap-free stretch, by one random share of it.

    Args:
        bars: The market.
        rules: Delay and costs.
        agents: Bars of each agent, see `bars_played`.
        seed: Seed of the turns.

    Returns:
        Bars of all agents together, see `together`, for each of the turns.
    """
    shares = np.random.default_rng(seed).random(SHIFTS)
    return [together([_turned(bars, rules, played, share) for played in agents]) for share in shares]


def _turned(bars: Bars, rules: Rules, played: pd.DataFrame, share: float) -> pd.DataFrame:
    at, weights = _places(bars, played), np.stack(played["weights"].to_list())
    turnover = np.zeros(len(at))
    for stretch in np.unique(bars.last[at]):
        own = np.flatnonzero(bars.last[at] == stretch)
        weights[own] = moved = np.roll(weights[own], 1 + int(share * (len(own) - 1)), axis=0)
        turnover[own] = np.abs(np.diff(moved, axis=0, prepend=0.0)).sum(axis=1)
        turnover[own[-1]] += np.abs(moved[-1]).sum()
    gross = (weights * bars.returns[at]).sum(axis=1)
    columns = {"gross": gross, "turnover": turnover, "net": gross - turnover * rules.cost, "weights": list(weights)}
    return pd.DataFrame(columns, index=played.index)


def _places(bars: Bars, played: pd.DataFrame) -> Integers:
    """Positions of played bars in `bars.dates`."""
    times = pd.DatetimeIndex(played.index).tz_localize(None).to_numpy(bars.dates.dtype)
    return np.searchsorted(bars.dates, times)


def together(agents: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All agents with equal parts of the stake, each paying for its own trades.

    Args:
        agents: Their bars, of the same dates but for those that lost their stake, which earn nothing from then on.
    """
    index = agents[0].index
    for other in agents[1:]:
        index = index.union(other.index)
    joined = {
        name: np.mean([agent[name].reindex(index).fillna(0.0).to_numpy() for agent in agents], axis=0)
        for name in ("gross", "turnover", "net")
    }
    weights = np.zeros((len(index), len(agents[0]["weights"].iloc[0])))
    for agent in agents:
        weights[index.get_indexer(agent.index)] += np.stack(agent["weights"].to_list()) / len(agents)
    return pd.DataFrame(joined | {"weights": list(weights)}, index=index)


def claim(agents: pd.DataFrame, others: Mapping[str, pd.DataFrame], own: Mapping[str, Any]) -> dict[str, Any]:
    """Whether there is evidence that the agents earn more than each simple rule, doing nothing among them.

    Args:
        agents: Bars of all agents together.
        others: Bars of the simple rules, by name; `flat` among them.
        own: Metrics of all agents together.

    Returns:
        evidence; `weakest`, the rule from which the agents can be told least; `probability` that they earn more than
        it a unit of risk, 0.5 where they earn the same; `same`, the rules whose positions the agents hold at all
        times; and the `sentence`.
    """
    beside = {}
    for name, bars in others.items():
        more = (agents["net"] - bars["net"].reindex(agents.index).fillna(0.0)).to_numpy()
        found = probabilistic_sharpe_ratio(more, lags=automatic_lags(len(more)))
        beside[name] = found if np.isfinite(found) else 0.5  # no difference at all
    same = [name for name, bars in others.items() if _same_positions(agents, bars)]
    weakest = min(beside, key=lambda name: beside[name])
    deflated = float(own["dsr"]) if np.isfinite(own["dsr"]) else 0.5
    evidence = bool(deflated > CONFIDENCE and beside[weakest] > CONFIDENCE and not same)
    return {
        "evidence": evidence,
        "weakest": weakest,
        "probability": beside[weakest],
        "same": same,
        "sentence": f"{'Evidence' if evidence else 'No evidence'} that the agents earn more after costs than each "
        f"simple rule. {_beside_rules(same, weakest, beside[weakest], deflated)}",
    }


def _same_positions(agents: pd.DataFrame, bars: pd.DataFrame) -> bool:
    """Whether two hold the same over all bars; what floats round is no difference."""
    if not agents.index.equals(bars.index):
        return False
    held, other = (np.stack(played["weights"].to_list()) for played in (agents, bars))
    return bool(np.allclose(held, other, rtol=0.0, atol=1e-6))


def _beside_rules(same: Sequence[str], weakest: str, beaten: float, deflated: float) -> str:
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
