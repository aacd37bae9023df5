"""The verdict: evidence of skill, or none, against the best baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cnn_lstm.evaluation.formatting import p_value
from cnn_lstm.evaluation.record import Verdict
from cnn_lstm.evaluation.significance import Comparison, holds_up

EVIDENCE = "EVIDENCE OF SKILL"
NO_EVIDENCE = "NO EVIDENCE OF SKILL"
USUAL_LEVEL = 0.05


def verdict(loss: str, best: str, comparison: Comparison, level: float, objections: Sequence[str] = ()) -> Verdict:
    """Whether a model beats the best of its baselines by more than chance, and why.

    The best baseline is the one with the lowest mean loss on the tested rows themselves, the hardest to beat.

    Args:
        loss: Name of the loss.
        best: Name of the best baseline.
        comparison: The model compared with it.
        level: Significance level; both tests must be below it, and the 95 % interval of the skill above 0.
        objections: What rules out evidence whatever the metrics are, such as leakage.

    Returns:
        Whether there is evidence, the verdict, and the reason in one sentence.

    Example:
        >>> comparison = Comparison(0.9, 1.0, 0.1, (0.02, 0.2), (0.02, 0.2), 2.5, 0.012, 0.014)
        >>> verdict("squared error", "ridge", comparison, 0.05)["verdict"]
        'EVIDENCE OF SKILL'
        >>> verdict("squared error", "ridge", comparison, 0.05, ["leakage found: L3.1"])["verdict"]
        'NO EVIDENCE OF SKILL'
    """
    evidence = holds_up(comparison, level) and not objections
    low, high = comparison.skill_interval
    size = "not comparable with"
    if math.isfinite(comparison.skill):
        word = "below" if comparison.skill > 0 else "above"
        size = f"{abs(comparison.skill):.1%} {word}" if comparison.skill else "equal to that of"
    reason = (
        f"{loss} {size} the best baseline, {best}; skill's 95% interval {low:+.3f} to {high:+.3f}; "
        f"Diebold-Mariano p {p_value(comparison.dm_p)}, bootstrap p {p_value(comparison.bootstrap_p)}"
    )
    if level != USUAL_LEVEL:
        reason += f"; level {level:g}"
    reason = "; ".join([*objections, reason])
    return {"evidence": evidence, "verdict": EVIDENCE if evidence else NO_EVIDENCE, "reason": reason}
