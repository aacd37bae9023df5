"""The verdict: evidence of skill, or none, against the best baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cnn_lstm.evaluation.numbers import p_value
from cnn_lstm.evaluation.significance import Comparison, holds_up

EVIDENCE = "EVIDENCE OF SKILL"
NO_EVIDENCE = "NO EVIDENCE OF SKILL"


def verdict(
    loss: str, best: str, comparison: Comparison, level: float, failed_checks: Sequence[str] = ()
) -> dict[str, Any]:
    """Whether a model beats the best of its baselines beyond chance, and why.

    The best baseline is the one with the lowest mean loss on the tested rows themselves, the hardest to beat. Where a
    check for leakage failed there is no evidence, whatever the figures.

    Args:
        loss: Name of the loss.
        best: Name of the best baseline.
        comparison: The model beside it.
        level: Significance level; both tests must be below it, and the 95 % interval of the skill above 0.
        failed_checks: Kinds of leakage that were found.

    Returns:
        evidence, verdict, and reason: one sentence.

    Example:
        >>> found = Comparison(0.9, 1.0, 0.1, (0.02, 0.2), (0.02, 0.2), 2.5, 0.012, 0.014)
        >>> verdict("squared error", "ridge", found, 0.05)["verdict"]
        'EVIDENCE OF SKILL'
        >>> verdict("squared error", "ridge", found, 0.05, ["L3.1 temporal leakage"])["verdict"]
        'NO EVIDENCE OF SKILL'
    """
    evidence = holds_up(comparison, level) and not failed_checks
    word = "below" if comparison.skill > 0 else "above"
    low, high = comparison.skill_interval
    size = f"{abs(comparison.skill):.1%} {word}" if math.isfinite(comparison.skill) else "not comparable with"
    reason = (
        f"{loss} {size} the best baseline, {best}; skill's 95% interval {low:+.3f} to {high:+.3f}; "
        f"Diebold-Mariano p {p_value(comparison.dm_p)}, bootstrap p {p_value(comparison.bootstrap_p)}"
    )
    if failed_checks:
        reason = f"leakage found: {', '.join(failed_checks)}; {reason}"
    return {"evidence": evidence, "verdict": EVIDENCE if evidence else NO_EVIDENCE, "reason": reason}
