"""The smallest skill that a test could have found: what "no evidence" is worth."""

from __future__ import annotations

import math

from scipy.stats import t as student_t

from cnn_lstm.evaluation.significance import Comparison

POWER = 0.8  # of tests that find the skill


def smallest_skill(comparison: Comparison, divergence: float, level: float) -> float:
    """Skill of a right forecast that the Diebold-Mariano test finds in 8 of 10 such tables.

    A forecast that is right saves, on average, its divergence from the baseline: for the squared error the mean squared
    distance of the two forecasts. The noise of that saving grows with the same distance: the variance of the mean
    difference of losses is c times the divergence, with a c that belongs to the table (its rows, tails, overlaps and
    shared dates) and hardly to the model. So c is taken from the model at hand, whatever its skill: standard error^2 /
    divergence, or / what the model saved, where that is more. A skill s means a saving of s * loss of the baseline. It
    is found with the wanted power if that is z standard errors, z being the sum of the quantiles of Student's t for
    level and power: s * loss = z * sqrt(c * s * loss), hence s = z^2 * c / loss.

    Args:
        comparison: The model against the baseline.
        divergence: Mean of `divergences` on the same rows.
        level: Significance level, two-sided.

    Returns:
        The skill, at most 1; NaN where the two forecasts do not differ, or the test says nothing.

    Source:
        Diebold and Mariano (1995) for the standard error; Cohen (1988), Statistical Power Analysis.

    Example:
        >>> compared = Comparison(1.0, 1.0, 0.0, (-0.1, 0.1), (-0.1, 0.1), 0.0, 1.0, 1.0, 0.0086, rows=538, dates=538)
        >>> round(smallest_skill(compared, divergence=0.01, level=0.05), 3)  # R2 of 1 % is far below what can be seen
        0.058
    """
    error, loss = comparison.standard_error, comparison.loss_baseline
    saving = max(divergence, loss - comparison.loss_model)
    if not (saving > 0 and error > 0 and loss > 0):
        return math.nan
    needed = student_t.ppf(1 - level / 2, comparison.dates - 1) + student_t.ppf(POWER, comparison.dates - 1)
    return min(1.0, float(needed**2 * error**2 / (saving * loss)))
