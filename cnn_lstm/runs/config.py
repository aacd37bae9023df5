"""Configuration files: how they are read, keys of earlier versions, and values that no training can use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from cnn_lstm.errors import ConfigError
from cnn_lstm.plain_values import flattened
from cnn_lstm.runs.yaml_guard import MAX_BYTES, load_yaml

MAX_PATH = 255
# keys of earlier versions, and what they are called now; a file that was written then is read as if it were new
RENAMED = {
    "board": "tensorboard_plots",
    "strict": "same_prices",
    "data.checks.strict": "data.checks.refuse_unsorted",
}
# smallest value of a key, or of any key with that last part
SMALLEST = {
    "lr": 1e-12,
    "patience": 0,
    "seed_everything": 0,
    "ensemble": 1,
    "n_jobs": 1,
    "trainer.max_epochs": -1,  # no limit: early stopping, max_steps or max_time end the training
    "trainer.gradient_clip_val": 0,
    "trainer.accumulate_grad_batches": 1,
    "trainer.log_every_n_steps": 1,
    "trainer.check_val_every_n_epoch": 1,
}
# what a configuration may leave out
CLASS_DEFAULTS = {
    "model.network": {"class_path": "cnn_lstm.model.network.CNNLSTM"},
    "model.objective": {"class_path": "cnn_lstm.model.objectives.Point"},
    "data.source": {"class_path": "cnn_lstm.data.sources.SampleBars"},
    "data.split": {"class_path": "cnn_lstm.data.splits.FractionSplit"},
}
# a path or a name that a shell has left empty, where an empty one would mean the current folder, or nothing
NAMES = (
    "run_dir",
    "runs_dir",
    "tracking_uri",
    "experiment",
    "register_model",
    "ckpt_path",
    "calibration_from",
    "weights_from",
)
LARGEST = 2**63 - 1  # what the libraries take; an argument of an own class may be an epoch in nanoseconds
SEEDS = 2**32 - 1  # the largest seed of numpy and of Lightning
HIGHER_IS_BETTER = ("_r2", "_explained_variance", "_correlation", "accuracy", "_f1", "_mcc")
# sections that only a configuration of `fit` has
SECTIONS_OF_FIT = {"data", "model", "trainer"}


def read_config(file: Path, renamed: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The keys and values of a configuration file; nothing if it does not exist, or holds something else.

    Args:
        file: The configuration.
        renamed: Keys of earlier versions, and what they are called now; those of `fit` by default.

    Raises:
        ConfigError: E225, if it is a folder; E227, if it is not plain YAML.
    """
    if len(str(file)) > MAX_PATH:  # a configuration in place of a file
        return {}
    if file.is_dir():
        raise ConfigError("the configuration is a folder", str(file), f"give {file / 'config.yaml'}", code=225)
    if file.is_file() and file.stat().st_size > MAX_BYTES:  # before it is read
        what = f"a configuration of {file.stat().st_size >> 20} MiB"
        raise ConfigError(what, str(file), "keep it below 10 MiB", code=227)
    try:
        tree = load_yaml(file.read_text(encoding="utf-8")) if file.is_file() else None
    except OSError as error:
        reason = f"{file}: {error.strerror}"
        raise ConfigError("cannot read the configuration", reason, "correct the file's rights", code=225) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError("not plain YAML", f"{file}: {reason}", "write plain keys and values", code=227) from error
    keys = {str(key): value for key, value in tree.items()} if isinstance(tree, dict) else {}
    return with_current_keys(keys, RENAMED if renamed is None else renamed)


def with_current_keys(tree: dict[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """A configuration in which the keys of earlier versions have their new names; the same object without any.

    Args:
        tree: Keys and values of a file.
        renamed: The new dotted key by the old one, in the same section.

    Example:
        >>> with_current_keys({"board": {"windows": 3}, "quiet": True}, {"board": "tensorboard_plots"})
        {'tensorboard_plots': {'windows': 3}, 'quiet': True}
    """
    for old, new in renamed.items():
        section, _, rest = old.partition(".")
        inner = tree.get(section)
        if not rest and old in tree:
            name = new.rpartition(".")[2]
            tree = {name if key == old else key: value for key, value in tree.items()}
        elif rest and isinstance(inner, dict) and (changed := with_current_keys(inner, {rest: new})) is not inner:
            tree = tree | {section: changed}
    return tree


def is_of_fit(keys: Mapping[str, Any]) -> bool:
    """Whether the keys of a configuration are those of a forecaster."""
    return bool(SECTIONS_OF_FIT & {key.split(".")[0] for key in keys})


def check_values(config: Namespace) -> None:
    """Refuses numbers that no training can use, wherever they stand, and empty names.

    Raises:
        ConfigError: Naming the key.
    """
    for name in NAMES:
        if (text := config.get(name)) is not None and not str(text).strip():
            raise ConfigError(f"--{name} is empty", fix="give a value, or leave it out", code=224)
        if str(text or "").startswith("-"):  # as a word of a command it would be an option
            raise ConfigError(
                f"{name}={text} begins with -", fix="choose another name, or write ./ before it", code=224
            )
    check_numbers(config)
    _check_seeds(config)
    for callback in ("checkpoint", "early_stopping"):
        monitor, mode = config[callback].monitor, config[callback].mode
        if mode == "min" and str(monitor).endswith(HIGHER_IS_BETTER):
            where, fix = f"{callback}.monitor={monitor}", "higher is better: set mode to max"
            raise ConfigError(f"{callback}.mode=min", where, fix, code=224)


def check_numbers(config: Namespace) -> None:
    """Refuses numbers that no training can use, wherever they stand.

    Raises:
        ConfigError: Naming the key.
    """
    for key, value in flattened(config.as_dict(), into=bool).items():
        _check_number(key, value)


def _check_number(key: str, value: object) -> None:
    for number in value if isinstance(value, list | tuple) else [value]:
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigError(f"{key}={number}", fix="give a finite number", code=224)
        if isinstance(number, int) and abs(number) > LARGEST:
            raise ConfigError(f"{key}={number:.3g}", fix=f"give a whole number of at most {LARGEST}", code=224)
    smallest = SMALLEST.get(key, SMALLEST.get(key.rsplit(".", 1)[-1]))
    if smallest is not None and isinstance(value, int | float) and value < smallest:
        raise ConfigError(f"{key}={value}", fix=f"give at least {smallest:g}", code=224)


def _check_seeds(config: Namespace) -> None:
    """Refuses a seed that the libraries do not take; the members of an ensemble have the seed and those after it."""
    seed, members = config.get("seed_everything"), config.get("ensemble") or 1
    if not isinstance(seed, bool) and isinstance(seed, int) and seed + members - 1 > SEEDS:
        what = f"seed_everything={seed}" + (f" with ensemble={members}" if members > 1 else "")
        raise ConfigError(what, fix=f"give seeds of at most {SEEDS}", code=224)
