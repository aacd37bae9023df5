"""Tests of value at risk and expected shortfall: Kupiec, Christoffersen, Acerbi and Szekely."""

import numpy as np
import pandas as pd
from recompute.heads import head
from scipy import special, stats

DRAWS = 2_000_000  # random numbers at a time


def log_likelihood(hits: float, misses: float) -> float:
    """Of independent misses, at their own rate."""
    rate = misses / max(hits + misses, 1)
    return special.xlogy(hits, 1 - rate) + special.xlogy(misses, rate)


def shortfall(rows: pd.DataFrame, level: float, draws: int, seed: list) -> tuple:
    """Z2 of Acerbi and Szekely (2014), and the share of simulated samples that are not above it."""
    _, _, quantile, below, _ = head(rows)
    y, n = rows["y_true"].to_numpy(), len(rows)
    promised, var = n * level * below(level), quantile(level)
    z2 = 1 - (np.where(y < var, y, 0.0) / promised).sum()
    random, simulated = np.random.default_rng(seed), []
    while len(simulated) < draws:
        uniform = random.random((min(max(DRAWS // n, 1), draws - len(simulated)), n))
        drawn, hit = np.zeros(uniform.shape), uniform < level
        drawn[hit] = head(rows.iloc[np.nonzero(hit)[1]])[2](uniform[hit])
        simulated += (1 - (drawn / promised).sum(axis=1)).tolist()
    return z2, (1 + sum(value <= z2 for value in simulated)) / (1 + draws)


def one_symbol(rows: pd.DataFrame, low: pd.Series, level: float, settings: dict, number: int) -> dict:
    """All tests of one symbol's rows, in the order of their dates."""
    missed = rows["y_true"] < low[rows.index]
    before = missed.shift()
    pairs = [[(before.eq(a) & missed.eq(b)).sum() for b in (False, True)] for a in (False, True)]
    hits, misses = (~missed).sum(), missed.sum()
    promised = special.xlogy(hits, 1 - level) + special.xlogy(misses, level)
    coverage = max(2 * (log_likelihood(hits, misses) - promised), 0.0)
    same = log_likelihood(*(pairs[0][b] + pairs[1][b] for b in (0, 1)))
    clusters = max(2 * (sum(log_likelihood(*pair) for pair in pairs) - same), 0.0)
    found = {"kupiec_p": stats.chi2.sf(coverage, 1), "independence_p": stats.chi2.sf(clusters, 1)}
    found |= {"conditional_p": stats.chi2.sf(coverage + clusters, 2), "shortfall_z2": np.nan, "shortfall_p": np.nan}
    known = head(rows)
    if known and (known[3](level) < 0).all():
        z2, p = shortfall(rows, level, settings["resamples"], [settings["seed"], number])
        found |= {"shortfall_z2": z2, "shortfall_p": p}
    return found


def tail_risk(rows: pd.DataFrame, about: dict, settings: dict) -> dict:
    """Each level that the forecasts give; every horizon-th row of a symbol, p-values as twice their mean."""
    rows, report = rows[rows.groupby("symbol").cumcount() % about["horizon"] == 0], {}
    for level, name in ((0.01, "q01"), (0.05, "q05")):
        if head(rows) is None and name not in rows:
            continue
        low = rows[name] if head(rows) is None else pd.Series(head(rows)[2](level), rows.index)
        parts = enumerate(part for _, part in rows.groupby("symbol"))
        each = pd.DataFrame([one_symbol(part, low, level, settings, number) for number, part in parts])
        missed = rows["y_true"] < low
        found = {"rows": len(rows), "symbols": len(each), "breaches": missed.sum(), "breach_rate": missed.mean()}
        merged = each.mean() if len(each) == 1 else (2 * each.mean()).clip(upper=1.0)
        report[f"{100 * level:g}"] = found | merged.to_dict() | {"shortfall_z2": each["shortfall_z2"].mean()}
    return report
