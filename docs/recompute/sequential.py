"""Evidence over time: bets on the model date by date, one baseline after the other."""

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import logsumexp

STAKES = np.array([1 / 2**power for power in range(2, 10)])
WEIGHTS = np.array([2, 8, 12, 8, 2, 1, 1, 1]) / 35


def sequential(rows: pd.DataFrame, loss: dict, horizon: int, kept: dict | None) -> dict:
    """The least wealth over the baselines, and where the mean difference from the hardest of them lies."""
    own, series = differences(rows, loss, kept)
    known = {name: column.dropna() for name, column in series.items()}
    wealth = pd.DataFrame({name: wealths(one, horizon) for name, one in known.items()})
    wealth = wealth.reindex(series.index).ffill().fillna(1.0)
    enough = [name for name in series if 2 * len(known[name]) >= len(series)] or list(series)
    least = wealth[enough].min(axis=1)
    hardest = min(enough, key=lambda name: (wealth[name].iloc[-1], known[name].mean()))
    reached, shown = least[least >= 20], known[hardest]
    at = np.unique(np.linspace(0, len(shown) - 1, min(200, len(shown))).round().astype(int))
    low, high = sequence(shown, horizon, at)
    there = own.reindex(series.index)
    other = series.notna() & ~((series - there).abs() <= 1e-6 * series.std())
    report = {"threshold": 20.0, "level": 0.1, "dates": len(series), "kept": other.any(axis=1).sum()}
    report |= {"first": series.index[0].isoformat(), "last": series.index[-1].isoformat(), "baseline": hardest}
    report |= {"wealth": least.iloc[-1], "highest": least.max(), "evidence": len(reached) > 0}
    report["reached"] = reached.index[0].isoformat() if len(reached) else None
    report["baselines"] = {name: at_the_end(one, wealth[name].iloc[-1], horizon) for name, one in known.items()}
    path = {"dates": [date.isoformat() for date in shown.index[at]], "wealth": [*least[shown.index].iloc[at]]}
    report["path"] = path | {"mean": [*shown.expanding().mean().iloc[at]], "low": low, "high": high}
    return report


def differences(rows: pd.DataFrame, loss: dict, kept: dict | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean loss of each baseline less that of the model by date: of the table, and those that count."""
    date = pd.to_datetime(rows["as_of"], utc=True).dt.tz_localize(None)
    names = [name for name in loss if name != "model"]
    own = pd.DataFrame({name: loss[name] - loss["model"] for name in names}).groupby(date).mean()
    if not kept:
        return own, own
    times = pd.DatetimeIndex(pd.to_datetime(kept["dates"], format="ISO8601"))
    before = pd.DataFrame({name: kept["differences"].get(name) for name in names}, times, dtype=float)
    joined = pd.concat([own[~own.index.isin(times)], before]).sort_index()
    return own, joined.dropna(how="all")


def bets(series: pd.Series, horizon: int) -> list:
    """After each date, for each of the h interleaved series and each stake: log wealth, and stakes laid so far."""
    x, used = series.to_numpy(), np.flatnonzero(series)
    first = max(30, used[0] + 1) if len(used) else len(x)
    logs, laid, after = np.zeros((horizon, 8)), np.zeros((horizon, 8)), []
    for t in range(len(x)):
        if t >= first + horizon - 1:
            scale = max(x[:first].std(), 0.01 * np.sqrt((x[:first] ** 2).mean()))
            centre = x[: t - horizon + 1].mean() / scale
            j = (t - first - horizon + 1) % horizon
            with np.errstate(divide="ignore"):
                logs[j] += np.log(np.clip(1 + STAKES * (x[t] / scale - centre), 0, 2)) + STAKES * centre
            laid[j] += STAKES / scale
        after.append((logs + np.log(WEIGHTS / horizon), laid.copy()))
    return after


def wealths(series: pd.Series, horizon: int) -> pd.Series:
    """Wealth after each date."""
    return pd.Series([np.exp(min(690, logsumexp(logs))) for logs, _ in bets(series, horizon)], series.index)


def sequence(series: pd.Series, horizon: int, at: np.ndarray) -> list[list[float]]:
    """Both ends of the 90 % confidence sequence after some dates: means that would have led to a wealth of 20."""
    both = [(sign, bets(sign * series, horizon)) for sign in (1, -1)]
    return [[sign * end(*after[n]) for n in at] for sign, after in both]


def end(logs: np.ndarray, laid: np.ndarray) -> float:
    """The mean at which the wealth is 20."""
    if not laid.any() or np.isneginf(logs).all():
        return -np.inf

    def excess(mean: float) -> float:
        return logsumexp(logs - laid * mean) - np.log(20)

    used = laid > 0
    left = ((logs[used] - np.log(20)) / laid[used]).max() - 1e-9 / laid.max()
    right = left + 1 / laid.max()
    while excess(right) > 0:
        right += 2 * (right - left)
    return brentq(excess, left, right, xtol=1e-300, rtol=1e-14)


def at_the_end(series: pd.Series, wealth: float, horizon: int) -> dict:
    """What is known of one baseline at the last date."""
    (low,), (high,) = sequence(series, horizon, np.array([-1]))
    return {"dates": len(series), "wealth": wealth, "mean": series.mean(), "low": low, "high": high}
