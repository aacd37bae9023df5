"""The data of a configuration, for commands that train nothing: without Lightning wherever its parser is not needed.

The sections of data, model and evaluation are parsed as a fit parses them. The others hold plain values almost always,
see `plain_keys`. Whatever is not surely right goes to the parser of the fit, whose verdict and words are the only ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import jsonargparse
from jsonargparse import Namespace
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cnn_lstm.bounded import DIGEST, has_its_digest
from cnn_lstm.credentials import MASK
from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.sources.sql import SqlBars
from cnn_lstm.errors import ConfigError
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.model.forecast_model import ForecastModel
from cnn_lstm.model.linear import Mode
from cnn_lstm.model.network import Backbone
from cnn_lstm.model.objectives import Objective
from cnn_lstm.plain_values import flattened
from cnn_lstm.runs.appended import with_meant_lists
from cnn_lstm.runs.argv import config_files, explicit_flags, flags_of
from cnn_lstm.runs.config import CLASS_DEFAULTS, check_numbers
from cnn_lstm.runs.config_files import check_keys, with_read_files
from cnn_lstm.runs.messages import set_up_messages
from cnn_lstm.runs.named_code import require_declared
from cnn_lstm.runs.parser_errors import one_line_errors
from cnn_lstm.runs.plain_keys import PLAIN
from cnn_lstm.runs.symbols_text import with_listed_symbols
from cnn_lstm.runs.yaml_guard import guard_parser, read_nothing
from cnn_lstm.training.run_folder import SAVED

DATA, MODEL = "data", "model"
ENVIRONMENT = "JSONARGPARSE_DEFAULT_ENV"  # the switch of Lightning's parser
OTHERS = sorted({key.split(".")[0] for key in PLAIN})
# arguments of `Forecaster`, with what they are by default
OF_MODEL: Mapping[str, tuple[Any, Any]] = {
    "network": (Backbone, None),
    "objective": (Objective | None, None),
    "optimizer": (Callable[[Iterable[Any]], Optimizer], None),
    "scheduler": (Callable[[Optimizer], LRScheduler] | None, None),
    "scheduler_interval": (Literal["epoch", "step"], "epoch"),
    "linear": (Mode | Literal[False], "fixed"),
    "samples": (int, 0),
}


class NotSureError(Exception):
    """The parser of a fit has to look at a configuration."""


def data_of(argv: Sequence[str], command: Literal["fit", "test"] = "fit") -> MarketData:
    """The data of a configuration, as a command would build them.

    Args:
        argv: Arguments of the command.
        command: Its name.

    Raises:
        ConfigError: If the configuration is wrong, in whatever section.
    """
    return data_and_evaluation(argv, command)[0]


def data_of_run(config: Path, named: bool, argv: Sequence[str] = ()) -> MarketData:
    """The data of the configuration of a run, see `data_and_evaluation_of_run`."""
    return data_and_evaluation_of_run(config, named, argv)[0]


def data_and_evaluation_of_run(config: Path, named: bool, argv: Sequence[str] = ()) -> tuple[MarketData, Evaluation]:
    """The data and the settings of the configuration of a run, for a command that is given the run.

    A folder may come from anybody, and a server that it names would get what the environment holds for the user's own.

    Args:
        config: The configuration.
        named: Whether the user has named this file, and so trusts it.
        argv: Options of data that count instead of its keys.

    Raises:
        ConfigError: E258, if the prices are those of a server that only the run folder names; as `data_of`.
    """
    data, settings = data_and_evaluation(["--config", str(config), *argv], "test")
    if isinstance(data.source, SqlBars) and not data.source.local and not named:
        fix = "name the file by --config, if you trust it"
        what = "the prices are those of a server that only the run folder names"
        raise ConfigError(what, str(config), fix, code=258)
    return data, settings


def data_and_evaluation(argv: Sequence[str], command: Literal["fit", "test"] = "fit") -> tuple[MarketData, Evaluation]:
    """The data of a configuration, and the settings of the evaluation.

    Args:
        argv: Arguments of the command.
        command: Its name.

    Raises:
        ConfigError: If the configuration is wrong, in whatever section.
    """
    set_up_messages()
    try:
        return _without_a_trainer(argv, command)
    except (Exception, SystemExit):  # whatever it is, the parser of the fit meets it again, and has the words for it
        try:
            from cnn_lstm.runs.forecast_cli import parsed
        except ModuleNotFoundError as error:  # no Lightning, and so no other parser
            if str(error.name).startswith("cnn_lstm"):
                raise
            return _alone(argv, command)
        fallback = parsed([command, *argv])
        return fallback.build_data(), fallback.evaluation


def _without_a_trainer(argv: Sequence[str], command: str) -> tuple[MarketData, Evaluation]:
    """The data of a configuration that is surely right.

    Raises:
        NotSureError: If something is not sure; it may raise anything else for the same reason.
    """
    _require(ENVIRONMENT not in os.environ)  # variables may hold keys, by the names of the fit
    files = config_files(argv)
    _require(all(_is_about_data(word) for word in argv if word.startswith("-")))
    written = [_was_written(file) for file in files]
    guard_parser()
    parser = _parser(with_model=not written or not all(written))
    config = _config_of(parser, argv, files)
    require_declared(config)
    check_numbers(config)
    _require(not any(MASK in str(value) for value in flattened(config.as_dict()).values()))
    _require(command != "fit" or config.data.fit_on == "train")  # a final fit needs a calibration
    if not written or not all(written):
        _require(all(key in PLAIN and PLAIN[key](value) for key, value in _others(config)))
    return _built(parser, config)


def _config_of(parser: jsonargparse.ArgumentParser, argv: Sequence[str], files: Sequence[Path]) -> Namespace:
    """A configuration, parsed."""
    known = {action.dest for action in parser._actions}
    check_keys(list(files), known | PLAIN.keys() | {f"{MODEL}.{name}" for name in OF_MODEL})
    explicit = explicit_flags(with_listed_symbols(argv), flags_of(parser))
    words = with_read_files(explicit, {DATA, MODEL})
    return parser.parse_args(with_meant_lists(words, lambda before, key: parser.parse_args(before).get(key)))


def _alone(argv: Sequence[str], command: str) -> tuple[MarketData, Evaluation]:
    """The data of a configuration where Lightning is not installed; its other sections are neither built nor checked.

    Raises:
        ConfigError: If the section of data is wrong, or an option is about something else.
    """
    for word in argv:
        if word.startswith("-") and not _is_about_data(word):
            fix = "leave it out, or install the whole package: pip install cnn-lstm"
            raise ConfigError(f"{word.partition('=')[0]} needs Lightning", "this environment", fix, code=298)
    guard_parser()
    parser = _parser(with_model=False)
    with one_line_errors(command, {action.dest for action in parser._actions}):
        config = _config_of(parser, argv, config_files(argv))
        config[MODEL] = None
        for key in OTHERS:
            config[key] = None
        require_declared(config)
        check_numbers(config)
        for key, value in flattened(config.as_dict()).items():
            if MASK in str(value):
                fix = f"give it again: --{key}=..., or let the class read an environment variable"
                raise ConfigError(f"{key} is {MASK}: secrets are not saved", "config.yaml", fix, code=295)
        return _built(parser, config)


def _require(sure: bool) -> None:
    if not sure:
        raise NotSureError


def _is_about_data(word: str) -> bool:
    option = word.partition("=")[0]
    ours = option.startswith((f"--{DATA}.", "--evaluation.")) and not option.endswith(".help")
    return ours or option in ("--config", "-c")


def _was_written(file: Path) -> bool:
    """Whether a file is the configuration of a run, as a fit of this version has checked and written it.

    Raises:
        NotSureError: If it was changed since.
    """
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    _require(has_its_digest(text))
    try:
        begins = f"{SAVED}{version('lightning')}\n"
    except PackageNotFoundError:  # its digest says that a fit wrote it, and nothing here reads it otherwise
        begins = SAVED
    return f"# {DIGEST}" in text and text.startswith(begins)


def _parser(with_model: bool) -> jsonargparse.ArgumentParser:
    """Parser of the sections of data, evaluation and model, which takes every value for all other keys."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("-c", "--config", action="config")
    parser.add_class_arguments(MarketData, DATA, fail_untyped=False, sub_configs=True)
    parser.add_class_arguments(Evaluation, "evaluation")
    for key in OTHERS:
        parser.add_argument(f"--{key}", type=Any)
    defaults = {key: value for key, value in CLASS_DEFAULTS.items() if with_model or key.startswith(DATA)}
    if with_model:
        for name, (kind, default) in OF_MODEL.items():
            parser.add_argument(f"--{MODEL}.{name}", type=kind, default=default)
        parser.link_arguments("data.n_features", "model.network.init_args.n_features", apply_on="instantiate")
    else:
        parser.add_argument(f"--{MODEL}", type=Any)
    parser.set_defaults(defaults)
    read_nothing(parser)
    return parser


def _others(config: Namespace) -> Iterable[tuple[str, Any]]:
    """Dotted keys and values that the parser has taken as they are."""
    for key in OTHERS:
        value = config[key]
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", inner) for name, inner in value.items())
        elif value is not None:
            yield key, value


def _built(parser: jsonargparse.ArgumentParser, config: Namespace) -> tuple[MarketData, Evaluation]:
    """Data and settings, after a model was built for them; nothing that another key may name is built."""
    for key in OTHERS if isinstance(config.model, Namespace) else (*OTHERS, MODEL):
        config[key] = None
    built = parser.instantiate_classes(config)
    data: MarketData = built.data
    if (model := built.model) is not None:
        _require(model.samples >= 0)
        ForecastModel(model.network, model.objective, data.n_targets, model.linear)
    return data, Evaluation(**config.evaluation.as_dict())
