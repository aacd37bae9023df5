"""Timestamps of files: each number since 1970 has one unit, and each way of writing an offset is the same moment."""

from __future__ import annotations

import logging
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_lstm.data.sources.clock import FIRST_PROVEN, PER_SECOND, UNITS, Clock, Unit, unit_of
from cnn_lstm.errors import DataError

NOW = pd.Timestamp.now("UTC").timestamp()
units = st.sampled_from(UNITS)


def read(cells: list[object], date_format: str | None = None, tz: str | None = None) -> list[pd.Timestamp]:
    series = pd.Series(cells, index=range(2, 2 + len(cells)))
    return list(Clock(ZoneInfo(tz) if tz else None, date_format).read(series, "A.csv"))


def refused(cells: list[object], code: int, date_format: str | None = None, tz: str | None = None) -> str:
    with pytest.raises(DataError) as info:
        read(cells, date_format, tz)
    assert info.value.code == code, str(info.value)
    assert len(str(info.value)) <= 400
    return str(info.value)


@st.composite
def moments(draw: st.DrawFn) -> list[int]:
    """Seconds of bars of one step, from June 1971 to now."""
    step, rows = draw(st.sampled_from([60, 3600, 86_400])), draw(st.integers(2, 50))
    start = draw(st.integers(int(FIRST_PROVEN), int(NOW) - step * rows))
    return [start + step * k for k in range(rows)]


@settings(max_examples=60, deadline=None)
@given(moments(), units, st.sampled_from([*UNITS, "auto"]))
def test_a_number_is_read_in_its_unit_and_in_no_other(seconds: list[int], unit: Unit, given_unit: str) -> None:
    cells: list[object] = [second * int(PER_SECOND[unit]) for second in seconds]
    assert unit_of(float(cells[0])) == unit  # type: ignore[arg-type]  # wrong on purpose
    if given_unit not in (unit, "auto"):
        message = refused(cells, 346, given_unit)
        assert f"set data.source.date_format: {unit}" in message
        assert f"A.csv:2, {len(cells)} rows of {len(cells)}" in message
        return
    expected = [pd.Timestamp(second, unit="s", tz="UTC") for second in seconds]
    assert read(cells, given_unit) == expected
    assert read([str(cell) for cell in cells], given_unit) == expected


@settings(max_examples=40, deadline=None)
@given(moments(), units, units, st.data())
def test_a_file_of_two_units_is_refused_where_the_second_begins_and_auto_reads_it(
    seconds: list[int], first: Unit, second: Unit, data: st.DataObject
) -> None:
    change = data.draw(st.integers(1, len(seconds) - 1))
    cells: list[object] = [
        moment * int(PER_SECOND[first if k < change else second]) for k, moment in enumerate(seconds)
    ]
    if first != second:
        assert f"A.csv:{2 + change}" in refused(cells, 346, first)
        assert "A.csv:2" in refused(cells, 346, second)
    assert read(cells, "auto") == [pd.Timestamp(moment, unit="s", tz="UTC") for moment in seconds]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("start", ["1970-01-02", "1970-03-01", "1965-01-01"])
def test_a_table_that_begins_around_1970_is_read_in_the_given_unit(unit: Unit, start: str) -> None:
    days = pd.date_range(start, periods=800, tz="UTC")
    cells: list[object] = [int(day.timestamp()) * int(PER_SECOND[unit]) for day in days]
    assert read(cells, unit) == list(days)
    assert "does not prove its unit" in refused(cells, 346, "auto")


@pytest.mark.parametrize("unit", UNITS)
def test_days_written_as_numbers_are_not_numbers_since_1970(unit: Unit) -> None:
    assert "20240102 is a day" in refused([20240102, 20240103], 346, unit)
    assert read([20240102, 20240103]) == list(pd.date_range("2024-01-02", periods=2, tz="UTC"))


