"""Mean and spread over seeds, against the standard library and cases that can be counted by hand."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest

from cnn_lstm.evaluation.seed_spread import metrics_of, render_seed_spread, seed_spread


def report(loss: float, zero: float = 1.0, ridge: float = 2.0, **metrics: Any) -> Any:
    """What a report says of one target, as far as a spread reads it."""
    compared = {
        name: {"loss_model": loss, "loss_baseline": baseline, "skill": 1 - loss / baseline}
        for name, baseline in (("zero", zero), ("ridge", ridge))
    }
    forecasts = {"model": metrics, "zero": {"mae": 1.0}}
    target = {"loss": "mse", "best_baseline": "zero", "forecasts": forecasts, "comparisons": compared}
    return {"targets": {"return_1": target}}


def over(*reports: Any, ensemble: Any = None) -> Any:
    return seed_spread(dict(enumerate(reports)), ensemble)["return_1"]


def test_mean_and_spread_are_those_of_the_standard_library() -> None:
    losses = [0.7, 0.9, 0.8, 1.1, 0.6]
    result = over(*(report(loss, mae=loss**2) for loss in losses))
    for name, values in (("mse", losses), ("mae", [loss**2 for loss in losses])):
        spread = result["figures"][name]
        assert spread["mean"] == pytest.approx(statistics.mean(values))
        assert spread["std"] == pytest.approx(statistics.stdev(values))
        assert (spread["min"], spread["max"], spread["values"]) == (min(values), max(values), values)
    skill = [1 - loss for loss in losses]
    assert result["skill"]["mean"] == pytest.approx(statistics.mean(skill))
    wanted = statistics.mean(skill) - 2 * statistics.stdev(skill) / 5**0.5
    assert result["skill"]["lower_end"] == pytest.approx(wanted)


@pytest.mark.parametrize(("losses", "claim"), [((0.98, 0.99, 0.97), True), ((0.98, 1.06, 0.7), False)])
def test_a_claim_needs_a_lower_end_above_zero(losses: tuple[float, ...], claim: bool) -> None:
    result = over(*(report(loss) for loss in losses))
    assert result["skill"]["mean"] > 0
    assert result["claim"] is claim


def test_no_skill_at_all_is_no_claim() -> None:
    result = over(report(1.0), report(1.0), report(1.0))
    assert result["skill"]["lower_end"] == 0
    assert result["claim"] is False


def test_the_best_baseline_is_the_same_for_all_seeds() -> None:
    """Zero is the best of two seeds; over all of them ridge is."""
    result = over(report(0.5, 1.0, 1.1), report(0.5, 1.0, 1.1), report(0.5, 3.0, 1.0))
    assert result["best_baseline"] == "ridge"
    assert result["skill"]["values"] == pytest.approx([1 - 0.5 / 1.1, 1 - 0.5 / 1.1, 0.5])


def test_a_baseline_without_a_loss_is_never_the_best() -> None:
    for zero in (None, math.nan):
        cases = [report(0.5, ridge=2.0) for _ in range(2)]
        for case in cases:
            case["targets"]["return_1"]["comparisons"]["zero"]["loss_baseline"] = zero
        assert over(*cases)["best_baseline"] == "ridge"


def test_a_baseline_that_knows_few_rows_is_never_the_best_and_the_models_loss_is_that_of_all_rows() -> None:
    cases = [report(0.5, 1.0, 0.6) for _ in range(2)]
    for case in cases:
        target = case["targets"]["return_1"]
        target |= {"rows": 100, "loss_model": 0.55}
        target["comparisons"]["zero"]["rows"] = 100
        target["comparisons"]["ridge"]["rows"] = 49
    result = over(*cases)
    assert result["best_baseline"] == "zero"
    assert result["figures"]["mse"]["mean"] == 0.55
    assert result["skills"]["ridge"]["mean"] == pytest.approx(1 - 0.5 / 0.6)
    for case in cases:
        case["targets"]["return_1"]["comparisons"]["ridge"]["rows"] = 50
    assert over(*cases)["best_baseline"] == "ridge"


@pytest.mark.parametrize(("losses", "better"), [((1.1, 1.2, 1.3), 0), ((0.9, 1.2, 1.0), 1), ((0.9, 0.8, 0.7), 3)])
def test_the_baseline_is_ranked_among_the_seeds(losses: tuple[float, ...], better: int) -> None:
    result = over(*(report(loss) for loss in losses))
    assert (result["better"], result["rank"], result["places"]) == (better, better + 1, 4)


def test_one_seed_has_no_spread() -> None:
    result = over(report(0.1))
    assert math.isnan(result["figures"]["mse"]["std"])
    assert math.isnan(result["skill"]["lower_end"])
    assert result["claim"] is False
    assert "one seed has no spread" in render_seed_spread({"return_1": result})


def test_a_metric_that_one_seed_lacks_has_no_mean() -> None:
    result = over(report(0.5, r2=0.1), report(0.5, r2=None))
    assert math.isnan(result["figures"]["r2"]["mean"])
    assert result["figures"]["mse"]["mean"] == 0.5


def test_only_numbers_count_as_metrics() -> None:
    given = report(0.5, rows=3, skewed=True, label="x", curve=[1.0])
    assert set(metrics_of(given)["return_1"].model) == {"mse", "rows"}


def test_the_ensemble_stands_next_to_the_seeds_and_counts_nowhere() -> None:
    reports = [report(0.9), report(0.8)]
    alone, with_ensemble = over(*reports), over(*reports, ensemble=report(0.1))
    ensemble = with_ensemble.pop("ensemble")
    assert with_ensemble == alone
    assert ensemble["figures"]["mse"] == 0.1
    assert ensemble["skill"] == pytest.approx(0.9)


def test_seeds_are_in_order() -> None:
    assert seed_spread({9: report(0.9), 2: report(0.2)})["return_1"]["figures"]["mse"]["values"] == [0.2, 0.9]


def test_the_table_shows_each_metric_aligned() -> None:
    reports = [report(loss, mae=loss / 100) for loss in (0.7, 0.8, 0.9)]
    text = render_seed_spread(seed_spread(dict(enumerate(reports)), report(0.6, mae=0.5)))
    lines = text.splitlines()
    assert lines[0] == "return_1, seeds: 3"
    assert lines[1].split() == ["mean", "std", "min", "max", "ensemble"]
    assert lines[2].split() == ["mse", "0.8000", "0.1000", "0.7000", "0.9000", "0.6000"]
    assert lines[4].split() == ["skill", "over", "zero", "0.2000", "0.1000", "0.1000", "0.3000", "0.4000"]
    assert lines[5].split() == ["skill", "over", "ridge", "0.6000", "0.05000", "0.5500", "0.6500", "0.7000"]
    assert len({len(line) for line in lines[1:6]}) == 1
    assert lines[6] == "CLAIM HOLDS OVER SEEDS: lower end of the skill, mean - 2 std / sqrt(3): 0.08453"
    assert lines[7] == "zero ranks 4 of 4 among the seeds, 3 of them with a lower mse"
