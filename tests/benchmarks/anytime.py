"""How often monthly looks find skill, where there is none and where there is: python -m tests.benchmarks.anytime.

1,500 simulated days, looked at every 21 days; the first success counts. Three kinds of series without skill: two
forecasters whose expected losses are equal. Four kinds with a gain of 3 % in QLIKE: the model knows the variance, the
baseline is off by a factor whose size makes its expected loss 1 / 0.97 of the model's. The e-process is next to the
test of Diebold and Mariano: a two-sided p-value below 5 % in favour of the model, which is what the verdict asks for,
and a one-sided one, each by looks; then the two-sided one by a single look at the end. Goals of the e-process: at most
5 % without skill, at least 80 % with it. The gain of 3 % is a larger share of the noise in the first two kinds than on
realised variances or with heavy tails, where the goal is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.special import digamma

from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.anytime import THRESHOLD, confidence_sequence, e_process
from cnn_lstm.evaluation.formatting import aligned
from cnn_lstm.evaluation.metrics.errors import qlike
from cnn_lstm.evaluation.significance import diebold_mariano
from cnn_lstm.evaluation.verdict import dates_needed

DAYS, MONTH, GAIN, LEVEL, POWER = 1500, 21, 0.03, 0.05, 0.8
WARM_UP = 300
HORIZON = 5
HEAVY = 6.0  # degrees of freedom


@dataclass(frozen=True)
class Kind:
    """One kind of series.

    Attributes:
        name: What it is.
        differences: Loss of the baseline - loss of the model, (DAYS,), by a generator.
        horizon: Steps that a target spans.
        skill: Whether the model is better.
    """

    name: str
    differences: Callable[[Generator], Floats]
    horizon: int = 1
    skill: bool = False


@dataclass(frozen=True)
class Found:
    """What one path led to: whether each method found skill, and whether the sequence always held the true mean."""

    e_process: bool
    two_sided: bool
    one_sided: bool
    two_sided_once: bool
    covered: bool


def autoregressive(random: Generator, phi: float, rows: int) -> Floats:
    """A standard normal series whose neighbours correlate by `phi`, (rows,)."""
    values = np.empty(rows)
    values[0] = random.normal()
    noise = random.normal(scale=np.sqrt(1 - phi**2), size=rows)
    for row in range(1, rows):
        values[row] = phi * values[row - 1] + noise[row]
    return values


def shocks(random: Generator, tails: float) -> Floats:
    """Shocks of variance 1, (WARM_UP + DAYS,): normal, or with the tails of Student's t with so many degrees."""
    if np.isinf(tails):
        return random.normal(size=WARM_UP + DAYS)
    return np.asarray(random.standard_t(tails, WARM_UP + DAYS) * np.sqrt((tails - 2) / tails))


def garch(random: Generator, tails: float) -> tuple[Floats, Floats]:
    """Variances of a GARCH(1, 1), and squared returns, (DAYS,)."""
    shock = shocks(random, tails)
    variance = np.ones(len(shock))
    for row in range(1, len(shock)):
        variance[row] = 0.03 + variance[row - 1] * (0.08 * shock[row - 1] ** 2 + 0.89)
    return variance[WARM_UP:], (variance * shock**2)[WARM_UP:]


def loss_of_truth(tails: float) -> float:
    """QLIKE of the true variance on squared returns: the mean of x - log x - 1, where x is a squared shock."""
    logarithm = digamma(0.5) + np.log(2)
    if np.isfinite(tails):  # x (tails / (tails - 2)) has an F distribution with 1 and `tails` degrees of freedom
        logarithm = digamma(0.5) - digamma(tails / 2) + np.log(tails - 2)
    return float(-logarithm)


def equal_errors(random: Generator) -> Floats:
    """Squared errors of two forecasts with independent errors of the same size."""
    truth, one, other = random.normal(size=(3, DAYS))
    return np.asarray((truth - 0.3 * one) ** 2 - (truth - 0.3 * other) ** 2)


def equal_qlike(random: Generator) -> Floats:
    """QLIKE of two variance forecasts that are off by independent factors of the same size; GARCH returns."""
    variance, squares = garch(random, HEAVY)
    one, other = np.exp(0.3 * random.normal(size=(2, DAYS)))
    return np.asarray(qlike(squares, variance * one) - qlike(squares, variance * other))


def equal_sums(random: Generator) -> Floats:
    """Squared errors of two forecasts of the sum of five days, which are such sums too: neighbours share four days."""
    days = random.normal(size=(3, DAYS + HORIZON - 1)) * np.array([[1.0], [0.3], [0.3]])
    truth, one, other = (np.convolve(row, np.ones(HORIZON), mode="valid") for row in days)
    return np.asarray((truth - one) ** 2 - (truth - other) ** 2)


