"""An empty plot of the report, its axes, and how it becomes an SVG in a data address."""

from __future__ import annotations

import base64
import io

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from cnn_lstm.pages.environment import Plot

WIDTH, HEIGHT = 4.5, 2.7  # inches; small, so that the text is readable on a phone
LEFT, RIGHT, TOP, BOTTOM = 0.66, 0.12, 0.3, 0.46  # margins by hand, a solver takes longer than the drawing
SMALL = 1e-4


def empty_axes() -> tuple[Figure, Axes]:
    """A figure with one empty plot, its grid and its margins."""
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=100)
    axes = figure.add_axes(
        (LEFT / WIDTH, BOTTOM / HEIGHT, 1 - (LEFT + RIGHT) / WIDTH, 1 - (TOP + BOTTOM) / HEIGHT), axisbelow=True
    )
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)
    axes.margins(x=0.01)
    return figure, axes


def date_axis(axes: Axes) -> None:
    """Writes few and short dates below the plot."""
    # matplotlib has no types for its date locators
    locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]  # not typed by matplotlib
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]  # not typed by matplotlib


def label_axes(axes: Axes, x: str, y: str = "") -> None:
    """Writes the names of the axes and the legend; what belongs to the upper end stands above the plot in one line."""
    if max(map(abs, axes.get_ylim())) < SMALL:  # else a factor such as 1e-7 would cover the name
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.get_offset_text().set_fontsize(8.5)
    axes.set_xlabel(x, fontsize=8.5)
    axes.text(-0.5 * LEFT / (WIDTH - LEFT - RIGHT), 1.04, y, transform=axes.transAxes, fontsize=8.5)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=3,
        frameon=False,
        borderaxespad=0.1,
        fontsize=8.5,
        handlelength=1.6,
        columnspacing=1.2,
    )


def finished_plot(figure: Figure, title: str, caption: str, alt: str) -> Plot:
    """The drawn figure as an SVG, with its texts; equal figures make equal bytes."""
    file = io.BytesIO()
    # without the date, and with names of the SVG's parts that are not random
    with rc_context({"svg.hashsalt": "report"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    uri = f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    return Plot(title, caption, alt, uri)
