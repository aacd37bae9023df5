"""What a report says of the sweep that chose its model."""

from __future__ import annotations

from typing import Any

import pytest

from cnn_lstm.errors import ConfigError
from cnn_lstm.evaluation.metrics.sharpe import expected_best_sharpe
from cnn_lstm.evaluation.plain_language import selection_sentence, strategy_sentences
from cnn_lstm.evaluation.report import evaluate
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.evaluation.text import render_report
from tests.evaluation.tables import predictions_table

TARGET = "return_1"


@pytest.fixture(scope="module")
def reports() -> tuple[Any, Any]:
    """The same forecasts, without and with what a sweep has said."""
    table = predictions_table()
    table.attrs["trials"] = 20
    plain = evaluate(table)
    table.attrs["settings"] |= {"pbo": {TARGET: 0.43}, "effective_trials": {TARGET: 6.7, "another": 2.0}}
    return plain, evaluate(table)


def test_the_sharpe_ratio_is_deflated_by_both_numbers(reports: tuple[Any, Any]) -> None:
    plain, chosen = (report["targets"][TARGET] for report in reports)
    assert chosen["selection"] == {"trials": 20, "spa_p": None, "pbo": 0.43, "effective_trials": 6.7}
    added = {"effective_trials": 6.7, "dsr_effective": chosen["strategy"]["dsr_effective"]}
    assert chosen["strategy"] == plain["strategy"] | added
    assert chosen["strategy"]["dsr"] < chosen["strategy"]["dsr_effective"] < chosen["strategy"]["psr"]
    other = {name: value for name, value in chosen.items() if name not in ("selection", "strategy")}
    assert other == {name: plain[name] for name in other}


def test_it_is_said_in_words(reports: tuple[Any, Any]) -> None:
    plain, chosen = (report["targets"][TARGET] for report in reports)
    assert selection_sentence(plain) == ""
    assert "PBO 0.43" in selection_sentence(chosen)
    assert "6.7 independent ones" in selection_sentence(chosen)
    assert any("6.7 independent ones" in sentence for sentence in strategy_sentences(chosen["strategy"]))
    assert "of 6.7 independent ones" in render_report(reports[1])
    assert "independent ones" not in render_report(reports[0])


@pytest.mark.parametrize(("name", "value"), [("pbo", 1.1), ("pbo", -0.1), ("effective_trials", 0.9)])
def test_impossible_values_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"E224.*evaluation.{name}.return_1"):
        Evaluation(**{name: {TARGET: value}})  # type: ignore[arg-type]  # each name has a type of its own


def test_the_expected_best_of_a_part_of_a_trial_more_is_not_below_zero() -> None:
    best = [expected_best_sharpe(count, 1.0) for count in (1, 1.1, 1.5, 2, 2.5, 3)]
    assert best[0] == 0
    assert best == sorted(best)
