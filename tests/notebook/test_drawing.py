"""Plots show themselves where they are called, once a cell."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from cnn_lstm.pages.drawing import Drawing
from cnn_lstm.pages.environment import Plot

PLOT = Plot("Errors <by year>", "Lower & better.", 'bars "of" errors', "data:image/png;base64,AAEC")


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for IPython: the number of its cell, and what it has shown."""
    state = SimpleNamespace(execution_count=1, shown=[])
    package, display = ModuleType("IPython"), ModuleType("IPython.display")
    package.get_ipython = lambda: state  # type: ignore[attr-defined]
    display.HTML = str  # type: ignore[attr-defined]
    display.display = state.shown.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return state


def test_a_plot_is_shown_where_it_is_called_and_once_a_cell(cells: SimpleNamespace) -> None:
    drawing = Drawing((PLOT,)).shown()
    drawing._ipython_display_()  # the last line of the same cell
    assert len(cells.shown) == 1
    cells.execution_count = 2
    drawing._ipython_display_()  # named again in the next one
    assert len(cells.shown) == 2


def test_outside_of_ipython_nothing_is_shown() -> None:
    drawing = Drawing((PLOT,))
    assert drawing.shown() is drawing
    assert "IPython" not in sys.modules or not drawing._shown


def test_texts_are_escaped() -> None:
    shown = Drawing((PLOT,))._repr_html_()
    assert "Errors &lt;by year&gt;" in shown
    assert "Lower &amp; better." in shown
    assert 'alt="bars &quot;of&quot; errors"' in shown


def test_several_plots_are_several_files(tmp_path: object) -> None:
    files = Drawing((PLOT, PLOT)).save(f"{tmp_path}/errors.png")
    assert [file.name for file in files] == ["errors.png", "errors-2.png"]
    assert all(file.read_bytes() == b"\x00\x01\x02" for file in files)
