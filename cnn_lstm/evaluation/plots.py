"""The plots of the report's page: what was forecast and what came, how far it can be relied on, what it earned.

Names of symbols and targets are never drawn. They stand in the page around a plot, which can write any alphabet.
Shapes: n forecasts of one target.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from cnn_lstm.data.predictions import TargetInfo, target_infos
from cnn_lstm.data.quantities import quantity
from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.canvas import date_axis, empty_axes, finished_plot, label_axes
from cnn_lstm.evaluation.forecasts import judged_rows
from cnn_lstm.evaluation.json_types import GroupLosses, Metrics, TargetReport
from cnn_lstm.evaluation.metrics.book import make_book
from cnn_lstm.evaluation.metrics.strategy import strategy_curves
from cnn_lstm.evaluation.plain_language import signed
from cnn_lstm.evaluation.sequential_plot import sequence_plots
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.hints import counted
from cnn_lstm.pages.environment import Plot

# the colours of history.png: the model is blue, what it is measured against orange, what really happened grey
MODEL, OTHER, TRUTH = "#0b2a6f", "#e08a2e", "0.55"
SYMBOLS = 4
DATES = 250
CLASS_DATES = 80  # classes jump from date to date
BAND = 90
TENTHS = 10
CELLS = 48  # of the density of forecasts and truths, each way
WITH_SKILL = 6  # more pairs of bars have no room for a number above
ABOVE: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8}
Kind = Literal["forecast", "truth", "calibration", "strategy", "errors", "sequence"]
LABELS = 25  # characters of all labels below an axis


def target_plots(table: pd.DataFrame, name: str, target: TargetReport) -> list[Plot]:
    """The plots of one target.

    Args:
        table: Predictions table with its `attrs`.
        name: Name of the target.
        target: What the report says of it.
    """
    about = target_infos(table)[name]
    rows = judged_rows(table, name, about)
    drawn = [*_courses(rows, about), *_against_truth(rows, about), *_calibration(target)]
    return [*drawn, *_curve(rows, about, Evaluation(**table.attrs["settings"])), *_errors(target)]


def plots_of_kind(
    kind: Kind, table: pd.DataFrame, name: str, target: TargetReport | None, symbol: str | None
) -> list[Plot]:
    """The plots of one kind, of one target; empty where the forecasts have none of that kind.

    Args:
        kind: `forecast`, `truth`, `calibration`, `strategy`, `errors` or `sequence`.
        table: Predictions table with its `attrs`.
        name: Name of the target.
        target: What the report says of it; `forecast` and `truth` need none.
        symbol: The only symbol of `forecast`, `truth` and `strategy`; all by default, of which `forecast` shows four.
    """
    about = target_infos(table)[name]
    rows = judged_rows(table if symbol is None else table[table["symbol"] == symbol], name, about)
    if kind == "forecast":
        return list(_courses(rows, about))
    if kind == "truth":
        return list(_against_truth(rows, about))
    assert target is not None, f"plots of {kind} need a report"
    if kind == "sequence":
        return list(sequence_plots(target))
    if kind == "strategy":
        return list(_curve(rows, about, Evaluation(**table.attrs["settings"])))
    return list(_calibration(target) if kind == "calibration" else _errors(target))


def embedded(path: Path) -> Plot:
    """A PNG file that exists already, such as the attention of the network.

    Args:
        path: The file; its name is the heading.
    """
    title = path.stem.replace("_", " ").capitalize()
    uri = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
    return Plot(title, f"from {path.name}", f"{title} of the network", uri)


def _courses(rows: pd.DataFrame, about: TargetInfo) -> Iterator[Plot]:
    """Forecast and truth over the last dates, one plot per symbol."""
    symbols, values = list(dict.fromkeys(rows["symbol"])), _expected(rows, about)
    dates = CLASS_DATES if about.quantity.is_class else DATES
    for symbol in symbols[:SYMBOLS]:
        kept = (rows["symbol"] == symbol).to_numpy().nonzero()[0][-dates:]
        figure, axes = empty_axes()
        _draw_course(axes, rows.iloc[kept], values[kept], about)
        band = f" and the {BAND}% interval" if f"lower_{BAND}" in rows else ""
        what = "mean of the classes by their forecast probabilities" if about.quantity.is_class else "forecast"
        yield finished_plot(
            figure,
            f"Forecast and truth: {symbol}",
            f"The last {counted(len(kept), 'forecast')}: truth, {what}{band}. Unit: {about.unit}.",
            f"{symbol}: truth, forecast{band} over time",
        )


def _draw_course(axes: Axes, rows: pd.DataFrame, values: Floats, about: TargetInfo) -> None:
    dates = rows["as_of"].dt.tz_localize(None).to_numpy()
    if f"lower_{BAND}" in rows:
        low, high = (rows[f"{end}_{BAND}"].to_numpy(np.float64) for end in ("lower", "upper"))
        label = f"{BAND}% interval"
        axes.fill_between(dates, low, high, color=MODEL, alpha=0.14, linewidth=0, label=label)
    if about.quantity.is_class:
        axes.plot(dates, rows["y_true"], "o", color=OTHER, markersize=3, zorder=3, label="true class")
        axes.set_yticks(range(about.classes))
    else:
        axes.plot(dates, rows["y_true"], color=TRUTH, linewidth=0.9, label="truth")
    axes.plot(dates, values, color=MODEL, linewidth=1.5, label="forecast")
    date_axis(axes)
    label_axes(axes, "last bar known to the forecast", about.unit)


def _expected(rows: pd.DataFrame, about: TargetInfo) -> Floats:
    """Forecasts to draw, (n,): for classes the mean by their probabilities, which moves where the choice does not."""
    names = [f"p{number}" for number in range(about.classes)]
    if about.quantity.is_class and set(names) <= set(rows.columns):
        return np.asarray(rows[names].to_numpy(np.float64) @ np.arange(about.classes))
    return rows["y_pred"].to_numpy(np.float64)


def _against_truth(rows: pd.DataFrame, about: TargetInfo) -> Iterator[Plot]:
    """Mean truth of each tenth of the forecasts, above the density of all; returns are too noisy to show that."""
    if about.quantity.is_class:
        return
    true, forecast = rows["y_true"].to_numpy(np.float64), rows["y_pred"].to_numpy(np.float64)
    figure, axes = empty_axes()
    dense = not about.quantity.is_return
    if dense:
        _draw_density(axes, forecast, true)
    x, y, error = tenths(forecast, true, pd.factorize(rows["as_of"])[0])
    axes.axline((float(x.mean()), float(x.mean())), slope=1, color="0.35", linewidth=1, linestyle="--", label="ideal")
    mark: dict[str, Any] = {"color": OTHER if dense else MODEL, "markersize": 5, "capsize": 3, "linewidth": 1.3}
    axes.errorbar(x, y, yerr=2 * error, fmt="o", label="mean of a tenth of the forecasts", **mark)
    axes.margins(x=0.05)
    axes.locator_params(axis="x", nbins=6)
    label_axes(axes, "forecast", "truth")
    density = " Shade: how many forecasts lie there." if dense else ""
    yield finished_plot(
        figure,
        "Does more forecast mean more truth?",
        "Forecasts in ten groups of equal number, from the lowest to the highest, and the mean truth of each with two "
        f"standard errors (clustered by date). A reliable forecast lies on the dashed line.{density}",
        "mean truth against mean forecast of each tenth of the forecasts",
    )


def tenths(forecast: Floats, true: Floats, date: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Mean forecast, mean truth and its standard error, clustered by date, of groups by rising forecast.

    Args:
        forecast: Forecasts, (n,).
        true: Truths, (n,).
        date: Number of the date of each row, (n,).

    Returns:
        Three arrays, one value per group, (10,), or fewer where there are fewer rows.

    Example:
        >>> tenths(np.array([1.0, 2.0]), np.array([3.0, 5.0]), np.array([0, 1]))[1].tolist()
        [3.0, 5.0]
    """
    groups = np.array_split(np.argsort(forecast, kind="stable"), min(TENTHS, len(forecast)))
    means = np.array([true[group].mean() for group in groups])
    sums = [np.bincount(date[group], true[group] - mean) for group, mean in zip(groups, means, strict=True)]
    error = np.array([np.sqrt(np.sum(one**2)) / len(group) for one, group in zip(sums, groups, strict=True)])
    return np.array([forecast[group].mean() for group in groups]), means, error


