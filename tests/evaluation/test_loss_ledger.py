"""Losses stay as they were first seen: a second look changes nothing, more dates go on, damage is named."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.errors import ResourceError
from cnn_lstm.evaluation.loss_ledger import FILE, from_plain, keep, kept_series, series_key, to_plain

WRITE = """
import sys
from pathlib import Path
import numpy as np, pandas as pd
from cnn_lstm.evaluation.loss_ledger import keep
dates = pd.bdate_range("2020-01-01", periods=400).as_unit("us")
frame = pd.DataFrame({"zero": np.random.default_rng(int(sys.argv[2])).normal(size=400)}, index=dates)
for known in range(25, 401, 25):
    keep(Path(sys.argv[1]), "series", sys.argv[2], frame[:known])
    print(known, flush=True)
"""


def frame(rows: int = 40, seed: int = 0, first: str = "2020-01-01") -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(size=(rows, 2))
    values[:3, 1] = np.nan
    dates = pd.DatetimeIndex(pd.bdate_range(first, periods=rows).as_unit("us").to_numpy())
    return pd.DataFrame(values, dates, ["zero", "HAR"])


def run_folder(folder: Path, name: str = "one") -> Path:
    (folder / name).mkdir()
    return folder / name


def test_a_second_look_on_the_same_dates_changes_nothing(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    first = keep(run, "series", "a", frame())
    again = keep(run_folder(tmp_path, "two"), "series", "b", frame(seed=1))
    pd.testing.assert_frame_equal(first, frame())
    pd.testing.assert_frame_equal(again, first)
    assert len((tmp_path / FILE).read_text().splitlines()) == 1


def test_more_dates_go_on_behind_the_last_one(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    keep(run, "series", "a", frame(30))
    longer = keep(run, "series", "b", frame(40, seed=1))
    pd.testing.assert_frame_equal(longer, pd.concat([frame(30), frame(40, seed=1)[30:]]))
    pd.testing.assert_frame_equal(kept_series(tmp_path / FILE, "series"), longer)
    looks = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [(look["model"], len(look["dates"])) for look in looks] == [("a", 30), ("b", 10)]


def test_a_shorter_or_an_earlier_table_adds_nothing(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    keep(run, "series", "a", frame())
    pd.testing.assert_frame_equal(keep(run, "series", "b", frame(10, seed=1)), frame())
    pd.testing.assert_frame_equal(keep(run, "series", "b", frame(10, seed=1, first="2019-01-01")), frame())


def test_a_new_baseline_begins_where_the_series_goes_on(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    keep(run, "series", "a", frame(30)[["zero"]])
    longer = keep(run, "series", "a", frame(40))
    assert longer["HAR"].isna().sum() == 30
    assert longer["HAR"].notna().sum() == 10


def test_series_and_folders_are_apart(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    keep(run, "series", "a", frame())
    pd.testing.assert_frame_equal(keep(run, "other", "a", frame(seed=1)), frame(seed=1))
    elsewhere = run_folder(run_folder(tmp_path, "elsewhere"))
    pd.testing.assert_frame_equal(keep(elsewhere, "series", "a", frame(seed=1)), frame(seed=1))


@pytest.mark.parametrize("torn", ['{"series": "series", "da', "{}", "17", '{"series": "series"}', "\n"])
@pytest.mark.parametrize("end", ["", "\n"], ids=["", "newline"])
def test_a_damaged_line_is_named_and_spoils_no_other(
    tmp_path: Path, torn: str, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_folder(tmp_path)
    keep(run, "series", "a", frame(30))
    with (tmp_path / FILE).open("a") as file:
        file.write(torn + end)
    with caplog.at_level(logging.WARNING):
        longer = keep(run, "series", "a", frame(40))
    pd.testing.assert_frame_equal(longer, frame(40))
    pd.testing.assert_frame_equal(kept_series(tmp_path / FILE, "series"), frame(40))
    assert ("W370" in caplog.text) == bool(torn.strip())


def test_a_flipped_number_does_not_count(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    keep(run, "series", "a", frame(30))
    keep(run, "series", "a", frame(40))
    lines = (tmp_path / FILE).read_text().splitlines()
    lines[1] = lines[1].replace(".1", ".2", 1)
    (tmp_path / FILE).write_text("\n".join(lines) + "\n")
    assert len(kept_series(tmp_path / FILE, "series")) == 30


def test_two_writers_count_each_date_once(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITE, run, str(seed)], stdout=subprocess.DEVNULL) for seed in (1, 2)
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
    dates = [date for line in (tmp_path / FILE).read_text().splitlines() for date in json.loads(line)["dates"]]
    assert len(dates) == len(set(dates)) == 400
    assert len(kept_series(tmp_path / FILE, "series")) == 400


def test_a_killed_writer_loses_no_date_that_it_had_reported(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    with subprocess.Popen([sys.executable, "-c", WRITE, run, "1"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        reported = [int(process.stdout.readline()) for _ in range(4)][-1]
        process.kill()
    before = kept_series(tmp_path / FILE, "series")
    assert len(before) >= reported
    rest = subprocess.run([sys.executable, "-c", WRITE, run, "2"], stdout=subprocess.DEVNULL, timeout=300)
    assert rest.returncode == 0
    after = kept_series(tmp_path / FILE, "series")
    assert len(after) == 400
    pd.testing.assert_frame_equal(after[: len(before)], before)


def test_a_look_is_on_the_disk_with_the_name_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(Path(f"/proc/self/fd/{handle}").readlink()))
    keep(run_folder(tmp_path), "series", "a", frame())
    assert flushed[-2:] == [tmp_path / FILE, tmp_path]


def test_a_ledger_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    (tmp_path / FILE).mkdir()
    with pytest.raises(ResourceError, match="E606"):
        keep(run, "series", "a", frame())


def test_values_come_back_to_the_last_digit() -> None:
    pd.testing.assert_frame_equal(from_plain(to_plain(frame())), frame())


def test_the_key_depends_on_recipe_target_and_first_date() -> None:
    first = pd.Timestamp("2020-01-01")
    given = ({"window": 5, "seed": 1}, "return_1", first)
    others = [({"window": 6, "seed": 1}, *given[1:]), (given[0], "return_2", first)]
    others.append((*given[:2], first + pd.Timedelta(days=1)))
    assert series_key(*given) == series_key({"seed": 1, "window": 5}, "return_1", first)
    assert len({series_key(*given), *(series_key(*other) for other in others)}) == 4
