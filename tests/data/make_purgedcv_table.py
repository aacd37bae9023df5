"""Makes `purgedcv_table.json`, what purgedcv says of small cases: `python -m tests.data.make_purgedcv_table`.

The package is not among the tests' own (`pip install purgedcv==0.1.11`), so its answers are kept.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

FILE = Path(__file__).with_name("purgedcv_table.json")
# rows, groups, test groups, rows of a label, rows that a training row reads before its own
SPLITS = ((60, 6, 2, 1, 0), (60, 6, 2, 3, 4), (48, 4, 2, 2, 3), (50, 5, 3, 1, 2), (80, 8, 1, 5, 0))
# seed, trials, dates, blocks, skill of the first trial in standard deviations
OVERFITS = ((0, 8, 160, 8, 0.0), (1, 10, 163, 10, 0.0), (2, 6, 96, 6, 0.3), (3, 20, 200, 8, 0.0), (4, 4, 64, 16, 0.1))


def gains(seed: int, trials: int, dates: int, skill: float) -> np.ndarray:
    """What each trial gains on each date, (dates, trials)."""
    values: np.ndarray = np.random.default_rng(seed).normal(size=(dates, trials))
    values[:, 0] += skill
    return values


def main() -> None:
    """Writes the table."""
    from purgedcv import (  # type: ignore[import-not-found]  # not among the tests' packages
        CombinatorialPurgedCV,
        probability_of_backtest_overfitting,
    )

    table: dict[str, list[object]] = {"splits": [], "overfits": []}
    for case in SPLITS:
        rows, groups, tested, reach, reads = case
        decision = pd.Series(pd.date_range("2020-01-01", periods=rows, freq="D"))
        split = CombinatorialPurgedCV(
            groups,
            tested,
            prediction_times=decision,
            # its intervals are open at their ends and closed under an embargo, and ours closed: a day more, a day less
            evaluation_times=decision + pd.Timedelta(days=reach + 1),
            embargo=pd.Timedelta(days=reads - 1) if reads else None,
        )
        folds = [[part.tolist() for part in fold] for fold in split.split(np.zeros((rows, 1)))]
        table["splits"].append({"case": case, "folds": folds})
    for overfit in OVERFITS:
        seed, trials, dates, blocks, skill = overfit
        matrix = gains(seed, trials, dates, skill).T
        found = probability_of_backtest_overfitting(matrix, blocks, metric=lambda values: float(values.mean()))
        table["overfits"].append({"case": overfit, "pbo": found.pbo, "combinations": found.n_combos})
    FILE.write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
