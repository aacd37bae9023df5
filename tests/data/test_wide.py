"""Wide files: a matrix without header and dates, or one with both, as columns of a symbol or as symbols."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.sources import WideFile
from cnn_lstm.data.splits import RowSplit
from cnn_lstm.data.targets import ForwardValue, Target
from cnn_lstm.errors import CnnLstmError, DefectsError

NAMES = ["GBP", "JPY", "SGD"]


def matrix(rows: int = 6) -> NDArray[np.float64]:
    steps = np.random.default_rng(1).normal(0, 0.01, (rows, 3))
    return np.asarray(np.round(np.exp(steps.cumsum(axis=0)), 6), dtype=np.float64)


def write(folder: Path, rows: int = 6, name: str = "rates.txt") -> str:
    text = "".join(",".join(map(str, row)) + "\n" for row in matrix(rows))
    content = text.encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return str(folder / name)


def load(path: str, **options: Any) -> pd.DataFrame:
    return WideFile(path, **options).load(None, None, None)


@pytest.mark.parametrize("name", ["rates.txt", "rates.txt.gz"])
def test_a_bare_matrix_becomes_one_symbol_and_the_first_line_is_data(tmp_path: Path, name: str) -> None:
    table = load(write(tmp_path, name=name), names=NAMES, artificial_start="1990-01-01")
    assert table.columns.tolist() == ["symbol", "timestamp", *NAMES]
    assert set(table["symbol"]) == {"rates"}
    assert np.array_equal(table[NAMES].to_numpy(), matrix())
    assert str(table["timestamp"].dtype) == "datetime64[us, UTC]"
    assert list(table["timestamp"]) == list(pd.bdate_range("1990-01-01", periods=6, tz="UTC"))


def test_a_bare_matrix_without_names_is_refused_and_loses_no_row(tmp_path: Path) -> None:
    with pytest.raises(CnnLstmError, match=r"E344.*line 1 looks like data.*data\.source\.names"):
        load(write(tmp_path), artificial_start="1990-01-01")


def test_the_dates_are_declared_to_be_artificial(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load(write(tmp_path), names=NAMES, artificial_start="1990-01-01", artificial_step="day")
    assert "has no dates: its rows are dated from 1990-01-01 on, one day each" in caplog.text


@pytest.mark.parametrize(("step", "days"), [("business day", 7.0), ("day", 5.0), ("hour", 5 / 24)])
def test_the_step_of_artificial_dates(tmp_path: Path, step: Any, days: float) -> None:
    when = load(write(tmp_path), names=NAMES, artificial_start="2024-01-01", artificial_step=step)["timestamp"]
    assert (when.iloc[-1] - when.iloc[0]) / pd.Timedelta(days=1) == pytest.approx(days)


def test_series_become_symbols_with_one_column(tmp_path: Path) -> None:
    wide = load(write(tmp_path), names=NAMES, artificial_start="1990-01-01")
    long = load(write(tmp_path), names=NAMES, artificial_start="1990-01-01", layout="series", value="rate")
    assert long.columns.tolist() == ["symbol", "timestamp", "rate"]
    assert long.pivot(index="timestamp", columns="symbol", values="rate")[NAMES].equals(
        wide.set_index("timestamp")[NAMES].rename_axis(columns="symbol")
    )


def test_a_header_and_real_dates_are_read(tmp_path: Path) -> None:
    table = pd.DataFrame(matrix(), columns=NAMES)
    table.insert(0, "Date", pd.bdate_range("2020-01-01", periods=6).strftime("%Y-%m-%d"))
    table.to_csv(tmp_path / "rates.csv", index=False)
    found = load(str(tmp_path / "rates.csv"), symbol="FX")
    assert set(found["symbol"]) == {"FX"}
    assert found["timestamp"].iloc[0] == pd.Timestamp("2020-01-01", tz="UTC")
    assert np.array_equal(found[NAMES].to_numpy(), matrix())
    pd.DataFrame(matrix(), columns=NAMES).to_parquet(tmp_path / "rates.parquet")
    dated = load(str(tmp_path / "rates.parquet"), artificial_start="2020-01-01")
    assert dated[NAMES].equals(found[NAMES])


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"names": NAMES}, 303, "no column of dates"),
        ({"names": NAMES[:2], "artificial_start": "1990-01-01"}, 303, "3 columns, and 2 names"),
        ({"names": ["A", "A", "B"], "artificial_start": "1990-01-01"}, 224, "a name of its own"),
        ({"names": NAMES, "artificial_start": "soon"}, 209, "not an ISO date"),
        ({"names": NAMES, "artificial_start": "1990-01-01", "layout": "long"}, 224, "layout='long'"),
        ({"names": NAMES, "artificial_start": "1990-01-01", "artificial_step": "week"}, 224, "artificial_step='week'"),
        ({"names": ["A", "B", "=C"], "artificial_start": "1990-01-01", "layout": "series"}, 231, "'=C' is not allowed"),
        ({"names": NAMES, "artificial_start": "1990-01-01", "symbol": "a//b"}, 231, "'a//b' is not allowed"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, options: dict[str, Any], code: int, message: str) -> None:
    with pytest.raises(CnnLstmError, match=f"E{code}.*{message}"):
        load(write(tmp_path), **options)


def test_no_path_and_no_row_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CnnLstmError, match="E201"):
        WideFile([])
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(CnnLstmError, match="E302"):
        load(str(tmp_path / "empty.txt"), names=NAMES, artificial_start="1990-01-01")


def test_a_cell_that_is_not_a_number_is_named_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "rates.txt"
    path.write_text("1,2,3\n1,x,3\n")
    with pytest.raises(DefectsError, match=r"E304.*'x' is not a number.*rates.txt:2, column JPY"):
        load(str(path), names=NAMES, artificial_start="1990-01-01")


def test_each_series_is_an_input_and_a_target(tmp_path: Path) -> None:
    """Eight to eight in papers: every column is a feature, anchored, and forecast."""
    targets: list[Target] = [ForwardValue(name, horizon=2) for name in NAMES]
    source = WideFile(write(tmp_path, rows=120), names=NAMES, artificial_start="1990-01-01")
    split = RowSplit(0.6, 0.2, by="label")
    data = MarketDataModule(source, features=NAMES, anchor=NAMES, targets=targets, window=5, split=split)
    data.setup()
    assert (data.n_features, data.n_targets) == (3, 3)
    assert data.statistics.y_anchor.tolist() == [0, 1, 2]
    test = data.parts.test
    assert np.allclose(data.panel.labels[test].numpy(), matrix(120)[96:])
    assert np.allclose(data.panel.present[test].numpy(), matrix(120)[94:-2])
