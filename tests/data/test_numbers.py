"""Cells of text: a number written in any way is that number, and what could be two numbers is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_lstm.data.sources.numbers import Decimal, number_columns
from cnn_lstm.errors import CnnLstmError, DataError, DefectsError

GERMAN = str.maketrans(",.", ".,")


def parsed(cells: list[str], decimal: Decimal | None = None) -> list[float]:
    columns = {"close": pd.Series(cells, index=range(2, 2 + len(cells)))}
    return list(number_columns(columns, {"close"}, "A.csv", decimal)["close"])


def written(value: float, style: str) -> str:
    text = f"{value:,.2f}"
    return {
        "point": f"{value:.2f}",
        "thousands": text,
        "german": text.translate(GERMAN),
        "french": text.replace(",", "\u202f").replace(".", ","),
        "swiss": text.replace(",", "'"),
        "blanks": text.replace(",", " "),
        "dollar": f"${text}",
        "negative dollar": f"-${abs(value):,.2f}" if value < 0 else f"${text}",
        "euro behind": f"{text.translate(GERMAN)} €",
    }[style]


STYLES = ["point", "thousands", "german", "french", "swiss", "blanks", "dollar", "negative dollar", "euro behind"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20), st.sampled_from(STYLES))
def test_numbers_are_read_as_they_were_written(values: list[float], style: str) -> None:
    cells = [written(value, style) for value in [*values, 1234567.25]]  # the last one proves the sign
    np.testing.assert_array_equal(parsed(cells), [*(float(f"{value:.2f}") for value in values), 1234567.25])


@pytest.mark.parametrize(
    ("cell", "value"),
    [("1.2M", 1.2e6), ("17.47K", 17470.0), ("3B", 3e9), ("1.5 T", 1.5e12), ("2m", 2e6), ("-1.5k", -1500.0)],
)
def test_suffixes_multiply(cell: str, value: float) -> None:
    assert parsed([cell, "7"]) == [pytest.approx(value), 7.0]
    assert parsed([cell.replace(".", ","), "7"], ",") == [pytest.approx(value), 7.0]


@pytest.mark.parametrize("cells", [["1,234"], ["1,234", "12"], ["1,234", "12,345"], ["1,234", "1.234"]])
def test_what_could_be_two_numbers_is_refused_unless_it_is_said(cells: list[str]) -> None:
    with pytest.raises(DataError, match=r"E345.*A\.csv:2.*data.source.decimal"):
        parsed(cells)
    assert parsed(["1,234"], ".") == [1234.0]
    assert parsed(["1,234"], ",") == [1.234]


def test_other_cells_prove_the_sign() -> None:
    assert parsed(["1,234", "0.5"]) == [1234.0, 0.5]
    assert parsed(["1,234", "0,5"]) == [1.234, 0.5]
    assert parsed(["1,234", "1,234,567"]) == [1234.0, 1234567.0]
    assert parsed(["1.234", "0,5"]) == [1234.0, 0.5]
    with pytest.raises(DataError, match=r"decimal points and decimal commas: '0\.5' in line 2, '0,5' in line 3"):
        parsed(["0.5", "0,5"])


def test_groups_of_india_are_thousands() -> None:
    assert parsed(["₹2,45,678.90", "1,23,45,678.00"]) == [245678.90, 12345678.0]


@pytest.mark.parametrize("cell", ["1.2X", "$", "1,2,3", "1 2", "1.2.3", "--1", "M", "1,23", "0x1f", "12-34"])
def test_other_cells_are_refused_with_their_line(cell: str) -> None:
    with pytest.raises(DefectsError, match=r"E304.*A\.csv:3, column close, 1 cell"):
        parsed(["0.5", cell], ".")


@settings(max_examples=80, deadline=None)
@given(st.lists(st.text(alphabet="0123456789.,'+-$€KM eE\u202fx", max_size=9), min_size=1, max_size=4))
def test_any_cell_is_a_number_missing_or_one_line(cells: list[str]) -> None:
    message = ""
    try:
        assert len(parsed(cells)) == len(cells)
    except CnnLstmError as error:
        message = str(error)
    assert len(message) <= 400
