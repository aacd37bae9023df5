"""A data module and settings of Python as the YAML of a fit, and the other way round.

The YAML is parsed and written by the commands' own parser, so that both doors mean the same by every key.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cnn_lstm.data.checks import KEYS
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.known_future import KnownFuture
from cnn_lstm.data.side_files import kept_frame
from cnn_lstm.data.sources.base import PriceSource
from cnn_lstm.data.sources.column_names import our_name
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.data.sources.frame import FrameBars
from cnn_lstm.data.splits import FractionSplit
from cnn_lstm.data.static_columns import StaticColumns
from cnn_lstm.errors import CnnLstmError, ConfigError, require
from cnn_lstm.model.network import Backbone
from cnn_lstm.runs import forecast_cli
from cnn_lstm.runs.argv import word_of
from cnn_lstm.shipped import config_path
from cnn_lstm.specs import Serializable, class_path, is_trusted, plain

Settings = Mapping[str, Any] | str | Path | None
RUNS = "runs"
FRAMES = ".prices"  # in the folder of all runs
WHERE = "the settings"


class Experiment(NamedTuple):
    """What a YAML file of a fit says: `fit(*from_yaml(text))` fits it.

    Attributes:
        data: Its data.
        settings: All other sections in plain values.
    """

    data: MarketDataModule
    settings: dict[str, Any]


def to_yaml(data: MarketDataModule | None = None, settings: Settings = None, *, folder: str | Path = RUNS) -> str:
    """An experiment of Python as YAML text for `cnn-lstm fit --config`, with every key, as a run's config.yaml has it.

    A frame cannot be named in YAML: it is written to `FOLDER/.prices`, to a Parquet file that is named after its
    content, and the YAML names this file by its whole path.

    Args:
        data: The data; those of the settings by default.
        settings: See `fit`.
        folder: Folder of all runs, for frames.

    Returns:
        The text; a password in it is `***`.

    Raises:
        ConfigError: As `fit`.

    Example:
        >>> text = to_yaml(MarketDataModule(window=30), {"trainer.max_epochs": 5})
        >>> [line.strip() for line in text.splitlines() if "window:" in line or "max_epochs:" in line]
        ['max_epochs: 5', 'window: 30']
    """
    with argv_of(data, settings, Path(folder)) as argv:
        return forecast_cli.parsed(["fit", *argv]).config_text


def from_yaml(config: str | Path) -> Experiment:
    r"""The data module and the settings of a YAML file of `fit`.

    Args:
        config: The file, or the text itself, which has a line end.

    Raises:
        ConfigError: If it is wrong.

    Example:
        >>> data, settings = from_yaml("data: {window: 30}\ntrainer: {max_epochs: 5}")
        >>> data.n_targets, settings["trainer"]["max_epochs"]
        (1, 5)
    """
    with argv_of(None, config, Path(RUNS)) as argv:
        cli = forecast_cli.parsed(["fit", *argv])
        settings: dict[str, Any] = yaml.safe_load(cli.config_text)
        settings.pop("data")
        return Experiment(cli.build_data(), settings)


@contextmanager
def argv_of(data: MarketDataModule | None, settings: Settings, folder: Path) -> Iterator[list[str]]:
    """The arguments of `fit` that stand for data and settings, whose files are there within the `with` block.

    Args:
        data: The data, which take the place of the settings' whole section `data`.
        settings: See `fit`.
        folder: Where frames are kept.
    """
    with tempfile.TemporaryDirectory() as place:
        files = []
        if isinstance(settings, Path) or (isinstance(settings, str) and "\n" not in settings):
            file = shipped_or(settings)
            require(file.is_file(), "no such file", str(settings), "give a YAML file, or its text", code=201)
            files.append(file)
        elif settings is not None:
            files.append(Path(place) / "settings.yaml")
            text = settings if isinstance(settings, str) else _text(_nested(_of_mapping(settings)))
            files[-1].write_text(text, encoding="utf-8")
        if data is not None:
            files.append(Path(place) / "data.yaml")
            files[-1].write_text(_text({"data": _data_section(data, folder)}), encoding="utf-8")
        try:
            yield [word for file in files for word in ("--config", word_of(file))]
        except CnnLstmError as error:
            _rename(error, place)
            raise


def shipped_or(file: str | Path) -> Path:
    """The file that the package carries under a name, as `volatility` or `sweep/quick`; else the file as it is given.

    Args:
        file: What the user gave.

    Example:
        >>> shipped_or("sweep/quick").name, str(shipped_or("mine.yaml"))
        ('quick.yaml', 'mine.yaml')
    """
    return (config_path(file) if isinstance(file, str) else None) or Path(file)


def _rename(error: CnnLstmError, place: str) -> None:
    """Lets an error speak of the settings, not of a file that is gone."""
    for name in ("what", "where", "fix"):
        text = getattr(error, name)
        for file, thing in (("settings.yaml", WHERE), ("data.yaml", "the data module")):
            text = text.replace(str(Path(place) / file), thing)
        setattr(error, name, text)
    error.args = (error._text(),)


def _text(tree: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True)


def _of_mapping(settings: object) -> Mapping[str, Any]:
    if not isinstance(settings, Mapping):
        fix = "give a mapping such as {'trainer.max_epochs': 5}, a YAML file, or its text"
        raise ConfigError(f"settings are {type(settings).__name__}", WHERE, fix, code=225)
    return settings


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values by section; a dotted key goes into its section."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *sections, name = str(key).split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
            known = isinstance(place, dict)
            require(known, f"{key} goes into {section}, which has a value", WHERE, "give one of them", code=225)
        made = _plain(value, str(key))
        place[name] = place[name] | made if isinstance(place.get(name), dict) and isinstance(made, dict) else made
    return tree


def _data_section(data: MarketDataModule, folder: Path) -> dict[str, Any]:
    """Every argument of a data module, so that nothing of another `data` section is left over."""
    if type(data) is not MarketDataModule:  # what a subclass does has no key
        fix = "give a MarketDataModule(prices, ...)"
        raise ConfigError(f"the data are {type(data).__name__}", "data", fix, code=225)
    given = {**data.init_args, "source": _nameable(data.source, folder), "targets": data.targets}
    given |= {name: _nameable_table(given[name], folder) for name in ("known_future", "static")}
    given["split"] = given["split"] or FractionSplit()  # not that of the data, which may keep dates of a checkpoint
    return {name: _plain(value, f"data.{name}") for name, value in given.items()}


def _nameable(source: PriceSource, folder: Path) -> PriceSource:
    """A source that YAML can name: of a frame its file."""
    if not isinstance(source, FrameBars):
        return source
    names: dict[str, str | int] = {name: name for name in map(str, source.table) if name not in KEYS}
    kept = all(our_name(name) == name for name in names)  # else files would give own columns other names
    return PriceFiles(str(source.write(folder / FRAMES).resolve()), columns=None if kept else names)


def _nameable_table(side: KnownFuture | StaticColumns | None, folder: Path) -> KnownFuture | StaticColumns | None:
    """A table next to the prices that YAML can name: of a frame its file."""
    if side is None or side.table is None or isinstance(side.table, str | Path):
        return side
    file = kept_frame(side.table, folder / FRAMES)
    return dataclasses.replace(side, table=str(file.resolve()))


def _plain(value: Any, key: str) -> Any:
    """A value as YAML writes it; an object that remembers how it was built becomes its class and its arguments.

    Raises:
        ConfigError: E225, if it has no such form; E228, if its class is defined in the notebook.
    """
    if isinstance(value, Serializable):
        _require_module(type(value), key)
        arguments = dict(value.init_args)
        if isinstance(value, Backbone):
            arguments.pop("n_features", None)  # the data say it
        return {"class_path": class_path(type(value)), "init_args": _plain(arguments, key)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name), key) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, key) for item in value]
    try:
        return str(value) if isinstance(value, Path) else plain(value)
    except TypeError:
        fix = "give numbers, texts, lists, or {'class_path': ..., 'init_args': {...}}"
        raise ConfigError(f"{key} is a {type(value).__name__}, which YAML cannot hold", WHERE, fix, code=225) from None


def _require_module(kind: type[Any], key: str) -> None:
    """Refuses a class that no other process can import, unless the user trusts this program."""
    fix = "put it into a module, and call cnn_lstm.trust with the module's name"
    named = kind.__module__ != "__main__" or is_trusted("__main__")
    require(named, f"the class {kind.__name__} is defined in this notebook or program", key, fix, code=228)
