"""Third part of recompute_report.py: figures of intervals, of predictive distributions and of the strategy."""

import math

import numpy as np
import pandas as pd
from recompute_forecasts import standard_error
from scipy import special, stats


def ratio_p(counts: list, free: list, promised: list) -> float:
    """Likelihood ratio test of miss probabilities; counts of hits and misses, a row a state."""
    logs = [np.sum(special.xlogy(counts, np.column_stack([1 - np.array(p), p]))) for p in (free, promised)]
    return stats.chi2.sf(max(2 * (logs[0] - logs[1]), 0.0), 1)


def coverage(held: pd.Series, level: float) -> dict:
    """Coverage of intervals or class sets, tested as Kupiec (1995) does."""
    found = {"rows": len(held), "level": level, "coverage": held.mean()}
    counts = [[held.sum(), (~held).sum()]]
    return found | {"kupiec_p": ratio_p(counts, [(~held).mean()], [1 - level])}


def set_figures(rows: pd.DataFrame, level: int) -> dict:
    """Coverage and size of class sets, each a text of one digit a class."""
    given = rows.dropna(subset=f"set_{level}")
    pairs = list(zip(given["y_true"].astype(int).astype(str), given[f"set_{level}"], strict=True))
    found = coverage(pd.Series([true in drawn for true, drawn in pairs]), level / 100)
    return found | {"mean_size": np.mean([len(drawn) for _, drawn in pairs])}


def interval_figures(rows: pd.DataFrame, level: int) -> dict:
    """Coverage, width, interval score, and whether misses cluster by time or by volatility."""
    rows = rows.dropna(subset=[f"lower_{level}", f"upper_{level}"]).sort_values(["symbol", "as_of"])
    y, lower, upper = rows["y_true"], rows[f"lower_{level}"], rows[f"upper_{level}"]
    held, outside = y.between(lower, upper), (lower - y).clip(lower=0) + (y - upper).clip(lower=0)
    found = coverage(held, level / 100) | {"mean_width": (upper - lower).mean()}
    found["winkler"] = (upper - lower + 2 / (1 - level / 100) * outside).mean()
    before = held.groupby(rows["symbol"]).shift()
    counts = np.array([[(before.eq(a) & held.eq(b)).sum() for b in (True, False)] for a in (True, False)])
    after, same = counts[:, 1] / np.maximum(counts.sum(axis=1), 1), counts[:, 1].sum() / counts.sum()
    found["christoffersen_p"] = ratio_p(counts, after, [same, same])
    thirds = sum((rows["volatility"] > rows["volatility"].quantile(q)).astype(int) for q in (1 / 3, 2 / 3))
    found |= {f"coverage_{n}_volatility": held[thirds == i].mean() for i, n in enumerate(("low", "middle", "high"))}
    dates = held.groupby(rows["as_of"]).agg(["sum", "size"]).rolling(250).sum()
    return found | {"lowest_rolling_coverage": (dates["sum"] / dates["size"]).min()}