def _draw_density(axes: Axes, forecast: Floats, true: Floats) -> None:
    """Draws one image: 100,000 points would make a plot of megabytes."""
    both = np.concatenate([forecast, true])
    low, high = np.quantile(both, [0.002, 0.998])
    high = high if high > low else low + 1.0
    counts = np.histogram2d(true, forecast, bins=CELLS, range=((low, high), (low, high)))[0]
    axes.imshow(np.sqrt(counts), "Blues", extent=(low, high, low, high), origin="lower", aspect="auto")
    axes.set(xlim=(low, high), ylim=(low, high))


def _calibration(target: TargetReport) -> Iterator[Plot]:
    if target["intervals"]:
        yield _coverage(target["intervals"], "sets of classes" if quantity(target["kind"]).is_class else "intervals")
    if "pit" in target["distribution"]:
        yield _pit(target["distribution"]["pit"]["histogram"])
    reliability = target["forecasts"]["model"].get("reliability")
    if reliability:
        yield _reliability(reliability)


def _coverage(intervals: Mapping[str, Metrics], what: str) -> Plot:
    figure, axes = empty_axes()
    promised = np.array([metrics["level"] for metrics in intervals.values()]) * 100
    held = np.array([metrics["coverage"] for metrics in intervals.values()], dtype=np.float64) * 100
    axes.axline((75, 75), slope=1, color="0.35", linewidth=1, linestyle="--", label="ideal")
    axes.plot(promised, held, "o-", color=MODEL, linewidth=1.5, markersize=5, label="measured")
    axes.set(xlim=(40, 102), ylim=(min(40, np.nanmin(held, initial=100) - 5), 102))
    label_axes(axes, "promised coverage, %", "measured coverage, %")
    return finished_plot(
        figure,
        f"Do the {what} hold what they promise?",
        f"Share of truths inside the {what} of each promised level. Points below the dashed line: too narrow.",
        f"measured against promised coverage of the {what}",
    )


