"""`cnn-lstm data describe|check|build|clean`: what a data module would build, defects, its panel, what was kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnn_lstm import documents
from cnn_lstm.commands.parser import CommandParser
from cnn_lstm.data.description import build_text, check_plain, check_text, description, description_plain
from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.panel_cache import clean_text
from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import one_of
from cnn_lstm.runs.data_config import data_of

VERBS: dict[str, Callable[[MarketData], str]] = {
    "describe": description,
    "check": check_text,
    "build": build_text,
    "clean": lambda data: clean_text(data.cache),
}

# what `--json` prints
PLAIN: dict[str, Callable[[MarketData], dict[str, Any]]] = {"describe": description_plain, "check": check_plain}


def run(argv: list[str]) -> None:
    """Runs `data describe`, `data check`, `data build` or `data clean`.

    Args:
        argv: `data`, the verb, and the arguments of `fit` that choose the data.
    """
    parser = CommandParser(
        prog="cnn-lstm data",
        description="Builds the data of a configuration without training; every other option is passed on to fit, "
        "such as --config FILE and --data.KEY VALUE.",
    )
    parser.add_argument(
        "verb",
        metavar="describe|check|build|clean",
        help="describe: symbols, dates, rows, windows of each part, features, targets; "
        "check: every defect of the price table, exit code 3 if one is fatal; "
        "build: makes the panel in the folder of data.storage, or checks the one that is there; "
        "clean: removes the panels that were kept in data.cache",
    )
    options, argv_of_fit = parser.split(argv[1:] or ["--help"])
    if options.verb not in VERBS:
        raise ConfigError(f"unknown verb {options.verb!r}", parser.prog, one_of(options.verb, VERBS), code=225)
    data = data_of(argv_of_fit)
    if options.verb in PLAIN and documents.are_asked_for():
        documents.hand_over(PLAIN[options.verb](data))
    print(VERBS[options.verb](data), end="")
