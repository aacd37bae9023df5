"""The plots of a sweep: how the trials went, which parameters mattered, and where the good values lie.

Drawn narrow, so that they are readable on a phone: parameters stand below each other.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnn_lstm.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
COMPLETE, PRUNED, BEST = "#0b2a6f", "#e08a2e", "#17663c"  # the blue and orange of the other plots; green is good
WIDTH = 4.5  # inches
DPI = 180
ROW = 1.62  # inches of a row of slices
NAME, TICK = 22, 11  # letters of a name beside an axis, and of a choice along one
CHOICES = 6  # labelled along an axis
SMALL: dict[str, Any] = {"labelsize": 7.5}


@dataclass(frozen=True)
class Line:
    """A trial that has a value.

    Attributes:
        number: Number of the trial.
        values: Its objectives; for a pruned trial the last figure it reported.
        pruned: Whether it was pruned.
        draws: Its parameters.
    """

    number: int
    values: tuple[float, ...]
    pruned: bool
    draws: Mapping[str, Any]


@dataclass(frozen=True)
class Scale:
    """Where the draws of a parameter stand along an axis.

    Attributes:
        name: Name of the parameter.
        log: Whether numbers stand on a logarithmic axis.
        choices: Choices in order; empty for numbers.
        whole: Whether its numbers are whole.
    """

    name: str
    log: bool = False
    choices: tuple[Any, ...] = ()
    whole: bool = False

    def place(self, draw: Any) -> float:
        """Where a draw stands."""
        if self.choices:
            return float(next(k for k, choice in enumerate(self.choices) if choice == draw))
        return float(np.log10(draw)) if self.log else float(draw)

    def label(self, place: float) -> str:
        """What is written at a place."""
        if self.choices:
            choice = self.choices[round(place)]
            return shortened(choice if isinstance(choice, str) else json.dumps(choice), TICK)
        return f"{10**place:.2g}" if self.log else f"{place:.3g}"

    def ticks(self, places: Floats) -> list[float]:
        """Places that are labelled."""
        if self.choices:
            every = -(-len(self.choices) // CHOICES)
            return [float(number) for number in range(0, len(self.choices), every)]
        found = np.linspace(places.min(), places.max(), 4)
        whole = self.whole and not self.log
        return [float(place) for place in np.unique(np.round(found) if whole else found)]


def shortened(text: str, length: int) -> str:
    """A text, its middle left out where it is long.

    Example:
        >>> shortened("16-32-64-128/5-5-5-5", 11)
        '16-32…5-5-5'
    """
    return text if len(text) <= length else f"{text[: length // 2]}…{text[-(length // 2) :]}"


def tails(names: Sequence[str]) -> dict[str, str]:
    """Last parts of keys, as many as tell them apart.

    Example:
        >>> tails(["early_stopping.patience", "model.scheduler.patience", "data.window"])["data.window"]
        'window'
        >>> list(tails(["early_stopping.patience", "model.scheduler.patience"]).values())
        ['early_stopping.patience', 'scheduler.patience']
    """
    found = {}
    for name in names:
        parts = name.split(".")
        others = [other.split(".") for other in names if other != name]
        count = next((k for k in range(1, len(parts)) if all(o[-k:] != parts[-k:] for o in others)), len(parts))
        found[name] = ".".join(parts[-count:])
    return found


def draw_history(path: Path, lines: Sequence[Line], best: Sequence[float], metric: str) -> None:
    """Values of the trials, and the best so far.

    Args:
        path: PNG file to write.
        lines: Trials with a value.
        best: Best value after each completed trial.
        metric: Name of the objective.
    """

    def draw(figure: Figure) -> None:
        axes = _axes(figure, 0.16, 0.17, 0.97, 0.86)
        low, high = limits(np.array([line.values[0] for line in lines]), best[-1:])
        done, cut = ([line for line in lines if line.pruned == pruned] for pruned in (False, True))
        for group, colour, mark, label in ((done, COMPLETE, "o", "complete"), (cut, PRUNED, "x", "pruned")):
            axes.plot(
                [line.number for line in group],
                [min(max(line.values[0], low), high) for line in group],
                mark,
                color=colour,
                markersize=4,
                label=label,
                clip_on=False,  # what lies beyond stands on the edge
            )
        if done:
            axes.step(
                [line.number for line in done], best, where="post", color=BEST, linewidth=1.3, label="best so far"
            )
        axes.set_ylim(low, high)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("trial", fontsize=8.5)
        _above(axes, metric)
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=7.5, handlelength=1)

    _write(path, 2.7, draw)


def draw_front(path: Path, lines: Sequence[Line], front: Sequence[int], metrics: Sequence[str]) -> None:
    """Two objectives against each other, and the trials that no other one beats in all objectives.

    Args:
        path: PNG file to write.
        lines: Completed trials.
        front: Their numbers.
        metrics: Names of the objectives.
    """

    def draw(figure: Figure) -> None:
        axes = _axes(figure, 0.16, 0.17, 0.97, 0.86)
        for of_front, colour, label in ((False, COMPLETE, "complete"), (True, BEST, "best trade-offs")):
            group = [line.values for line in lines if (line.number in front) == of_front]
            axes.plot(
                [values[0] for values in group],
                [values[1] for values in group],
                "D" if of_front else "o",
                color=colour,
                markersize=5 if of_front else 4,
                label=label,
            )
        chosen = [line.values for line in lines if line.number in front]
        ends = [
            limits(np.array([line.values[k] for line in lines]), [values[k] for values in chosen]) for k in range(2)
        ]
        axes.set(xlim=ends[0], ylim=ends[1])
        axes.set_xlabel(shortened(metrics[0], 40), fontsize=8.5, parse_math=False)
        axes.locator_params(axis="x", nbins=5)
        _above(axes, metrics[1])
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, fontsize=7.5, handlelength=1)

    _write(path, 3.0, draw)


def draw_importances(path: Path, importances: Mapping[str, float]) -> None:
    """Share of the spread of the values that each parameter explains.

    Args:
        path: PNG file to write.
        importances: Shares by parameter, the largest first.
    """

    def draw(figure: Figure) -> None:
        height = figure.get_size_inches()[1]
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

    _write(path, 0.5 + 0.24 * len(importances), draw)


def draw_parallel(path: Path, lines: Sequence[Line], scales: Sequence[Scale], best: int) -> None:
    """Each completed trial as a line through its parameters, dark where its value is good.

    Args:
        path: PNG file to write.
        lines: Completed trials, the best first.
        scales: Parameters, from above to below.
        best: Number of the best trial.
    """

    def draw(figure: Figure) -> None:
        height = figure.get_size_inches()[1]
        axes = _axes(figure, 0.05, 0.1 / height, 0.95, 1 - 0.1 / height)
        axes.set_axis_off()
        axes.set(xlim=(-0.04, 1.04), ylim=(len(scales) - 0.4, -0.5))
        ends = [_ends(scale, lines) for scale in scales]
        for row, (scale, (low, high, places)) in enumerate(zip(scales, ends, strict=True)):
            axes.plot([0, 1], [row, row], color="0.6", linewidth=0.8)
            axes.text(-0.03, row - 0.16, scale.name, fontsize=8, weight="bold", parse_math=False, zorder=5, **BOXED)
            for tick in scale.ticks(places):
                text = scale.label(tick)
                place = (tick - low) / (high - low)
                axes.text(place, row + 0.2, text, fontsize=7, ha="center", parse_math=False, zorder=5, **BOXED)
        shades = np.linspace(0.75, 0.08, len(lines))
        for line, shade in list(zip(lines, shades, strict=True))[::-1]:
            there = [(row, *end[:2]) for row, end in enumerate(ends) if scales[row].name in line.draws]
            x = [(scales[row].place(line.draws[scales[row].name]) - low) / (high - low) for row, low, high in there]
            colour, width = (BEST, 2.2) if line.number == best else (COMPLETE, 1.0)
            alpha = 1.0 if line.number == best else shade
            axes.plot(x, [row for row, _, _ in there], color=colour, linewidth=width, alpha=alpha)

    _write(path, 0.3 + 0.62 * len(scales), draw)


def draw_slices(path: Path, lines: Sequence[Line], scales: Sequence[Scale], metric: str) -> None:
    """The values over each parameter.

    Args:
        path: PNG file to write.
        lines: Completed trials.
        scales: Parameters.
        metric: Name of the objective.
    """

    def draw(figure: Figure) -> None:
        rows, height = -(-len(scales) // 2), figure.get_size_inches()[1]
        shown = limits(np.array([line.values[0] for line in lines]), lines[0].values[:1])
        names = tails([scale.name for scale in scales])
        for number, scale in enumerate(scales):
            row, column = divmod(number, 2)
            bottom = 0.5 / height + (rows - 1 - row) * ROW / height
            left = 0.13 + 0.47 * column
            axes = _axes(figure, left, bottom, left + 0.38, bottom + 0.9 / height)
            group = [line for line in lines if scale.name in line.draws]
            places = np.array([scale.place(line.draws[scale.name]) for line in group])
            jitter = np.random.default_rng(0).uniform(-0.15, 0.15, len(group)) if scale.choices else 0.0
            axes.scatter(places + jitter, [line.values[0] for line in group], s=9, color=COMPLETE, alpha=0.6)
            ticks = scale.ticks(places)
            turned: dict[str, Any] = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if scale.choices else {}
            axes.set_xticks(ticks, [scale.label(tick) for tick in ticks], parse_math=False, fontsize=6.5, **turned)
            axes.set_title(shortened(names[scale.name], 26), fontsize=8, parse_math=False, pad=3)
            axes.set_ylim(*shown)
            axes.locator_params(axis="y", nbins=4)
            axes.tick_params(axis="y", labelsize=6.5)

    _write(path, ROW * -(-len(scales) // 2), draw)


BOXED: dict[str, Any] = {"bbox": {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}}


def _ends(scale: Scale, lines: Sequence[Line]) -> tuple[float, float, Floats]:
    """Ends of a parameter's axis, and the places of its draws."""
    places = np.array([scale.place(line.draws[scale.name]) for line in lines if scale.name in line.draws])
    low, high = (0.0, float(len(scale.choices) - 1)) if scale.choices else (float(places.min()), float(places.max()))
    return (low, high, places) if high > low else (low - 1, high + 1, places)


def limits(values: Floats, kept: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis that a few wild values do not flatten.

    Args:
        values: What is drawn.
        kept: Values that lie inside in any case.

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
    axes.tick_params(**SMALL)
    return axes


def _above(axes: Axes, text: str) -> None:
    axes.text(-0.12, 1.04, shortened(text, NAME), transform=axes.transAxes, fontsize=8.5, parse_math=False)


def _write(path: Path, height: float, draw: Callable[[Figure], None]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    with warnings.catch_warnings():
        # names of a user may be of any alphabet; the page and the table have them whole
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        draw(figure)
        write_whole(path, lambda partial: figure.savefig(partial, format="png", metadata={"Software": None}))
