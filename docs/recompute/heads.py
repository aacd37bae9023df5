"""The distribution that a model's own head forecasts: its name, distribution, quantile, mean below it, and CRPS."""

import itertools

import numpy as np
import pandas as pd
from scipy import integrate, special, stats


def gap(end: float, df: float, skew: float) -> float:
    """CRPS by its definition, the integral of the squared gap between distribution and truth, of a unit scale."""

    def squared(z: float) -> float:
        if z < 0:
            return ((1 - skew) * special.stdtr(df, z / (1 - skew)) - (z > end)) ** 2
        return ((z < end) - (1 + skew) * special.stdtr(df, -z / (1 + skew))) ** 2

    ends = [-np.inf, min(end, 0.0), max(end, 0.0), np.inf]
    return sum(integrate.quad(squared, *pair, epsabs=1e-13, epsrel=1e-12)[0] for pair in itertools.pairwise(ends))


def two_halves(mean: np.ndarray, std: np.ndarray, df: np.ndarray, skew: np.ndarray) -> tuple:
    """Hansen (1994): two halves of a t distribution, of different widths, at a mode."""
    c = special.gamma((df + 1) / 2) / np.sqrt(np.pi * (df - 2)) / special.gamma(df / 2)
    a = 4 * skew * c * (df - 2) / (df - 1)
    b = np.sqrt(1 + 3 * skew**2 - a**2)
    wide, low, high = std / b * np.sqrt(1 - 2 / df), 1 - skew, 1 + skew
    mode, half = mean - std * a / b, stats.t(df)

    def cdf(x: np.ndarray) -> np.ndarray:
        z = (x - mode) / wide
        return np.where(z < 0, low * half.cdf(z / low), (1 - skew) / 2 + high * (half.cdf(z / high) - 0.5))

    def quantile(u: np.ndarray) -> np.ndarray:
        left, right = half.ppf(np.minimum(u / low, 0.5)), half.isf(np.minimum((1 - u) / high, 0.5))
        return mode + wide * np.where(u < low / 2, low * left, high * right)

    def below(u: float) -> np.ndarray:
        end = (quantile(u) - mode) / wide
        ends = np.minimum(end, 0) / low, np.maximum(end, 0) / high, np.zeros(len(end))
        left, right, centre = (-(df + z**2) / (df - 1) * half.pdf(z) for z in ends)  # integral of z up to the end
        return mode + wide * (low**2 * left + high**2 * (right - centre)) / u

    def crps(y: np.ndarray) -> np.ndarray:
        return wide * np.array([gap(*row) for row in zip((y - mode) / wide, df, skew, strict=True)])

    return "skewed Student's t" if skew.any() else "Student's t", cdf, quantile, below, crps


def normals(weight: np.ndarray, mean: np.ndarray, std: np.ndarray) -> tuple:
    """Mixture of normal distributions, (n, k) each."""

    def cdf(x: np.ndarray) -> np.ndarray:
        return (weight * stats.norm.cdf(x[:, None], mean, std)).sum(axis=1)

    def quantile(u: np.ndarray) -> np.ndarray:
        each = mean + std * special.ndtri(u * np.ones(len(mean)))[:, None]
        low, high = each.min(axis=1), each.max(axis=1)
        for _ in range(60):
            below = cdf((low + high) / 2) < u
            low, high = np.where(below, (low + high) / 2, low), np.where(below, high, (low + high) / 2)
        return (low + high) / 2

    def below(u: float) -> np.ndarray:
        end = (quantile(u)[:, None] - mean) / std
        return (weight * (mean * stats.norm.cdf(end) - std * stats.norm.pdf(end))).sum(axis=1) / u

    def distance(m: np.ndarray, s: np.ndarray) -> np.ndarray:
        return m * (1 - 2 * stats.norm.cdf(-m / s)) + 2 * s * stats.norm.pdf(m / s)  # E|X| of a normal X

    def crps(y: np.ndarray) -> np.ndarray:
        apart = mean[:, :, None] - mean[:, None, :]
        pairs = distance(apart, np.sqrt(std[:, :, None] ** 2 + std[:, None, :] ** 2))
        error = distance(mean - y[:, None], std)
        return (weight * error).sum(axis=1) - 0.5 * np.einsum("ni,nj,nij->n", weight, weight, pairs)

    return "normal mixture" if mean.shape[1] > 1 else "normal", cdf, quantile, below, crps


def head(rows: pd.DataFrame) -> tuple | None:
    """The head's distribution of each row; None without one."""
    count = sum(str(name).startswith("weight_") for name in rows)
    if count:
        return normals(*(rows[[f"{n}_{k}" for k in range(count)]].to_numpy() for n in ("weight", "mean", "std")))
    if "std" not in rows or rows["std"].isna().any():
        return None
    mean, std = rows["y_pred"].to_numpy(), rows["std"].to_numpy()
    if "df" not in rows:
        return normals(np.ones((len(rows), 1)), mean[:, None], std[:, None])
    skew = rows["skew"].to_numpy() if "skew" in rows else np.zeros(len(rows))
    return two_halves(mean, std, rows["df"].to_numpy(), skew)
