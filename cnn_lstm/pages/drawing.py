"""What `plot` returns: plots that a notebook shows, and that a script can keep."""

from __future__ import annotations

import base64
import html
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cnn_lstm.errors import require
from cnn_lstm.files import write_whole
from cnn_lstm.pages.environment import Plot

ENDINGS = {"image/svg+xml": ".svg", "image/png": ".png"}


@dataclass(frozen=True)
class Drawing:
    """Plots with their captions.

    IPython shows them where `plot` is called, as plots of pyplot are, also in the middle of a cell.

    Attributes:
        plots: The plots.

    Example:
        >>> Drawing((Plot("Errors", "Lower is better.", "bars", "data:image/png;base64,AA=="),))
        <Drawing: Errors>
    """

    plots: tuple[Plot, ...]
    _shown: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"<Drawing: {'; '.join(plot.title for plot in self.plots)}>"

    def _repr_html_(self) -> str:
        return "\n".join(map(_figure, self.plots))

    def _ipython_display_(self) -> None:
        """IPython calls this for the last line of a cell; it does nothing in the cell that shows the drawing."""
        cell = _cell()
        if cell not in self._shown:
            self._show(cell)

    def shown(self) -> Drawing:
        """Shows the drawing where IPython runs; returns it."""
        cell = _cell()
        if cell is not None:
            self._show(cell)
        return self

    def _show(self, cell: int | None) -> None:
        display: Any = sys.modules["IPython.display"]
        if cell is not None:
            self._shown[:] = [cell]
        display.display(display.HTML(self._repr_html_()))

    def save(self, path: str | Path) -> list[Path]:
        """Writes each plot to a file.

        Args:
            path: The file, with the ending of the plots: .svg, or .png for a history. Of several plots the first one
                has this name, and the others a number behind it.

        Returns:
            The files.

        Raises:
            ConfigError: E224, if the file has another ending.
            ResourceError: If a file cannot be written.
        """
        return list(self._saved(Path(path)))

    def _saved(self, path: Path) -> Iterator[Path]:
        for number, plot in enumerate(self.plots, start=1):
            kind, _, content = plot.uri.removeprefix("data:").partition(";base64,")
            ending = ENDINGS[kind]
            require(path.suffix.lower() == ending, f"the plot {path.name!r}", "save", f"end its name in {ending}")
            file = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
            write_whole(file, partial(Path.write_bytes, data=base64.b64decode(content)))
            yield file


def _figure(plot: Plot) -> str:
    """A plot in HTML; names of symbols are texts of a user."""
    title, caption, alt = (html.escape(text) for text in (plot.title, plot.caption, plot.alt))
    image = f'<img src="{plot.uri}" alt="{alt}" style="max-width:100%">'
    return f"<figure><b>{title}</b><br>{image}<figcaption>{caption}</figcaption></figure>"


def _cell() -> int | None:
    """Number of the cell that IPython runs; None in any other program."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None or "IPython.display" not in sys.modules else ipython.get_ipython()
    return None if shell is None else int(shell.execution_count)
