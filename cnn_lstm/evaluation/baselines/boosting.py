"""Gradient-boosted trees on the last row and a few summaries of the window; needs the optional LightGBM.

Shapes: n rows, F features, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.targets import Floats, Target
from cnn_lstm.evaluation.baselines.baseline_inputs import BaselineInputs, Columns, Spread, class_columns

MAX_WINDOWS = 100_000
ROUNDS = 500
PATIENCE = 30
PARAMETERS = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.7,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    # LightGBM's threads spin while they wait: next to another process, two take forty times as long as one
    "num_threads": 1,
    "verbosity": -1,
}


@dataclass(frozen=True)
class Boosting:
    """Boosted trees of all targets.

    Attributes:
        inputs: What the baseline is fitted on.
        trees: The LightGBM booster of each target.
        spreads: For each target what its labels were standardised by where symbols have scales of their own; None
            elsewhere.
    """

    inputs: BaselineInputs
    trees: list[Any]
    spreads: list[Spread | None]

    def forecast(self, rows: Rows) -> list[Columns]:
        """For each target `y_gbm`, and `gbm_p0`.. for classes, each (n,)."""
        values = summaries(self.inputs, rows)
        columns: list[Columns] = []
        parts = zip(self.inputs.targets, self.trees, self.spreads, strict=True)
        for k, (target, trees, spread) in enumerate(parts):
            output = np.asarray(trees.predict(values, num_threads=PARAMETERS["num_threads"]), dtype=np.float64)
            if target.classes:
                columns.append(class_columns("gbm", output))
                continue
            if spread is not None:
                output = spread.original(output, rows)
            columns.append({"y_gbm": output + self.inputs.base(rows, k)})
        return columns


def installed() -> bool:
    """Whether LightGBM is there: `pip install cnn-lstm[gbm]`."""
    return find_spec("lightgbm") is not None


def fit_boosting(inputs: BaselineInputs) -> Boosting:
    """Fits each target on at most 100,000 training windows, evenly spaced, and stops early on validation rows.

    Levels are fitted as changes from the last value: trees cannot leave the range of their labels.

    Source:
        Ke et al. (2017), LightGBM: A Highly Efficient Gradient Boosting Decision Tree.
    """
    parts = [inputs.train(MAX_WINDOWS), inputs.validation(MAX_WINDOWS)]
    values = [summaries(inputs, rows) for rows in parts]
    spreads = [_spread(inputs, k, target, parts[0]) for k, target in enumerate(inputs.targets)]
    trees = [_fit(inputs, k, parts, values, spread) for k, spread in enumerate(spreads)]
    return Boosting(inputs, trees, spreads)


def _spread(inputs: BaselineInputs, k: int, target: Target, train: Rows) -> Spread | None:
    if target.classes or not len(inputs.statistics.codes):
        return None
    labels = inputs.labels(train, k) - inputs.base(train, k)
    known = np.isfinite(labels)
    return inputs.spread(labels[known], train[known])


def _fit(inputs: BaselineInputs, k: int, parts: list[Rows], values: list[Floats], spread: Spread | None) -> Any:
    import lightgbm

    target = inputs.targets[k]

    of_classes = {"objective": "multiclass", "num_class": target.classes}
    parameters = PARAMETERS | (of_classes if target.classes else {"objective": "regression"})
    sets = []
    for rows, part in zip(parts, values, strict=True):
        labels = inputs.labels(rows, k) - inputs.base(rows, k)
        if spread is not None:
            labels = spread.standardised(labels, rows)
        known = np.isfinite(labels)
        sets.append((part[known], labels[known]))
    train = lightgbm.Dataset(*sets[0], params=parameters)
    held_out = lightgbm.Dataset(*sets[1], reference=train, params=parameters)
    return lightgbm.train(
        parameters,
        train,
        num_boost_round=ROUNDS,
        valid_sets=[held_out],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )


def summaries(inputs: BaselineInputs, rows: Rows) -> Floats:
    """Last value, mean, standard deviation and last minus first of each standardised feature, (n, 4F)."""
    width = inputs.panel.values.shape[1]
    parts = [torch.zeros(0, 4 * width)]
    for windows in inputs.window_chunks(rows):
        last, deviation = windows[:, -1], windows.std(dim=1, unbiased=False)
        parts.append(torch.cat([last, windows.mean(dim=1), deviation, last - windows[:, 0]], dim=1))
    return torch.cat(parts).double().numpy()
