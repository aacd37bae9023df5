"""The report of a sweep for people: trials.csv, plots, and one page that needs nothing else."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial

from cnn_lstm.files import write_text_whole
from cnn_lstm.pages.environment import Plot, page_environment
from cnn_lstm.sweeps import plots
from cnn_lstm.sweeps.study import FINISHED, best_first, completed

TEMPLATE = "sweep.html.jinja"
TABLE_ROWS = 50  # trials in the page's table; trials.csv has all
AXES = 8  # of the parallel coordinates
SLICES, BARS = 12, 15
FEWEST = 2  # trials that are needed to compare parameters


def write_report(
    study: optuna.Study,
    folder: Path,
    metrics: Sequence[str] = ("val_loss",),
    title: str = "",
    remarks: Sequence[str] = (),
) -> list[Path]:
    """Writes trials.csv, the plots, and sweep.html.

    Args:
        study: The study, of any number of trials.
        folder: Where to write.
        metrics: Name of each objective.
        title: Name of the sweep; that of the study by default.
        remarks: Sentences about the best trial.

    Returns:
        The files, the page last.

    Raises:
        ResourceError: If a file cannot be written.

    Example:
        >>> files = write_report(study, Path("runs/sweep"), ["val_rmse"])  # doctest: +SKIP
    """
    trials, done = study.get_trials(deepcopy=False), completed(study)
    table, page = folder / "trials.csv", folder / "sweep.html"
    write_text_whole(table, trials_csv(trials, metrics))
    drawn = list(_plots(study, done, folder, metrics))
    best = best_first(study)[: None if len(metrics) > 1 else 1]
    first = {trial.number for trial in best}
    others = [trial for trial in done if trial.number not in first]
    others += [trial for trial in trials if trial.state.name != "COMPLETE"]
    template = page_environment(Path(__file__).parent).get_template(TEMPLATE)
    text = template.render(
        title=title or study.study_name,
        metrics=list(metrics),
        remarks=remarks,
        best=best,
        tiles=list(_tiles(trials)),
        plots=[plot for _, plot in drawn],
        trials=[*best, *others][:TABLE_ROWS],
        ended=sum(trial.state.is_finished() for trial in trials),
        failures=_failures(trials),
        text=_text,
    )
    write_text_whole(page, text)
    return [table, *(path for path, _ in drawn), page]


def trials_csv(trials: Sequence[FrozenTrial], metrics: Sequence[str]) -> str:
    """All trials as CSV: number, state, objectives, times, parameters, and attributes such as epochs and reason.

    Args:
        trials: The trials.
        metrics: Name of each objective.
    """
    params = sorted({name for trial in trials for name in trial.params})
    attributes = sorted({name for trial in trials for name in trial.user_attrs})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["number", "state", *metrics, "started", "ended", *params, *attributes])
    for trial in trials:
        objectives = trial.values or [""] * len(metrics)
        times = [time.isoformat() if time else "" for time in (trial.datetime_start, trial.datetime_complete)]
        further = [trial.params.get(name, "") for name in params]
        further += [trial.user_attrs.get(name, "") for name in attributes]
        writer.writerow([trial.number, trial.state.name, *objectives, *times, *further])
    return out.getvalue()


# -- the page --------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _tiles(trials: Sequence[FrozenTrial]) -> Iterator[tuple[str, str, str]]:
    """Title, number and remark."""
    remarks = {
        "COMPLETE": "trained to their end",
        "PRUNED": "ended early, since others were better by then",
        "FAIL": "ended without a value",
        "RUNNING": "not ended yet",
    }
    counts = Counter(trial.state.name for trial in trials)
    for state, remark in remarks.items():
        if counts[state] or state != "RUNNING":
            yield state, f"{counts[state]:,}", remark
    seconds = [float(trial.user_attrs["seconds"]) for trial in trials if "seconds" in trial.user_attrs]
    if seconds:
        yield "time of all trials", f"{sum(seconds) / 60:,.1f} min", f"{np.median(seconds):,.1f} s the median trial"
    for unit in ("epochs", "steps"):
        length = [int(trial.user_attrs[unit]) for trial in trials if trial.user_attrs.get(unit) is not None]
        if length:
            yield f"{unit} of all trials", f"{sum(length):,}", f"{np.median(length):,g} the median trial"


def _failures(trials: Sequence[FrozenTrial]) -> list[tuple[str, int, str]]:
    """Each reason, how many trials failed for it, and their numbers; the most frequent first."""
    failed: dict[str, list[int]] = {}
    for trial in trials:
        if trial.state.name == "FAIL":
            failed.setdefault(str(trial.user_attrs.get("reason", "unknown")), []).append(trial.number)
    ordered = sorted(failed.items(), key=lambda item: (-len(item[1]), item[1]))
    return [(reason, len(numbers), ", ".join(map(str, numbers))) for reason, numbers in ordered]


# -- plots -----------------------------------------------------------------------------------------------------------


def _plots(
    study: optuna.Study, done: Sequence[FrozenTrial], folder: Path, metrics: Sequence[str]
) -> Iterator[tuple[Path, Plot]]:
    """The plots that the trials allow; `done` are the completed ones, the best first."""
    drawn = study.get_trials(deepcopy=False, states=FINISHED)
    drawn = [trial for trial in drawn if trial.state.name == "COMPLETE" or math.isfinite(plots.drawn_value(trial))]
    if len(metrics) > 1 and done:
        front = {trial.number for trial in best_first(study)}
        plots.draw_front(path := folder / "sweep_front.png", done, front, metrics)
        caption = "Each point is a trial. No other trial beats a green one in every objective at once."
        yield path, _embedded(path, "Trade-offs", caption)
    if len(metrics) == 1 and drawn:
        minimize = study.directions[0].name == "MINIMIZE"
        plots.draw_history(path := folder / "sweep_history.png", drawn, minimize, metrics[0])
        caption = "The value of each trial in its order. A pruned trial has the last value that it reported; "
        yield path, _embedded(path, "How the trials went", f"{caption}far-off values are on the edge.")
    if len(done) >= FEWEST:
        yield from _parameter_plots(study, done, folder, metrics[0])


def _parameter_plots(
    study: optuna.Study, done: Sequence[FrozenTrial], folder: Path, metric: str
) -> Iterator[tuple[Path, Plot]]:
    importances = parameter_importances(study)
    if importances:
        plots.draw_importances(path := folder / "sweep_importances.png", dict(list(importances.items())[:BARS]))
        caption = f"Share of the spread of {metric} that each parameter explains (fANOVA). Few trials make it a guess."
        yield path, _embedded(path, "Which parameters mattered", caption)
    names = [*importances, *sorted({name for trial in done for name in trial.params} - set(importances))]
    if names:
        scales = [plots.Scale(name, done) for name in names]
        plots.draw_parallel(path := folder / "sweep_parallel.png", done, scales[:AXES])
        caption = f"Each line is a completed trial, darker if its {metric} is better; the best is green."
        yield path, _embedded(path, "What the good trials have in common", caption)
        plots.draw_slices(path := folder / "sweep_slices.png", done, scales[:SLICES], metric)
        caption = f"{metric} of the completed trials over each parameter; a few far-off values are outside."
        yield path, _embedded(path, "Where the good values lie", caption)


def parameter_importances(study: optuna.Study) -> dict[str, float]:
    """Share of the spread of the first objective that each parameter explains, the largest first; empty if unknown.

    Args:
        study: The study; parameters that do not exist in every completed trial are left out.
    """
    values = [trial.values[0] for trial in completed(study)]
    if len(values) < FEWEST:
        return {}
    # otherwise a single diverged trial would explain all of the spread
    low, high = plots.limits(np.array(values), [])
    try:
        shares = get_param_importances(
            study,
            evaluator=FanovaImportanceEvaluator(seed=0),
            target=lambda trial: float(np.clip(trial.values[0], low, high)),
        )
    except (ValueError, RuntimeError):  # all values are equal, or there are too few trials
        return {}
    return {name: share for name, share in shares.items() if math.isfinite(share)}


def _embedded(path: Path, title: str, caption: str) -> Plot:
    uri = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
    return Plot(title, caption, f"{title}: {path.stem.removeprefix('sweep_')} of the sweep", uri)
