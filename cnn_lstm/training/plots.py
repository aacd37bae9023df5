"""Drawings of a fit's forecasts and attention, by matplotlib's figures alone: no window system, no global state.

Shapes: n forecasts, B windows, A attention heads, T window length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.picks import evenly_spread
from cnn_lstm.data.windows import cut_windows
from cnn_lstm.model.forecast_model import ForecastModel
from cnn_lstm.model.network import CNNLSTM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

SYMBOLS = 4
DATES = 250
HEADS = 8
LEFT, RIGHT, TOP, BOTTOM = 0.75, 0.9, 0.75, 0.5  # margins, in inches


def forecast_plot(
    symbols: Sequence[str],
    dates: NDArray[np.datetime64],
    y_true: NDArray[np.float32],
    y_pred: NDArray[np.float32],
    name: str,
    unit: str,
    title: str,
) -> Figure:
    """Forecast against truth over the last dates of the first symbols, one panel per symbol.

    Args:
        symbols: Symbol of each forecast, (n,).
        dates: Last bar that each forecast used, (n,), ascending within a symbol.
        y_true: What came, (n,).
        y_pred: What was forecast, (n,).
        name: Name of the target.
        unit: Its unit.
        title: What to write above all panels.
    """
    drawn = list(dict.fromkeys(symbols))[:SYMBOLS]
    figure, panels = _panels(len(drawn), width=9.0, height=1.8)
    for symbol, axes in zip(drawn, panels, strict=True):
        rows = np.flatnonzero(np.asarray(symbols) == symbol)[-DATES:]
        axes.plot(dates[rows], y_true[rows], color="0.55", linewidth=1.0, label="truth")
        axes.plot(dates[rows], y_pred[rows], color="#a8320a", linewidth=1.4, label="forecast")
        # without y, matplotlib measures all labels; a symbol may begin with $
        axes.set_title(symbol, loc="left", y=1.02, fontsize=9, parse_math=False)
        axes.grid(color="0.92", linewidth=0.6)
        axes.margins(x=0.01)
    label = name if unit == name else f"{name} [{unit}]"
    panels[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, borderaxespad=0.1)
    panels[-1].set_xlabel("last bar known to the forecast", fontsize=9)
    figure.suptitle(f"{label}: {title}", fontsize=11)
    return figure


def attention_windows_plot(
    module: ForecastModel, data: MarketData, rows: Tensor, windows: int, title: str
) -> Figure | None:
    """Draws what the network looks at in some windows, evenly spread; None where it has no attention.

    Args:
        module: The forecaster; its state stays as it is.
        data: A data module that has read its data.
        rows: Panel rows to choose from, (n,).
        windows: How many windows are drawn.
        title: What to write above all panels.
    """
    network = module.network
    if not isinstance(network, CNNLSTM) or network.attention is None:
        return None
    chosen = rows[torch.from_numpy(evenly_spread(len(rows), windows))]
    x = cut_windows(data.panel.values, chosen, data.recipe.window).to(module.head.weight)
    with undisturbed(network):
        weights = network.attention_weights(x).float().cpu().numpy()
    days, codes = data.panel.time[chosen.numpy()], data.panel.symbol[chosen.numpy()]
    names = [f"{data.panel.symbols[code]} {str(day)[:10]}" for code, day in zip(codes, days, strict=True)]
    return attention_plot(weights, names, title=title)


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Evaluates without gradients; afterwards the modes of the parts and the random states are as before.

    Args:
        module: The module that is evaluated.
    """
    modes = [(part, part.training) for part in module.modules()]
    devices = {parameter.device for parameter in module.parameters() if parameter.device.type == "cuda"}
    with torch.random.fork_rng(list(devices)), torch.no_grad():
        module.eval()
        try:
            yield
        finally:
            for part, training in modes:
                part.training = training


def attention_plot(weights: NDArray[np.float32], names: Sequence[str], title: str) -> Figure:
    """How much each bar of a window looks at each other: the mean over the heads, then each head.

    Args:
        weights: Attention weights, (B, A, T, T), rows summing to 1.
        names: What to write next to each window, (B,).
        title: What to write above all panels.
    """
    heads = min(weights.shape[1], HEADS)
    blocks = ["mean of heads", *(f"head {head + 1}" for head in range(heads))]
    figure, panels = _panels(len(weights), width=2.4 * len(blocks), height=2.4)
    highest = float(np.quantile(weights, 0.999))
    for window, axes, name in zip(weights, panels, names, strict=True):
        image = _draw_blocks(axes, [window.mean(axis=0), *window[:heads]], highest)
        axes.set_ylabel(f"{name}\nlooking bar", fontsize=9)
    for place, block in enumerate(blocks):
        middle = (place + 0.5) / len(blocks)
        panels[0].text(middle, 1.02, block, transform=panels[0].transAxes, ha="center", fontsize=9)
    panels[-1].set_xlabel("bar looked at", fontsize=9)
    box, across = panels[0].get_position(), figure.get_size_inches()[0]
    colours = figure.add_axes((box.x1 + 0.15 / across, panels[-1].get_position().y0, 0.15 / across, 0.5))
    figure.colorbar(image, cax=colours, label="share of attention")
    more = f", first {heads} of {weights.shape[1]} heads" if weights.shape[1] > heads else ""
    figure.suptitle(f"{title}{more}; bars counted back from the decision (0)", fontsize=11)
    return figure


def rendered(figure: Figure) -> NDArray[np.uint8]:
    """The figure's pixels, (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]


def _panels(rows: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of panels of the given inches, and the panels; margins by hand, a solver takes half a second."""
    from matplotlib.figure import Figure

    across, down = width + LEFT + RIGHT, rows * height + TOP + BOTTOM
    figure = Figure(figsize=(across, down), dpi=80)
    margins = {"left": LEFT / across, "right": 1 - RIGHT / across, "top": 1 - TOP / down, "bottom": BOTTOM / down}
    panels: list[Axes] = list(figure.subplots(rows, 1, squeeze=False, sharex=True, gridspec_kw=margins)[:, 0])
    for axes in panels:
        axes.tick_params(labelsize=8)
    return figure, panels


def _draw_blocks(axes: Axes, blocks: Sequence[NDArray[np.float32]], highest: float) -> AxesImage:
    """Draws square matrices in a row as one image: separate axes take four times as long."""
    length = len(blocks[0])
    gap = max(1, length // 12)
    parts = [np.pad(block, ((0, 0), (0, gap)), constant_values=np.nan) for block in blocks]
    image = axes.imshow(
        np.concatenate(parts, axis=1)[:, :-gap],
        "viridis",
        vmin=0.0,
        vmax=highest,
        interpolation="nearest",
        aspect="auto",
    )
    ticks = np.array([0, (length - 1) // 2, length - 1])
    axes.set_yticks(ticks, [str(length - 1 - tick) for tick in ticks])
    starts = np.arange(len(blocks)) * (length + gap)
    axes.set_xticks((starts[:, None] + ticks).ravel(), [str(length - 1 - tick) for tick in ticks] * len(blocks))
    return image
