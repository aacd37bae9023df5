"""Metrics of class forecasts: of the chosen classes, and of their probabilities where there are any.

Shapes: n rows, c classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from sklearn import metrics
from statsmodels.stats.contingency_tables import mcnemar

from cnn_lstm.data.targets import Floats

IntArray = NDArray[np.int64]
# of the calibration metrics, with equally many forecasts each
BINS = 15
NAN = float("nan")


def point_metrics(true: ArrayLike, forecast: ArrayLike, classes: int) -> dict[str, Any]:
    """Metrics of the chosen classes; a forecast without probabilities has no others.

    Args:
        true: Class of each row, 0 to `classes` - 1, (n,).
        forecast: Chosen class, (n,).
        classes: Number of classes.

    Returns:
        accuracy; balanced_accuracy: mean recall of the classes that happened; f1: mean over the classes that happened
        or were chosen; mcc: Matthews' correlation, 0 for a constant forecast.
        precision, recall: one number per class; NaN for a class that was never chosen, or never happened.
        confusion: rows of the confusion matrix, [true class][chosen class].

    Example:
        >>> values = point_metrics([0, 0, 1], [0, 1, 1], classes=2)
        >>> values["balanced_accuracy"], values["precision"], values["confusion"]
        (0.75, [1.0, 0.5], [[1, 1], [0, 1]])
    """
    y, f = _classes(true), _classes(forecast)
    labels = list(range(classes))
    precision, recall, _, _ = metrics.precision_recall_fscore_support(y, f, labels=labels, zero_division=np.nan)
    return {
        "accuracy": float((y == f).mean()),
        # the function of scikit-learn warns where a class was chosen that never happened
        "balanced_accuracy": float(np.nanmean(recall)),
        "f1": float(metrics.f1_score(y, f, average="macro")),
        # the function of scikit-learn warns where there is only one class
        "mcc": float(metrics.matthews_corrcoef(y, f)) if len(np.union1d(y, f)) > 1 else 0.0,
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "confusion": metrics.confusion_matrix(y, f, labels=labels).tolist(),
    }


def probability_metrics(true: ArrayLike, probabilities: ArrayLike, prior: ArrayLike) -> dict[str, Any]:
    """Metrics of class probabilities.

    Args:
        true: Class of each row, 0 to c - 1, (n,).
        probabilities: Forecast probability of each class, (n, c).
        prior: Share of each class in the training set, (n, c) or (c,).

    Returns:
        roc_auc, pr_auc: area under the curve of each class against the rest, the precision-recall one as average
        precision, mean over the classes; NaN where a class never happened or nothing else did.
        log_loss; brier: mean of the squared errors added up over the classes, 0 to 2 (Brier 1950);
        brier_skill: 1 - brier / brier of the prior.
        ece: expected calibration error of the chosen class's probability in 15 bins of equal mass;
        reliability: its bins, each with mean confidence, accuracy and number of rows;
        spiegelhalter_p: two-sided p-value that the chosen class's probability is calibrated (Spiegelhalter 1986),
        which takes the rows as independent; NaN where it is undefined.
    """
    y, p = _classes(true), np.asarray(probabilities, dtype=np.float64)
    brier = _brier(y, p)
    brier_prior = _brier(y, np.broadcast_to(np.asarray(prior, dtype=np.float64), p.shape))
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    reliability = reliability_table(right, confidence)
    return {
        "roc_auc": _one_against_rest(metrics.roc_auc_score, y, p),
        "pr_auc": _one_against_rest(metrics.average_precision_score, y, p),
        "log_loss": float(log_losses(y, p).mean()),
        "brier": brier,
        "brier_skill": 1 - brier / brier_prior if brier_prior > 0 else NAN,
        "ece": sum(line["rows"] * abs(line["accuracy"] - line["confidence"]) for line in reliability) / len(y),
        "reliability": reliability,
        "spiegelhalter_p": _spiegelhalter_p(right, confidence),
    }


def log_losses(true: ArrayLike, probabilities: ArrayLike) -> Floats:
    """Log loss of each row: -log of the forecast probability of the class that happened.

    Args:
        true: Class of each row, 0 to c - 1, (n,).
        probabilities: Forecast probability of each class, (n, c).

    Returns:
        Losses, (n,); at most 36, that of a probability of machine precision.

    Example:
        >>> log_losses([1, 0], [[0.5, 0.5], [1.0, 0.0]]).round(4) + 0.0
        array([0.6931, 0.    ])
    """
    y, p = _classes(true), np.asarray(probabilities, dtype=np.float64)
    return -np.log(np.maximum(p[np.arange(len(y)), y], np.finfo(np.float64).eps))


def reliability_table(right: ArrayLike, confidence: ArrayLike) -> list[dict[str, float]]:
    """How often forecasts of about the same confidence were right.

    Equal confidences stay in one bin, whatever the order of the rows, so there may be fewer than 15 bins.

    Args:
        right: Whether each forecast was right, (n,).
        confidence: Probability of the chosen class, (n,).

    Returns:
        One line per bin, by rising confidence: mean confidence, accuracy, number of rows.

    Example:
        >>> reliability_table([True, False], [0.6, 0.6])
        [{'confidence': 0.6, 'accuracy': 0.5, 'rows': 2}]
    """
    confidences = np.asarray(confidence, dtype=np.float64)
    # quantiles by their rank: an interpolated one may be rounded to either side of the value that it equals
    last = np.sort(confidences)[(len(confidences) - 1) * np.arange(1, BINS) // BINS]
    number = np.searchsorted(last, confidences)
    rows = np.bincount(number, minlength=BINS)
    sums = np.bincount(number, weights=confidences, minlength=BINS)
    hits = np.bincount(number, weights=np.asarray(right, dtype=np.float64), minlength=BINS)
    return [
        {"confidence": float(total / count), "accuracy": float(hit / count), "rows": int(count)}
        for total, hit, count in zip(sums, hits, rows, strict=True)
        if count
    ]


def mcnemar_p(true: ArrayLike, forecast: ArrayLike, other: ArrayLike) -> float:
    """Exact two-sided p-value that two class forecasts are right equally often (McNemar 1947).

    It takes the rows as independent, so it is too small where targets overlap or symbols share a date.

    Args:
        true: Class of each row, (n,).
        forecast: Chosen class, (n,).
        other: Chosen class of another forecast of the same rows, (n,).

    Returns:
        The p-value; 1 where both are right and wrong on the same rows.

    Example:
        >>> mcnemar_p([1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0])  # 3 against 0: 2 / 2**3
        0.25
    """
    y = _classes(true)
    right, other_right = _classes(forecast) == y, _classes(other) == y
    table = metrics.confusion_matrix(right, other_right, labels=[False, True])
    return float(mcnemar(table, exact=True).pvalue)


def _classes(values: ArrayLike) -> IntArray:
    return np.asarray(values).astype(np.int64)


def _one_against_rest(area: Any, y: IntArray, p: Floats) -> float:
    happened = np.bincount(y, minlength=p.shape[1]) > 0
    if not happened.all() or len(happened) < 2:
        return NAN
    return float(np.mean([area(y == number, p[:, number]) for number in range(p.shape[1])]))


def _brier(y: IntArray, p: Floats) -> float:
    return float(((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1).mean())


def _spiegelhalter_p(right: NDArray[np.bool_], confidence: Floats) -> float:
    """Z of the Brier score of right or wrong; the same for a class and for its opposite."""
    slope = 1 - 2 * confidence
    variance = (slope**2 * confidence * (1 - confidence)).sum()
    if not variance > 0:
        return NAN
    z = ((right - confidence) * slope).sum() / np.sqrt(variance)
    return float(2 * norm.sf(abs(z)))
