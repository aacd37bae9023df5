"""One way to write flags, keys and options of earlier versions, and errors of ours that a parser has wrapped."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cnn_lstm.commands.parser import CommandParser
from cnn_lstm.errors import ConfigError
from cnn_lstm.runs import forecast_cli
from cnn_lstm.runs.argv import config_files, replace_configs
from cnn_lstm.runs.config import with_current_keys
from cnn_lstm.runs.config_files import with_read_files
from cnn_lstm.runs.parser_errors import one_line_errors

# -- flags -----------------------------------------------------------------------------------------------------------


def test_bare_flags_of_fit_are_understood() -> None:
    argv = ["--quiet", "--no_mlflow", "--no_trainer.inference_mode", "--csv", "false", "--trainer.fast_dev_run"]
    config = forecast_cli.parsed(["predict", *argv]).command_config
    assert (config.quiet, config.mlflow, config.csv) == (True, False, False)
    assert (config.trainer.inference_mode, config.trainer.fast_dev_run) == (False, True)
    config = forecast_cli.parsed(["predict", "--quiet=false", "--mlflow", "--trainer.fast_dev_run", "3"]).command_config
    assert (config.quiet, config.mlflow, config.trainer.fast_dev_run) == (False, True, 3)


def test_what_is_not_a_flag_has_no_negative() -> None:
    with pytest.raises(ConfigError, match=r"E225.*no_experiment"):
        forecast_cli.parsed(["fit", "--no_experiment"])


@pytest.mark.parametrize(
    ("argv", "value", "rest"),
    [
        (["--sliding"], True, []),
        (["--sliding", "true", "--quiet"], True, ["--quiet"]),
        (["--sliding=FALSE"], False, []),
        (["--no_sliding", "--no_mlflow"], False, ["--no_mlflow"]),
        (["--csv", "x"], False, ["--csv", "x"]),
    ],
)
def test_flags_of_our_commands_are_written_alike(argv: list[str], value: bool, rest: list[str]) -> None:
    parser = CommandParser("cnn-lstm walk-forward")
    parser.add_flag("--sliding", "")
    options, left = parser.split(argv)
    assert (options.sliding, left) == (value, rest)


def test_a_flag_that_is_neither_true_nor_false_is_refused() -> None:
    parser = CommandParser("cnn-lstm x")
    parser.add_flag("--resume", "")
    with pytest.raises(ConfigError, match=r"E225.*'perhaps' is neither true nor false"):
        parser.options(["--resume", "perhaps"])


# -- earlier versions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "argv", "new"),
    [
        ("validate", ["--strict"], "write --same_prices"),
        ("test", ["--strict=true"], "write --same_prices"),
        ("fit", ["--board.windows", "3"], "write --tensorboard_plots.windows"),
        ("fit", ["--data.checks.strict", "true"], "write --data.checks.refuse_unsorted"),
    ],
)
def test_a_former_option_names_the_new_one(command: str, argv: list[str], new: str) -> None:
    with pytest.raises(ConfigError, match=f"E225.*{new}"):
        forecast_cli.parsed([command, *argv])


OLD = {"board": {"windows": 5, "histograms": True}, "strict": True, "data": {"window": 33}}


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("form", ["--config={}", "--config {}", "-c {}"])
def test_a_file_with_former_keys_is_read_as_if_it_were_new(command: str, form: str, tmp_path: Path) -> None:
    file = tmp_path / "a folder" / "config.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(OLD))
    argv = [word.format(file) for word in form.split()]
    cli = forecast_cli.parsed([command, *argv])
    config = cli.command_config
    assert (config.tensorboard_plots.windows, config.tensorboard_plots.histograms) == (5, True)
    assert (config.same_prices, config.data.window) == (True, 33)
    assert cli.files == [file]
    assert yaml.safe_load(file.read_text()) == OLD


def test_a_misspelt_key_next_to_former_ones_still_names_its_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(OLD | {"qiet": True}))
    with pytest.raises(ConfigError, match=r"E225.*'qiet'.*config\.yaml — did you mean quiet\?"):
        forecast_cli.parsed(["fit", "--config", str(file)])


def test_only_the_key_itself_is_renamed() -> None:
    tree = {"early_stopping": {"strict": True}, "data": {"checks": {"strict": True}, "strict": 1}}
    renamed = {"strict": "same_prices", "data.checks.strict": "data.checks.refuse_unsorted"}
    assert with_current_keys(tree, renamed) == tree | {"data": {"checks": {"refuse_unsorted": True}, "strict": 1}}
    assert with_current_keys({"data": None}, renamed) == {"data": None}


def test_files_are_replaced_by_what_they_hold(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("---\ndata: {window: 33}")
    argv = ["--config", str(file), f"--config={file}", "--config"]
    text = "\n---\ndata: {window: 33}"  # as its author wrote it, and never an option
    assert with_read_files(argv, ["data"]) == ["--config", text, f"--config={text}", "--config"]
    assert config_files(argv) == [file, file]
    assert replace_configs(argv, lambda path: path.name) == [
        "--config",
        "config.yaml",
        "--config=config.yaml",
        "--config",
    ]


# -- errors of ours --------------------------------------------------------------------------------------------------


def raise_wrapped(error: ConfigError) -> None:
    try:
        try:
            raise error
        except ValueError as first:
            raise TypeError("wrapped") from first
    except TypeError as second:
        raise ValueError("wrapped twice") from second


def test_an_error_of_ours_that_was_wrapped_keeps_its_parts() -> None:
    """A part that holds the sign between parts would be cut apart, if it were read from the text."""
    error = ConfigError("a — b", "here — there", "do — this", code=263)
    with pytest.raises(ConfigError) as caught, one_line_errors("fit", []):
        raise_wrapped(error)
    assert caught.value is error


def test_an_error_of_a_constructor_comes_through_the_parser_as_it_was() -> None:
    argv = ["--model.network.class_path=cnn_lstm.model.network.CNNLSTM", "--model.network.init_args.lstm_hidden=0"]
    with pytest.raises(ConfigError) as caught:
        forecast_cli.parsed(["fit", *argv]).built()
    assert caught.value.code == 224
    assert "lstm_hidden" in caught.value.what