def distribution(rows: pd.DataFrame, about: dict) -> dict:
    """CRPS by its definition, E|X - y| - E|X - X'| / 2, and PIT of the members forecast + score * scale."""
    error, found = (rows["y_true"] - rows["y_pred"]).to_numpy(), {}
    if "scores" in about and about["kind"] != "class":
        scores, scale = np.array(about["scores"]), rows["scale"].to_numpy()
        surprise = np.where(scale > 0, error / scale, np.where(error == 0, 0.0, np.copysign(np.inf, error)))
        spread = abs(scores[:, None] - scores).mean() / 2
        parts = [part[:, None] for part in np.array_split(surprise, len(surprise) // 1000 + 1)]
        distance = np.concatenate([abs(part - scores).mean(axis=1) for part in parts])
        rank = np.concatenate([((scores < part) + 0.0 + (scores <= part)).sum(axis=1) for part in parts])
        pit = (rank + 1) / (2 * (len(scores) + 1))
        found["crps"] = np.where(scale > 0, scale * (distance - spread), abs(error)).mean()
        found["pit"] = {"rows": len(pit), "histogram": (np.histogram(pit, 10, (0, 1))[0] / len(pit)).tolist()}
        found["pit"] |= {"ks_p": stats.kstest(pit, "uniform").pvalue}
        found["pit"] |= {"cramer_von_mises_p": stats.cramervonmises(pit, "uniform").pvalue}
    if "std" in rows:
        z, std = error / rows["std"], rows["std"]
        normal = std * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / math.sqrt(math.pi))
        found["crps_normal"] = normal.where(std > 0, abs(error)).mean()
    return found


def book(rows: pd.DataFrame, about: dict, settings: dict) -> tuple[pd.DataFrame, int]:
    """What a stake earns and trades each date, equal parts a symbol, a decision held for the horizon; unknown returns."""
    rows = rows[rows.groupby("symbol")["bar_return"].bfill().notna()]
    symbol, date, known = rows["symbol"], rows["as_of"], rows["bar_return"].fillna(0)
    signal = rows["y_pred"] - max(about["classes"] - 1, 0) / 2
    rank, count = signal.groupby(date).rank(), signal.groupby(date).transform("size")
    ranked = (rank > count - count // 3) * 1.0 - (rank < count // 3 + 1)
    decision = ranked.where(count >= 5, np.sign(signal)) if settings["position"] == "rank" else np.sign(signal)
    position = decision.groupby(symbol).rolling(about["horizon"], min_periods=1).sum().droplevel(0) / about["horizon"]
    first, last = ~symbol.duplicated(), ~symbol.duplicated(keep="last")
    found = {"gross": position * known, "exposure": position.abs(), "market": known, "round_trip": first * 1.0 + last}
    found["turnover"] = position.groupby(symbol).diff().fillna(position).abs() + position.abs() * last
    found["timing"] = (position - position.groupby(symbol).transform("mean")) * known
    return pd.DataFrame(found).groupby(date).mean(), rows["bar_return"].isna().sum()


def sharpe_figures(net: np.ndarray, trials: int, year: float) -> dict:
    """The Sharpe ratio, its standard error by the delta method (Lo 2002), and what trials leave of it."""
    n, ratio, z = len(net), net.mean() / net.std(ddof=1), (net - net.mean()) / net.std()
    error = standard_error(z - ratio / 2 * (z**2 - 1), min(int(4 * (n / 100) ** (2 / 9)), n - 1)) * math.sqrt(
        n / (n - 1)
    )
    quantiles = stats.norm.ppf([1 - 1 / trials, 1 - 1 / (trials * math.e)]) if trials > 1 else np.zeros(2)
    best = quantiles @ [1 - np.euler_gamma, np.euler_gamma] / math.sqrt(n - 1)
    found = {"sharpe": ratio * math.sqrt(year), "sharpe_se": error * math.sqrt(year), "trials": trials}
    found |= {"psr": stats.norm.cdf(ratio / error), "dsr": stats.norm.cdf((ratio - best) / error)}
    needed = 1 + error**2 * (n - 1) * (stats.norm.ppf(0.95) / ratio) ** 2
    return found | {"min_track_record_length": needed if ratio > 0 else math.nan}


def drawdown(returns: np.ndarray) -> float:
    """Largest fall of the summed returns from an earlier height."""
    curve = np.append(0.0, np.cumsum(returns))
    return (np.maximum.accumulate(curve) - curve).max()


def random_sign_p(timing: np.ndarray, draws: int, seed: int) -> float:
    """Share of books, one coin a date on the timing, that earn as much; coins are the bits of random bytes."""
    n, random, better = len(timing), np.random.default_rng(seed), 1
    for start in range(0, draws, size := max(4_000_000 // n, 1)):
        coins = random.integers(0, 256, (min(size, draws - start), -(-n // 8)), dtype=np.uint8)
        earned = (np.unpackbits(coins, axis=1, count=n) * 2.0 - 1) @ timing
        better += np.sum(earned >= timing.sum() - 1e-12 * abs(timing).sum())
    return better / (1 + draws)


def strategy_figures(rows: pd.DataFrame, about: dict, settings: dict, trials: int) -> dict:
    """Figures of the strategy after costs, beside buying and holding and beside random signs."""
    course, unknown = book(rows, about, settings)
    years, cost = course.groupby(course.index.year).size(), settings["fee_bp"] + settings["half_spread_bp"]
    days = (course.index[-1] - course.index[0]) / pd.Timedelta(days=365.25)
    year = years.iloc[1:-1].median() if len(years) > 2 else (len(course) - 1) / days
    net = (course["gross"] - course["turnover"] * cost / 1e4).to_numpy()
    held = ((course["market"] - course["round_trip"] * cost / 1e4) * course["exposure"].mean()).to_numpy()
    found = {"bars": len(net), "periods_per_year": year, "cost_bp": cost, "unknown_returns": unknown}
    found |= {"gross_annual_return": course["gross"].mean() * year, "net_annual_return": net.mean() * year}
    found |= {"annual_volatility": net.std(ddof=1) * math.sqrt(year), "max_drawdown": drawdown(net)}
    found |= sharpe_figures(net, trials, year) | {"calmar": net.mean() * year / drawdown(net)}
    found |= {"annual_turnover": course["turnover"].mean() * year, "mean_exposure": course["exposure"].mean()}
    found["hit_rate"] = (course["gross"] > 0)[course["exposure"] > 0].mean()
    found["break_even_cost_bp"] = course["gross"].sum() / course["turnover"].sum() * 1e4
    found["random_sign_p"] = random_sign_p(course["timing"].to_numpy(), settings["resamples"], settings["seed"])
    sharpe = held.mean() / held.std(ddof=1) * math.sqrt(year)
    benchmark = {"net_annual_return": held.mean() * year, "sharpe": sharpe, "max_drawdown": drawdown(held)}
    return found | {"buy_and_hold": benchmark}
