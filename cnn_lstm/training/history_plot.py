"""The plot of a run's history: six panels, or several runs in the same panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_lstm.errors import ConfigError
from cnn_lstm.files import disk_errors_in_one_line, replace_file
from cnn_lstm.hints import counted
from cnn_lstm.training.history import Curve, History, read_history

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")
Style = dict[str, Any]
# title and unit of the first three panels by column, for numbers and for classes; and those of the last panel
OF_NUMBERS = {
    "loss": ("Loss", "loss"),
    "mae": ("MAE: mean absolute error", "units of the target"),
    "rmse": ("RMSE: root mean squared error", "units of the target"),
}
OF_CLASSES = {
    "loss": ("Loss", "loss"),
    "accuracy": ("Accuracy", "share of forecasts"),
    "balanced_accuracy": ("Balanced accuracy", "mean share over classes"),
}
RATIO = ("Validation loss / training loss", "ratio")
DIFFERENCE = ("Validation loss - training loss", "difference")

# dark and solid against light and dashed: also distinct in greyscale and for the colour-blind
VALIDATION: Style = {"color": "#0b2a6f", "linestyle": "-", "linewidth": 2.2}
TRAINING: Style = {"color": "#e08a2e", "linestyle": (0, (4, 1.5)), "linewidth": 1.8}
BEST: Style = {"color": "#222222", "linestyle": ":", "linewidth": 1.3}
SINGLE_STEPS: Style = {"color": "#b4b4b4", "linestyle": "-", "linewidth": 0.9}
STOP: Style = {"color": "#777777", "linestyle": "-.", "linewidth": 1.3}
COLORS = ("#0b2a6f", "#e08a2e", "#128a6a", "#c2306f", "#5aa5e0", "#8a5a2b")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (2, 1)))
MARKERS = "osD^vP"


def draw_history(runs: Sequence[Path], target: Path) -> None:
    """Draws the history of a run, or a comparison of several.

    Args:
        runs: Run folders.
        target: PNG, PDF or SVG file to write; it is replaced in one step.

    Raises:
        ConfigError: If a folder is not there, the file has another ending, or the runs have different targets.
        DataError: If a run has no metrics.csv, or one without an epoch.
        ResourceError: If the file cannot be written.
    """
    if target.suffix.lower() not in FORMATS:
        raise ConfigError(f"the plot {target.name!r}", fix=f"end its name in {', '.join(FORMATS)}", code=224)
    from matplotlib import rc_context, rc_file_defaults

    histories = [read_history(run) for run in runs]
    _require_one_unit(histories)
    with rc_context():
        rc_file_defaults()  # a notebook may have set another style
        figure = history_figure(histories)
        with disk_errors_in_one_line("cannot write the plot", target, "choose another --output"):
            replace_file(target, lambda partial: figure.savefig(partial, format=target.suffix[1:].lower()))


def _require_one_unit(histories: Sequence[History]) -> None:
    """Refuses runs with different targets: their errors have different units, and lines next to each other compare."""
    known = [history for history in histories if history.targets]
    other = next((history for history in known if history.targets != known[0].targets), None)
    if other is not None:
        names = [", ".join(target.partition("(")[0] for target in history.targets) for history in (known[0], other)]
        names = list(map(", ".join, (known[0].targets, other.targets))) if names[0] == names[1] else names
        what = f"runs with different targets: {names[0][:100]} and {names[1][:100]}"
        fix = "plot runs of one target together: errors of different units do not belong on one axis"
        raise ConfigError(what, f"{known[0].name}, {other.name}"[:100], fix, code=224)


def history_figure(histories: Sequence[History]) -> Figure:
    """The figure: all curves of one run, or the validation curves of several.

    Args:
        histories: One history or more.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), dpi=100, layout="constrained")
    panels = list(figure.subplots(2, 3).flat)
    logged = {column for history in histories for column in history.metrics}
    metrics = OF_CLASSES if "val_accuracy" in logged and "val_mae" not in logged else OF_NUMBERS
    # a loss of zero or below, as that of a Gaussian can be, makes a ratio say nothing
    losses = [history.curve(name)[1] for history in histories for name in ("train_loss", "val_loss")]
    difference = any((values <= 0).any() for values in losses)
    norm = ("Gradient norm before clipping", "norm" if len(histories) == 1 else "median of the epoch")
    labels = [*metrics.values(), ("Learning rate", "rate"), norm, DIFFERENCE if difference else RATIO]
    if len({history.objective for history in histories} - {""}) > 1:
        labels[0] = ("Loss of different objectives", "each in its own unit")
    for panel, (title, unit) in zip(panels, labels, strict=True):
        panel.set_title(title, loc="left", fontsize=12, fontweight="bold")
        panel.set_ylabel(unit, fontsize=10)
    if len(histories) == 1:
        _draw_run(panels, histories[0], list(metrics), difference)
        headline = _headline(histories[0])
    else:
        _draw_comparison(panels, _with_distinct_names(histories), list(metrics), difference)
        headline = f"{len(histories)} runs, metrics of the validation part"
    figure.suptitle(headline, fontsize=min(13.0, 13.0 * 115 / len(headline)), fontweight="bold")
    _finish(panels, histories)
    _add_legend(figure, panels)
    return figure


