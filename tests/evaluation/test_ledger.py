"""How often test rows were used: counted over all runs of a folder, whatever a kill left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnn_lstm.bounded import without_checksum
from cnn_lstm.evaluation.json_types import Uses
from cnn_lstm.evaluation.ledger import FILE, count_use, rows_key, uses

APPEND = """
import sys
from pathlib import Path
from cnn_lstm.evaluation.ledger import count_use
for number in range(50):
    count_use(Path(sys.argv[1]), "rows", f"{sys.argv[2]}{number % 5}")
"""


def run_folder(folder: Path, name: str = "one") -> Path:
    run = folder / name
    run.mkdir()
    return run


def test_times_and_different_models_are_counted_over_the_runs_of_a_folder(tmp_path: Path) -> None:
    one, two = run_folder(tmp_path), run_folder(tmp_path, "two")
    assert count_use(one, "rows", "a") == Uses(times=1, models=1)
    assert count_use(one, "rows", "a") == Uses(times=2, models=1)
    assert count_use(two, "rows", "b") == Uses(times=3, models=2)
    assert count_use(two, "rows", "a") == Uses(times=4, models=2)


def test_other_rows_and_other_folders_do_not_count(tmp_path: Path) -> None:
    one, elsewhere = run_folder(tmp_path), run_folder(run_folder(tmp_path, "folder"))
    count_use(one, "rows", "a")
    assert count_use(one, "others", "b") == Uses(times=1, models=1)
    assert count_use(elsewhere, "rows", "b") == Uses(times=1, models=1)


def test_a_line_says_what_was_tested_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_folder(tmp_path)
    monkeypatch.chdir(run)
    before = time.time()
    count_use(Path(), "rows", "a")
    line = without_checksum(json.loads((tmp_path / FILE).read_text()))
    assert before - 0.001 <= line.pop("when") <= time.time() + 0.001
    assert line == {"rows": "rows", "model": "a", "run": "one"}


@pytest.mark.parametrize(
    "torn",
    [
        b'{"rows": "rows", "model": "b", "ru',
        b'{"rows": "rows", "model": "b", "run": "\xc3',
        b"{}",
        b"17",
        b'["rows"]',
        b"\n",
    ],
    ids=["cut_off", "cut_in_a_letter", "nothing_in_it", "number", "list", "empty"],
)
@pytest.mark.parametrize("end", [b"", b"\n"], ids=["", "newline"])
def test_a_torn_line_is_not_counted_and_spoils_no_other(tmp_path: Path, torn: bytes, end: bytes) -> None:
    run = run_folder(tmp_path)
    count_use(run, "rows", "a")
    with (tmp_path / FILE).open("ab") as file:
        file.write(torn + end)
    assert count_use(run, "rows", "c") == Uses(times=2, models=2)
    assert count_use(run, "rows", "d") == Uses(times=3, models=3)


def test_two_processes_lose_no_line(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    processes = [subprocess.Popen([sys.executable, "-c", APPEND, str(run), name]) for name in "ab"]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert uses(tmp_path / FILE, "rows") == Uses(times=100, models=10)
    assert len((tmp_path / FILE).read_bytes().splitlines()) == 100


def test_a_use_is_on_the_disk_with_the_name_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(Path(f"/proc/self/fd/{handle}").readlink()))
    count_use(run_folder(tmp_path), "rows", "a")
    assert flushed == [tmp_path / FILE, tmp_path]


def test_the_key_depends_on_data_dates_and_targets() -> None:
    given = ("abc", "2011-01-03", "2013-02-21", ["return_1"])
    changed = [
        ("abd", *given[1:]),
        ("abc", "2011-01-04", *given[2:]),
        (*given[:2], "2013-02-22", ["return_1"]),
        (*given[:3], ["return_2"]),
        (*given[:3], ["return_1", "return_2"]),
    ]
    assert rows_key(*given) == rows_key(*given)
    assert len({rows_key(*given), *(rows_key(*other) for other in changed)}) == 6