def test_bars_that_all_lie_in_january_1970_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read([45292, 45293], "s")  # days of Excel
    assert "all bars lie in January 1970" in caplog.text


@pytest.mark.parametrize(("number", "unit"), [(1725148800, "s"), (1725148800000, "ms"), (1725148800000000, "us")])
def test_a_number_without_a_format_is_refused_with_its_unit(number: int, unit: str) -> None:
    assert f"data.source.date_format: {unit}" in refused([number], 309)


def test_days_of_excel_are_named() -> None:
    assert "Excel counts days" in refused(["45292", "45293"], 309)


@pytest.mark.parametrize("bad", ["x", "1e400", "", None])
def test_what_is_not_a_number_is_refused(bad: object) -> None:
    for form in ("ms", "auto"):
        refused([1725148800000, 1725148800000, bad], 309, form)


WAYS = {
    "GMT+0100": "%Y-%m-%d %H:%M:%S GMT%z",
    "UTC+01:00": "%Y-%m-%d %H:%M:%S UTC%z",
    "+0100": "%Y-%m-%d %H:%M:%S %z",
    "UTC+1": "%Y-%m-%d %H:%M:%S UTC%z",
    "+01": None,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("formatted", [True, False])
def test_offsets_over_a_clock_change_are_read_with_the_zone(way: str, formatted: bool) -> None:
    local = pd.date_range("2024-03-30 12:00", periods=48, freq="h", tz="Europe/Zurich")
    cells: list[object] = []
    for moment in local:
        offset = way.replace("1", f"{moment:%z}"[2])
        cells.append(f"{moment:%Y-%m-%d %H:%M:%S} {offset}")
    form = WAYS[way] if formatted else None
    if formatted and form is None:
        return
    assert read(cells, form, "Europe/Zurich") == list(local.tz_convert("UTC"))
    assert "several UTC offsets (+01" in refused(cells, 310, form)


@pytest.mark.parametrize("tz", [None, "America/New_York"])
@pytest.mark.parametrize("form", [None, "%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M:%S %Z"])
def test_times_that_say_utc_are_utc_in_any_zone(tz: str | None, form: str | None) -> None:
    hours = pd.date_range("2023-01-02 05:30", periods=5, freq="h", tz="UTC")
    assert read([f"{hour:%Y-%m-%d %H:%M:%S} UTC" for hour in hours], form, tz) == list(hours)


def test_a_footer_is_named_although_the_bars_have_offsets() -> None:
    cells: list[object] = ["2024-01-02 09:30:00 GMT+0100", "2024-01-03 09:30:00 GMT+0100", "Total"]
    for tz in (None, "Europe/Zurich"):
        assert "line 4 is not a bar: it begins with 'Total'" in refused(cells, 309, tz=tz)


def test_names_of_zones_are_not_guessed() -> None:
    assert "set data.source.tz" in refused(["2024-01-02 09:30:00 EST"], 309)


@pytest.mark.parametrize("text", ["2024/1/8", "2024.01.08", "20240108", "2024-1-08", "2024-01-08 00:00"])
def test_a_date_with_the_year_first_is_one_date(text: str) -> None:
    assert read([text]) == [pd.Timestamp("2024-01-08", tz="UTC")]


@pytest.mark.parametrize("text", ["2024/01-08", "8/1/2024", "2024/13/01", "2024/1", "24-01-08", "0", "2024"])
def test_other_dates_are_not_guessed(text: str) -> None:
    refused([text], 309)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=12)), min_size=1, max_size=4),
    st.sampled_from([*UNITS, "auto", None, "%d/%m/%Y"]),
    st.sampled_from([None, "Europe/Zurich"]),
)
def test_any_cell_is_a_moment_or_one_line(cells: list[object], form: str | None, tz: str | None) -> None:
    message = ""
    try:
        assert not any(pd.isna(moment) for moment in read(cells, form, tz))
    except DataError as error:
        message = str(error)
    assert len(message) <= 400
