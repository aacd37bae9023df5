"""Are the inputs of today like those of the training? Distances of embeddings, and the stability index per feature.

Shapes: n windows, D embedding, N values of a feature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.picks import evenly_spread
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.targets import Floats
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.service.health import Sign

REFERENCE = 2000  # training windows that distances are measured by
FAR = 0.99  # share of the training windows that are nearer than a far one
DATES = 60  # newest dates that are compared with the training
TIMES_USUAL, LEAST_FAR = 2.0, 0.1  # far windows: so many times those of the test, and this share at least
BINS = 10
DRIFTED = 0.25  # the usual limit of the population stability index
MORE = 1.5  # times the largest index of the training: the largest of many is passed now and then
LEAST = 1e-3  # share of an empty bin


@dataclass(frozen=True)
class Distances:
    """How far windows lie from those of the training.

    Attributes:
        date: Each date, (n,), ascending.
        share: Share of the training windows that are nearer than the windows of the date, their mean, (n,).
        far: Share of windows of the newest dates that are farther than 99 % of the training.
        usual: The same of the dates of the test.
    """

    date: pd.DatetimeIndex
    share: Floats
    far: float
    usual: float


def distances(predictor: Predictor, data: MarketData, rows: Rows, end: np.datetime64) -> Distances:
    """Mahalanobis distances of embeddings from the mean of the training windows.

    Args:
        predictor: The model.
        data: Data that are set up.
        rows: Windows of the test and since, (n,).
        end: First moment after the test.

    Source:
        Lee et al. (2018), A Simple Unified Framework for Detecting Out-of-Distribution Samples.
    """
    training = data.parts.train[evenly_spread(len(data.parts.train), REFERENCE)]
    known, asked = (predictor.forecast_and_encode(data.panel, part)[1].numpy() for part in (training, rows))
    known, asked = known.reshape(len(known), -1).astype(np.float64), asked.reshape(len(asked), -1).astype(np.float64)
    centre, metric = known.mean(axis=0), _metric(known)
    usual, away = (np.einsum("nd,de,ne->n", part - centre, metric, part - centre) for part in (known, asked))
    nearer = np.searchsorted(np.sort(usual), away) / len(usual)
    time = data.panel.time[rows]
    by_date = pd.Series(nearer).groupby(time).mean()
    newest = time >= by_date.index[-DATES:][0]
    before = time < end
    far = nearer > FAR
    dates = pd.DatetimeIndex(by_date.index).tz_localize("UTC")
    return Distances(dates, by_date.to_numpy(), _share(far[newest]), _share(far[before & ~newest]))


def _metric(known: Floats) -> Floats:
    """Inverse covariance; a little of the mean variance keeps directions without any from counting most."""
    covariance = np.atleast_2d(np.cov(known, rowvar=False))
    ridge = 1e-3 * (np.trace(covariance) / len(covariance) or 1.0)
    return np.asarray(np.linalg.inv(covariance + ridge * np.eye(len(covariance))))


def _share(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else 0.0


def distance_sign(found: Distances) -> Sign:
    """Whether windows of today are unlike those of the training, more often than in the test."""
    limit = max(TIMES_USUAL * found.usual, LEAST_FAR)
    text = (
        f"{found.far:.0%} of the windows of the last {min(DATES, len(found.date))} dates are farther from the training "
        f"than 99% of its own windows ({found.usual:.0%} in the test)"
    )
    if found.far > limit:
        return Sign("novelty", "watch", f"The inputs are new to the model: {text}.")
    return Sign("novelty", "fine", f"The inputs are like those of the training: {text}.")


def stability_index(reference: Floats, values: Floats, bins: int = BINS) -> float:
    """Population stability index of a feature: how much its distribution has moved over the bins of a reference.

    Args:
        reference: Values of the training, (N,).
        values: Values of today, (n,).
        bins: Bins of equal shares of the reference.

    Returns:
        Sum over the bins of (q - p) ln(q / p), with p and q the shares of reference and values; 0 for equal ones.
        Below 0.1 little has moved, above 0.25 much, by a rule of thumb of credit scoring.

    Source:
        Siddiqi (2006), Credit Risk Scorecards.

    Example:
        >>> random = np.random.default_rng(0)
        >>> training = random.normal(size=5000)
        >>> round(stability_index(training, training), 6), stability_index(training, random.normal(2, 1, 500)) > 1
        (0.0, True)
    """
    return _index(*_binned(reference, bins), values)


def _binned(reference: Floats, bins: int) -> tuple[Floats, Floats]:
    """Inner edges of the bins and the shares of the reference in them; equal edges of a lumpy feature are one."""
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1]))
    return edges, _shares(edges, reference)


def _shares(edges: Floats, values: Floats) -> Floats:
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    shares = np.maximum(counts / len(values), LEAST)
    return np.asarray(shares / shares.sum())


def _index(edges: Floats, p: Floats, values: Floats) -> float:
    q = _shares(edges, values)
    return float(np.sum((q - p) * np.log(q / p)))


@dataclass(frozen=True)
class Stability:
    """How much a feature has moved.

    Attributes:
        feature: Its name.
        index: Stability index of the newest dates against the training rows.
        usual: Largest index of as many dates in a row, within the training: a feature that moves slowly is never like
            the whole of its past.
    """

    feature: str
    index: float
    usual: float

    @property
    def drifted(self) -> bool:
        """Whether it has moved more than the rule of thumb allows, and far more than ever in the training."""
        return self.index > max(DRIFTED, MORE * self.usual)


def stabilities(data: MarketData, rows: Rows) -> list[Stability]:
    """The stability of each feature, over the newest dates.

    Args:
        data: Data that are set up.
        rows: Windows of the test and since, (n,).
    """
    time, train = data.panel.time, data.parts.train
    newest = rows[np.isin(time[rows], np.unique(time[rows])[-DATES:])]
    blocks = np.searchsorted(np.unique(time[train]), time[train]) // DATES
    whole = [block for block in range(blocks.max() + 1) if (blocks == block).sum() * 2 >= len(newest)]
    values, found = data.panel.values.numpy(), []
    for number, name in enumerate(data.recipe.features):
        column = values[:, number].astype(np.float64)
        edges, shares = _binned(column[train], BINS)
        usual = max((_index(edges, shares, column[train[blocks == block]]) for block in whole), default=np.inf)
        found.append(Stability(name, _index(edges, shares, column[newest]), usual))
    return found


def stability_sign(found: list[Stability]) -> Sign:
    """Whether a feature has moved more than ever in the training."""
    moved = sorted((one for one in found if one.drifted), key=lambda one: -one.index)
    if not moved:
        return Sign("features", "fine", "No feature has moved far more than it ever did in the training.")
    named = ", ".join(f"{one.feature} ({one.index:.2f}, at most {one.usual:.2f} in the training)" for one in moved[:3])
    count = f"{len(moved)} of {len(found)} features have moved far"
    return Sign("features", "watch", f"{count} more than ever in the training, by the stability index: {named}.")
