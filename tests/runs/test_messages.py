"""Messages: what a user meant, in one line of at most 400 letters, in no words of the parser."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cnn_lstm.errors import MAX_LETTERS, ConfigError, DataError, Defect, DefectsError, ResourceError
from cnn_lstm.hints import CALLED_ELSEWHERE, counted, nearest_key
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.devices import require_device
from cnn_lstm.runs.forecast_cli import parsed
from cnn_lstm.runs.messages import set_up_messages
from tests import experiments
from tests.fuzz.judged import INSIDE


def message(*argv: object) -> str:
    """What a fit with these options is refused with, before any data is read."""
    with pytest.raises(ConfigError) as caught:
        parsed(["fit", *map(str, argv)]).built()
    text = str(caught.value)
    assert len(text) <= MAX_LETTERS
    assert "\n" not in text
    assert not INSIDE.search(text), text
    return text


def message_of(tree: object, folder: Path) -> str:
    """`message` of a configuration file."""
    file = folder / "config.yaml"
    file.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
    return message("--config", file)


# -- a word of another program -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("epochs", "trainer.max_epochs"),
        ("n-epochs", "trainer.max_epochs"),
        ("batch_size", "data.batch_size"),
        ("lr", "model.optimizer.init_args.lr"),
        ("learning_rate", "model.optimizer.init_args.lr"),
        ("lookback", "data.window"),
        ("seq_len", "data.window"),
        ("horizon", "data.targets.horizon"),
        ("tickers", "data.symbols"),
        ("seed", "seed_everything"),
        ("gpus", "trainer.devices"),
        ("hidden_size", "model.network.init_args.lstm_hidden"),
        ("patience", "early_stopping.patience"),
        ("resume", "ckpt_path"),
        ("output_dir", "run_dir"),
        ("max_epoch", "trainer.max_epochs"),
        ("windw", "data.window"),
    ],
)
def test_an_option_of_another_program_names_ours(word: str, key: str, tmp_path: Path) -> None:
    assert message(f"--{word}", 5).endswith(f"did you mean {key}?")
    assert message_of({word: 5}, tmp_path).endswith(f"did you mean {key}?")


@pytest.mark.parametrize("word", ["trainer.epochs", "trainer.n_epochs", "model.lr", "data.lookback"])
def test_it_does_in_a_section_too(word: str, tmp_path: Path) -> None:
    section, _, name = word.partition(".")
    key = nearest_key(name, CALLED_ELSEWHERE)
    assert message_of({section: {name: 5}}, tmp_path).endswith(key)
    assert message(f"--{word}", 5).endswith(key)


def test_every_word_leads_to_a_key_that_exists() -> None:
    values = {"model.optimizer.init_args.lr": 0.1, "model.optimizer.init_args.weight_decay": 0.1, "run_dir": "x"}
    lists = {"channels": "[4]", "kernel_sizes": "[3]"}
    words = [word for words in CALLED_ELSEWHERE.values() for word in words.split()]
    assert len(words) == len(set(words))
    known = parsed(["fit"])._known_keys()
    for key in CALLED_ELSEWHERE:
        if key in known or key == "data.source.init_args.paths":
            continue
        parsed(["fit", f"--{key}={values.get(key, lists.get(key.rpartition('.')[2], 2))}"])


# -- a wrong value -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("data.window", "1e30", "data.window=1e+30 is not a whole number"),
        ("data.window", 10**30, "data.window=1e+30"),
        ("data.batch_size", 2**63, "data.batch_size"),
        ("trainer.max_epochs", "many", "trainer.max_epochs=many is not a whole number"),
        ("trainer.limit_train_batches", "a", "is not a number"),
        ("tensorboard", "perhaps", "is neither true nor false"),
        ("tracking", "no", "is none of lenient, strict"),
        ("data.scaling", "robst", "did you mean robust"),
        ("data.per_symbol", "x", "is none of auto, true or false"),
        ("data.symbols", "{a: 1}", "is not a list"),
        ("data.split", "null_x", "is not the name of a class"),
        ("data.split.init_args.train", "[3]", "data.split.train=[3] is not a number"),
        ("model.network.channels", "[{a: 1}]", "is not a whole number"),
        ("model.network.channels", f"[{2**64}]", "channels"),
        ("model.network.kernel_sizes", "2", "is not a list"),
        ("model.network.lstm_layers", 2**31, "give at most 100"),
        ("model.network.init_args.foo", "1", "foo is unknown in model.network: CNNLSTM has no such argument"),
        ("model.network.init_args.help", "1", "help is unknown in model.network"),
        ("model.optimizer.bxetas", "3", "did you mean betas?"),
        ("model.optimizer.betas", "[[1],2]", "is not a number"),
        ("model.scheduler.patience", "x", "model.scheduler.patience=x is not a whole number"),
        ("trainer.callbacks", "3", "is neither a list nor the name of a class"),
        ("history_plot", "3", "history_plot=3 is not a section"),
        ("trainer", "x", "trainer=x is not a section"),
        ("seed_everything", 2**32, "seed_everything=4294967296"),
        ("seed_everything", 10**30, "seed_everything"),
        ("config", "nowhere.yaml", "no such file"),
        ("config", "x" * 300, "no such file"),
        ("runs_dir", "", "--runs_dir is empty"),
        ("tracking_uri", "", "--tracking_uri is empty"),
        ("tracking_uri", "  ", "--tracking_uri is empty"),
        ("experiment", "", "--experiment is empty"),
    ],
)
def test_a_wrong_value_is_named_in_plain_words(option: str, value: object, says: str) -> None:
    assert says in message(f"--{option}={value}")


@pytest.mark.parametrize("hidden", [2**40, 2**60])
def test_a_network_that_no_memory_holds_is_refused_in_one_line(hidden: int) -> None:
    with pytest.raises(ResourceError, match=r"E608.*out of memory.*use a smaller network"):
        parsed(["fit", f"--model.network.lstm_hidden={hidden}"]).built()


def test_a_value_that_begins_with_a_minus_says_how_to_write_it() -> None:
    assert "--KEY=VALUE" in message("--tensorboard", "-1e+30")


@pytest.mark.parametrize("value", [None, 3, "x", [1], [], True, 1e30])
@pytest.mark.parametrize("section", ["trainer", "model", "data", "checkpoint", "history_plot", "evaluation"])
def test_a_section_that_is_none_is_refused(section: str, value: Any, tmp_path: Path) -> None:
    text = message_of({section: value}, tmp_path)
    assert f"the section {section} is empty" in text if value is None else f"{section}=" in text
    assert "config.yaml" in text


@pytest.mark.parametrize("part", ["network", "objective", "optimizer", "scheduler"])
@pytest.mark.parametrize("value", [3, "x", [1], {"class_path": None}, {"class_path": {"a": 1}}, {"init_args": 3}])
def test_what_is_no_class_is_refused(part: str, value: Any, tmp_path: Path) -> None:
    text = message_of({"model": {part: value}}, tmp_path)
    assert f"model.{part}" in text


@pytest.mark.parametrize(
    "text",
    ["{", "a: b: c", "\tx: 1", "- &a [*a]", "x: !!python/object:os.system", "\x07", "%", "[1, 2", "'", "x" * 300],
)
def test_what_is_no_yaml_is_refused(text: str, tmp_path: Path) -> None:
    message_of(text, tmp_path)


def test_a_configuration_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(bytes(range(256)))
    assert "not plain YAML" in message("--config", file)


def test_an_ensemble_has_seeds_up_to_the_largest() -> None:
    largest = 2**32 - 1
    parsed(["fit", f"--seed_everything={largest}"])
    assert "ensemble=2" in message(f"--seed_everything={largest}", "--ensemble=2")


def test_names_of_300_letters_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "x" * 300
    for argv in (
        ["test", "--ckpt_path", name],
        ["test", "--ckpt_path", "best", "--run_dir", name],
        ["fit", "--run_dir", tmp_path / name],
        ["fit", "--calibration_from", name, "--data.fit_on", "train_and_validation"],
        ["data", "check", "--data.source.class_path=PriceFiles", f"--data.source.init_args.paths={name}"],
        ["encode", "--ckpt_path", name],
        ["export", "--ckpt_path", name],
        ["plot", name],
        ["sync-tracking", name],
        ["repeat", "--folder", tmp_path / name, "--seeds", 1],
        ["sweep", "--folder", tmp_path / name, "--space", name],
        ["rl", "evaluate", name],
        ["rl", "train", "--ckpt_path", name],
        [name],
    ):
        assert experiments.run(*argv) in (2, 3, 4, 6), argv
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("error[E")
        assert not line.startswith("error[E100]")
        assert len(line) <= MAX_LETTERS


@pytest.mark.parametrize(
    "argv",
    [
        ["sync-tracking", "run", "--tracking_uri", ""],
        ["sweep", "--storage", " ", "--space", "x.yaml"],
        ["repeat", "--folder", ""],
        ["plot", "run", "--output", ""],
        ["encode", "--ckpt_path", ""],
    ],
)
def test_an_option_that_a_shell_left_empty_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert experiments.run(*argv) == 2
    assert "it is empty" in capsys.readouterr().err


# -- the form of all messages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("long", ["what", "where", "fix", "all"])
def test_no_message_is_longer_than_the_limit(long: str) -> None:
    parts: dict[str, Any] = {
        part: f"{part} begins{' x' * 500 * (long in (part, 'all'))} ends" for part in ("what", "where", "fix")
    }
    text = str(DataError(**parts, code=302))
    assert len(text) <= MAX_LETTERS
    assert re.fullmatch(r"error\[E302\]: what begins.* ends — where begins.* ends — fix begins.* ends", text)
    many = str(DefectsError([Defect(302, **parts), Defect(303, **parts)]))
    assert [len(line) <= MAX_LETTERS for line in many.splitlines()] == [True, True]


def test_line_ends_in_a_value_make_no_second_line() -> None:
    assert str(DataError("a\nb", "c", code=302)) == "error[E302]: a b — c"


def test_no_warning_is_longer_either(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_messages()
    logging.getLogger("cnn_lstm.any").warning("begins %s\n ends", "x" * 1000)
    line = capsys.readouterr().err.rstrip("\n")
    assert len(line) <= MAX_LETTERS
    assert re.fullmatch(r"warning: begins x+ \.\.\. x+ ends", line)


@pytest.mark.parametrize(("number", "text"), [(0, "0 gaps"), (1, "1 gap"), (2, "2 gaps"), (1000, "1,000 gaps")])
def test_one_of_a_thing_has_no_s(number: int, text: str) -> None:
    assert counted(number, "gap") == text


def test_no_message_counts_by_itself() -> None:
    """`counted` is the only place that knows when a plural has its s."""
    for file in (Path(__file__).parents[2] / "cnn_lstm").rglob("*.py"):
        found = re.findall(r"\{len\([^{}]*\)(?::,)?\} (?:gap|epoch|forecast|symbol)s\b", file.read_text())
        assert not found or file.parent.name in ("audit", "sources"), (file, found)


# -- devices -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("name", ["cuda", "cuda:3", "mps", "xpu", "gpu", "", "cpu:x", 3, 1.5])
def test_a_device_that_is_not_there_is_refused(name: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"E238.*no device .* here") as caught:
        Predictor.from_checkpoint(tmp_path / "none.ckpt", device=name)
    assert len(str(caught.value).splitlines()) == 1
    require_device("cpu", "device")
