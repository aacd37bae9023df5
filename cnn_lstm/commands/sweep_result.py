"""The end of a sweep: the best configuration as a file that `fit` runs, tables, and where to look."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from cnn_lstm.commands import repeat
from cnn_lstm.commands.runs_together import Together
from cnn_lstm.commands.sweep_worker import record_state
from cnn_lstm.files import write_text_whole, write_whole
from cnn_lstm.training.sweep.handback import best_first
from cnn_lstm.training.sweep.space import Space
from cnn_lstm.training.sweep.study import FINISHED, Plan, join
from cnn_lstm.training.tracking.credentials import without_credentials
from cnn_lstm.training.tracking.journal import Journal

SWEEP = Together(command="sweep", option="--folder", ours=())
BEST = "best.yaml"


def hand_back(plan: Plan, jobs: int, refit: int) -> None:
    """Writes and prints what was found.

    Args:
        plan: The plan of the sweep.
        jobs: Runs at a time.
        refit: Seeds to train and test the best configuration with; 0 for none.
    """
    study = join(plan)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        if _lacks_end(plan, trial):  # its worker was killed
            record_state(plan, trial)
    table = study.trials_dataframe()
    write_whole(plan.folder / "trials.csv", lambda partial: table.to_csv(partial, index=False))
    print(_counts(study))
    best = best_first(study)
    if not best:
        print("no trial was completed, so that there is no best.yaml")
        return
    _write_best(plan, study, best[0])
    for line in _where(plan, best[0]):
        print(line)
    if refit:
        words = ["--config", str(plan.folder / BEST), "--seeds", str(refit), "--n_jobs", str(jobs)]
        repeat.run(["repeat", *words, "--repeat_dir", str(plan.folder / "refit")])


def _lacks_end(plan: Plan, trial: FrozenTrial) -> bool:
    kinds = [event.kind for event in Journal(plan.run(trial.number).tracking).events()]
    return bool(kinds) and "end" not in kinds


def _counts(study: optuna.Study) -> str:
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    return ", ".join(f"{states.count(state)} {state.name.lower()}" for state in TrialState if state in states)


def _write_best(plan: Plan, study: optuna.Study, best: FrozenTrial) -> None:
    """The whole configuration of the best trial, which knows how many were tried."""
    tried = len(study.get_trials(deepcopy=False, states=FINISHED))
    definition = plan.definition
    words = Space.words(definition.space.settings(best.params))
    text = SWEEP.parsed([*plan.words, *words, f"--evaluation.trials={tried}"]).config_text
    figures = zip(definition.objectives, best.values, strict=True)
    told = ", ".join(f"{objective.metric} {value!r}" for objective, value in figures)
    head = (
        f"# Trial {best.number} of the study {plan.study_name}, the best of {tried}: {told},\n"
        f"# found with seed {best.user_attrs['seed']} and OMP_NUM_THREADS={best.user_attrs['threads']}.\n"
    )
    write_text_whole(plan.folder / BEST, head + text)


def _where(plan: Plan, best: FrozenTrial) -> list[str]:
    """What was found, and how to look at it."""
    values = ", ".join(f"{value:.6g}" for value in best.values)
    lines = [f"best: trial {best.number}, {values}", *(f"  {name} = {value}" for name, value in best.params.items())]
    places: dict[str, str | Path] = {
        "best config": plan.folder / BEST,
        "all trials": plan.folder / "trials.csv",
        "dashboard": f"optuna-dashboard {without_credentials(plan.storage)}",
        "train it": f"cnn-lstm fit --config {plan.folder / BEST}",
    }
    return [*lines, *(f"{name + ':':<13}{place}" for name, place in places.items())]
