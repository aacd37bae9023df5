"""The folder of a command with several runs: what it was made of decides whether the command may go on in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cnn_lstm.bounded import with_digest
from cnn_lstm.errors import ConfigError
from cnn_lstm.files import partial_name
from cnn_lstm.runs import forecast_cli
from cnn_lstm.runs.multi_run import MultiRunCommand

COMMAND = MultiRunCommand("trial", reserved=())


@pytest.fixture(scope="module")
def text() -> str:
    return forecast_cli.parsed(["fit", "--data.window", "30"]).config_text


def keep(folder: Path, text: str, without: tuple[str, ...] = (), **changes: object) -> None:
    """What an earlier version kept: a configuration that lacks some sections."""
    config = {key: value for key, value in yaml.safe_load(text).items() if key not in without} | changes
    COMMAND.kept_config(folder).write_text(with_digest(yaml.safe_dump(config)))


def test_settings_of_a_later_version_do_not_part_a_folder_from_its_command(text: str, tmp_path: Path) -> None:
    keep(tmp_path, text, without=("allocator", "starting_line"))
    COMMAND.require_same_configuration(tmp_path, text)


def test_a_later_setting_that_is_not_its_default_does(text: str, tmp_path: Path) -> None:
    keep(tmp_path, text, without=("allocator",))
    other = yaml.safe_dump(yaml.safe_load(text) | {"allocator": {"keep_freed": False}})
    with pytest.raises(ConfigError, match=r"E242.*allocator.keep_freed: None -> False"):
        COMMAND.require_same_configuration(tmp_path, other)


def test_a_setting_of_before_stays_a_difference(text: str, tmp_path: Path) -> None:
    keep(tmp_path, text, without=("allocator",), seed_everything=7)
    with pytest.raises(ConfigError, match=r"E242.*seed_everything: 7 -> 42"):
        COMMAND.require_same_configuration(tmp_path, text)


def test_a_folder_has_its_files_before_it_has_a_configuration(text: str, tmp_path: Path) -> None:
    """So a kill in between leaves nothing that `--resume` would go on with."""
    there: list[bool] = []

    def write() -> None:
        there.append(COMMAND.kept_config(tmp_path).exists())
        (tmp_path / "settings.json").write_text("{}")

    def killed() -> None:
        write()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        COMMAND.require_same_configuration(tmp_path, text, {"settings.json": killed})
    partial_name(tmp_path / "settings.json").touch()
    partial_name(COMMAND.kept_config(tmp_path)).touch()
    with pytest.raises(ConfigError, match="E246"):
        COMMAND.require_folder(tmp_path, resume=True)
    COMMAND.require_same_configuration(tmp_path, text, {"settings.json": write})
    assert there == [False, False]
    COMMAND.require_folder(tmp_path, resume=True)
    COMMAND.require_same_configuration(tmp_path, text, {"settings.json": write})
    assert there == [False, False]


def test_a_folder_of_something_else_stays_as_it_is(text: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"E242.*holds something else"):
        COMMAND.require_same_configuration(tmp_path, text, {"settings.json": lambda: pytest.fail("it was written")})
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
