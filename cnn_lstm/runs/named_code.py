"""What code a parsed configuration may name: declared classes, and what the user trusts on the command line.

The parser imports nothing outside of a short list of modules, see `yaml_guard`. These modules hold functions and
helpers too, and a function that runs where a rate is asked for could do anything. So each name is looked at once more
before anything is built or called.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

import torch
from jsonargparse import Namespace

from cnn_lstm.data.sources.base import PriceSource
from cnn_lstm.errors import ConfigError
from cnn_lstm.runs.config_files import DOWNLOAD, is_address
from cnn_lstm.specs import Serializable, class_path, defined_in, is_of_user

# what a class of ours must be, to be named in a file
DECLARED: tuple[type, ...] = (
    *(Serializable, PriceSource),
    *(torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, torch.nn.Module),
)
OF_A_TRAINER = (("lightning.pytorch", "Callback"), ("lightning.pytorch.loggers", "Logger"))
# endings of modules of settings, whose dataclasses the parser names by itself
SETTINGS = ("data.checks", ".settings")
# functions that a network of PyTorch takes, such as its activation
FUNCTIONS = "torch.nn.functional"
# keys whose values are addresses or texts, or checkpoints, which have a message of their own
FREE = ("tracking_uri", "experiment", "register_model", "ckpt_path", "calibration_from", "weights_from", "expires")
# of `SqlBars`, which no other source of ours has: a database is asked for rows, and no file is fetched
DATABASE = "data.source.init_args.url"
FOLDERS = ("save_dir", "root_dir", "log_dir", "dir", "dirpath")  # of a logger


def require_declared(config: Namespace) -> None:
    """Refuses a configuration that names a function, a helper of ours, or an address where a file is meant.

    Args:
        config: As the parser returns it, before anything of it is built.

    Raises:
        ConfigError: E291, for an address; E292, for anything else, naming its key.
    """
    for key, value in _values("", config, free=False):
        if isinstance(value, str) and not key.endswith(".class_path"):
            _require_local(key, value)
        else:
            _require_class(key, value)


def _values(key: str, value: Any, free: bool) -> Iterator[tuple[str, Any]]:
    """Texts, and classes and functions that are named, each with its dotted key; no text of a user's own class."""
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        named = value.get("class_path")
        if isinstance(named, str):
            found = _imported(named)
            yield f"{key}.class_path", named if found is None else found
            free = free or is_of_user(found)
        for name, inner in value.items():
            if name != "class_path" or not isinstance(named, str):
                yield from _values(f"{key}.{name}".lstrip("."), inner, free)
    elif isinstance(value, list | tuple | set):
        for inner in value:
            yield from _values(key, inner, free)
    elif callable(value) or (isinstance(value, str) and not free):
        yield key, value


def _imported(path: str) -> Any:
    """The object of an import path that the parser has imported already."""
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    if found is None and module:  # a class inside of another one
        found = getattr(_imported(module), name, None)
    return found


def _require_class(key: str, value: Any) -> None:
    """Refuses what is not a class that may be named."""
    if isinstance(value, str):  # where the parser expects no class it has not looked for one
        raise _refused(key, f"{value} is not a class for this place")
    module = defined_in(value)
    if is_of_user(value) or module == FUNCTIONS or (module.endswith(SETTINGS) and is_dataclass(value)):
        return
    if not isinstance(value, type):
        name = getattr(value, "__name__", type(value).__name__)
        raise _refused(key, f"{module}.{name} is not a class")
    if module.startswith("cnn_lstm") and (value.__name__.startswith("_") or not _is_declared(value)):
        raise _refused(key, f"{class_path(value)} is not a class for configurations")


def _is_declared(value: type) -> bool:
    """Whether a class is one of `DECLARED`, or a trainer's: of these there are none where Lightning is not imported."""
    of_a_trainer = [getattr(sys.modules[module], name) for module, name in OF_A_TRAINER if module in sys.modules]
    return issubclass(value, (*DECLARED, *of_a_trainer))


def _refused(key: str, what: str) -> ConfigError:
    fix = "name a class that fits here; docs/command_line.md says what a file may name"
    return ConfigError(what, key, fix, code=292)


def _require_local(key: str, value: str) -> None:
    parts = key.split(".")
    elsewhere = ("logger" in parts and parts[-1] not in FOLDERS) or key == DATABASE
    if is_address(value) and not elsewhere and parts[0] not in FREE:
        raise ConfigError(f"{value} is an address", key, DOWNLOAD, code=291)
