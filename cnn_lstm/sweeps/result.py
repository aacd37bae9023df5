"""The end of a sweep: the best configuration as a file that `fit` runs, tables, and where to look."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from cnn_lstm.data.muted_warnings import muted_warnings
from cnn_lstm.errors import CnnLstmError
from cnn_lstm.files import write_text_whole
from cnn_lstm.runs.repeat import repeat
from cnn_lstm.runs.together import MultiRunCommand
from cnn_lstm.sweeps.handback import best_first
from cnn_lstm.sweeps.report import write_report
from cnn_lstm.sweeps.selection import choice_sentences, judge_choice, write_choice
from cnn_lstm.sweeps.space import Space
from cnn_lstm.sweeps.study import FINISHED, Plan, join
from cnn_lstm.sweeps.trial import record_state
from cnn_lstm.training.tracking.credentials import without_credentials
from cnn_lstm.training.tracking.journal import Journal
from cnn_lstm.training.tracking.record import parent_record

log = logging.getLogger(__name__)

SWEEP = MultiRunCommand(command="sweep", option="--folder", ours=("--run_dir", "--ckpt_path", "--register_model"))
BEST, SPACE = "best.yaml", "space.yaml"


def hand_back(plan: Plan, jobs: int = 1, refit: int = 0, interrupted: bool = False) -> None:
    """Writes and prints what was found.

    Args:
        plan: The plan of the sweep.
        jobs: Runs at a time.
        refit: Seeds to train and test the best configuration with; 0 for none.
        interrupted: Whether somebody waits for the end, so that what takes long is left out.
    """
    study = join(plan)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        if _lacks_end(plan, trial):  # its worker was killed
            record_state(plan, trial)
    names = [objective.metric for objective in plan.definition.objectives]
    best = best_first(study)
    if not best:
        write_report(study, plan.folder, names, plan.study_name)
        print(f"{_counts(study)}\nno trial was completed, so that there is no best.yaml")
        return
    words = [*plan.words, *Space.words(plan.definition.space.settings(best[0].params))]
    found = {} if interrupted else _judged(plan, study, best[0], words)
    sentences = list(choice_sentences(found))
    files = write_report(study, plan.folder, names, plan.study_name, sentences)
    _write_best(plan, study, best[0], [*words, *_evaluation(study, found)])
    files.append(write_choice(plan, study, best[0], found))
    _record_parent(plan, best[0], [plan.folder / BEST, plan.folder / SPACE, *files])
    for line in [_counts(study), *_where(plan, best[0]), *sentences]:
        print(line)
    if refit:
        repeat(["--config", str(plan.folder / BEST)], str(refit), None, jobs, plan.folder / "refit")


def _lacks_end(plan: Plan, trial: FrozenTrial) -> bool:
    kinds = [event.kind for event in Journal(plan.run(trial.number).tracking).events()]
    return bool(kinds) and "end" not in kinds


def _counts(study: optuna.Study) -> str:
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    return ", ".join(f"{states.count(state)} {state.name.lower()}" for state in TrialState if state in states)


def _judged(plan: Plan, study: optuna.Study, best: FrozenTrial, words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The test of the choice; what was searched is not lost where it fails."""
    try:
        with muted_warnings():
            return judge_choice(plan, study, best, SWEEP.parsed(words))
    except CnnLstmError as error:
        log.warning("the choice among the trials was not tested: %s", error)
        return {}


def _evaluation(study: optuna.Study, found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the report of the best configuration has to know: how many were tried, and the p-values of the choice."""
    values = {target: one["spa_p"] for target, one in found.items() if one["spa_p"] is not None}
    spa = [f"--evaluation.spa={json.dumps(values)}"] if values else []
    return [f"--evaluation.trials={_tried(study)}", *spa]


def _tried(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=FINISHED))


def _write_best(plan: Plan, study: optuna.Study, best: FrozenTrial, words: Sequence[str]) -> None:
    """The whole configuration of the best trial."""
    text = SWEEP.parsed(words).config_text
    figures = zip(plan.definition.objectives, best.values, strict=True)
    told = ", ".join(f"{objective.metric} {value!r}" for objective, value in figures)
    head = (
        f"# Trial {best.number} of the study {plan.study_name}, the best of {_tried(study)}: {told},\n"
        f"# found with seed {best.user_attrs['seed']} and OMP_NUM_THREADS={best.user_attrs['threads']}.\n"
    )
    write_text_whole(plan.folder / BEST, head + text)


def _record_parent(plan: Plan, best: FrozenTrial, files: Sequence[Path]) -> None:
    """Puts the result of the sweep into the MLflow run that is the parent of its trials."""
    record = parent_record(plan.folder, plan.run(best.number), plan.tracking_uri)
    names = [f"best_{objective.metric}" for objective in plan.definition.objectives]
    record.log(dict(zip(names, best.values, strict=True)), step=best.number)
    record.tag({"optuna.best_trial": str(best.number)})
    record.keep(*files)
    record.end("FINISHED")
    record.send()


def _where(plan: Plan, best: FrozenTrial) -> list[str]:
    """What was found, and how to look at it."""
    values = ", ".join(f"{value:.6g}" for value in best.values)
    lines = [f"best: trial {best.number}, {values}", *(f"  {name} = {value}" for name, value in best.params.items())]
    places: dict[str, str | Path] = {
        "best config": plan.folder / BEST,
        "all trials": plan.folder / "trials.csv",
        "plots": plan.folder / "sweep.html",
        "dashboard": f"optuna-dashboard {without_credentials(plan.storage)}",
        "train it": f"cnn-lstm fit --config {plan.folder / BEST}",
    }
    return [*lines, *(f"{name + ':':<13}{place}" for name, place in places.items())]
