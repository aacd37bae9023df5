"""Objects that remember how they were built, as plain values that a checkpoint can hold.

A spec is `{"class_path": "package.Class", "init_args": {...}}`, the form that the YAML uses too. It holds
numbers, strings, lists and dicts only, so that a checkpoint loads with `weights_only=True`, and it is rebuilt
only when its class lies in a trusted package.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from datetime import date
from types import MappingProxyType
from typing import Any

from cnn_lstm.errors import CheckpointError, require

ARGUMENTS = "_init_args"  # attribute that remembers how an object was built
_trusted = {"cnn_lstm"}


def trust(*packages: str) -> None:
    """Allows classes and functions of these packages to be named in YAML, feature lists and checkpoints.

    On the command line this is `--trust-imports`; a file can never do it for itself.

    Args:
        packages: Names of packages or modules.

    Example:
        >>> trust("my_features")
        >>> is_trusted("my_features.spread.zscore"), is_trusted("os.system")
        (True, False)
    """
    _trusted.update(packages)


def trusted_packages() -> frozenset[str]:
    """This package and those given to `trust`."""
    return frozenset(_trusted)


def is_trusted(path: str) -> bool:
    """Whether an import path lies in a trusted package."""
    return path.split(".")[0] in _trusted


def defined_in(thing: object) -> str:
    """Module that holds the code of a class, a function or a callable object; empty where nothing says it.

    A name says where something is imported from, which may be elsewhere: `my_features.trust` may be our own.

    Example:
        >>> defined_in(functools.partial(trust)), defined_in(date.today())
        ('cnn_lstm.specs', 'datetime')
    """
    while isinstance(thing, functools.partial):
        thing = thing.func
    code = thing if isinstance(thing, type) or inspect.isroutine(thing) else type(thing)
    return getattr(code, "__module__", None) or ""


def is_of_user(thing: object) -> bool:
    """Whether a class or function lies in a package that was given to `trust`."""
    return defined_in(thing).split(".")[0] in _trusted - {"cnn_lstm"}


class Serializable:
    """Base of the classes whose constructor arguments travel with a checkpoint.

    Example:
        >>> class Greeting(Serializable):
        ...     def __init__(self, word: str = "hello", times: int = 1) -> None:
        ...         self.text = word * times
        >>> Greeting(times=2).spec()["init_args"]
        {'word': 'hello', 'times': 2}
    """

    _init_args: Mapping[str, Any] = MappingProxyType({})

    @property
    def init_args(self) -> Mapping[str, Any]:
        """Arguments that the constructor was given, and the defaults of the others, by name."""
        return self._init_args

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    def spec(self) -> dict[str, Any]:
        """Class path and arguments of this object, in plain values.

        Raises:
            TypeError: If an argument is not made of numbers, strings, lists and dicts.
        """
        return {"class_path": class_path(type(self)), "init_args": plain(self._init_args)}


def require_attributes(made: object, wanted: Mapping[str, type[Any]], where: str, fix: str) -> None:
    """Refuses an object of a user's class that lacks what its base class promises.

    Args:
        made: The object.
        wanted: Type of each attribute.
        where: Its section of the configuration.
        fix: What the class should do.

    Raises:
        ConfigError: E282, naming what is missing.
    """
    missing = [name for name, kind in wanted.items() if not isinstance(getattr(made, name, None), kind)]
    require(not missing, f"{type(made).__name__} has no {', '.join(missing)}", where, fix, code=282)


def class_path(cls: type[Any]) -> str:
    """Where a class is defined."""
    return f"{cls.__module__}.{cls.__qualname__}"


def imported(path: str) -> Any:
    """The class or function that an import path names."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: Serializable, *args: Any, **kwargs: Any) -> None:
        if ARGUMENTS not in self.__dict__:  # the outermost constructor comes first
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            self._init_args = dict(list(bound.arguments.items())[1:])
        init(self, *args, **kwargs)

    return wrapper


def plain(value: Any) -> Any:
    """Copy of a value with tuples as lists, numeric subclasses as numbers and dates as ISO text.

    Raises:
        TypeError: If it holds anything but numbers, strings, None, dates, lists and dicts.

    Example:
        >>> plain({"a": (1, 2.5)})
        {'a': [1, 2.5]}
    """
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise TypeError(f"a checkpoint holds plain values only, not {type(value).__name__}: {value!r}")


def built(value: object, base: type[Any]) -> Any:
    """The object itself, or the one that a spec describes; see `build`."""
    return build(value, base) if isinstance(value, Mapping) else value


def build(spec: Mapping[str, Any], base: type[Any]) -> Any:
    """The object that a spec describes.

    Args:
        spec: Class path and arguments, as `Serializable.spec` gives them.
        base: Class that the result must be an instance of.

    Raises:
        CheckpointError: If the class lies outside the trusted packages, is not a `base`, or refuses its arguments.
    """
    path = str(spec.get("class_path"))
    if not is_trusted(path):
        raise CheckpointError(
            f"the checkpoint names a class outside the trusted packages: {path}",
            fix=f"if you trust it, pass --trust-imports {path.split('.')[0]}, or call cnn_lstm.trust in Python",
            code=416,
        )
    try:
        cls = imported(path)
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise TypeError(f"it is not a {base.__name__}")
        return cls(**spec["init_args"])
    except Exception as error:  # anything that a constructor may raise
        raise CheckpointError(f"cannot build {path} of the checkpoint", str(error), code=417) from error
