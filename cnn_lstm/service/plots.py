"""The plots of the page of a look.

Shapes: n dates in service.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binom

from cnn_lstm.data.targets import Floats
from cnn_lstm.evaluation.canvas import date_axis, empty_axes, finished_plot, label_axes
from cnn_lstm.evaluation.metrics.distribution import BINS
from cnn_lstm.evaluation.plots import MODEL, OTHER
from cnn_lstm.hints import counted
from cnn_lstm.pages.environment import Plot
from cnn_lstm.service.courses import TargetCourse
from cnn_lstm.service.health import LEVEL, Course, Sign
from cnn_lstm.service.look import Evidence
from cnn_lstm.service.novelty import Distances

WINDOW = 60  # dates of a rolling share
DASHES = ("-", "--", ":")


def lead_plot(course: TargetCourse, evidence: Evidence) -> Plot:
    """The mean lead over the baseline in service, with its confidence sequence.

    Args:
        course: The target.
        evidence: What may be said of its lead.
    """
    figure, axes = empty_axes()
    dates, sequence = _days(course.lead.dates), evidence.sequence
    tested = float(course.lead.reference.mean()) if len(course.lead.reference) else np.nan
    known = np.isfinite(sequence.low) & np.isfinite(sequence.high)
    settled = np.arange(len(dates)) >= min(20, len(dates) // 2)  # the first means would stretch the axis
    axes.fill_between(dates[known], sequence.low[known], sequence.high[known], color=MODEL, alpha=0.15, linewidth=0)
    axes.plot(dates[settled], sequence.mean[settled], color=MODEL, linewidth=1.4, label="in service")
    axes.axhline(tested, color=OTHER, linewidth=1.2, linestyle="--", label="in the test")
    axes.axhline(0, color="0.5", linewidth=0.8)
    later = known & (np.arange(len(dates)) >= 0.6 * len(dates))  # the band of the first dates is wider than the plot
    shown = np.concatenate([sequence.mean[settled], sequence.low[later], sequence.high[later], [0.0, tested]])
    low, high = np.nanmin(shown), np.nanmax(shown)
    axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    date_axis(axes)
    label_axes(axes, "", "lead")
    return finished_plot(
        figure,
        f"Lead over {course.baseline}",
        f"Mean loss that the model has saved since it went into service. The band holds the true mean on all dates "
        f"together, with 90%. Below 0 {course.baseline} would have been better.",
        "Mean lead over the baseline in service, with its confidence sequence",
    )


def alarm_plot(signs: Sequence[Sign], dates: Sequence[pd.Timestamp]) -> Plot:
    """The cumulative sums as shares of their alarm levels.

    Args:
        signs: Signs with a detection.
        dates: Dates in service, (n,).
    """
    figure, axes = empty_axes()
    for sign, dash in zip(signs, DASHES, strict=False):
        detection = sign.detection
        if detection is not None and np.isfinite(detection.threshold) and len(detection.statistic) <= len(dates):
            shares = detection.statistic / detection.threshold
            name = sign.name.partition(" of ")[0]
            axes.plot(_days(dates)[: len(shares)], shares, color=MODEL, linestyle=dash, linewidth=1.4, label=name)
    axes.axhline(1, color="#9b2c1f", linewidth=1.2, linestyle="--", label="alarm")
    axes.set_ylim(bottom=0)
    date_axis(axes)
    label_axes(axes, "", "share")
    return finished_plot(
        figure,
        "How close to an alarm",
        "What speaks for worse losses, and for intervals that miss more often, as a share of the alarm level. Under a "
        "look a day each line is meant to cross it by chance once in a hundred years.",
        "Cumulative sums as shares of their alarm levels",
    )


def coverage_plot(missed: Course, symbols: int) -> Plot:
    """The rolling coverage of the intervals, with the range that chance allows.

    Args:
        missed: Share of intervals that missed, by date.
        symbols: Intervals a date.
    """
    figure, axes = empty_axes()
    both = pd.Series(np.concatenate([missed.reference, missed.service]))
    held = 1 - both.rolling(WINDOW, min_periods=min(WINDOW, len(both))).mean().to_numpy()[len(missed.reference) :]
    low, high = binom.ppf([0.025, 0.975], WINDOW * symbols, LEVEL / 100) / (WINDOW * symbols)
    axes.axhspan(low, high, color=OTHER, alpha=0.2, linewidth=0, label="chance")
    axes.axhline(LEVEL / 100, color=OTHER, linewidth=1.2, linestyle="--", label="promised")
    axes.plot(_days(missed.dates), held, color=MODEL, linewidth=1.4, label="held")
    date_axis(axes)
    label_axes(axes, "", "share")
    return finished_plot(
        figure,
        f"Coverage of the {LEVEL}% intervals",
        f"Share of the truths of the last {WINDOW} dates that lay inside. The shaded range holds 95% of what chance "
        "does to independent intervals; symbols that move together leave it more often.",
        "Rolling coverage of the intervals",
    )


def rank_plot(test: Floats, service: Floats) -> Plot:
    """Histograms of the probability integral transform, in the test and in service.

    Args:
        test: Its values in the test.
        service: Those in service.
    """
    figure, axes = empty_axes()
    middles = (np.arange(BINS) + 0.5) / BINS
    for values, colour, move, name in ((test, OTHER, -0.02, "test"), (service, MODEL, 0.02, "service")):
        known = values[~np.isnan(values)]
        shares = np.histogram(known, bins=BINS, range=(0.0, 1.0))[0] / max(len(known), 1)
        axes.bar(middles + move, shares, width=0.04, color=colour, label=name)
    axes.axhline(1 / BINS, color="0.5", linewidth=0.8)
    label_axes(axes, "rank of the truth in the forecast distribution", "share")
    return finished_plot(
        figure,
        "Where truths lie in the forecast distribution",
        f"Each tenth of the distribution should hold a tenth of the {counted(len(service), 'truth')}. Too many on one "
        "side: the forecast is biased. Too many on both: it is too sure.",
        "Histograms of the probability integral transform in test and service",
    )


def novelty_plot(found: Distances, end: pd.Timestamp) -> Plot:
    """How far the inputs lie from the training, by date.

    Args:
        found: The distances.
        end: First moment that counts as service.
    """
    figure, axes = empty_axes()
    smooth = pd.Series(found.share).rolling(20, min_periods=1).mean().to_numpy()
    axes.plot(_days(found.date), found.share, color=MODEL, alpha=0.3, linewidth=0.7)
    axes.plot(_days(found.date), smooth, color=MODEL, linewidth=1.4, label="20 dates")
    axes.axhline(0.5, color="0.5", linewidth=0.8)
    axes.axvline(_days([end])[0], color=OTHER, linewidth=1.2, linestyle="--", label="in service")
    axes.set_ylim(0, 1.02)
    date_axis(axes)
    label_axes(axes, "", "share")
    return finished_plot(
        figure,
        "How new the inputs are",
        "Share of the training windows that are nearer to the centre of the training than those of the date. About a "
        "half is usual; near 1 the model has hardly seen anything like it.",
        "Novelty of the inputs by date",
    )


def _days(dates: Sequence[pd.Timestamp] | pd.DatetimeIndex) -> np.ndarray:
    index = pd.DatetimeIndex(list(dates))
    return (index if index.tz is None else index.tz_convert("UTC").tz_localize(None)).to_numpy()
