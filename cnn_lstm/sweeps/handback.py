"""What a sweep hands back: the best trials and their checkpoints."""

from __future__ import annotations

import shutil

import optuna
from optuna.trial import FrozenTrial, TrialState

from cnn_lstm.sweeps.study import Plan


def best_first(study: optuna.Study) -> list[FrozenTrial]:
    """Completed trials, the best first; with several objectives those that no other trial beats in all of them.

    Args:
        study: The study.
    """
    several = len(study.directions) > 1
    found = study.best_trials if several else study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = 1 if study.directions[0] == optuna.study.StudyDirection.MINIMIZE else -1
    return sorted(found, key=lambda trial: (sign * trial.values[0], trial.number))


def drop_checkpoints(plan: Plan, study: optuna.Study) -> None:
    """Deletes the checkpoints of ended trials on this machine that are not among the best.

    Args:
        plan: The plan, which says how many are kept.
        study: The study.
    """
    kept = {trial.number for trial in best_first(study)[: plan.keep]}
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and trial.number not in kept:
            shutil.rmtree(plan.run(trial.number).checkpoints, ignore_errors=True)
