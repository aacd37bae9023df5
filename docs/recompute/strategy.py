"""Metrics of the strategy after costs."""

import math

import numpy as np
import pandas as pd
from recompute.significance import standard_error
from scipy import stats


def book(rows: pd.DataFrame, about: dict, settings: dict) -> tuple[pd.DataFrame, int]:
    """What a stake earns and trades on each date, equal parts per symbol, a decision held for the horizon; holes."""
    rows = rows[rows.groupby("symbol")["bar_return"].bfill().notna()]
    symbol, date, known = rows["symbol"], rows["as_of"], rows["bar_return"].fillna(0)
    signal = rows["y_pred"] - max(about["classes"] - 1, 0) / 2
    rank, count = signal.groupby(date).rank(), signal.groupby(date).transform("size")
    ranked = (rank > count - count // 3) * 1.0 - (rank < count // 3 + 1)
    decision = ranked.where(count >= 5, np.sign(signal)) if settings["position"] == "rank" else np.sign(signal)
    position = decision.groupby(symbol).rolling(about["horizon"], min_periods=1).sum().droplevel(0) / about["horizon"]
    first, last = ~symbol.duplicated(), ~symbol.duplicated(keep="last")
    gap = behind_a_gap(rows)
    first, last = first | gap, last | gap.shift(-1, fill_value=False)
    values = {"gross": position * known, "exposure": position.abs(), "market": known, "round_trip": first * 1.0 + last}
    values["turnover"] = position.groupby(symbol).diff().mask(first, position).abs() + position.abs() * last
    values["timing"] = (position - position.groupby(symbol).transform("mean")) * known
    return pd.DataFrame(values).groupby(date).mean(), rows["bar_return"].isna().sum()


def behind_a_gap(rows: pd.DataFrame) -> pd.Series:
    """Whether the row before one is not the bar before it; all that begins or ends at a row is a bar of its symbol."""
    times = [rows[["symbol", name]].set_axis(["symbol", "as_of"], axis=1) for name in ("target_start", "target_end")]
    bars = pd.concat([rows[["symbol", "as_of"]], *times]).dropna().drop_duplicates()
    bars["number"] = bars.groupby("symbol")["as_of"].rank()
    number = rows[["symbol", "as_of"]].merge(bars, how="left")["number"].set_axis(rows.index)
    return number.groupby(rows["symbol"]).diff() > 1


def sharpe_metrics(net: np.ndarray, trials: int, year: float) -> dict:
    """The Sharpe ratio, its standard error by the delta method (Lo 2002), and what trials leave of it."""
    n, ratio, z = len(net), net.mean() / net.std(ddof=1), (net - net.mean()) / net.std()
    lags = min(int(4 * (n / 100) ** (2 / 9)), n - 1)
    error = standard_error(z - ratio / 2 * (z**2 - 1), lags) * math.sqrt(n / (n - 1))
    quantiles = stats.norm.ppf([1 - 1 / trials, 1 - 1 / (trials * math.e)]) if trials > 1 else np.zeros(2)
    best = quantiles @ [1 - np.euler_gamma, np.euler_gamma] / math.sqrt(n - 1)
    values = {"sharpe": ratio * math.sqrt(year), "sharpe_se": error * math.sqrt(year), "trials": trials}
    values |= {"psr": stats.norm.cdf(ratio / error), "dsr": stats.norm.cdf((ratio - best) / error)}
    needed = 1 + error**2 * (n - 1) * (stats.norm.ppf(0.95) / ratio) ** 2
    return values | {"min_track_record_length": needed if ratio > 0 else math.nan}


def drawdown(returns: np.ndarray) -> float:
    """Largest fall of the summed returns from an earlier height."""
    curve = np.append(0.0, np.cumsum(returns))
    return (np.maximum.accumulate(curve) - curve).max()


def random_sign_p(timing: np.ndarray, draws: int, seed: int) -> float:
    """Share of books, one coin per date on the timing, that earn as much; coins are the bits of random bytes."""
    n, random, better = len(timing), np.random.default_rng(seed), 1
    for start in range(0, draws, size := max(4_000_000 // n, 1)):
        coins = random.integers(0, 256, (min(size, draws - start), -(-n // 8)), dtype=np.uint8)
        earned = (np.unpackbits(coins, axis=1, count=n) * 2.0 - 1) @ timing
        better += np.sum(earned >= timing.sum() - 1e-12 * abs(timing).sum())
    return better / (1 + draws)


def strategy_metrics(rows: pd.DataFrame, about: dict, settings: dict, trials: int) -> dict:
    """Metrics of the strategy after costs, with those of buying and holding and of random signs."""
    course, unknown = book(rows, about, settings)
    years, cost = course.groupby(course.index.year).size(), settings["fee_bp"] + settings["half_spread_bp"]
    days = (course.index[-1] - course.index[0]) / pd.Timedelta(days=365.25)
    year = years.iloc[1:-1].median() if len(years) > 2 else (len(course) - 1) / days
    net = (course["gross"] - course["turnover"] * cost / 1e4).to_numpy()
    held = ((course["market"] - course["round_trip"] * cost / 1e4) * course["exposure"].mean()).to_numpy()
    values = {"bars": len(net), "periods_per_year": year, "cost_bp": cost, "unknown_returns": unknown}
    values |= {"gross_annual_return": course["gross"].mean() * year, "net_annual_return": net.mean() * year}
    values |= {"annual_volatility": net.std(ddof=1) * math.sqrt(year), "max_drawdown": drawdown(net)}
    values |= sharpe_metrics(net, trials, year) | {"calmar": net.mean() * year / drawdown(net)}
    values |= {"annual_turnover": course["turnover"].mean() * year, "mean_exposure": course["exposure"].mean()}
    values["hit_rate"] = (course["gross"] > 0)[course["exposure"] > 0].mean()
    values["break_even_cost_bp"] = course["gross"].sum() / course["turnover"].sum() * 1e4
    values["random_sign_p"] = random_sign_p(course["timing"].to_numpy(), settings["resamples"], settings["seed"])
    sharpe = held.mean() / held.std(ddof=1) * math.sqrt(year)
    benchmark = {"net_annual_return": held.mean() * year, "sharpe": sharpe, "max_drawdown": drawdown(held)}
    return values | {"buy_and_hold": benchmark}
