"""The plots of the evidence over time: the confidence sequence of the mean loss difference, and the wealth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter

from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.canvas import date_axis, empty_axes, finished_plot, label_axes
from cnn_lstm.evaluation.formatting import number
from cnn_lstm.evaluation.json_types import Sequential, TargetReport
from cnn_lstm.pages.environment import Plot

MODEL, OTHER, ZERO = "#0b2a6f", "#e08a2e", "0.45"
SETTLED = 0.2  # share of the path after which the band decides how high the plot is
LOWEST, HIGHEST = 1e-3, 1e6  # wealth that is drawn


def sequence_plots(target: TargetReport) -> Iterator[Plot]:
    """The sequence against the hardest baseline, and the wealth; nothing where no bet was made.

    Args:
        target: What the report says of a target.
    """
    record = target.get("sequential")
    if record is None or not np.isfinite(_numbers(record["path"]["low"])).any():
        return
    dates = pd.to_datetime(record["path"]["dates"], format="ISO8601").to_numpy()
    yield _sequence(record, dates, target["loss"])
    yield _wealth(record, dates)


def _sequence(record: Sequential, dates: np.ndarray, loss: str) -> Plot:
    path, level = record["path"], f"{1 - record['level']:.0%}"
    mean, low, high = (_numbers(path[end]) for end in ("mean", "low", "high"))
    figure, axes = empty_axes()
    axes.fill_between(dates, low, high, color=MODEL, alpha=0.14, linewidth=0, label=f"{level} confidence sequence")
    axes.plot(dates, mean, color=MODEL, linewidth=1.5, label="mean so far")
    axes.axhline(0, color=ZERO, linewidth=0.9)
    _limit(axes, mean, low, high)
    date_axis(axes)
    label_axes(axes, "date of the decision", f"mean {loss}")
    return finished_plot(
        figure,
        "Saving over the hardest baseline, over time",
        f"Mean {loss} of the baseline less that of the model, up to each date. With {level}, the band holds what is to "
        "be expected on all dates together, so it may be looked at on any of them; above 0 the model is better.",
        "mean loss difference over time with its confidence sequence",
    )


def _wealth(record: Sequential, dates: np.ndarray) -> Plot:
    figure, axes = empty_axes()
    wealth = np.clip(_numbers(record["path"]["wealth"]), LOWEST, HIGHEST)
    axes.plot(dates, wealth, color=MODEL, linewidth=1.5, label="wealth")
    label = f"evidence: {number(record['threshold'])}"
    axes.axhline(record["threshold"], color=OTHER, linewidth=1.2, label=label)
    axes.axhline(1, color=ZERO, linewidth=0.9)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    date_axis(axes)
    label_axes(axes, "date of the decision", "wealth")
    return finished_plot(
        figure,
        "Wealth of bets on the model, over time",
        "The least over all baselines, which starts at 1. Without skill it reaches the line in at most "
        f"{1 / record['threshold']:.0%} of all cases, however often one looks.",
        "wealth over time with the threshold of evidence",
    )


def _limit(axes: Axes, mean: Floats, low: Floats, high: Floats) -> None:
    """The first ends are far out; they leave the plot, so that the later ones can be seen."""
    begin = int(SETTLED * len(mean))
    ends = np.concatenate([low[begin:], high[begin:], mean[begin:], [0.0]])
    ends = ends[np.isfinite(ends)]
    margin = 0.05 * (ends.max() - ends.min())
    if margin > 0:
        axes.set_ylim(ends.min() - margin, ends.max() + margin)


def _numbers(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
