"""The plots of a sweep: how the trials went, which parameters mattered, and where the good values lie.

They are narrow, so that they are readable on a phone: parameters are below each other. We compared
`optuna.visualization.matplotlib` at 390 pixels on a space of 19 parameters, and it loses: its slices are in one row 38
inches wide, its parallel axes cover each other, names of parameters are cut off, the history has no pruned trials, and
one diverged trial flattens each plot. It also changes pyplot's style for the whole process. Plotly's version needs
4.5 MB of JavaScript in each page.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from cnn_lstm.files import write_whole

Floats = NDArray[np.float64]
COMPLETE, PRUNED, BEST = "#0b2a6f", "#e08a2e", "#17663c"  # the blue and orange of the other plots; green is good
WIDTH = 4.5  # inches
DPI = 180
ROW = 1.62  # inches of a row of slices
NAME, TICK = 22, 11  # letters of a name next to an axis, and of a choice along one
CHOICES = 6  # labelled along an axis
BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
BOXED: dict[str, Any] = {"bbox": BOX, "parse_math": False, "zorder": 5}


class Scale:
    """The axis of a parameter: numbers, their logarithms, or the positions of choices in their order.

    Args:
        name: Name of the parameter.
        trials: Trials; at least one of them has it.

    Attributes:
        places: Where the draw of each trial that has the parameter is, by the number of the trial.
        ticks: The text at each place that is labelled.
        ends: Both ends of the axis.
    """

    def __init__(self, name: str, trials: Sequence[FrozenTrial]) -> None:
        draws = {trial.number: trial.params[name] for trial in trials if name in trial.params}
        domain = next(trial.distributions[name] for trial in trials if name in trial.params)
        self.name, self.is_choice = name, isinstance(domain, CategoricalDistribution)
        if isinstance(domain, CategoricalDistribution):
            self.places = {number: float(domain.choices.index(draw)) for number, draw in draws.items()}
            low, high = 0.0, len(domain.choices) - 1.0
            texts = [choice if isinstance(choice, str) else json.dumps(choice) for choice in domain.choices]
            every = -(-len(texts) // CHOICES)
            self.ticks = {float(k): shortened(texts[k], TICK) for k in range(0, len(texts), every)}
        else:
            log, whole = getattr(domain, "log", False), isinstance(domain, IntDistribution)
            self.places = {number: float(np.log10(draw) if log else draw) for number, draw in draws.items()}
            low, high = min(self.places.values()), max(self.places.values())
            spread = np.linspace(low, high, 4)
            ticks = np.unique(np.round(spread) if whole and not log else spread).tolist()
            self.ticks = {tick: f"{10**tick:.2g}" if log else f"{tick:.3g}" for tick in ticks}
        self.ends = (low, high) if high > low else (low - 1, high + 1)

    def share(self, place: float) -> float:
        """How far along the axis a place is, 0 to 1."""
        return (place - self.ends[0]) / (self.ends[1] - self.ends[0])


def shortened(text: str, length: int) -> str:
    """A text; the middle of a long one is left out.

    Example:
        >>> shortened("16-32-64-128/5-5-5-5", 11)
        '16-32…5-5-5'
    """
    return text if len(text) <= length else f"{text[: length // 2]}…{text[-(length // 2) :]}"


def tails(names: Sequence[str]) -> dict[str, str]:
    """Last parts of keys, as many as are needed to distinguish them.

    Example:
        >>> tails(["early_stopping.patience", "model.scheduler.patience", "data.window"])["data.window"]
        'window'
        >>> list(tails(["early_stopping.patience", "model.scheduler.patience"]).values())
        ['early_stopping.patience', 'scheduler.patience']
    """
    short = {}
    for name in names:
        parts = name.split(".")
        others = [other.split(".") for other in names if other != name]
        count = next((k for k in range(1, len(parts)) if all(o[-k:] != parts[-k:] for o in others)), len(parts))
        short[name] = ".".join(parts[-count:])
    return short


def drawn_value(trial: FrozenTrial) -> float:
    """The value of the first objective; of a pruned trial the last one that it reported, NaN without any."""
    if trial.state == TrialState.COMPLETE:
        return float(trial.values[0])
    reported = trial.intermediate_values
    return reported[max(reported)] if reported else math.nan


def draw_history(path: Path, trials: Sequence[FrozenTrial], minimize: bool, metric: str) -> None:
    """Values of the trials, and the best so far.

    Args:
        path: PNG file to write.
        trials: Trials with a value, completed and pruned, by number.
        minimize: Whether a smaller value is better.
        metric: Name of the objective.
    """
    with _plot(path, 2.7) as figure:
        axes = _axes(figure, 0.16, 0.17, 0.97, 0.86)
        done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        pruned = [trial for trial in trials if trial.state != TrialState.COMPLETE]
        best = (np.minimum if minimize else np.maximum).accumulate([drawn_value(trial) for trial in done])
        low, high = limits(np.array([drawn_value(trial) for trial in trials]), best[-1:])
        for group, colour, mark, label in ((done, COMPLETE, "o", "complete"), (pruned, PRUNED, "x", "pruned")):
            numbers = [trial.number for trial in group]
            values = [min(max(drawn_value(trial), low), high) for trial in group]  # a far-off value is on the edge
            axes.plot(numbers, values, mark, color=colour, markersize=4, label=label, clip_on=False)
        if done:
            numbers = [trial.number for trial in done]
            axes.step(numbers, best, where="post", color=BEST, linewidth=1.3, label="best so far")
        axes.set_ylim(low, high)
        axes.locator_params(axis="x", integer=True)
        _label(axes, "trial", metric)


def draw_front(path: Path, trials: Sequence[FrozenTrial], front: Collection[int], metrics: Sequence[str]) -> None:
    """Two objectives against each other, and the trials that no other one beats in all objectives.

    Args:
        path: PNG file to write.
        trials: Completed trials.
        front: Their numbers.
        metrics: Names of the objectives.
    """
    with _plot(path, 3.0) as figure:
        axes = _axes(figure, 0.16, 0.17, 0.97, 0.86)
        values = np.array([trial.values[:2] for trial in trials])
        of_front = np.array([trial.number in front for trial in trials])
        axes.plot(*values[~of_front].T, "o", color=COMPLETE, markersize=4, label="complete")
        axes.plot(*values[of_front].T, "D", color=BEST, markersize=5, label="best trade-offs")
        xlim, ylim = (limits(values[:, axis], values[of_front, axis]) for axis in (0, 1))
        axes.set(xlim=xlim, ylim=ylim)
        axes.locator_params(axis="x", nbins=5)
        _label(axes, shortened(metrics[0], 40), metrics[1])


def draw_importances(path: Path, importances: Mapping[str, float]) -> None:
    """Share of the spread of the values that each parameter explains.

    Args:
        path: PNG file to write.
        importances: Shares by parameter, the largest first.
    """
    height = 0.5 + 0.24 * len(importances)
    with _plot(path, height) as figure:
        axes = _axes(figure, 0.36, 0.38 / height, 0.93, 1 - 0.08 / height)
        places = np.arange(len(importances))[::-1]
        bars = axes.barh(places, list(importances.values()), height=0.7, color=COMPLETE)
        axes.bar_label(bars, [f"{share:.0%}" for share in importances.values()], padding=2, fontsize=7.5)
        names = [shortened(name, NAME) for name in tails(list(importances)).values()]
        axes.set_yticks(places, names, parse_math=False)
        axes.set_xlim(0, max([*importances.values(), 0.01]) * 1.15)
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.set_ylim(-0.6, len(importances) - 0.4)
        axes.grid(visible=False, axis="y")


def draw_parallel(path: Path, trials: Sequence[FrozenTrial], scales: Sequence[Scale]) -> None:
    """Each completed trial as a line through its parameters, dark if its value is good, and green for the best.

    Args:
        path: PNG file to write.
        trials: Completed trials, the best first.
        scales: Parameters, from top to bottom.
    """
    height = 0.3 + 0.62 * len(scales)
    with _plot(path, height) as figure:
        axes = _axes(figure, 0.05, 0.1 / height, 0.95, 1 - 0.1 / height)
        axes.set_axis_off()
        axes.set(xlim=(-0.04, 1.04), ylim=(len(scales) - 0.4, -0.5))
        for row, scale in enumerate(scales):
            axes.plot([0, 1], [row, row], color="0.6", linewidth=0.8)
            axes.text(-0.03, row - 0.16, scale.name, fontsize=8, weight="bold", **BOXED)
            for place, label in scale.ticks.items():
                axes.text(scale.share(place), row + 0.2, label, fontsize=7, ha="center", **BOXED)
        shades = np.linspace(0.75, 0.08, len(trials))
        for trial, shade in reversed(list(zip(trials, shades, strict=True))):
            rows = [row for row, scale in enumerate(scales) if trial.number in scale.places]
            shares = [scales[row].share(scales[row].places[trial.number]) for row in rows]
            colour, width, alpha = (BEST, 2.2, 1.0) if trial is trials[0] else (COMPLETE, 1.0, shade)
            axes.plot(shares, rows, color=colour, linewidth=width, alpha=alpha)


def draw_slices(path: Path, trials: Sequence[FrozenTrial], scales: Sequence[Scale], metric: str) -> None:
    """The values over each parameter.

    Args:
        path: PNG file to write.
        trials: Completed trials, the best first.
        scales: Parameters.
        metric: Name of the objective.
    """
    rows = -(-len(scales) // 2)
    height = ROW * rows
    with _plot(path, height) as figure:
        values = {trial.number: trial.values[0] for trial in trials}
        edges = limits(np.array(list(values.values())), trials[0].values[:1])
        names = tails([scale.name for scale in scales])
        for number, scale in enumerate(scales):
            row, column = divmod(number, 2)
            bottom, left = (0.5 + (rows - 1 - row) * ROW) / height, 0.13 + 0.47 * column
            axes = _axes(figure, left, bottom, left + 0.38, bottom + 0.9 / height)
            places = np.array(list(scale.places.values()))
            style: dict[str, Any] = {"parse_math": False, "fontsize": 6.5}
            if scale.is_choice:
                places += np.random.default_rng(0).uniform(-0.15, 0.15, len(places))
                style |= {"rotation": 25, "ha": "right", "rotation_mode": "anchor"}
            axes.scatter(places, [values[trial] for trial in scale.places], s=9, color=COMPLETE, alpha=0.6)
            axes.set_xticks(list(scale.ticks), list(scale.ticks.values()), **style)
            axes.set_title(shortened(names[scale.name], 26), fontsize=8, parse_math=False, pad=3)
            axes.set_ylim(*edges)
            axes.locator_params(axis="y", nbins=4)
            axes.tick_params(axis="y", labelsize=6.5)


def limits(values: Floats, kept: Iterable[float]) -> tuple[float, float]:
    """Limits of an axis; a few wild values do not flatten it.

    Args:
        values: What is drawn.
        kept: Values that are inside in any case.

    Example:
        >>> [round(end, 2) for end in limits(np.array([1.0, 1.1, 1.2, 1.3, 1.2, 1.1, 1.2, 1.1, 1.3, 40.0]), [1.0])]
        [0.98, 1.32]
    """
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    reach = 6 * max(high - middle, middle - low)
    inside = values[(values >= middle - reach) & (values <= middle + reach)] if reach > 0 else values
    bottom, top = float(min([*inside, *kept])), float(max([*inside, *kept]))
    space = 0.06 * (top - bottom) or 0.05 * abs(top) or 1.0
    return bottom - space, top + space


def _axes(figure: Figure, left: float, bottom: float, right: float, top: float) -> Axes:
    axes = figure.add_axes((left, bottom, right - left, top - bottom), axisbelow=True)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7.5)
    return axes


def _label(axes: Axes, x: str, y: str) -> None:
    """Names of both axes, and the legend above."""
    axes.set_xlabel(x, fontsize=8.5, parse_math=False)
    axes.text(-0.12, 1.04, shortened(y, NAME), transform=axes.transAxes, fontsize=8.5, parse_math=False)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=7.5, handlelength=1)


@contextmanager
def _plot(path: Path, height: float) -> Iterator[Figure]:
    """A figure of our width and so many inches of height, which is written once it is drawn."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    with warnings.catch_warnings():
        # a user's names may be of any alphabet; the page and the table have them whole
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield figure
        write_whole(path, lambda partial: figure.savefig(partial, format="png", metadata={"Software": None}))
