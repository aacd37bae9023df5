"""The verdict where the truth is known: one that can never say yes is worthless, and so is one that says it at will."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn_lstm.runs import processes
from tests.experiments import spec
from tests.validity.controls import (
    null_of,
    null_over_folds,
    oracle,
    planted,
    random_walk,
    signal_of,
    signal_over_folds,
    straight,
    walk,
)

# what a shuffled split feeds on: labels that overlap, and features by which a day is known again
OVERLAPPING: dict[str, Any] = {
    "targets": [spec("cnn_lstm.data.targets.ForwardReturn", horizon=20)],
    "features": ["close", "log_return_60", "log_return_20"],
    "window": 8,
    "batch_size": 16,
}
WALKS = range(3)
# the command line of a fold, its rows shared out at random and nothing purged
SHUFFLED = """
import numpy as np
from cnn_lstm import cli
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.parts import SplitRows
from cnn_lstm.data.windows import labelled
def shuffled(self, split):
    known = self.windows[labelled(self.panel, self.windows)]
    rows = np.array_split(np.random.default_rng(0).permutation(known), split.folds + 2)
    train = np.concatenate(rows[: split.fold + 1])
    parts = [np.sort(part) for part in (train, rows[split.fold + 1], rows[split.fold + 2])]
    return SplitRows(*parts, purged=0, boundaries=split.boundaries(np.unique(self.panel.time)))
MarketDataModule.parts_of = shuffled
cli.script()
"""


def test_a_line_sees_its_share_of_a_straight_market() -> None:
    returns = np.log(straight(0, rows=20_000)["close"]).diff()
    assert returns.corr(returns.shift(-2)) ** 2 == pytest.approx(0.05, abs=0.02)
    assert abs(returns.corr(returns.shift(-1))) < 0.03


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
    found = [null_of(tmp_path / str(seed), seed) for seed in range(30)]
    assert sum(not walk.evidence for walk in found) >= 28
    assert max(walk.r2 for walk in found) < 0.06
    ic = np.array([walk.ic for walk in found])
    # a correlation takes means over the test rows themselves, which favours forecasts of mean reversion by up to 4 / n:
    # Kendall (1954), Note on Bias in the Estimation of Autocorrelation
    bias = 4 / 178
    assert abs(ic.mean()) < 2 * ic.std(ddof=1) / np.sqrt(len(ic)) + bias


@pytest.mark.slow
def test_planted_signals_show_evidence_and_half_of_what_can_be_known(tmp_path: Path) -> None:
    found = [signal_of(tmp_path / str(seed), seed) for seed in range(10)]
    assert sum(one.evidence and one.r2 >= 0.5 * one.oracle_r2 for one in found) >= 8


# -- walk-forward ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_thirty_random_walks_show_no_evidence_over_the_folds(tmp_path: Path) -> None:
    found = [null_over_folds(tmp_path / str(seed), seed) for seed in range(30)]
    assert sum(not one.evidence for one in found) >= 28
    assert max(one.r2 for one in found) < 0.06


@pytest.mark.slow
def test_planted_signals_show_evidence_over_the_folds(tmp_path: Path) -> None:
    found = [signal_over_folds(tmp_path / str(seed), seed) for seed in range(10)]
    assert sum(one.evidence and one.r2 >= 0.5 * one.oracle_r2 for one in found) >= 8


def far_from_null(ic: list[float]) -> bool:
    """Whether correlations on random walks are more than chance: a label of 20 days leaves some 35 that are apart."""
    return bool(np.mean(ic) > 3 / np.sqrt(35 * len(ic)))


@pytest.mark.slow
def test_overlapping_labels_of_random_walks_show_nothing(tmp_path: Path) -> None:
    found = [walk(tmp_path / str(seed), random_walk(seed), seed, **OVERLAPPING) for seed in WALKS]
    assert not any(one.evidence for one in found)
    assert not far_from_null([one.ic for one in found])


@pytest.mark.slow
def test_a_shuffled_split_fails_the_null_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same walks with the mutant of a split: a test that it passed would not see a leak."""
    monkeypatch.setattr(processes, "PROGRAM", [sys.executable, "-c", SHUFFLED])
    found = [walk(tmp_path / str(seed), random_walk(seed), seed, **OVERLAPPING) for seed in WALKS]
    assert far_from_null([one.ic for one in found])
    assert not any(one.evidence for one in found)  # the checks of `test` see it
