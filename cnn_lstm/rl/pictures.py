"""Pictures of episodes: price, position and equity, drawn by matplotlib's figures alone.

Shapes: d dates, S symbols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Times = NDArray[np.datetime64]
Floats = NDArray[np.float64]
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
