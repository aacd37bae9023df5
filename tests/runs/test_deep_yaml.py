"""Texts that would overflow the stack of their parser are refused in one line, wherever one is read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from cnn_lstm.bounded import MAX_DEPTH, TooDeepError, load_json, load_yaml_values
from cnn_lstm.errors import ConfigError
from cnn_lstm.runs.yaml_guard import load_yaml
from tests import experiments

DEEP = {
    "brackets": "[" * 100_000,
    "braces": "{a: " * 100_000,
    "dashes": "- " * 100_000,
    "question marks": "? " * 100_000,
    "closed": "[" * 5_000 + "]" * 5_000,
    "indented": "".join(" " * level + "a:\n" for level in range(2_000)),
    "behind a key": "data:\n  window: " + "[" * 100_000,
}


@pytest.mark.parametrize("name", DEEP)
def test_a_deep_text_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    since = time.monotonic()
    with pytest.raises(ConfigError, match=r"E227.*nested deeper"):
        load_yaml(DEEP[name])
    with pytest.raises(TooDeepError):
        load_yaml_values(DEEP[name])
    file = tmp_path / "deep.yaml"
    file.write_text(DEEP[name])
    for argv in (["fit", "--config", file], ["data", "check", "--config", file], ["sweep", "--config", file]):
        assert experiments.run(*argv) == 2
        assert capsys.readouterr().err.startswith("error[E2")
    assert time.monotonic() - since < 10


def test_a_value_of_the_command_line_may_be_deep(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--data.features", "--trainer.callbacks", "--model.network.init_args.channels"):
        assert experiments.run("fit", "--config", "configs/quickstart.yaml", f"{option}={'[' * 100_000}") == 2
        assert capsys.readouterr().err.startswith("error[E2")


def test_a_deep_space_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "space.yaml").write_text(DEEP["brackets"])
    argv = ["--config", "configs/quickstart.yaml", "--space", tmp_path / "space.yaml", "--folder", tmp_path / "sweep"]
    assert experiments.run("sweep", *argv) == 2
    assert capsys.readouterr().err.startswith("error[E2")


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "large.yaml"
    with file.open("wb") as opened:
        opened.truncate(5 << 30)  # holds nothing, and takes no room
    assert experiments.run("fit", "--config", file) == 2
    assert "a configuration of 5120 MiB" in capsys.readouterr().err


def test_depths_of_real_files_are_read() -> None:
    text = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    assert load_yaml_values(text) == yaml.safe_load(text) == load_json(text)
    assert load_yaml("{a: [1, {b: [2]}]}") == {"a": [1, {"b": [2]}]}
