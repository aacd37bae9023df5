"""Draw docs/images/quickstart.png from a run: python docs/quickstart_plot.py RUN."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

mpl.use("Agg")
from matplotlib import pyplot as plt

PLOT = Path(__file__).parent / "images" / "quickstart.png"
SYMBOLS = ("AAPL", "IBM")
FLOOR = 0.001


def draw(predictions: pd.DataFrame, plot: Path = PLOT) -> None:
    """Draws realised against forecast volatility of two symbols.

    Args:
        predictions: Predictions table of a quickstart run, whose target is the logarithm of the volatility.
        plot: PNG file to write.
    """
    figure, axes = plt.subplots(len(SYMBOLS), 1, figsize=(9, 5.6), sharex=True, sharey=True, layout="constrained")
    for axis, symbol in zip(axes, SYMBOLS, strict=True):
        _panel(axis, predictions[predictions["symbol"] == symbol], symbol)
    figure.suptitle("Daily volatility over the next five days, on the untouched test part", fontsize=12)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(plot, dpi=110)
    plt.close(figure)


def _panel(axis: Axes, table: pd.DataFrame, symbol: str) -> None:
    when, volatility = table["as_of"], np.exp(table[["y_true", "y_last", "y_pred"]])
    axis.fill_between(when, FLOOR, volatility["y_true"], color="#d4d4d4", linewidth=0, label="realised")
    axis.plot(
        when, volatility["y_last"], "--", color="#c8641e", linewidth=0.9, label="last value: the five days before"
    )
    axis.plot(when, volatility["y_pred"], color="#0b2a6f", linewidth=2.2, label="forecast")
    axis.set_yscale("log")
    axis.set_yticks([0.0025, 0.005, 0.01, 0.02, 0.04])
    axis.set_ylim(FLOOR, 0.08)
    axis.margins(x=0)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=2))
    axis.minorticks_off()
    axis.grid(axis="y", color="#eeeeee", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(symbol, loc="left", fontsize=11, fontweight="bold")


if __name__ == "__main__":
    draw(pd.read_parquet(Path(sys.argv[1]) / "forecasts.parquet"))
