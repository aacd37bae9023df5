"""Commands called from Python: what ends them comes as an exception, and what they print may be kept."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import yaml

from cnn_lstm.credentials import keep_out_of_logs
from cnn_lstm.errors import LINE, TerminatedError, error_of_line, interruption


@contextmanager
def command(name: str, quiet: bool = False) -> Iterator[None]:
    """Runs a command of ours in here: an exit becomes an exception, for a notebook would end with it.

    Args:
        name: Its name.
        quiet: Whether nothing of what it prints is shown but warnings.

    Raises:
        CnnLstmError: If the command ended with an exit code, which is that of the error; with the first error line of
            its runs.
        KeyboardInterrupt: If it was interrupted, with advice on how to go on.
    """
    keep_out_of_logs()
    errors, output = _Kept(), io.StringIO()
    try:
        with redirect_stderr(errors), redirect_stdout(output if quiet else sys.stdout):
            yield
    except SystemExit as error:
        code = interruption(error)
        if code is not None:
            raise _interrupted(error, code) from error
        number = error.code if isinstance(error.code, int) else 1
        if number:
            raise error_of_line(errors.line, number, name) from error


class _Kept(io.TextIOBase):
    """Hands everything on to the errors of this process, and keeps the first line that names an error."""

    def __init__(self) -> None:
        self.line, self._stream = "", sys.stderr

    def write(self, text: str) -> int:
        if not self.line and LINE.search(text):
            self.line = text
        return self._stream.write(text)

    def flush(self) -> None:
        if not self._stream.closed:  # Python flushes an object that it forgets
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


def _interrupted(error: BaseException, code: int) -> BaseException:
    stopped = KeyboardInterrupt() if code == 130 else TerminatedError()
    for note in getattr(error, "__notes__", ()):
        stopped.add_note(note)
    return stopped


def options(values: Mapping[str, Any]) -> list[str]:
    """Dotted keys and plain values as options of a command.

    Args:
        values: For example `{"evaluation.fee_bp": 2}`.

    Example:
        >>> options({"evaluation.fee_bp": 2, "csv": True, "data.symbols": ["IBM"]})
        ['--evaluation.fee_bp=2', '--csv=true', '--data.symbols=[IBM]']
    """
    return [f"--{key}={_word(value)}" for key, value in values.items()]


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(yaml.safe_dump(value, default_flow_style=True, width=10**9)).removesuffix("...\n").strip()
