"""What a command has found, as one JSON document on the standard output: `--json`, for programs that call a command.

The command hands over what it found; the command line prints it at the end, and everything else goes to the errors.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any

STDOUT, STDERR = 1, 2
_found: ContextVar[dict[str, Any] | None] = ContextVar("what the command that runs has found", default=None)


def hand_over(document: Mapping[str, Any]) -> None:
    """Keeps what a command has found, where somebody asked for it; the last one counts.

    Args:
        document: Plain values.
    """
    found = _found.get()
    if found is not None:
        found.clear()
        found.update(document)


def are_asked_for() -> bool:
    """Whether somebody wants a document."""
    return _found.get() is not None


@contextmanager
def one_document() -> Iterator[None]:
    """Prints what the commands within have handed over as one JSON document, and nothing else to the standard output.

    Also what other processes print that are started within goes to the errors. What is not finite is null.

    Example:
        >>> import contextlib, io
        >>> with contextlib.redirect_stderr(io.StringIO()), one_document():
        ...     print("for people")
        ...     hand_over({"rows": 3, "share": float("nan")})
        {
          "rows": 3,
          "share": null
        }
    """
    found: dict[str, Any] = {}
    token = _found.set(found)
    output = sys.stdout
    try:
        with ExitStack() as stack:
            if (number := _descriptor(output)) is not None:
                for one in {number, STDOUT}:  # that of other processes is the second
                    _redirect(one, _descriptor(sys.stderr) or STDERR, stack)
                stack.callback(output.flush)
            stack.enter_context(redirect_stdout(sys.stderr))
            yield
    finally:
        _found.reset(token)
        if found:
            print(json.dumps(_finite(found), indent=2, allow_nan=False), file=output, flush=True)


def _redirect(number: int, other: int, stack: ExitStack) -> None:
    """Lets a descriptor lead elsewhere until the stack is left."""
    kept = os.dup(number)
    os.dup2(other, number)
    stack.callback(os.close, kept)
    stack.callback(os.dup2, kept, number)


def _descriptor(stream: Any) -> int | None:
    """Number of a stream that the system knows; None for one in memory."""
    try:
        stream.flush()
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value
