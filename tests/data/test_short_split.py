"""`validation` and `test` as years or dates: the short form of a split by dates, in Python and in YAML."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

import cnn_lstm as cl
from cnn_lstm.data.splits import DateSplit, FractionSplit, RowSplit, split_of
from cnn_lstm.errors import ConfigError
from cnn_lstm.runs import forecast_cli
from tests.fits import price_file, small_data


@pytest.mark.parametrize(
    ("validation", "test", "days"),
    [
        ("2009", "2011", ("2009-01-01", "2011-01-01")),
        (2009, 2011, ("2009-01-01", "2011-01-01")),
        ("2009-05", "2011-02-03", ("2009-05-01", "2011-02-03")),
        (date(2009, 5, 6), "2011", ("2009-05-06", "2011-01-01")),
    ],
)
def test_years_and_months_are_their_first_days(validation: Any, test: Any, days: tuple[str, str]) -> None:
    split = split_of(None, validation, test)
    assert isinstance(split, DateSplit)
    assert (str(split.validation)[:10], str(split.test)[:10]) == days


def test_it_is_the_same_split_in_python_and_in_yaml(tmp_path: Path) -> None:
    short = small_data(tmp_path, validation="2020-04", test="2020-05")
    long = small_data(tmp_path, split=DateSplit("2020-04-01", "2020-05-01"))
    for data in (short, long):
        data.setup()
    assert short.parts.boundaries == long.parts.boundaries
    assert {name: len(rows) for name, rows in short.parts.by_name.items()} == {
        name: len(rows) for name, rows in long.parts.by_name.items()
    }
    text = cl.to_yaml(short)
    assert yaml.safe_load(text)["data"]["split"]["init_args"]["validation"] == "2020-04-01"
    again, _ = cl.from_yaml(text)
    again.setup()
    assert again.parts.boundaries == short.parts.boundaries
    assert cl.to_yaml(again) == text


def test_a_file_may_say_it(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    source = {"class_path": "cnn_lstm.data.sources.PriceFiles", "init_args": {"paths": str(price_file(tmp_path))}}
    file.write_text(yaml.safe_dump({"data": {"source": source, "validation": 2020, "test": "2020-05"}}))
    cli = forecast_cli.parsed(["fit", "--config", str(file)])
    assert isinstance(cli.build_data().split, DateSplit)
    (tmp_path / "again.yaml").write_text(cli.config_text)
    again = forecast_cli.parsed(["fit", "--config", str(tmp_path / "again.yaml")])
    assert again.config_text == cli.config_text


@pytest.mark.parametrize(
    ("split", "validation", "test"),
    [(None, "2009", None), (None, None, "2009"), (RowSplit(), "2009", "2011"), (FractionSplit(0.5), "2009", "2011")],
)
def test_half_a_form_or_two_splits_are_refused(split: Any, validation: Any, test: Any) -> None:
    with pytest.raises(ConfigError, match="E223"):
        split_of(split, validation, test)
    assert split_of(split, None, None) is split or split is None


def test_what_is_no_date_is_named() -> None:
    with pytest.raises(ConfigError, match=r"E209.*data.split.validation.*20x9"):
        split_of(None, "20x9", "2011")