def _pit(histogram: Sequence[float | None]) -> Plot:
    figure, axes = empty_axes()
    shares = np.array(histogram, dtype=np.float64) * 100
    axes.bar(np.arange(5, 100, 10), shares, width=9.2, color=MODEL, alpha=0.85, label="measured")
    axes.axhline(10, color="0.35", linewidth=1, linestyle="--", label="ideal")
    axes.set_xlim(0, 100)
    label_axes(axes, "where the truth lay in the forecast distribution, %", "share of truths, %")
    return finished_plot(
        figure,
        "Is the whole distribution right?",
        "Probability integral transform. Level bars: right. Hollow middle: too narrow. High middle: too wide. Slope: "
        "forecasts are off to one side.",
        "histogram of the probability integral transform",
    )


def _reliability(lines: Sequence[Mapping[str, float]]) -> Plot:
    figure, axes = empty_axes()
    confidence = np.array([line["confidence"] for line in lines]) * 100
    accuracy = np.array([line["accuracy"] for line in lines]) * 100
    axes.axline((50, 50), slope=1, color="0.35", linewidth=1, linestyle="--", label="ideal")
    axes.plot(confidence, accuracy, "o-", color=MODEL, linewidth=1.5, markersize=5, label="measured")
    both = np.concatenate([confidence, accuracy])
    low, high = max(both.min() - 5, -2), min(both.max() + 5, 102)
    axes.set(xlim=(low, high), ylim=(low, high))
    label_axes(axes, "probability given to the chosen class, %", "chosen class was right, %")
    return finished_plot(
        figure,
        "Is a probability of 60% right in 60 of 100 cases?",
        "Reliability: forecasts in groups of equal number by their confidence. Points below the dashed line: too "
        "confident.",
        "share of right forecasts against forecast probability",
    )


def _curve(rows: pd.DataFrame, about: TargetInfo, settings: Evaluation) -> Iterator[Plot]:
    if not about.quantity.traded:
        return
    book = make_book(rows, about.horizon, rule=settings.position, cost_bp=settings.cost_bp, classes=about.classes)
    curves = strategy_curves(book) * 100
    dates = book.dates.tz_localize(None).to_numpy()
    figure, axes = empty_axes()
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.plot(dates, curves["buy_and_hold"], color=OTHER, linewidth=1.5, linestyle=(0, (4, 1.5)), label="buy and hold")
    axes.plot(dates, curves["net"], color=MODEL, linewidth=1.8, label="strategy")
    date_axis(axes)
    label_axes(axes, "date of the decision", "summed return, %")
    yield finished_plot(
        figure,
        "What it would have earned after costs",
        f"Summed returns after {settings.cost_bp:g} basis points per side, and those of buying and holding at the same "
        "mean exposure. This is a simulation, not a track record.",
        "summed return after costs, and of buying and holding",
    )


def _errors(target: TargetReport) -> Iterator[Plot]:
    for kind, title in (("year", "Error by year"), ("regime", "Error in calm and turbulent markets")):
        lines = target["breakdowns"].get(kind, [])
        if lines:
            figure, axes = empty_axes()
            _draw_errors(axes, lines)
            label_axes(axes, kind, f"mean {target['loss']}")
            saved = "; above each pair: what the model saves" if len(lines) <= WITH_SKILL else ""
            yield finished_plot(
                figure,
                title,
                f"Mean {target['loss']} of the model and of the best baseline, {target['best_baseline']}. Lower is "
                f"better{saved}.",
                f"{target['loss']} of model and best baseline by {kind}",
            )


def _draw_errors(axes: Axes, lines: Sequence[GroupLosses]) -> None:
    place, names = np.arange(len(lines)), [line["name"] for line in lines]
    axes.bar(place - 0.2, [line["loss_model"] for line in lines], width=0.38, color=MODEL, label="model")
    losses = [line["loss_baseline"] for line in lines]
    printed: dict[str, Any] = {"hatch": "//", "edgecolor": "white", "linewidth": 0}  # without colours too
    axes.bar(place + 0.2, losses, width=0.38, color=OTHER, label="best baseline", **printed)
    for number, line in enumerate(lines):
        if len(lines) <= WITH_SKILL and line["skill"] is not None:
            highest = max(line["loss_model"], line["loss_baseline"])
            axes.annotate(signed(line["skill"]), (number, highest), (0, 2), ha="center", **ABOVE)
    axes.margins(y=0.1)
    every = -(-sum(map(len, names)) // (2 * LABELS))
    axes.set_xticks(place[::every], names[::every])
    middle, half = (len(lines) - 1) / 2, max(len(lines), 3) / 2
    axes.set_xlim(middle - half, middle + half)
    axes.grid(visible=False, axis="x")
