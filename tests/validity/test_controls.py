"""The verdict where the truth is known: one that can never say yes is worthless, and so is one that says it at will."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.validity.controls import judge, oracle, planted, random_walk


def test_a_line_sees_nothing_of_the_planted_signal() -> None:
    """The best forecast explains what was planted; yesterday's return, alone or squared, explains nothing."""
    table = planted(0, rows=20_000)
    returns = np.log(table["close"]).groupby(table["symbol"]).diff()
    ahead = returns.groupby(table["symbol"]).shift(-2)
    assert oracle(table).corr(ahead) ** 2 == pytest.approx(0.3, abs=0.07)
    for known in (returns, returns.groupby(table["symbol"]).shift(), returns**2, returns.abs()):
        assert abs(known.corr(ahead)) < 0.03


@pytest.mark.slow
def test_thirty_random_walks_show_no_evidence(tmp_path: Path) -> None:
    found = [judge(tmp_path / str(seed), random_walk(seed), seed) for seed in range(30)]
    assert sum(not walk.evidence for walk in found) >= 28
    assert max(walk.r2 for walk in found) < 0.06
    ic = np.array([walk.ic for walk in found])
    # a correlation takes means over the test rows themselves, which favours forecasts of mean reversion by up to 4 / n:
    # Kendall (1954), Note on Bias in the Estimation of Autocorrelation
    bias = 4 / 178
    assert abs(ic.mean()) < 2 * ic.std(ddof=1) / np.sqrt(len(ic)) + bias


@pytest.mark.slow
def test_planted_signals_show_evidence_and_half_of_what_can_be_known(tmp_path: Path) -> None:
    found = [judge(tmp_path / str(seed), planted(seed), seed, window=20) for seed in range(10)]
    assert sum(one.evidence and one.r2 >= 0.5 * one.oracle_r2 for one in found) >= 8
