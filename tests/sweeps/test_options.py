"""What a resumed sweep takes from its folder, and what it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.files import read_json
from cnn_lstm.sweeps.search import KEPT, SETTINGS, SweepOptions


def resumed(folder: Path, **argv: Any) -> SweepOptions:
    nothing = dict.fromkeys(("space", "timeout", *KEPT))
    return SweepOptions.of(nothing | {"folder": folder, "resume": True} | argv)


@pytest.mark.parametrize(
    "storage",
    ["postgresql+psycopg://stranger.example/x", "mysql://stranger.example/x", "sqlite:////tmp/other.db", "nowhere"],
)
def test_a_storage_that_only_the_folder_names_is_not_opened(storage: str, tmp_path: Path) -> None:
    SweepOptions(storage=storage, n_trials=7).write(tmp_path)
    with pytest.raises(ConfigError, match=r"E296.*add --storage|E249"):
        resumed(tmp_path)
    given = resumed(tmp_path, storage="sqlite:///mine.db")
    assert (given.storage, given.n_trials) == ("sqlite:///mine.db", 7)


@pytest.mark.parametrize("storage", [None, "study.db", "below/study.db"])
def test_a_file_in_the_folder_is_opened_without_being_asked(storage: str | None, tmp_path: Path) -> None:
    address = storage and f"sqlite:///{tmp_path / storage}"
    SweepOptions(storage=address, n_jobs=2).write(tmp_path)
    assert (resumed(tmp_path).storage, resumed(tmp_path).n_jobs) == (address, 2)


@pytest.mark.parametrize(
    "text", ["{", "[]", "", '{"n_trials": "many"}', '{"storage": 3}', '{"n_jobs": true}', "[" * 99999]
)
def test_damaged_settings_are_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(DataError, match="E339"):
        resumed(tmp_path)


def test_settings_have_a_checksum_and_those_of_an_older_version_none(tmp_path: Path) -> None:
    SweepOptions(n_trials=50).write(tmp_path)
    file = tmp_path / SETTINGS
    text = file.read_text()
    file.write_text(text.replace("50", "58"))
    with pytest.raises(DataError, match=r"E339.*settings of a sweep"):
        resumed(tmp_path)
    file.write_text(json.dumps(read_json_of(text) | {"n_trials": 58}))
    assert resumed(tmp_path).n_trials == 58
    file.write_text(text)
    assert read_json(file, "settings")["n_trials"] == 50


def read_json_of(text: str) -> dict[str, Any]:
    """The values of a text without its checksum."""
    return {name: value for name, value in json.loads(text).items() if name in KEPT}
