"""The script that runs cases: what it takes for wrong, on a case made here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.validity.cases import Expected, faults, main

RIGHT = "1,000 rows, symbols: 2\nrc=0\nerror[E303]: no column — a.csv — map it\nrc=3\n"


def test_what_is_right_has_no_fault() -> None:
    expected = Expected(((0, 3), (3,)), (r"[\d,]+ rows", "E303"), ("Traceback",))
    assert list(faults(RIGHT, expected)) == []
    assert list(faults(RIGHT, Expected())) == []


@pytest.mark.parametrize(
    ("output", "expected", "fault"),
    [
        ("Traceback (most recent call last):\nrc=1\n", Expected(), "a bug"),
        ("error[E100]: x\nrc=2\n", Expected(), "a bug"),
        (f"error[E303]: {'x' * 400}\nrc=3\n", Expected(), "413 letters"),
        (RIGHT, Expected(((0,), (2,))), "exit code 3, right: 2"),
        (RIGHT, Expected(((0,),)), "1 expected"),
        (RIGHT, Expected(says=("E304",)), "does not say 'E304'"),
        (RIGHT, Expected(never=("map it",)), "it says 'map it'"),
    ],
)
def test_each_kind_of_fault_is_found(output: str, expected: Expected, fault: str) -> None:
    found = list(faults(output, expected))
    assert len(found) == 1
    assert fault in found[0]


def test_a_case_runs_in_a_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = tmp_path / "99-made-up"
    case.mkdir()
    (case / "run.sh").write_text('cd "$(dirname "$0")"\ntouch out\n$CLI good; echo rc=$?\n$CLI bad; echo rc=$?\n')
    assert main([str(tmp_path), "--cli", "test good ="]) == 1
    assert "WRONG  99-made-up" in capsys.readouterr().out
    assert main([str(tmp_path), "98"]) == 0
    assert [path.name for path in case.iterdir()] == ["run.sh"]
