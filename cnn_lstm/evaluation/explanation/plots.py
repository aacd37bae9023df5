"""Plots of an explanation: bars by feature and by bar, and the parts of one forecast by both.

Names of targets are not drawn: they stand in the page, which can write any alphabet. Those of features are drawn in
ASCII.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from cnn_lstm.evaluation.canvas import LEFT, RIGHT, SMALL, WIDTH, empty_axes, finished_plot
from cnn_lstm.evaluation.plots import MODEL, OTHER
from cnn_lstm.pages.environment import Plot

FEATURES = 14  # that have room in a plot
LETTERS = 30  # of a name
LETTER, MARGIN = 0.0135, 0.06  # of the width
TOP, BOTTOM = 0.97, 0.17


def importance_plots(by_feature: pd.DataFrame, by_bar: pd.DataFrame, target: str | None = None) -> Iterator[Plot]:
    """The plots of an `Explanation`.

    Args:
        by_feature: Its table.
        by_bar: Its table.
        target: The only target; all by default.
    """
    for name in _targets(by_feature, target):
        features, bars = (table[table["target"] == name] for table in (by_feature, by_bar))
        shown = features.head(FEATURES)
        figure, axes = _with_names(shown["feature"])
        axes.barh(np.arange(len(shown)), 100 * shown["share"], color=MODEL, alpha=0.85)
        _label(axes, "share of all attributions, %")
        yield finished_plot(
            figure,
            f"What moves the forecast: {name}",
            f"Share of each feature in the mean absolute attribution{_first(features)}.",
            f"{name}: share of each feature in the attributions",
        )
        yield _rises(shown, name, _first(features))
        figure, axes = empty_axes()
        axes.bar(-bars["lag"], 100 * bars["share"], width=0.9, color=MODEL, alpha=0.85)
        _label(axes, "bars before the last one of the window", "share of all attributions, %")
        yield finished_plot(
            figure,
            f"Which bars the forecast looks at: {name}",
            "Share of each bar of the window in the mean absolute attribution; 0 is the last bar.",
            f"{name}: share of each bar in the attributions",
        )


def _rises(shown: pd.DataFrame, name: str, first: str) -> Plot:
    """What the loss owes to each feature."""
    figure, axes = _with_names(shown["feature"])
    place = np.arange(len(shown))
    spread: dict[str, Any] = {"ecolor": "0.35", "capsize": 2, "error_kw": {"linewidth": 1.0}}
    axes.barh(place, shown["rise"], xerr=shown["rise_std"], color=OTHER, alpha=0.9, **spread)
    axes.axvline(0, color="0.35", linewidth=0.8)
    axes.locator_params(axis="x", nbins=5)
    _label(axes, "rise of the loss")
    return finished_plot(
        figure,
        f"What the loss owes to each feature: {name}",
        "Rise of the loss of the validation part when the feature's windows are those of other dates, with its "
        f"standard deviation over the repeats{first}.",
        f"{name}: rise of the loss for each feature",
    )


def course_plots(
    by_feature: pd.DataFrame, by_bar: pd.DataFrame, cells: pd.DataFrame, target: str | None = None
) -> Iterator[Plot]:
    """The plots of a `ForecastExplanation`.

    Args:
        by_feature: Its table.
        by_bar: Its table.
        cells: Its table.
        target: The only target; all by default.
    """
    for name in _targets(by_feature, target):
        features, bars, parts = (table[table["target"] == name] for table in (by_feature, by_bar, cells))
        shown = features.head(FEATURES)
        figure, axes = _with_names(shown["feature"])
        axes.barh(np.arange(len(shown)), shown["attribution"], color=_colours(shown["attribution"]))
        axes.axvline(0, color="0.35", linewidth=0.8)
        axes.locator_params(axis="x", nbins=5)
        _label(axes, "part of the forecast, in its unit")
        note = f"Blue raises the forecast, orange lowers it{_first(features)}."
        yield finished_plot(figure, f"What moved this forecast: {name}", note, f"{name}: part of each feature")
        figure, axes = empty_axes()
        axes.bar(-bars["lag"], bars["attribution"], width=0.9, color=_colours(bars["attribution"]))
        axes.axhline(0, color="0.35", linewidth=0.8)
        _label(axes, "bars before the last one", "part of the forecast, in its unit")
        note = "The parts of all features, bar by bar; 0 is the last bar."
        yield finished_plot(figure, f"Which bars moved this forecast: {name}", note, f"{name}: part of each bar")
        yield _heat(shown["feature"], parts, name)


def _heat(names: pd.Series, cells: pd.DataFrame, target: str) -> Plot:
    """The part of each feature at each bar."""
    table = cells.pivot(index="feature", columns="lag", values="attribution").loc[list(names)]
    table = table[sorted(table.columns, reverse=True)]
    most = float(table.abs().to_numpy().max()) or 1.0
    figure, axes = _with_names(names, right=0.87)
    axes.grid(visible=False)
    extent = (-len(table.columns) + 0.5, 0.5, len(names) - 0.5, -0.5)
    image = axes.imshow(table.to_numpy(), "PuOr", aspect="auto", interpolation="nearest", extent=extent)
    image.set_clim(-most, most)
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.03)
    bar.ax.tick_params(labelsize=7)
    bar.set_ticks([-most, 0, most], labels=[f"{value:.1e}" if value else "0" for value in (-most, 0.0, most)])
    _label(axes, "bars before the last one")
    note = "Part of the forecast by feature and bar, in its unit: violet raises the forecast, orange lowers it."
    return finished_plot(figure, f"Feature by bar: {target}", note, f"{target}: part of each feature at each bar")


def _with_names(names: pd.Series, right: float = 0.95) -> tuple[Figure, Axes]:
    """Empty axes with names of features at their left, the first one on top, up to a share of the width."""
    figure, axes = empty_axes()
    written = [_drawable(name) for name in names]
    left = MARGIN + LETTER * max(map(len, written))
    axes.set_position((left, BOTTOM, right - left, TOP - BOTTOM))
    axes.set_yticks(range(len(written)), written, fontsize=8 if len(written) < FEATURES else 7)
    axes.invert_yaxis()
    return figure, axes


def _label(axes: Axes, x: str, y: str = "") -> None:
    """Writes the names of the axes; there is one thing in a plot, and no legend."""
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        if max(map(abs, limits)) < SMALL:  # else a factor such as 1e-7 would stand at the end of the axis
            axis.set_major_formatter(FormatStrFormatter("%g"))
    axes.set_xlabel(x, fontsize=8.5)
    axes.text(-0.5 * LEFT / (WIDTH - LEFT - RIGHT), 1.04, y, transform=axes.transAxes, fontsize=8.5)


def _drawable(name: str) -> str:
    """A name that every font can write: ASCII, without the signs of formulas, and not too long.

    Example:
        >>> _drawable("Größe in $"), _drawable("my_package.my_features.momentum_20")
        ('Gr??e in S', '..ckage.my_features.momentum_20')
    """
    plain = name.encode("ascii", "replace").decode().replace("$", "S")
    return plain if len(plain) <= LETTERS else f"..{plain[-LETTERS + 1 :]}"


def _colours(values: pd.Series) -> list[str]:
    return [MODEL if value >= 0 else OTHER for value in values]


def _first(features: pd.DataFrame) -> str:
    return f"; the first {FEATURES} of {len(features)}" if len(features) > FEATURES else ""


def _targets(table: pd.DataFrame, target: str | None) -> list[str]:
    return list(dict.fromkeys(table["target"])) if target is None else [target]
