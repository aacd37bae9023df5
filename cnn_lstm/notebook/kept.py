"""What a command that makes several runs has written into their folder, for a notebook."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cnn_lstm.files import read_json


@dataclass(frozen=True, repr=False)
class KeptRuns:
    """The folder of several runs, with what the command has printed of them.

    Attributes:
        folder: The folder of all runs.
    """

    command: ClassVar[str]
    file: ClassVar[str]  # without its suffix

    folder: Path

    @property
    def result(self) -> dict[str, Any]:
        """What the command's file holds in plain values, as docs/command_line.md describes it.

        Raises:
            DataError: If it is missing or damaged.
        """
        return read_json(self.folder / f"{self.file}.json", f"result of a {self.command}")

    def __repr__(self) -> str:
        text = (self.folder / f"{self.file}.txt").read_text(encoding="utf-8")
        return f"{text}{self.command} folder: {self.folder}"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"