def _add_legend(figure: Figure, panels: list[Axes]) -> None:
    """One legend below all panels, in as many columns as its longest name allows."""
    lines = {str(line.get_label()): line for panel in panels for line in panel.get_legend_handles_labels()[0]}
    widths = sorted(70 + 7.3 * len(label) for label in lines)
    columns = len(lines) if sum(widths) < 1150 else max(1, int(1150 / widths[-1]))
    figure.legend(handles=list(lines.values()), loc="outside lower center", ncols=columns, frameon=False, fontsize=11)


def _headline(history: History) -> str:
    done = len(history.epochs)
    parts = [f"{done} of {counted(history.max_epochs, 'epoch')}" if history.max_epochs else counted(done, "epoch")]
    if history.stopped:
        parts[0] += " (early stop)"
    if history.best is not None:
        loss = history.metrics["val_loss"][history.best]
        parts.append(f"lowest validation loss {loss:.4g} in epoch {history.epochs[history.best]:.0f}")
    return f"{history.name}: {', '.join(parts)}"


def _draw_run(panels: list[Axes], history: History, columns: Sequence[str], difference: bool) -> None:
    *metrics, rate, norm, ratio = panels
    for panel, column in zip(metrics, columns, strict=True):
        _line(panel, history.curve(f"train_{column}"), TRAINING, "training")
        _line(panel, history.curve(f"val_{column}"), VALIDATION, "validation")
    for k, (name, curve) in enumerate(history.rates.items()):
        label = f"rate {name.removeprefix('lr-')}" if len(history.rates) > 1 else None
        _line(rate, _stretched(curve, history), {**VALIDATION, "linestyle": DASHES[k % 4]}, label, "steps-post")
    steps, medians = history.norms, _medians(history)
    if len(medians[0]) < len(steps[0]):
        _line(norm, steps, SINGLE_STEPS, "gradient norm at single steps, its median in bold")
    _line(norm, medians, VALIDATION, None)
    _line(ratio, _gap(history, difference), VALIDATION, None)
    for panel in panels:
        _mark(panel, history)


def _draw_comparison(
    panels: list[Axes], histories: Sequence[History], columns: Sequence[str], difference: bool
) -> None:
    *metrics, rate, norm, ratio = panels
    for k, history in enumerate(histories):
        style = {"color": COLORS[k % 6], "linestyle": DASHES[k % 4], "linewidth": 2.0}
        mark, best = MARKERS[k % 6], history.best
        label = history.name
        if best is not None:
            label += f" (best {history.metrics['val_loss'][best]:.4g} in epoch {history.epochs[best]:.0f}"
            label += ", early stop)" if history.stopped else ")"
        curves = [*(history.curve(f"val_{column}") for column in columns), _medians(history), _gap(history, difference)]
        for panel, curve in zip((*metrics, norm, ratio), curves, strict=True):
            _line(panel, curve, style, label, best=None if best is None else history.epochs[best], marker=mark)
        for curve in history.rates.values():
            _line(rate, _stretched(curve, history), style, None, "steps-post")
        for panel in panels:
            if best is not None:
                panel.axvline(history.epochs[best], color=COLORS[k % 6], linestyle=":", linewidth=1.2, gid="best")


def _line(
    panel: Axes,
    curve: Curve,
    style: Style,
    label: str | None,
    drawstyle: Any = "default",
    *,
    best: float | None = None,
    marker: str = "",
) -> None:
    """A curve; a single point is drawn as a dot, and the best epoch of one of several runs gets the run's marker."""
    x, y = curve
    if not len(x):
        return
    at: Style = {"marker": "o"} if len(x) == 1 else {}
    if marker and best is not None and best in x:
        at = {"marker": marker, "markevery": np.flatnonzero(x == best).tolist(), "markersize": 8, "mec": "white"}
    panel.plot(x, y, label=label, drawstyle=drawstyle, **style, **at)


