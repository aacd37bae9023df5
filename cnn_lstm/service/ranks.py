"""Has the forecast distribution drifted? Where truths rank in it, in service and in the test.

Shapes: m ranks of the test, n in service.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import kstwobign

from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.formatting import p_value
from cnn_lstm.service.health import Sign

LEVEL = 0.001  # of a soft sign that is looked at every evening
NEWEST = 250  # dates in service that count
FEWEST = 30  # dates


def rank_sign(test: Floats, service: Floats, horizon: int, symbols: int, name: str = "PIT") -> Sign:
    """Whether truths rank elsewhere than in the test, by the distance of Kolmogorov and Smirnov.

    Symbols of a date and labels that overlap say much the same, so the test counts dates that do not overlap.

    Args:
        test: Probability integral transforms, (m,).
        service: The same in service, in any order of the symbols within a date, (n,).
        horizon: Steps that a label spans.
        symbols: Forecasts a date.
        name: What the sign is called.

    Example:
        >>> even = np.random.default_rng(0).permutation((np.arange(500) + 0.5) / 500)
        >>> rank_sign(even, even, 1, 1).verdict, rank_sign(even, even**3, 1, 1).verdict
        ('fine', 'watch')
    """
    test, service = test[~np.isnan(test)], service[~np.isnan(service)][-NEWEST * symbols :]
    counts = [len(part) / symbols / horizon for part in (test, service)]
    if min(counts) < FEWEST:
        return Sign(name, "fine", "Too few labels have ended to compare the forecast distributions.")
    grid = np.sort(np.concatenate([test, service]))
    shares = [np.searchsorted(np.sort(part), grid, side="right") / len(part) for part in (test, service)]
    gaps = shares[1] - shares[0]
    distance = float(np.abs(gaps).max())
    p = float(kstwobign.sf(distance * np.sqrt(counts[0] * counts[1] / sum(counts))))
    text = f"truths rank up to {distance:.0%} elsewhere in the forecast distribution than in the test (p {p_value(p)})"
    if p < LEVEL:
        return Sign(name, "watch", f"The forecast distribution has drifted: {text}.")
    return Sign(name, "fine", f"The forecast distribution holds: {text}.")
