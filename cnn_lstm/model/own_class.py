"""A forecaster of a class that the user derives from `Forecaster`: what its checkpoint says of it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from cnn_lstm import specs
from cnn_lstm.errors import ConfigError
from cnn_lstm.model.forecast_model import ForecastModel
from cnn_lstm.model.network import Backbone
from cnn_lstm.model.objectives import Objective

CLASS = "_class_path"  # the name that Lightning's command line has for it, among the hyperparameters
OF_OURS = ("network", "objective", "n_targets", "linear")
_OWN = "_own_arguments"


def remembering(init: Callable[..., None], known: Mapping[str, Any]) -> Callable[..., None]:
    """A constructor that keeps the arguments which the base class does not have.

    An argument of the base class that has no type here gets that of the base class, so that a command line knows it.

    Args:
        init: The constructor of a derived class.
        known: Types of the parameters of the base class.
    """
    signature = inspect.signature(init)
    for name in known.keys() & signature.parameters.keys():
        init.__annotations__.setdefault(name, known[name])

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs.pop(CLASS, None)  # `load_from_checkpoint` hands on whatever a checkpoint says
        if _OWN not in self.__dict__:  # the outermost constructor comes first
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            given = dict(list(bound.arguments.items())[1:])
            for name, parameter in signature.parameters.items():
                if parameter.kind == parameter.VAR_KEYWORD:
                    given |= given.pop(name)
            self.__dict__[_OWN] = {name: value for name, value in given.items() if name not in known}
        init(self, *args, **kwargs)

    return wrapper


def own_values(model: ForecastModel, base: type[ForecastModel]) -> dict[str, Any]:
    """What a checkpoint adds for a derived class: its path, and the arguments that it alone has; nothing for the base.

    Args:
        model: The forecaster.
        base: The class that needs no word about itself.

    Raises:
        ConfigError: E286, if an argument is more than numbers, texts and lists.
    """
    if type(model) is base:
        return {}
    values = {CLASS: specs.class_path(type(model))}
    for name, value in model.__dict__.get(_OWN, {}).items():
        try:
            values[name] = specs.plain(value)
        except TypeError as error:
            what = (
                f"{type(model).__name__} has the argument {name}, a {type(value).__name__}, which no checkpoint holds"
            )
            raise ConfigError(what, "model", "give numbers, texts or lists of them", code=286) from error
    return values


def untrained(plain: Mapping[str, Any]) -> ForecastModel:
    """The forecaster that a checkpoint describes, without its weights.

    Args:
        plain: Its hyperparameters.

    Raises:
        CheckpointError: If a class is not trusted, or cannot be built.
    """
    parts = {
        "network": specs.build(plain["network"], Backbone),
        "objective": specs.build(plain["objective"], Objective),
        "n_targets": plain["n_targets"],
        "linear": plain.get("linear", "off"),
    }
    if CLASS not in plain:
        return ForecastModel(**parts)
    own = {name: value for name, value in plain.items() if name not in (*OF_OURS, CLASS)}
    model: ForecastModel = specs.build({"class_path": plain[CLASS], "init_args": parts | own}, ForecastModel)
    return model


def class_of(plain: Mapping[str, Any]) -> str | None:
    """The class path of a derived class, of the hyperparameters of a checkpoint; None for ours."""
    return plain.get(CLASS)


def without_objects(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint without the networks that Lightning's `load_from_checkpoint(network=...)` puts into it."""
    plain = checkpoint.get("hyper_parameters")
    if not isinstance(plain, Mapping):
        return dict(checkpoint)
    kept = {name: value for name, value in plain.items() if not isinstance(value, nn.Module)}
    return {**checkpoint, "hyper_parameters": kept}
