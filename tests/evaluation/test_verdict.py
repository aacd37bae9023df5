"""The verdict: each condition alone denies it, and its reason says what was found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cnn_lstm.evaluation.json_types import Verdict
from cnn_lstm.evaluation.significance import Comparison
from cnn_lstm.evaluation.verdict import hardest, verdict

NAN = float("nan")
BETTER = Comparison(
    loss_model=0.9,
    loss_baseline=1.0,
    skill=0.1,
    skill_interval=(0.02, 0.2),
    difference_interval=(0.02, 0.2),
    dm_statistic=2.5,
    dm_p=0.012,
    bootstrap_p=0.0004,
)


def judged(level: float = 0.05, failed: tuple[str, ...] = (), **changed: Any) -> Verdict:
    return verdict("QLIKE", "HAR", replace(BETTER, **changed), level, failed)


def test_evidence_where_all_conditions_hold() -> None:
    assert judged() == {
        "evidence": True,
        "verdict": "EVIDENCE OF SKILL",
        "reason": "QLIKE 10.0% below the best baseline, HAR; skill's 95% interval +0.020 to +0.200; "
        "Diebold-Mariano p 0.012, bootstrap p <0.001",
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"dm_statistic": -2.5},
        {"dm_statistic": 0.0},
        {"dm_p": 0.05},
        {"bootstrap_p": 0.05},
        {"skill_interval": (0.0, 0.2)},
        {"skill_interval": (-0.001, 0.2)},
        {"dm_statistic": NAN},
        {"dm_p": NAN},
        {"bootstrap_p": NAN},
        {"skill_interval": (NAN, NAN)},
        {"failed": ("L3.1 temporal leakage",)},
        {"level": 0.012},
        {"level": 0.0004},
    ],
    ids=lambda changed: "-".join(f"{name}_{value}" for name, value in changed.items()),
)
def test_each_condition_alone_denies_it(changed: dict[str, Any]) -> None:
    result = judged(**changed)
    assert (result["evidence"], result["verdict"]) == (False, "NO EVIDENCE OF SKILL")


def test_the_reason_of_a_worse_model_says_by_how_much_its_loss_is_above() -> None:
    result = judged(skill=-0.352, skill_interval=(-0.749, -0.08), dm_p=0.0564, bootstrap_p=0.0495)
    assert result["reason"] == (
        "QLIKE 35.2% above the best baseline, HAR; skill's 95% interval -0.749 to -0.080; "
        "Diebold-Mariano p 0.056, bootstrap p 0.050"  # rounded
    )


def test_small_p_values_keep_their_digits() -> None:
    reason = judged(dm_p=0.001, bootstrap_p=0.00099)["reason"]
    assert reason.endswith("Diebold-Mariano p 0.001, bootstrap p <0.001")


def test_leakage_stands_first_in_the_reason() -> None:
    reason = judged(failed=("leakage found: L1.1, L3.1", "too few dates"))["reason"]
    assert reason == f"leakage found: L1.1, L3.1; too few dates; {judged()['reason']}"


def test_an_unusual_level_stands_in_the_reason() -> None:
    assert judged(level=0.5)["reason"].endswith("; level 0.5")
    assert "level" not in judged()["reason"]


def test_equal_losses_and_losses_without_a_ratio_have_their_own_words() -> None:
    assert "QLIKE equal to that of the best baseline" in judged(skill=0.0)["reason"]
    assert "not comparable with the best baseline" in judged(skill=float("nan"))["reason"]


def test_fewer_rows_stand_in_the_reason() -> None:
    fewer = replace(BETTER, rows=2573)
    reason = verdict("QLIKE", "HAR", fewer, 0.05, rows=3720)["reason"]
    assert reason == f"{judged()['reason']}; on the 2,573 of 3,720 rows that it knows"
    assert "rows" not in verdict("QLIKE", "HAR", fewer, 0.05, rows=2573)["reason"]


# -- the best baseline -------------------------------------------------------------------------------------------------


def best(**baselines: tuple[float, float, float]) -> str:
    """The hardest of baselines, each given as skill, loss and share of the rows."""
    skill, loss, share = ({name: values[k] for name, values in baselines.items()} for k in range(3))
    return hardest(skill, loss, share)


def test_the_hardest_baseline_is_the_one_with_the_least_skill_over_it() -> None:
    assert best(zero=(0.2, 1.0, 1.0), ridge=(0.1, 0.9, 1.0)) == "ridge"
    # a low loss on easy rows is not a high skill
    assert best(zero=(0.2, 0.1, 0.9), ridge=(0.1, 0.9, 1.0)) == "ridge"
    assert best(zero=(0.1, 1.0, 1.0), ridge=(0.1, 0.9, 1.0)) == "ridge"  # equal skill: the lower loss


def test_half_of_the_rows_are_enough() -> None:
    assert best(zero=(0.2, 1.0, 1.0), own=(-0.5, 0.9, 0.5)) == "own"
    assert best(zero=(0.2, 1.0, 1.0), own=(-0.5, 0.9, 0.499)) == "zero"
    assert best(other=(0.2, 1.0, 0.3), own=(-0.5, 0.9, 0.1)) == "own"  # where none knows more


def test_a_baseline_without_a_loss_is_hardest_and_one_of_unknown_loss_never() -> None:
    assert best(zero=(NAN, 0.0, 1.0), ridge=(-3.0, 0.9, 1.0)) == "zero"
    assert best(zero=(NAN, NAN, 1.0), ridge=(0.5, 0.9, 1.0)) == "ridge"
    assert best(zero=(0.1, NAN, 1.0), ridge=(0.5, 0.9, 1.0)) == "ridge"
