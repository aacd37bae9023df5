"""Settings of the evaluation: the ends of each range, and their way through JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cnn_lstm.errors import ConfigError
from cnn_lstm.evaluation.settings import Evaluation

RANGES = {
    "season": (1, 1_000_000),
    "fee_bp": (0, 10_000),
    "half_spread_bp": (0, 10_000),
    "trials": (1, 1_000_000_000),
    "level": (1e-6, 0.5),
    "resamples": (100, 1_000_000),
}


@pytest.mark.parametrize(("name", "low", "high"), [(name, *ends) for name, ends in RANGES.items()], ids=list(RANGES))
def test_the_ends_of_a_range_belong_to_it(name: str, low: float, high: float) -> None:
    for value in (low, high):
        settings: dict[str, Any] = {name: value}
        assert getattr(Evaluation(**settings), name) == value
    for value in (low - 1e-7, -1, high + 1e-7 * high, float("nan"), *([0] if low > 0 else [])):
        settings = {name: value}
        with pytest.raises(ConfigError) as caught:
            Evaluation(**settings)
        assert (caught.value.code, caught.value.where) == (224, f"evaluation.{name}")
        assert f"{low:g} to {high:g}" in str(caught.value)


def test_costs_of_a_side_add_up() -> None:
    assert Evaluation().cost_bp == 10.0
    assert Evaluation(fee_bp=1.5, half_spread_bp=0.25).cost_bp == 1.75


def test_the_seasonal_rule_and_the_trials_are_chosen_by_the_package_unless_given() -> None:
    assert (Evaluation().season, Evaluation().trials) == (None, None)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"season": 5, "position": "rank", "fee_bp": 1.0, "half_spread_bp": 2.0, "trials": 7}
        | {"level": 0.01, "resamples": 250, "seed": 3, "spa": {"return_1": 0.25}}
        | {"pbo": {"return_1": 0.5}, "effective_trials": {"return_1": 3.5}},
    ],
    ids=["defaults", "all_given"],
)
def test_plain_values_make_the_same_settings_again(values: dict[str, Any]) -> None:
    settings = Evaluation(**values)
    assert Evaluation(**json.loads(json.dumps(settings.to_plain()))) == settings
    assert set(settings.to_plain()) == {*RANGES, "position", "seed", "spa", "pbo", "effective_trials"}


@pytest.mark.parametrize("p", [-0.01, 1.01, float("nan")])
def test_a_p_value_of_the_choice_lies_between_0_and_1(p: float) -> None:
    with pytest.raises(ConfigError, match=r"E224.*evaluation.spa.return_1"):
        Evaluation(spa={"volatility_5": 0.5, "return_1": p})
