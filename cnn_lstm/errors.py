"""Every error that a user can meet: what, where, what to do, and the exit code of the process.

The codes are stable: `error[E303]` is row 3 of the data table in docs/troubleshooting.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnn_lstm.credentials import without_credentials

MAX_LINES = 20
MAX_LETTERS = 400  # of one message: a value of a file or a library's text may have any length
CUT = " ... "
LINE = re.compile(r"error\[E(\d+)\]: (.*)")


def shortened(text: str, most: int = MAX_LETTERS) -> str:
    """A text without its middle if it is longer than a message may be; both ends of a path or a list say most.

    Args:
        text: The text.
        most: Letters that it may have.

    Example:
        >>> shortened("/a/rather/long/way/to/prices.csv", 20)
        '/a/rath ... ices.csv'
    """
    if len(text) <= most:
        return text
    kept = most - len(CUT)
    return f"{text[: kept // 2]}{CUT}{text[len(text) - (kept + 1) // 2 :]}"


def _one_line(text: str) -> str:
    """A part of a message without the line ends that a value in it may have."""
    return " ".join(text.split()) if "\n" in text or "\r" in text else text


class CnnLstmError(Exception):
    """An expected failure, reported in one line, without the passwords and tokens that a value in it may hold.

    Args:
        what: What is wrong.
        where: File and row, or symbol and date, with a count.
        fix: What the user can do.
        code: Number of the message; its first digit is the exit code.

    Attributes:
        symbols: Symbols that were asked for and have no row, where this is what failed.

    Example:
        >>> print(DataError("0 rows", "prices.csv", "give a table with at least one bar", code=302))
        error[E302]: 0 rows — prices.csv — give a table with at least one bar
    """

    exit_code = 1
    symbols: tuple[str, ...] = ()

    def __init__(self, what: str, where: str = "", fix: str = "", *, code: int | None = None) -> None:
        self.code = code if code is not None else self.exit_code * 100
        self.what, self.where, self.fix = (without_credentials(part) for part in (what, where, fix))
        super().__init__(self._text())

    def __reduce__(self) -> tuple[Any, ...]:
        """Goes to another process as it is; the default would take the whole line for `what`."""
        return _restored, (type(self), self.args), self.__dict__

    def _text(self) -> str:
        begin, parts = f"error[E{self.code}]: ", [_one_line(part) for part in (self.what, self.where, self.fix) if part]
        while len(text := begin + " — ".join(parts)) > MAX_LETTERS:
            longest = max(range(len(parts)), key=lambda k: len(parts[k]))
            parts[longest] = shortened(parts[longest], max(40, len(parts[longest]) - (len(text) - MAX_LETTERS)))
        return text


def _restored(kind: type[CnnLstmError], args: tuple[Any, ...]) -> CnnLstmError:
    return kind.__new__(kind, *args)


def error_of_line(line: str, exit_code: int, command: str) -> CnnLstmError:
    """What ended a command that ran elsewhere, from the line that it printed.

    Args:
        line: The line; its code and text are used from `error[E` on. Without that, the exit code is all that is known.
        exit_code: The exit code of the command.
        command: Its name.

    Example:
        >>> error = error_of_line("seed 42 failed: error[E302]: 0 rows", 3, "repeat")
        >>> print(error, error.code, error.exit_code)
        error[E302]: 0 rows — repeat 302 3
    """
    found = LINE.search(line)
    code, what = (int(found[1]), found[2]) if found else (100 * exit_code, f"it ended with exit code {exit_code}")
    error = CnnLstmError(what, command, code=code)
    error.exit_code = exit_code
    return error


class ConfigError(CnnLstmError, ValueError):
    """The command line, the YAML or an argument is wrong."""

    exit_code = 2


class DataError(CnnLstmError):
    """The price table is missing, damaged, or not what the configuration needs."""

    exit_code = 3


class CheckpointError(CnnLstmError):
    """The checkpoint is missing, damaged, unsafe, or does not fit the configuration."""

    exit_code = 4


class DivergedError(CnnLstmError):
    """The loss is not finite any more."""

    exit_code = 5


class ResourceError(CnnLstmError):
    """Disk, memory or a device ran out or is not there."""

    exit_code = 6


class TrackingError(CnnLstmError):
    """An experiment tracker failed and the user asked for it to be fatal."""

    exit_code = 7


class ValidityError(CnnLstmError):
    """The experiment would not mean what it says, for example a feature that holds the target."""

    exit_code = 8


@dataclass(frozen=True)
class Defect:
    """One finding about a price table: fatal, or a warning of something that was repaired.

    Attributes:
        code: Number of the message, for example 312.
        what: What is wrong.
        where: Symbol and date, or file and row, with a count.
        fix: What the user can do, or what was done.
        fatal: Whether the table is refused.
    """

    code: int
    what: str
    where: str
    fix: str
    fatal: bool = True


class DefectsError(DataError):
    """Several defects of one table, all reported at once.

    Example:
        >>> print(DefectsError([Defect(314, "price <= 0", "IBM @ 2001-02-03", "remove the row")]))
        error[E314]: price <= 0 — IBM @ 2001-02-03 — remove the row
    """

    def __init__(self, defects: Sequence[Defect]) -> None:
        self.defects = tuple(defects)
        super().__init__("defects", code=defects[0].code)

    def _text(self) -> str:
        lines = [str(DataError(d.what, d.where, d.fix, code=d.code)) for d in self.defects[:MAX_LINES]]
        if len(self.defects) > MAX_LINES:
            lines.append(f"... {len(self.defects) - MAX_LINES} more, {len(self.defects)} in all")
        return "\n".join(lines)


def require(holds: bool, what: str, where: str, fix: str, *, code: int = 224) -> None:
    """Refuses a setting.

    Args:
        holds: Whether it can be used.
        what: The setting and its value.
        where: Its section of the configuration.
        fix: What can be given instead.
        code: Number of the message.

    Raises:
        ConfigError: If it does not hold.

    Example:
        >>> require(0 > 1, "window=0", "data.window", "give at least 1")
        Traceback (most recent call last):
        cnn_lstm.errors.ConfigError: error[E224]: window=0 — data.window — give at least 1
    """
    if not holds:
        raise ConfigError(what, where, fix, code=code)


class TerminatedError(BaseException):
    """SIGTERM came; not an `Exception`, so that nothing takes it for a fault of its own."""


def interruption(error: BaseException) -> int | None:
    """Exit code of an interruption: 130 for Ctrl-C, 143 for SIGTERM; None for anything else.

    Lightning turns the first into a SystemExit with code 1 and the second into one with code 0; and what is cut off
    may fail while it is taken apart, so that the interruption is only the context of another error.

    Args:
        error: What ended a command.

    Example:
        >>> interruption(KeyboardInterrupt())
        130
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return 130
        if (
            isinstance(cause, TerminatedError) or type(cause).__name__ == "SIGTERMException"
        ):  # the latter is Lightning's
            return 143
        cause = cause.__context__
    return None
