"""Files of a model in service that a stranger has made: one line or a warning, and nothing of the machine is taken."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cnn_lstm.data.stored_tables import write_table
from cnn_lstm.errors import DataError
from cnn_lstm.evaluation import loss_ledger
from cnn_lstm.evaluation.foreign.files import read_forecast_file
from cnn_lstm.files import write_json_whole
from cnn_lstm.locks import holder_of
from cnn_lstm.service.contest import Contest, Decision
from cnn_lstm.service.live import LIVE, read_live
from cnn_lstm.service.monitor import FILE, FORMAT, _history
from cnn_lstm.service.roll_plan import FILE as PLAN
from cnn_lstm.service.roll_plan import Plan

DEEP = "[" * 100_000
Change = Callable[[Any], object]

# -- live.parquet ------------------------------------------------------------------------------------------------------


def live() -> pd.DataFrame:
    days = pd.bdate_range("2020-01-01", periods=3, tz="UTC").as_unit("us")
    moments = dict.fromkeys(("as_of", "target_start", "target_end", "issued"), days)
    values = dict.fromkeys(("y_true", "y_pred", "y_last", "scale", "bar_return"), 0.5)
    table = pd.DataFrame({"target": "return_1", "symbol": "AAA", **moments, **values, "late": False, "revised": False})
    table.attrs = {
        "targets": {"return_1": {"kind": "return"}},
        "live": {"model": "0f", "since": "2020-01-01", "gone": []},
    }
    return table


def test_the_table_that_is_changed_below_can_be_read(tmp_path: Path) -> None:
    write_table(tmp_path / LIVE, live())
    assert len(read_live(tmp_path)) == 3


ATTRS: dict[str, Change] = {
    "nothing said": lambda attrs: attrs.clear(),
    "a text": lambda attrs: attrs.update(live="x"),
    "no model": lambda attrs: attrs["live"].pop("model"),
    "since spring": lambda attrs: attrs["live"].update(since="spring"),
    "since a number": lambda attrs: attrs["live"].update(since=5),
    "a number is gone": lambda attrs: attrs["live"].update(gone=[3]),
    "no targets": lambda attrs: attrs.pop("targets"),
    "a target without a kind": lambda attrs: attrs.update(targets={"return_1": {}}),
    "targets as a list": lambda attrs: attrs.update(targets=["return_1"]),
}


@pytest.mark.parametrize("change", ATTRS.values(), ids=ATTRS)
def test_what_a_table_says_of_itself_is_checked(change: Change, tmp_path: Path) -> None:
    table = live()
    attrs = copy.deepcopy(table.attrs)
    change(attrs)
    table.attrs = attrs
    write_table(tmp_path / LIVE, table)
    with pytest.raises(DataError, match=r"E339.*restore it from a backup"):
        read_live(tmp_path)


@pytest.mark.parametrize("name", list(live()))
@pytest.mark.parametrize("value", [None, b"x"], ids=["missing", "bytes"])
def test_every_column_is_checked(name: str, value: bytes | None, tmp_path: Path) -> None:
    table = live()
    changed = table.drop(columns=name)
    if value is not None:
        changed[name] = [value] * len(changed)
    changed.attrs = table.attrs
    write_table(tmp_path / LIVE, changed)
    with pytest.raises(DataError, match="E339"):
        read_live(tmp_path)


@pytest.mark.parametrize("read", [lambda file: read_live(file.parent), read_forecast_file], ids=["live", "judge"])
def test_a_table_that_stands_for_gigabytes_is_not_read(read: Callable[[Path], object], tmp_path: Path) -> None:
    column = pa.array(np.zeros(10_000_000))
    pq.write_table(pa.table({"y_pred": column, "y_true": column}), tmp_path / LIVE, compression="zstd")
    assert (tmp_path / LIVE).stat().st_size < 1_000_000
    with pytest.raises(DataError, match=r"E339.*expands to 152 MiB"):
        read(tmp_path / LIVE)


# -- monitor.json ------------------------------------------------------------------------------------------------------

LOOK = {"checked": "2020-01-01", "last_bar": "2020-01-01", "model": "0f", "verdict": "fine", "metrics": {"a": 0.5}}


def test_a_history_can_be_read(tmp_path: Path) -> None:
    write_json_whole(tmp_path / FILE, {"format": FORMAT, "history": [LOOK]})
    assert _history(tmp_path / FILE) == [LOOK]


@pytest.mark.parametrize(
    "look",
    [
        *(3, "x", None, [], {}),
        *(LOOK | change for change in ({"checked": 3}, {"verdict": "<b>"}, {"metrics": [1]}, {"metrics": {"a": "b"}})),
        {key: value for key, value in LOOK.items() if key != "model"},
    ],
    ids=str,
)
def test_a_history_of_something_else_is_refused(look: object, tmp_path: Path) -> None:
    write_json_whole(tmp_path / FILE, {"format": FORMAT, "history": [LOOK, look]})
    with pytest.raises(DataError, match="E339"):
        _history(tmp_path / FILE)


# -- roll --------------------------------------------------------------------------------------------------------------

PLANNED = Plan("3mo", "1mo", "1mo", "2020-05-01", None, 30, False)


@pytest.mark.parametrize("name", list(PLANNED.to_plain()))
@pytest.mark.parametrize("value", [["x"], {"a": 1}, 0.5], ids=str)
def test_a_plan_of_other_types_is_refused(name: str, value: object, tmp_path: Path) -> None:
    write_json_whole(tmp_path / PLAN, PLANNED.to_plain())
    assert Plan.read(tmp_path) == PLANNED
    write_json_whole(tmp_path / PLAN, PLANNED.to_plain() | {name: value})
    with pytest.raises(DataError, match="E339"):
        Plan.read(tmp_path)


@pytest.mark.parametrize("name", ["first", "train"])
def test_a_plan_without_a_date_is_refused(name: str, tmp_path: Path) -> None:
    for value in ("spring", "NaT", ""):
        write_json_whole(tmp_path / PLAN, PLANNED.to_plain() | {name: value})
        with pytest.raises(DataError, match="E339"):
            Plan.read(tmp_path)


CONTEST = Contest("MSE", 30, 30, 0.5, 0.4, 0.2, 0.01, 0.01, wins=True, loses=False)
DECIDED = Decision(1, "2020-05-01", "2020-04-01", 0, True, "it is better", "fine", ["a sign"], {"return_1": CONTEST})
CHANGES: dict[str, dict[str, Any]] = {
    "another step": {"step": 2},
    "a champion of the future": {"before": 1},
    "a champion below 0": {"before": -1},
    "no champion": {"before": None},
    "a champion that is a truth value": {"before": False},
    "a number as reason": {"reason": 3},
    "a text as promotion": {"promoted": "yes"},
    "signs as text": {"signs": "x"},
    "targets as list": {"targets": []},
    "a contest as text": {"targets": {"return_1": "x"}},
    "a contest of nothing": {"targets": {"return_1": {}}},
    "dates as text": {"targets": {"return_1": vars(CONTEST) | {"dates": "x"}}},
    "losses as lists": {"targets": {"return_1": vars(CONTEST) | {"champion": []}}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_decision_of_other_types_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    DECIDED.write(tmp_path)
    assert Decision.read(tmp_path, 1) == DECIDED
    (file,) = (tmp_path / "decisions").iterdir()
    kept = json.loads(file.read_text())
    write_json_whole(file, {name: value for name, value in (kept | change).items() if name != "crc32"})
    with pytest.raises(DataError, match=r"E339.*decided again"):
        Decision.read(tmp_path, 1)


# -- test_losses.jsonl -------------------------------------------------------------------------------------------------

DAY = "2020-02-03T00:00:00+00:00"
LINES: dict[str, dict[str, Any]] = {
    "no time zone": {"dates": ["2020-02-03T00:00:00"]},
    "two clocks": {"dates": ["2020-02-03T00:00:00", "2020-02-04T00:00:00+00:00"], "differences": {"zero": [1, 2]}},
    "no date": {"dates": ["spring"]},
    "an empty date": {"dates": [None]},
    "one date twice": {"dates": [DAY, DAY], "differences": {"zero": [1, 2]}},
    "back in time": {"dates": [DAY, "2020-02-02T00:00:00+00:00"], "differences": {"zero": [1, 2]}},
    "a far year": {"dates": ["999999-01-01"]},
    "too few": {"differences": {"zero": []}},
    "a text": {"differences": {"zero": ["x"]}},
    "endless": {"differences": {"zero": [float("inf")]}},
    "a list": {"differences": [1]},
    "a number": {"dates": 5},
}


@pytest.mark.parametrize("line", [*LINES.values(), DEEP, "3", '"x"', "\0"], ids=[*LINES, "deep", "3", "x", "NUL"])
def test_a_line_of_losses_that_no_look_wrote_is_passed_over(
    line: dict[str, Any] | str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = {"series": "s", "model": "m", "run": "r", "when": 0, "dates": [DAY], "differences": {"zero": [0.5]}}
    text = line if isinstance(line, str) else json.dumps(made | line)
    dates = pd.bdate_range("2020-01-01", periods=40, tz="UTC").as_unit("us")
    wanted = pd.DataFrame({"zero": np.linspace(-1, 1, 40)}, dates)
    (tmp_path / loss_ledger.FILE).write_text(f"{text}\n")
    with caplog.at_level("WARNING"):
        kept = loss_ledger.keep(tmp_path / "run", "s", "model", wanted)
    pd.testing.assert_frame_equal(kept, wanted, check_freq=False)
    assert "W370" in caplog.text
    pd.testing.assert_frame_equal(loss_ledger.keep(tmp_path / "run", "s", "model", wanted * 2), kept, check_freq=False)


# -- locks -------------------------------------------------------------------------------------------------------------


def test_a_lock_that_says_something_deep_says_nothing(tmp_path: Path) -> None:
    (tmp_path / ".cnn_lstm.lock").write_text(f"x{DEEP}")
    assert holder_of(tmp_path / ".cnn_lstm.lock") == "a process that has not said its name"
