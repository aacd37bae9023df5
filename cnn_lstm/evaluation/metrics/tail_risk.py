"""Whether the lower tail of return forecasts keeps its promises: tests of value at risk and expected shortfall.

The position of a row is one unit held long over the label. Its value at risk of a level, such as 5 %, is minus the
forecast quantile of that level, and a return below the quantile is a breach. Its expected shortfall is minus the
forecast mean below the quantile.

Labels that overlap are not independent, so of a target of h steps every h-th row of a symbol is tested, from its first
one on. Returns of one date go together, so each symbol is tested by itself. The p-values of several symbols are merged
as twice their mean, which is a p-value whatever the dependence between them (Vovk and Wang 2020, Combining p-values via
averaging).

Shapes: n rows, one per forecast.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc

from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.json_types import TailRisk
from cnn_lstm.evaluation.metrics.book import mean_or_nan
from cnn_lstm.evaluation.metrics.heads import Head, read_head
from cnn_lstm.evaluation.metrics.intervals import coverage_ratio, independence_ratio
from cnn_lstm.model.objectives.quantiles import quantile_name

LEVELS = (0.01, 0.05)
DRAWS = 2_000_000  # random numbers at a time, which bounds the memory of the simulation


@dataclass(frozen=True)
class _Tail:
    """Truth, forecast quantile, forecast mean below it and distribution of some rows, (n,) each; None if not known."""

    true: Floats
    quantile: Floats
    lower_mean: Floats | None = None
    head: Head | None = None

    def take(self, rows: NDArray[np.int64]) -> _Tail:
        mean, head = self.lower_mean, self.head
        return _Tail(
            self.true[rows],
            self.quantile[rows],
            None if mean is None else mean[rows],
            None if head is None else head.take(rows),
        )


def tail_risk(rows: pd.DataFrame, horizon: int, draws: int = 1000, seed: int = 0) -> dict[str, TailRisk]:
    """Tests of the lower tail at 1 % and 5 %, those levels that the forecasts give.

    Args:
        rows: Rows of a return target in a predictions table: symbol, as_of, y_true, and the columns of a distribution
            (see `read_head`) or of quantiles, `q01` and `q05`.
        horizon: Rows that a label spans.
        draws: Simulated samples of the test of the expected shortfall.
        seed: Seed of the samples.

    Returns:
        For each level in percent: rows, symbols, breaches, breach_rate; kupiec_p (number of breaches, Kupiec 1995),
        independence_p (a breach is as likely after a breach as after none) and conditional_p (both together,
        Christoffersen 1998), shortfall_z2 and shortfall_p, see `shortfall_test`; the mean of z2 over symbols. NaN
        where there is no value: quantiles alone have no expected shortfall.

    Example:
        >>> time = pd.date_range("2024-01-01", periods=200, tz="UTC")
        >>> rows = pd.DataFrame({"symbol": "A", "as_of": time, "y_true": np.tile([-1.7, 1.0, 0.0, 0.5], 50)})
        >>> tested = tail_risk(rows.assign(y_pred=0.0, std=1.0), horizon=1)
        >>> tested["5"]["breaches"], tested["5"]["kupiec_p"] < 1e-9, tested["1"]["breaches"]
        (50, True, 0)
    """
    rows = _apart(rows, horizon)
    symbol = np.asarray(pd.factorize(rows["symbol"])[0], dtype=np.int64)
    each = [np.flatnonzero(symbol == number) for number in range(int(symbol.max(initial=-1)) + 1)]
    return {f"{100 * level:g}": _tests(tail, each, level, draws, seed) for level, tail in _tails(rows)}


def shortfall_test(
    true: Floats,
    quantile: Floats,
    lower_mean: Floats,
    head: Head,
    level: float,
    *,
    draws: int = 1000,
    seed: int | Sequence[int] = 0,
) -> tuple[float, float]:
    """Second test of Acerbi and Szekely (2014), Backtesting Expected Shortfall, of value at risk and shortfall jointly.

    Z2 = 1 - sum of the returns of breaches / (n level lower mean), which is 0 on average where the forecasts are right,
    and below 0 where breaches are too many or too large. Its distribution is simulated from the forecasts, with
    independent rows.

    Args:
        true: Returns, (n,).
        quantile: Forecast quantile, (n,).
        lower_mean: Forecast mean below it, (n,), below 0.
        head: The forecast distributions.
        level: Level of the quantile.
        draws: Simulated samples.
        seed: Seed of the samples.

    Returns:
        Z2, and the share of samples whose Z2 is at most as large; the data count as one more sample.

    Example:
        >>> from cnn_lstm.evaluation.metrics.heads import NormalHead
        >>> head = NormalHead(np.zeros(400), np.ones(400))
        >>> true = head.quantile((np.arange(400) + 0.5) / 400)  # exactly what was forecast
        >>> z2, p = shortfall_test(true, head.quantile(0.05), head.lower_mean(0.05), head, 0.05)
        >>> round(z2, 2), 0.3 < p < 0.7
        (0.0, True)
    """
    count = len(true)
    weight = 1 / (count * level * lower_mean)
    z2 = 1 - float(np.sum(np.where(true < quantile, true * weight, 0.0)))
    random, lower = np.random.default_rng(seed), 0
    size = max(DRAWS // count, 1)
    for start in range(0, draws, size):
        samples = min(size, draws - start)
        share = random.random((samples, count))
        sample, row = np.nonzero(share < level)  # only what lies below the quantile counts
        values = head.take(row).quantile(share[sample, row]) * weight[row]
        simulated = 1 - np.bincount(sample, weights=values, minlength=samples)
        lower += int(np.sum(simulated <= z2))
    return z2, (1 + lower) / (1 + draws)


def merged_p(values: Sequence[float]) -> float:
    """One p-value of several that may depend on each other in any way: twice their mean; NaN is left out.

    Example:
        >>> merged_p([0.03]), merged_p([0.01, 0.03]), merged_p([0.5, 0.9])
        (0.03, 0.04, 1.0)
    """
    known = [value for value in values if not math.isnan(value)]
    if len(known) < 2:
        return known[0] if known else math.nan
    return min(1.0, 2 * math.fsum(known) / len(known))


def _apart(rows: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """Every horizon-th row of each symbol, by date, whose labels do not overlap."""
    rows = rows.sort_values(["symbol", "as_of"], ignore_index=True)
    return rows[rows.groupby("symbol").cumcount() % horizon == 0].reset_index(drop=True)


def _tails(rows: pd.DataFrame) -> Iterator[tuple[float, _Tail]]:
    """Level and tail, for each level that the columns give."""
    true, head = rows["y_true"].to_numpy(np.float64), read_head(rows)
    for level in LEVELS:
        if head is not None:
            yield level, _Tail(true, head.quantile(level), head.lower_mean(level), head)
        elif quantile_name(level) in rows and rows[quantile_name(level)].notna().all():
            yield level, _Tail(true, rows[quantile_name(level)].to_numpy(np.float64))


def _tests(tail: _Tail, each: list[NDArray[np.int64]], level: float, draws: int, seed: int) -> TailRisk:
    """The tests of all symbols, whose rows are `each`, merged."""
    tested = [_of_symbol(tail.take(rows), level, draws, [seed, number]) for number, rows in enumerate(each)]
    breached = tail.true < tail.quantile
    z2 = [test["shortfall_z2"] for test in tested if not math.isnan(test["shortfall_z2"])]
    return {
        "rows": len(tail.true),
        "symbols": len(each),
        "breaches": int(breached.sum()),
        "breach_rate": mean_or_nan(breached),
        "kupiec_p": merged_p([test["kupiec_p"] for test in tested]),
        "independence_p": merged_p([test["independence_p"] for test in tested]),
        "conditional_p": merged_p([test["conditional_p"] for test in tested]),
        "shortfall_z2": mean_or_nan(np.array(z2)),
        "shortfall_p": merged_p([test["shortfall_p"] for test in tested]),
    }


def _of_symbol(tail: _Tail, level: float, draws: int, seed: Sequence[int]) -> dict[str, float]:
    """The tests of one symbol, whose rows are in the order of their dates."""
    breached, number = tail.true < tail.quantile, np.arange(len(tail.true))
    coverage = coverage_ratio(int(breached.sum()), len(breached), 1 - level)
    independence = independence_ratio(breached, np.zeros(len(breached)), number)
    z2, p = math.nan, math.nan
    # a mean at or above 0 below the quantile is a promise of gains, which Z2 cannot weigh
    if tail.lower_mean is not None and tail.head is not None and bool((tail.lower_mean < 0).all()):
        z2, p = shortfall_test(tail.true, tail.quantile, tail.lower_mean, tail.head, level, draws=draws, seed=seed)
    return {
        "kupiec_p": float(chdtrc(1, coverage)),
        "independence_p": float(chdtrc(1, independence)),
        "conditional_p": float(chdtrc(2, coverage + independence)),
        "shortfall_z2": z2,
        "shortfall_p": p,
    }
