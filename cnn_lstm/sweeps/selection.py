"""What the choice of the best trial is worth: the forecasts of all trials beside the baselines, on validation rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial

from cnn_lstm.data.predictions import TargetInfo, target_infos
from cnn_lstm.evaluation.baselines.columns import add_baselines, with_variances
from cnn_lstm.evaluation.forecasts import judged_rows, read_forecasts
from cnn_lstm.evaluation.plain_language import odds
from cnn_lstm.evaluation.report import dates_needed
from cnn_lstm.evaluation.significance import superior_predictive_ability
from cnn_lstm.files import write_text_whole
from cnn_lstm.runs.forecast_cli import ForecastCLI
from cnn_lstm.sweeps.study import FINISHED, Plan

KEY = ["symbol", "as_of"]


def judge_choice(plan: Plan, study: optuna.Study, best: FrozenTrial, cli: ForecastCLI) -> dict[str, dict[str, Any]]:
    """Tests whether any trial is better than the best baseline, once the choice among all of them is paid for.

    Trials whose forecasts lie on another machine are not counted. Baselines are fitted on training rows.

    Args:
        plan: The plan of the sweep.
        study: The study.
        best: Its best trial.
        cli: The configuration of that trial, parsed.

    Returns:
        By target: the loss and its means of best trial and best baseline, the baseline's name, trials, rows, dates,
        and `spa_p`, None where there are too few dates; nothing where the best trial ran elsewhere.
    """
    finished = study.get_trials(deepcopy=False, states=FINISHED)
    files = {trial.number: plan.run(trial.number).validation for trial in finished}
    files = {number: file for number, file in files.items() if file.is_file()}
    if best.number not in files:
        return {}
    table = _with_baselines(files[best.number], cli)
    settings = cli.config["fit"].evaluation
    found = {}
    for target, about in target_infos(table).items():
        trials = {number: _losses(_read(file), target)["model"] for number, file in files.items()}
        baselines = _losses(table, target).drop(columns="model")
        found[target] = _judged(baselines, pd.DataFrame(trials), best.number, about, settings)
    return found


def _with_baselines(file: Path, cli: ForecastCLI) -> pd.DataFrame:
    data = cli.build_data()
    data.prepare_data()
    data.setup()
    return add_baselines(_read(file), data, cli.config["fit"].evaluation.season, rows=data.parts.validation)


def _read(file: Path) -> pd.DataFrame:
    table = pd.read_parquet(file)
    return with_variances(table, {name: about.smearing or {} for name, about in target_infos(table).items()})


def _losses(table: pd.DataFrame, target: str) -> pd.DataFrame:
    """Losses of a target: a line for each symbol and date, a column for each forecaster."""
    about = target_infos(table)[target]
    rows = judged_rows(table, target, about)
    found = {name: forecast.loss for name, forecast in read_forecasts(rows, about).items()}
    known = {name: loss for name, loss in found.items() if loss is not None}
    return pd.DataFrame(known, index=pd.MultiIndex.from_frame(rows[KEY]), dtype=np.float64)


def _judged(
    baselines: pd.DataFrame, trials: pd.DataFrame, best: int, about: TargetInfo, settings: Any
) -> dict[str, Any]:
    """Figures of one target, on the rows that every trial and every baseline has forecast."""
    rows = baselines.join(trials, how="inner").dropna()
    means = rows.mean()
    chosen = str(means[baselines.columns].idxmin())
    date, horizon = rows.index.get_level_values("as_of"), about.horizon
    p = None
    if date.nunique() >= dates_needed(horizon):
        models = rows[trials.columns].to_numpy()
        p = superior_predictive_ability(rows[chosen], models, date, horizon, settings.resamples, settings.seed)
    return {
        "loss": about.quantity.loss,
        "best_baseline": chosen,
        "loss_baseline": float(means[chosen]),
        "loss_best_trial": float(means[best]),
        "trials": len(trials.columns),
        "rows": len(rows),
        "dates": int(date.nunique()),
        "spa_p": p,
    }


def choice_sentences(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What was found, for people.

    Args:
        found: As `judge_choice` returns it.
    """
    for target, one in found.items():
        words = (
            f"{target}: on {one['rows']:,} validation rows the best trial has a {one['loss']} of "
            f"{one['loss_best_trial']:.4g}, the best baseline, {one['best_baseline']}, {one['loss_baseline']:.4g}"
        )
        if one["spa_p"] is None:
            yield f"{words}; {one['dates']} dates are too few to test that"
        else:
            yield (
                f"{words}; if none of {one['trials']} trials were better than it, their best would look as good in "
                f"{odds(one['spa_p'])} sweeps (SPA p {one['spa_p']:.3g})"
            )


def write_choice(plan: Plan, study: optuna.Study, best: FrozenTrial, found: Mapping[str, Mapping[str, Any]]) -> Path:
    """Writes sweep.json.

    Args:
        plan: The plan of the sweep.
        study: The study.
        best: Its best trial.
        found: As `judge_choice` returns it.
    """
    states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
    names = [objective.metric for objective in plan.definition.objectives]
    content = {
        "study_name": plan.study_name,
        "trials": {state: states.count(state) for state in sorted(set(states))},
        "best": {"trial": best.number, "values": dict(zip(names, best.values, strict=True)), "params": best.params},
        "validation": found,
    }
    file = plan.folder / "sweep.json"
    write_text_whole(file, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return file
