"""A few cases of each kind; `make fuzz` runs a thousand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests import experiments
from tests.fuzz import command_lines, configurations, tables
from tests.fuzz.judged import MOST_LETTERS, _faults, fresh
from tests.markets import market

SEED = 7


@pytest.mark.parametrize(
    ("code", "line", "text", "faults"),
    [
        (0, "", "", 0),
        (2, "error[E225]: x", "error[E225]: x", 0),
        (1, "error[E100]: x", "x", 1),
        (11, "", "", 0),  # a verdict of monitor
        (12, "", "", 2),
        (None, "", "", 1),
        (3, "error[E303]: " + "x" * MOST_LETTERS, "", 1),
        (2, "error[E225]: Expected a <class 'int'>", "", 1),
        (2, "warning: functools.partial(f)", "", 2),  # and no error
    ],
)
def test_each_kind_of_fault_is_found(code: int | None, line: str, text: str, faults: int) -> None:
    assert len(list(_faults(code, [line] if line else [], text))) == faults


def test_a_case_is_the_same_again(tmp_path: Path) -> None:
    tree = {"trainer": {"max_epochs": 1}, "data": {"window": 5, "features": ["a", "b"]}}
    changed = [configurations.mutated(tree, random.Random(f"{SEED} {number}")) for number in range(50)]
    again = [configurations.mutated(tree, random.Random(f"{SEED} {number}")) for number in range(50)]
    assert repr(changed) == repr(again)
    assert len({repr(one) for one, _ in changed}) > 20
    assert tree == {"trainer": {"max_epochs": 1}, "data": {"window": 5, "features": ["a", "b"]}}


@pytest.mark.slow
def test_a_few_cases_have_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tree = configurations.base(fresh(tmp_path / "base"))
    outcomes = [configurations.case(number, SEED, tree, tmp_path / "work") for number in range(25)]
    outcomes += [tables.case(number, SEED, tmp_path / "work") for number in range(15)]
    config = experiments.experiment(fresh(tmp_path / "line"), market(140, gaps=False))
    known = command_lines.lines(experiments.fit(config, tmp_path / "run", "--trainer.max_epochs", 1), config)
    outcomes += [command_lines.case(number, SEED, known, tmp_path) for number in range(15)]
    assert [(changed, outcome.faults) for outcome, changed in outcomes if outcome.faults] == []
