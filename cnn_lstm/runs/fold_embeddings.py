"""Embeddings of all folds of a walk-forward, raw, and in the axes of the first fold.

Networks that were initialised and trained apart have axes of their own: what `e0` means in one, another one spreads
over all its numbers. Each fold's embeddings are therefore mapped to those of the fold before, by the windows that both
can read: the validation windows of a fold lie in the test part of the fold before. They are past when the test part of
the fold begins, and no label is used.

Shapes: n windows, D embedding.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cnn_lstm.data.parts import SplitRows
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.targets import Floats
from cnn_lstm.data.windows import Panel
from cnn_lstm.hints import counted
from cnn_lstm.inference.predictor import Predictor

log = logging.getLogger(__name__)
RIDGE = 1e-3  # of the mean variance of a number of the embedding


@dataclass(frozen=True)
class Alignment:
    """A linear map of embeddings into other axes.

    Attributes:
        centre: Mean of the embeddings that it was made of, (D,).
        matrix: What the distance from it is multiplied by, (D, D).
        target: Mean of the embeddings that it leads to, (D,).
        shared: Share of their variance that it reaches: 1 where the two networks say the same, about 0 where they have
            nothing in common.
    """

    centre: Floats
    matrix: Floats
    target: Floats
    shared: float

    def apply(self, values: Floats) -> Floats:
        """Embeddings in the other axes, (n, D) both."""
        return np.asarray((values - self.centre) @ self.matrix + self.target)


def align(values: Floats, reference: Floats) -> Alignment:
    """The linear map of embeddings to others of the same windows, by ridge regression.

    A rotation alone (orthogonal Procrustes) follows the directions of the largest variance, which two networks need not
    share; the regression finds what they share wherever it lies.

    Args:
        values: Embeddings, (n, D), at least one.
        reference: What they are mapped to, (n, D).

    Example:
        >>> random = np.random.default_rng(0)
        >>> values = random.normal(size=(50, 3))
        >>> turned = 2 * values @ np.linalg.qr(random.normal(size=(3, 3)))[0] + 1
        >>> align(values, turned).shared > 0.999
        True
    """
    centre, target = values.mean(axis=0), reference.mean(axis=0)
    own, theirs = values - centre, reference - target
    products = own.T @ own
    ridge = RIDGE * max(float(np.trace(products)) / len(products), np.finfo(np.float64).eps)
    matrix = np.linalg.solve(products + ridge * np.eye(len(products)), own.T @ theirs)
    wanted = float((theirs**2).sum())
    shared = 1 - float(((theirs - own @ matrix) ** 2).sum()) / wanted if wanted > 0 else 0.0
    return Alignment(centre, matrix, target, shared)


@dataclass(frozen=True)
class _Fold:
    """Embeddings of a fold in the axes of the first one, (n, D), with their panel rows, (n,)."""

    rows: Rows
    aligned: Floats


def fold_embeddings(folds: Iterable[tuple[Predictor, SplitRows]], panel: Panel) -> pd.DataFrame:
    """Embeddings of each fold's test windows by the checkpoint of that fold.

    Args:
        folds: Checkpoint and parts of each fold, in the order of time.
        panel: The rows of all.

    Returns:
        Sorted by symbol and date: `symbol`, `as_of`, `fold`; `e0` ... `e{D-1}`, in the axes of each fold's network;
        `a0` ... `a{D-1}`, in those of the first fold's network. The latter are NaN from a fold on that has no
        validation window in the test part of the fold before, as with a long embargo.
    """
    tables, before = [], None
    for fold, (predictor, parts) in enumerate(folds):
        table = predictor.encode_rows(panel, parts.test)
        table.insert(2, "fold", fold)
        raw = _values(table)
        aligned = raw if before is None else _aligned(raw, predictor, parts.validation, before, panel, fold)
        names = [f"a{number}" for number in range(raw.shape[1])]
        tables.append(pd.concat([table, pd.DataFrame(aligned.astype(np.float32), columns=names)], axis=1))
        before = _Fold(parts.test, aligned)
    return pd.concat(tables).sort_values(["symbol", "as_of"], ignore_index=True)


def _aligned(raw: Floats, predictor: Predictor, known: Rows, before: _Fold, panel: Panel, fold: int) -> Floats:
    """Embeddings of a fold in the axes of the first one, (n, D), by windows that the fold before has encoded too."""
    common, _, at = np.intersect1d(known, before.rows, assume_unique=True, return_indices=True)
    if not len(common) or np.isnan(before.aligned).any():
        log.warning("fold %d: no window to align the embeddings by, a0 ... are empty from here on", fold)
        return np.full_like(raw, np.nan)
    alignment = align(_values(predictor.encode_rows(panel, common)), before.aligned[at])
    log.info(
        "fold %d: embeddings aligned by %s, %.0f%% of the variance is shared",
        fold,
        counted(len(common), "window"),
        100 * alignment.shared,
    )
    return alignment.apply(raw)


def _values(table: pd.DataFrame) -> Floats:
    """The columns e0 ... of a table of embeddings, (n, D)."""
    return table.filter(regex=r"^e\d+$").to_numpy(np.float64)
