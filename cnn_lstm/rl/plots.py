"""Plots of an episode and of what agents earned, drawn on matplotlib's figures without its global state.

Shapes: d dates, S symbols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.evaluation.canvas import date_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Times = NDArray[np.datetime64]
Floats = NDArray[np.float64]
AGENTS, SEED = "#0b2a6f", "#5aa5e0"
# colours and dashes of the rules, which differ without colours too; drawn above the agents, which show through
RULES = ["#e08a2e", "#128a6a", "#c2306f", "#8a5a2b"]
DASHES: list[Any] = [(0, (6, 3)), (0, (1, 1.6)), (0, (5, 2, 1, 2)), (0, (3, 3))]
LISTED = 8  # symbols that a legend has room for
LETTERS = 26  # letters of a name in a legend
WIDTH, HEIGHT = 4.5, 3.2  # inches; small, so that the words are readable on a phone
SMALL = 8.5  # points


def draw_episode(
    dates: Times,
    close: Floats,
    weights: Floats,
    equity: Floats,
    symbols: tuple[str, ...],
    last: np.datetime64 | None = None,
) -> Figure:
    """Price, position and equity, one below the other, with a dot at the start.

    Args:
        dates: Dates since the start of the episode, (d,).
        close: Prices at these dates, (d, S); drawn as multiples of the first ones.
        weights: Weights held over the bar that ends at each date, (d, S).
        equity: 1 plus all net returns since the start, (d,).
        symbols: Names of the symbols, S.
        last: Last date of the episode, to which the axis reaches; by default the last of `dates`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 6.0), dpi=100, layout="constrained")
    price, position, worth = figure.subplots(3, 1, sharex=True)
    dot: dict[str, Any] = {"s": 16, "zorder": 3}
    for number, name in enumerate(symbols):
        line = price.plot(dates, close[:, number] / close[0, number], linewidth=1.2)[0]
        position.step(dates, weights[:, number], where="pre", linewidth=1.2)
        start = price.scatter(dates[:1], [1.0], color=line.get_color(), **dot)
        position.scatter(dates[:1], weights[:1, number], color=line.get_color(), **dot)
        (start if len(dates) == 1 else line).set_label(_plain(name) if number < LISTED else "_nolegend_")
    figure.legend(loc="outside upper left", fontsize=SMALL, ncols=4, frameon=False)
    position.axhline(0, color="0.7", linewidth=0.8, zorder=1)
    position.set_ylim(-1.1, 1.1)
    worth.axhline(1, color="0.7", linewidth=0.8, zorder=1)
    worth.plot(dates, equity, color=AGENTS, linewidth=1.4)
    worth.scatter(dates[:1], equity[:1], color=AGENTS, **dot)
    for axes, label in ((price, "price, first = 1"), (position, "weight held"), (worth, "equity, after costs")):
        axes.set_ylabel(label)
        axes.tick_params(labelsize=SMALL)
    date_axis(worth)
    worth.xaxis.get_offset_text().set_fontsize(SMALL)
    days = np.array([dates[0], dates[-1] if last is None else last], dtype="datetime64[s]")
    space = max((days[1] - days[0]) // 50, np.timedelta64(3600, "s"))
    worth.set_xlim(*(days + np.array([-space, space])))
    figure.align_ylabels()
    return figure


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """A plot as an image, (height, width, 3).

    Args:
        figure: The plot.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba(), dtype=np.uint8)[:, :, :3]


def draw_returns(net: pd.DataFrame, main: str) -> Figure:
    """Summed net returns in percent: one column thick, seeds light, and rules dashed above them.

    Args:
        net: Net returns by date, one column per agent and rule; d rows.
        main: The column of all agents.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    summed = net.fillna(0.0).cumsum() * 100
    styles = _styles([str(name) for name in summed], main)
    for name, style in styles.items():
        axes.plot(summed.index.to_numpy(), summed[name].to_numpy(), **style)
    date_axis(axes)
    axes.xaxis.get_offset_text().set_fontsize(SMALL)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    axes.set_ylabel("summed return, %", fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    figure.legend(loc="outside upper left", fontsize=SMALL, ncols=2, frameon=False, handlelength=2.6)
    return figure


def _styles(names: list[str], main: str) -> dict[str, dict[str, Any]]:
    """How each column is drawn; the first seed stands for all of them in the legend."""
    seeds = [name for name in names if name.startswith("seed ") and name != main]
    styles: dict[str, dict[str, Any]] = {main: {"color": AGENTS, "linewidth": 2.6, "zorder": 3, "label": _plain(main)}}
    for number, name in enumerate(seeds):
        label = "single seeds" if number == 0 else "_nolegend_"
        styles[name] = {"color": SEED, "linewidth": 0.9, "zorder": 4, "label": label}
    for number, name in enumerate(name for name in names if name not in styles):
        look = {"color": RULES[number % len(RULES)], "linestyle": DASHES[number % len(DASHES)]}
        styles[name] = look | {"linewidth": 1.6, "zorder": 5, "label": _plain(name)}
    return styles


def _plain(name: str) -> str:
    """A short name, without the signs that would start a formula."""
    short = name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
    return short.replace("$", r"\$")
