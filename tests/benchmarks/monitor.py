"""How often `cnn-lstm monitor` says stale in calm years, and how soon after a planted break.

Run it with `python -m tests.benchmarks.monitor [paths]`. The forecasters are simulated, without a network: what is
measured is the rule of `cnn_lstm.service.health` on losses and misses of markets whose truth is known. Each path has a
test of 500 dates, then a year of 250 calm dates with a look on every one, or 60 and 250 dates after a break.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np

from cnn_lstm.data.targets import Floats
from cnn_lstm.service.health import Course, Health, coverage_sign, health, loss_sign

TEST, YEAR, AFTER = 500, 250, 60
SIGNAL = 0.5  # standard deviations of the noise that a model knows: 20 % of the variance
MARKETS = {"returns": 1, "overlapping returns": 5, "volatility": 1}  # and their horizons
BREAKS = {
    "returns": ("reversed relation", "vanished relation", "biased forecast", "wilder noise"),
    "overlapping returns": ("reversed relation",),
    "volatility": ("unseen level", "noisier forecast"),
}


@dataclass(frozen=True)
class Path:
    """Lead over the baseline, and whether the 90 % interval missed, on each date."""

    lead: Floats
    missed: Floats

    def health(self, horizon: int, test: int = TEST) -> Health:
        """What the rule says at the end of the path; alarms that have recovered count too, see `alarmed`."""
        lead, missed = (Course.of(values[:test], values[test:]) for values in (self.lead, self.missed))
        return health([loss_sign(lead, horizon, "zero"), coverage_sign(missed, horizon)])


def alarmed(found: Health) -> bool:
    """Whether any look on the way said stale."""
    sums = [sign.detection for sign in found.signs if sign.detection is not None]
    return any(bool((one.statistic > one.threshold).any()) for one in sums)


def simulate(market: str, dates: int, seed: int, kind: str = "", start: int = TEST) -> Path:
    """A path of a market, with a break of a kind from a date on."""
    random = np.random.default_rng(seed)
    if market == "volatility":
        return _volatility(random, dates, kind, start)
    return _returns(random, dates, MARKETS[market], kind, start)


def _noise(random: np.random.Generator, dates: int) -> tuple[Floats, Floats]:
    """Heavy-tailed noise of GARCH volatility, and that volatility."""
    noise = random.standard_t(6, dates + 300) * np.sqrt(4 / 6)
    variance, returns, sizes = 1.0, np.empty(dates + 300), np.empty(dates + 300)
    for date, shock in enumerate(noise):
        sizes[date] = np.sqrt(variance)
        returns[date] = sizes[date] * shock
        variance = 0.03 + 0.07 * returns[date] ** 2 + 0.9 * variance
    return returns[300:], sizes[300:]


def _returns(random: np.random.Generator, dates: int, horizon: int, kind: str, start: int) -> Path:
    """Returns of which a model knows a part; its intervals follow the volatility of the last month."""
    more = dates + horizon - 1
    noise, size = _noise(random, more)
    after = np.arange(more) >= start
    if kind == "wilder noise":
        noise = np.where(after, 2 * noise, noise)
    signal = SIGNAL * size * random.standard_normal(more)
    share = np.where(after, {"reversed relation": -1.0, "vanished relation": 0.0}.get(kind, 1.0), 1.0)
    known = signal + np.where(after & (kind == "biased forecast"), size, 0.0)
    daily, forecast = share * signal + noise, known
    scale = np.sqrt(_recent(noise**2, horizon))
    true, expected = (_sums(values, horizon) for values in (daily, forecast))
    width = 1.69 * np.sqrt(horizon) * (size if kind == "wilder noise" else scale)[: len(true)]
    return Path(true**2 - (true - expected) ** 2, (np.abs(true - expected) > width).astype(np.float64))


def _volatility(random: np.random.Generator, dates: int, kind: str, start: int) -> Path:
    """Variances that a model knows but for noise, against the last value smoothed; the loss is QLIKE."""
    _, size = _noise(random, dates)
    after = np.arange(dates) >= start
    realised = size**2 * random.chisquare(20, dates) / 20
    realised = np.where(after & (kind == "unseen level"), 3 * realised, realised)
    error = np.where(after & (kind == "noisier forecast"), 0.8, 0.15) * random.standard_normal(dates)
    forecast, naive = size**2 * np.exp(error), _recent(realised, 1, 0.2)
    surprise = np.log(realised / forecast)
    lead = _qlike(realised, naive) - _qlike(realised, forecast)
    return Path(lead, (np.abs(surprise) > 0.58).astype(np.float64))


def _qlike(variance: Floats, forecast: Floats) -> Floats:
    return np.asarray(variance / forecast - np.log(variance / forecast) - 1)


def _recent(values: Floats, delay: int, weight: float = 0.06) -> Floats:
    """Weighted mean of the values before each date, as far as they are known then."""
    mean, means = float(values[:50].mean()), np.empty(len(values))
    for date in range(len(values)):
        means[date] = mean
        if date + 1 >= delay:
            mean += weight * (values[date + 1 - delay] - mean)
    return means


def _sums(values: Floats, horizon: int) -> Floats:
    return np.convolve(values, np.ones(horizon), mode="valid")


def calm(market: str, paths: int, first: int = 0) -> float:
    """Share of calm years in which any look said stale."""
    years = (simulate(market, TEST + YEAR, seed) for seed in range(first, first + paths))
    return float(np.mean([alarmed(year.health(MARKETS[market])) for year in years]))


def caught(market: str, kind: str, paths: int, after: int = AFTER, first: int = 10_000) -> float:
    """Share of breaks that were called stale within so many dates."""
    broken = (simulate(market, TEST + after, seed, kind) for seed in range(first, first + paths))
    return float(np.mean([alarmed(path.health(MARKETS[market])) for path in broken]))


def main() -> None:
    """Prints both shares for each market."""
    paths = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(f"{paths} paths each; a test of {TEST} dates, looks on every date")
    for market in MARKETS:
        began = time.process_time()
        print(f"{market}, calm year: stale in {calm(market, paths):.1%}", flush=True)
        for kind in BREAKS[market]:
            shares = [caught(market, kind, max(paths // 2, 1), after) for after in (AFTER, YEAR)]
            within = ", ".join(
                f"{share:.0%} within {after}" for share, after in zip(shares, (AFTER, YEAR), strict=True)
            )
            print(f"{market}, {kind}: stale in {within} dates", flush=True)
        print(f"  {time.process_time() - began:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
