"""What the choice of the best trial is worth: the forecasts of all trials next to the baselines, on validation rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial

from cnn_lstm.data.predictions import TargetInfo, target_infos
from cnn_lstm.data.stored_tables import read_table
from cnn_lstm.evaluation.baselines.fit import add_baselines, with_variances
from cnn_lstm.evaluation.forecasts import judged_rows, read_forecasts
from cnn_lstm.evaluation.overfitting import backtest_overfitting, effective_trials
from cnn_lstm.evaluation.plain_language import odds
from cnn_lstm.evaluation.selection import effective_sentence, overfitting_sentence
from cnn_lstm.evaluation.significance import superior_predictive_ability
from cnn_lstm.evaluation.verdict import dates_needed, hardest
from cnn_lstm.hints import counted
from cnn_lstm.runs.forecast_cli import ForecastCLI
from cnn_lstm.sweeps.study import FINISHED, Plan

KEY = ["symbol", "as_of"]


@dataclass(frozen=True)
class ChoiceTest:
    """The test of one target, as sweep.json has it.

    Attributes:
        loss: Name of the loss.
        best_baseline: Name of the baseline that is the hardest one for the best trial.
        loss_baseline: Its mean loss.
        loss_best_trial: Mean loss of the best trial.
        trials: How many trials are compared.
        rows: Rows that every trial and this baseline have forecast.
        dates: Their dates.
        spa_p: P-value of the test of superior predictive ability; None if there are too few dates.
        pbo: Probability of backtest overfitting, see `backtest_overfitting`; None where it cannot be computed, as with
            a single trial.
        blocks: Blocks of dates that it rests on.
        effective_trials: How many independent trials these amount to, see the function of that name.
    """

    loss: str
    best_baseline: str
    loss_baseline: float
    loss_best_trial: float
    trials: int
    rows: int
    dates: int
    spa_p: float | None
    pbo: float | None
    blocks: int
    effective_trials: float | None

    def sentence(self, target: str) -> str:
        """The test in words.

        Args:
            target: Name of the target.
        """
        losses = (
            f"{target}: on {counted(self.rows, 'validation row')} the best trial has a {self.loss} of "
            f"{self.loss_best_trial:.4g}, the best baseline, {self.best_baseline}, {self.loss_baseline:.4g}"
        )
        if self.spa_p is None:
            return f"{losses}; {counted(self.dates, 'date')} are too few to test that"
        return (
            f"{losses}; if none of {counted(self.trials, 'trial')} were better than it, their best would look as good "
            f"in {odds(self.spa_p)} sweeps (SPA p {self.spa_p:.3g})"
        )

    def sentences(self, target: str) -> list[str]:
        """The test, and what else is known of the choice.

        Args:
            target: Name of the target.
        """
        further = [] if self.pbo is None else [f"{target}: {overfitting_sentence(self.pbo)}"]
        if self.effective_trials is not None and self.trials > 1:
            further.append(f"{target}: {effective_sentence(self.trials, self.effective_trials)}")
        return [self.sentence(target), *further]


def judge_choice(plan: Plan, study: optuna.Study, best: FrozenTrial, cli: ForecastCLI) -> dict[str, ChoiceTest]:
    """Tests whether any trial is better than the best baseline, corrected for the choice among all of them.

    Trials whose forecasts lie on another machine are not counted. Baselines are fitted on training rows.

    Args:
        plan: The plan of the sweep.
        study: The study.
        best: Its best trial.
        cli: The configuration of that trial, parsed.

    Returns:
        A test for each target; empty if the best trial ran elsewhere.
    """
    finished = study.get_trials(deepcopy=False, states=FINISHED)
    files = {trial.number: plan.run(trial.number).validation for trial in finished}
    files = {number: file for number, file in files.items() if file.is_file()}
    if best.number not in files:
        return {}
    data = cli.build_data()
    data.prepare_data()
    data.setup()
    settings = cli.command_config.evaluation
    table = add_baselines(_read(files[best.number]), data, settings.season, rows=data.parts.validation)
    tests = {}
    for target, about in target_infos(table).items():
        trials = {number: _losses(_read(file), target)["model"] for number, file in files.items()}
        baselines = _losses(table, target).drop(columns="model")
        tests[target] = _tested(baselines, pd.DataFrame(trials), best.number, about, settings)
    return tests


def _read(file: Path) -> pd.DataFrame:
    table = read_table(file)
    return with_variances(table, {name: about.smearing or {} for name, about in target_infos(table).items()})


def _losses(table: pd.DataFrame, target: str) -> pd.DataFrame:
    """Losses of a target: one row per symbol and date, one column per forecaster."""
    about = target_infos(table)[target]
    rows = judged_rows(table, target, about)
    losses = {name: forecast.loss for name, forecast in read_forecasts(rows, about).items()}
    known = {name: loss for name, loss in losses.items() if loss is not None}
    return pd.DataFrame(known, index=pd.MultiIndex.from_frame(rows[KEY]), dtype=np.float64)


def _tested(baselines: pd.DataFrame, trials: pd.DataFrame, best: int, about: TargetInfo, settings: Any) -> ChoiceTest:
    """The test of one target, on the rows that every trial and the best baseline have forecast."""
    joint = baselines.join(trials, how="inner").dropna(subset=list(trials.columns))
    skill, loss, share = dict[str, float](), dict[str, float](), dict[str, float]()
    for name in map(str, baselines.columns):
        known = joint[joint[name].notna()]
        loss[name], share[name] = float(known[name].mean()), len(known) / len(joint)
        skill[name] = 1 - float(known[best].mean()) / loss[name] if loss[name] else np.nan
    baseline = hardest(skill, loss, share)
    rows = joint[joint[baseline].notna()]
    means = rows.mean()
    date, horizon = rows.index.get_level_values("as_of"), about.horizon
    p = None
    if date.nunique() >= dates_needed(horizon):
        models = rows[trials.columns].to_numpy()
        p = superior_predictive_ability(rows[baseline], models, date, horizon, settings.resamples, settings.seed)
    gains = rows[trials.columns].rsub(rows[baseline], axis=0).groupby(date).mean().sort_index().to_numpy()
    overfitting = backtest_overfitting(gains)
    return ChoiceTest(
        loss=about.quantity.loss,
        best_baseline=baseline,
        loss_baseline=float(means[baseline]),
        loss_best_trial=float(means[best]),
        trials=len(trials.columns),
        rows=len(rows),
        dates=int(date.nunique()),
        spa_p=p,
        pbo=None if overfitting is None else overfitting.pbo,
        blocks=0 if overfitting is None else overfitting.blocks,
        effective_trials=effective_trials(gains, seed=settings.seed),
    )
