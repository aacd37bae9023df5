"""The plots of a sweep: how the trials went, which parameters mattered, and where the good values lie.

They are narrow, so that they are readable on a phone: parameters are below each other. We compared
`optuna.visualization.matplotlib` at 390 pixels on a space of 19 parameters, and it loses: its slices are in one row 38
inches wide, its parallel axes cover each other, names of parameters are cut off, the history has no pruned trials, and
one diverged trial flattens each plot. It also changes pyplot's style for the whole process. Plotly's version needs
4.5 MB of JavaScript in each page.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cnn_lstm.files import write_whole

Floats = NDArray[np.float64]
COMPLETE, PRUNED, BEST = "#0b2a6f", "#e08a2e", "#17663c"  # the blue and orange of the other plots; green is good
WIDTH = 4.5  # inches
DPI = 180
ROW = 1.62  # inches of a row of slices
NAME, TICK = 22, 11  # letters of a name next to an axis, and of a choice along one
CHOICES = 6  # labelled along an axis
BOXED: dict[str, Any] = {"bbox": {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}}


@dataclass(frozen=True)
class DrawnTrial:
    """A trial that has a value.

    Attributes:
        number: Number of the trial.
        values: Its objectives; of a pruned trial the last value that it reported.
        pruned: Whether it was pruned.
        draws: Its parameters.
    """

    number: int
    values: tuple[float, ...]
    pruned: bool
    draws: Mapping[str, Any]


@dataclass(frozen=True)
class Scale:
    """The axis of a parameter.

    Attributes:
        name: Name of the parameter.
        log: Whether numbers are on a logarithmic axis.
        choices: Choices in order; empty for numbers.
        whole: Whether its numbers are whole.
    """

    name: str
    log: bool = False
    choices: tuple[Any, ...] = ()
    whole: bool = False

    def place(self, draw: Any) -> float:
        """Where a draw is on the axis."""
        if self.choices:
            return float(next(k for k, choice in enumerate(self.choices) if choice == draw))
        return float(np.log10(draw)) if self.log else float(draw)

    def places(self, trials: Sequence[DrawnTrial]) -> Floats:
        """Where the draws of the trials that have the parameter are."""
        return np.array([self.place(trial.draws[self.name]) for trial in trials if self.name in trial.draws])

    def label(self, place: float) -> str:
        """The text at a place."""
        if self.choices:
            choice = self.choices[round(place)]
            return shortened(choice if isinstance(choice, str) else json.dumps(choice), TICK)
        return f"{10**place:.2g}" if self.log else f"{place:.3g}"

    def ticks(self, places: Floats) -> list[float]:
        """Places that are labelled."""
        if self.choices:
            every = -(-len(self.choices) // CHOICES)
            return [float(number) for number in range(0, len(self.choices), every)]
        spread = np.linspace(places.min(), places.max(), 4)
        return [float(place) for place in np.unique(np.round(spread) if self.whole and not self.log else spread)]

    def ends(self, places: Floats) -> tuple[float, float]:
        """Both ends of the axis."""
        low, high = (0.0, float(len(self.choices) - 1)) if self.choices else (float(places.min()), float(places.max()))
        return (low, high) if high > low else (low - 1, high + 1)


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


def draw_history(path: Path, trials: Sequence[DrawnTrial], best: Sequence[float], metric: str) -> None:
    """Values of the trials, and the best so far.

    Args:
        path: PNG file to write.
        trials: Trials with a value.
        best: Best value after each completed trial.
        metric: Name of the objective.
    """
    with _plot(path, 2.7) as figure:
        axes = _axes(figure, 0.16, 0.17, 0.97, 0.86)
        low, high = limits(np.array([trial.values[0] for trial in trials]), best[-1:])
        done, cut = ([trial for trial in trials if trial.pruned == pruned] for pruned in (False, True))
        for group, colour, mark, label in ((done, COMPLETE, "o", "complete"), (cut, PRUNED, "x", "pruned")):
            numbers = [trial.number for trial in group]
            values = [min(max(trial.values[0], low), high) for trial in group]  # a far-off value is on the edge
            axes.plot(numbers, values, mark, color=colour, markersize=4, label=label, clip_on=False)
        if done:
            numbers = [trial.number for trial in done]
            axes.step(numbers, best, where="post", color=BEST, linewidth=1.3, label="best so far")
        axes.set_ylim(low, high)
        axes.locator_params(axis="x", integer=True)
        _label(axes, "trial", metric)


def draw_front(path: Path, trials: Sequence[DrawnTrial], front: Sequence[int], metrics: Sequence[str]) -> None:
    """Two objectives against each other, and the trials that no other one beats in all objectives.

    Args:
        path: PNG file to write.
        trials: Completed trials.
        front: Their numbers.
        metrics: Names of the objectives.
    """
    with _plot(path, 3.0) as figure:
        axes = _axes(figure, 0.16, 0.17, 0.97, 0.86)
        groups = [
            np.array([trial.values[:2] for trial in trials if (trial.number in front) == of_front]).reshape(-1, 2)
            for of_front in (False, True)
        ]
        axes.plot(*groups[0].T, "o", color=COMPLETE, markersize=4, label="complete")
        axes.plot(*groups[1].T, "D", color=BEST, markersize=5, label="best trade-offs")
        values = np.array([trial.values[:2] for trial in trials])
        axes.set(xlim=limits(values[:, 0], groups[1][:, 0]), ylim=limits(values[:, 1], groups[1][:, 1]))
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


def draw_parallel(path: Path, trials: Sequence[DrawnTrial], scales: Sequence[Scale], best: int) -> None:
    """Each completed trial as a line through its parameters, dark if its value is good.

    Args:
        path: PNG file to write.
        trials: Completed trials, the best first.
        scales: Parameters, from top to bottom.
        best: Number of the best trial.
    """
    height = 0.3 + 0.62 * len(scales)
    with _plot(path, height) as figure:
        axes = _axes(figure, 0.05, 0.1 / height, 0.95, 1 - 0.1 / height)
        axes.set_axis_off()
        axes.set(xlim=(-0.04, 1.04), ylim=(len(scales) - 0.4, -0.5))
        ends = []
        for row, scale in enumerate(scales):
            places = scale.places(trials)
            low, high = scale.ends(places)
            ends.append((low, high))
            axes.plot([0, 1], [row, row], color="0.6", linewidth=0.8)
            axes.text(-0.03, row - 0.16, scale.name, fontsize=8, weight="bold", parse_math=False, zorder=5, **BOXED)
            for tick in scale.ticks(places):
                x = (tick - low) / (high - low)
                axes.text(x, row + 0.2, scale.label(tick), fontsize=7, ha="center", parse_math=False, zorder=5, **BOXED)
        shades = np.linspace(0.75, 0.08, len(trials))
        for trial, shade in list(zip(trials, shades, strict=True))[::-1]:
            points = [
                ((scale.place(trial.draws[scale.name]) - low) / (high - low), row)
                for row, (scale, (low, high)) in enumerate(zip(scales, ends, strict=True))
                if scale.name in trial.draws
            ]
            look = (BEST, 2.2, 1.0) if trial.number == best else (COMPLETE, 1.0, shade)
            colour, width, alpha = look
            axes.plot([x for x, _ in points], [y for _, y in points], color=colour, linewidth=width, alpha=alpha)


def draw_slices(path: Path, trials: Sequence[DrawnTrial], scales: Sequence[Scale], metric: str) -> None:
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
        edges = limits(np.array([trial.values[0] for trial in trials]), trials[0].values[:1])
        names = tails([scale.name for scale in scales])
        for number, scale in enumerate(scales):
            row, column = divmod(number, 2)
            bottom, left = (0.5 + (rows - 1 - row) * ROW) / height, 0.13 + 0.47 * column
            axes = _axes(figure, left, bottom, left + 0.38, bottom + 0.9 / height)
            places = scale.places(trials)
            jitter = np.random.default_rng(0).uniform(-0.15, 0.15, len(places)) if scale.choices else 0.0
            values = [trial.values[0] for trial in trials if scale.name in trial.draws]
            axes.scatter(places + jitter, values, s=9, color=COMPLETE, alpha=0.6)
            ticks = scale.ticks(places)
            turned: dict[str, Any] = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if scale.choices else {}
            axes.set_xticks(ticks, [scale.label(tick) for tick in ticks], parse_math=False, fontsize=6.5, **turned)
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