def _mark(panel: Axes, history: History) -> None:
    """The best epoch and the early stop of a run: lines, with their labels between title and panel."""
    panel.set_title(panel.get_title(loc="left"), loc="left", fontsize=12, fontweight="bold", pad=18)
    if history.best is not None:
        epoch = history.epochs[history.best]
        panel.axvline(epoch, label="best epoch", gid="best", **BEST)
        right = epoch - history.epochs[0] > 0.8 * (history.epochs[-1] - history.epochs[0]) > 0
        text = {"fontsize": 10, "color": BEST["color"], "va": "bottom", "ha": "right" if right else "center"}
        panel.text(epoch, 1.01, f"best: {epoch:.0f}", transform=panel.get_xaxis_transform(), gid="best", **text)
    if history.stopped:
        end = history.epochs[-1] + 0.5
        panel.axvline(end, label="early stop", gid="stop", **STOP)
        near = history.best is not None and end - history.epochs[history.best] < 0.35 * len(history.epochs)
        if not near:
            text = {"fontsize": 10, "color": "#555555", "va": "bottom", "ha": "right"}
            panel.text(end, 1.01, "early stop", transform=panel.get_xaxis_transform(), gid="stop", **text)


def _stretched(curve: Curve, history: History) -> Curve:
    """A learning rate, held until the end of the run."""
    x, y = curve
    end = history.epochs[-1] + 0.5
    known = x <= end
    x, y = x[known], y[known]
    return (np.append(x, end), np.append(y, y[-1])) if len(x) else (x, y)


def _medians(history: History) -> Curve:
    """The median gradient norm of each epoch."""
    x, y = history.norms
    epochs = np.ceil(x - 0.5)  # the last step of epoch k lies at k + 0.5
    known = [k for k in history.epochs if np.isfinite(y[epochs == k]).any()]
    return np.array(known), np.array([np.nanmedian(y[epochs == k]) for k in known])


def _gap(history: History, difference: bool) -> Curve:
    """How far the validation loss is from the training loss: their difference, or their ratio."""
    missing = np.full(len(history.epochs), np.nan)
    train, val = (history.metrics.get(name, missing) for name in ("train_loss", "val_loss"))
    values = val - train if difference else val / train
    known = np.isfinite(values)
    return history.epochs[known], values[known]


def _finish(panels: list[Axes], histories: Sequence[History]) -> None:
    """Axes, grids and what an empty panel says."""
    from matplotlib.ticker import MaxNLocator

    first = min(history.epochs[0] for history in histories) - 0.5
    last = max(history.epochs[-1] for history in histories) + 0.5
    margin = 0.02 * (last - first)
    for number, panel in enumerate(panels):
        panel.set_xlim(first - margin, last + margin)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        panel.grid(color="#e4e4e4", linewidth=0.7)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=10)
        if number >= 3:
            panel.set_xlabel("epoch, counted from 0", fontsize=10)
        if not any(len(line.get_xdata()) and line.get_gid() is None for line in panel.lines):  # type: ignore[arg-type]
            panel.text(0.5, 0.5, "not logged", transform=panel.transAxes, ha="center", color="#777777", fontsize=12)
    _scale_logarithmically(panels[3], 1.0)
    _scale_logarithmically(panels[4], 10.0)
    if panels[5].get_ylabel() == "ratio":
        panels[5].axhline(1.0, color="#999999", linewidth=1.0, gid="even")


def _scale_logarithmically(panel: Axes, spread: float) -> None:
    """A log axis with readable labels, where all values are above 0 and the largest is `spread` times the median."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    curves = [np.asarray(line.get_ydata(), dtype=float) for line in panel.lines if line.get_gid() is None]
    values = np.concatenate([np.array([]), *curves])
    values = values[np.isfinite(values)]
    if not len(values) or values.min() <= 0 or values.max() < spread * np.median(values):
        return
    panel.set_yscale("log")
    few = values.max() / values.min() < 100
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    panel.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.set_ylabel(f"{panel.get_ylabel()}, log scale")


def _with_distinct_names(histories: Sequence[History]) -> list[History]:
    """Runs of one name are numbered."""
    names = [history.name for history in histories]
    numbers = [f" #{names[: k + 1].count(name)}" if names.count(name) > 1 else "" for k, name in enumerate(names)]
    return [replace(history, name=history.name + number) for history, number in zip(histories, numbers, strict=True)]