def gain(noise: Floats, squares: Floats, variance: Floats, loss: float) -> Floats:
    """QLIKE differences of a baseline whose forecast is off by exp(size noise), so that the gain is GAIN.

    With noise of a standard normal distribution and a forecast of variance exp(size noise + size^2 / 2) the expected
    loss is size^2 / 2 above that of the variance itself, which is `loss`.
    """
    size = np.sqrt(2 * loss * GAIN / (1 - GAIN))
    return np.asarray(qlike(squares, variance * np.exp(size * noise + size**2 / 2)) - qlike(squares, variance))


def daily_gain(random: Generator, tails: float = np.inf) -> Floats:
    """Squared returns; the baseline's error is new every day."""
    variance, squares = garch(random, tails)
    return gain(random.normal(size=DAYS), squares, variance, loss_of_truth(tails))


def lasting_gain(random: Generator) -> Floats:
    """Squared returns; the baseline is off in the same direction for weeks."""
    variance, squares = garch(random, np.inf)
    return gain(autoregressive(random, 0.95, DAYS), squares, variance, loss_of_truth(np.inf))


def heavy_gain(random: Generator) -> Floats:
    """Squared returns with heavy tails; the baseline's error is new every day."""
    return daily_gain(random, HEAVY)


def realised_gain(random: Generator) -> Floats:
    """Realised variances, lognormal around the variance, with a loss a tenth as large as that of squared returns."""
    spread = 0.5
    variance = np.exp(0.8 * autoregressive(random, 0.97, DAYS))
    measured = variance * np.exp(spread * random.normal(size=DAYS) - spread**2 / 2)
    return gain(random.normal(size=DAYS), measured, variance, spread**2 / 2)


NULLS = (
    Kind("equal errors, independent days", equal_errors),
    Kind("equal QLIKE, GARCH returns", equal_qlike),
    Kind("equal errors, five-day sums", equal_sums, HORIZON),
)
SKILLS = (
    Kind("3 % QLIKE gain, GARCH returns", daily_gain, skill=True),
    Kind("the same, errors that last for weeks", lasting_gain, skill=True),
    Kind("the same, on realised variances", realised_gain, skill=True),
    Kind("the same, on returns with heavy tails", heavy_gain, skill=True),
)


def look(series: Floats, kind: Kind) -> Found:
    """Looks at a series every month until each method has found skill, or the days are over."""
    looks = [day for day in range(MONTH, DAYS + 1, MONTH) if day >= dates_needed(kind.horizon)]
    wealth = e_process(series, kind.horizon)
    tests = [diebold_mariano(series[:day], kind.horizon) for day in (*looks, DAYS)]
    better = [p if statistic > 0 else 1.0 for statistic, p in tests]
    sequence = confidence_sequence(series, kind.horizon, LEVEL, at=[day - 1 for day in looks])
    return Found(
        e_process=bool((wealth[[day - 1 for day in looks]] >= THRESHOLD).any()),
        two_sided=min(better) < LEVEL,
        one_sided=min(better) < 2 * LEVEL,
        two_sided_once=better[-1] < LEVEL,
        covered=kind.skill or bool(((sequence.low <= 0) & (sequence.high >= 0)).all()),
    )


def shares(kind: Kind, paths: int, seed: int = 0) -> dict[str, float]:
    """Share of the paths on which each method finds skill, and on which the sequence holds the mean all the time."""
    found = [look(kind.differences(np.random.default_rng([seed, path])), kind) for path in range(paths)]
    return {name: float(np.mean([getattr(one, name) for one in found])) for name in Found.__annotations__}


def reached(kind: Kind, share: float) -> bool:
    """Whether the e-process reaches its goal."""
    return share >= POWER if kind.skill else share <= LEVEL


def main() -> int:
    """Prints the table; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paths", type=int, default=400, help="Series of each kind.")
    paths = parser.parse_args().paths
    lines = [["found skill", "e-process", "goal", "DM two-sided", "DM one-sided", "DM, one look", "sequence holds"]]
    missed = False
    for kind in (*NULLS, *SKILLS):
        found = shares(kind, paths)
        missed |= not reached(kind, found["e_process"])
        cells = {name: f"{share:.1%}" for name, share in found.items()}
        cells["covered"] = "" if kind.skill else cells["covered"]
        lines.append(
            [kind.name, cells.pop("e_process"), f">= {POWER:.0%}" if kind.skill else f"<= {LEVEL:.0%}", *cells.values()]
        )
        print(aligned(lines[-1:]), flush=True)
    print(f"\n{paths} paths of {DAYS} days of each kind, looked at every {MONTH} days\n{aligned(lines, left=1)}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
