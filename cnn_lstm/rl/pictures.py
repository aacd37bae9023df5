"""Pictures of an episode and of what agents earned, drawn by matplotlib's figures alone.

Shapes: d dates, S symbols.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Times = NDArray[np.datetime64]
Floats = NDArray[np.float64]
OTHERS = ["#e08a2e", "0.45", "#3a8f3a", "#a33a3a"]  # agents are blue
LISTED = 8  # symbols that a legend has room for


def draw_episode(dates: Times, close: Floats, weights: Floats, equity: Floats, symbols: tuple[str, ...]) -> Figure:
    """Price, position and equity, one below the other.

    Args:
        dates: Dates since the first one of the episode, (d,).
        close: Prices at them, (d, S); drawn as multiples of the first ones.
        weights: Weights held over the bar that ends at each date, (d, S).
        equity: 1 plus all net returns since, (d,).
        symbols: Names, S.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 6.0), dpi=100, layout="constrained")
    price, position, worth = figure.subplots(3, 1, sharex=True)
    for number, name in enumerate(symbols):
        label = name.replace("$", r"\$") if number < LISTED else "_nolegend_"
        price.plot(dates, close[:, number] / close[0, number], linewidth=1.2, label=label)
        position.step(dates, weights[:, number], where="pre", linewidth=1.2)
    price.legend(fontsize=8, loc="upper left")
    price.set_ylabel("price, first = 1")
    position.axhline(0, color="0.7", linewidth=0.8)
    position.set_ylim(-1.05, 1.05)
    position.set_ylabel("weight held")
    worth.axhline(1, color="0.7", linewidth=0.8)
    worth.plot(dates, equity, color="#0b2a6f", linewidth=1.4)
    worth.set_ylabel("equity, after costs")
    worth.tick_params(axis="x", labelsize=8)
    return figure


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """A figure as (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba(), dtype=np.uint8)[:, :, :3]


def draw_returns(bars: pd.DataFrame, main: str) -> Figure:
    """Summed net returns: one column thick, seeds light, all others in colours of their own.

    Args:
        bars: Net returns, one column each, by date.
        main: The column that is drawn on top.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=OTHERS)
    summed = bars.fillna(0.0).cumsum()
    for name in summed:
        seed, on_top = str(name).startswith("seed "), name == main
        style: dict[str, Any] = {"color": "#8fa8d8", "linewidth": 0.8} if seed else {"linewidth": 1.2}
        style |= {"color": "#0b2a6f", "linewidth": 1.8} if on_top else {}
        label = "_nolegend_" if seed else str(name)
        axes.plot(summed.index.to_numpy(), summed[name].to_numpy(), label=label, zorder=3 if on_top else 2, **style)
    axes.axhline(0, color="0.7", linewidth=0.8)
    axes.set_ylabel("summed return after costs")
    axes.legend(fontsize=8, loc="upper left")
    axes.tick_params(labelsize=8)
    return figure


def svg_address(figure: Figure) -> str:
    """A figure as a data address."""
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
