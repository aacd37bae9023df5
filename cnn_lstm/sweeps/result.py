"""The result of a sweep: read from its study once, then written, recorded and printed.

The data flow in one direction: `finish_sweep` makes a `SweepResult`, which writes its files; MLflow records them; the
lines say where they lie.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from cnn_lstm.bounded import with_digest
from cnn_lstm.credentials import without_credentials
from cnn_lstm.data.muted_warnings import muted_warnings
from cnn_lstm.documents import hand_over
from cnn_lstm.errors import CnnLstmError
from cnn_lstm.files import write_text_whole
from cnn_lstm.runs.multi_run import MultiRunCommand
from cnn_lstm.sweeps.report import write_report
from cnn_lstm.sweeps.selection import ChoiceTest, judge_choice
from cnn_lstm.sweeps.space import options_of
from cnn_lstm.sweeps.study import FINISHED, Plan, best_first, join
from cnn_lstm.sweeps.trial import record_state
from cnn_lstm.training.tracking.journal import Journal
from cnn_lstm.training.tracking.record import parent_record

log = logging.getLogger(__name__)

SWEEP = MultiRunCommand(command="sweep", reserved=("--run_dir", "--ckpt_path", "--register_model"), free=("ensemble",))
BEST, SPACE = "best.yaml", "space.yaml"


@dataclass(frozen=True)
class SweepResult:
    """What a sweep has found.

    Attributes:
        plan: Its plan.
        study: Its study.
        best: The best trial; None if no trial was completed.
        choice: The test of the choice among the trials by target; empty if it was not tested.
        config: Whole configuration of the best trial as YAML; empty without one.
        command: The command that trains it.
    """

    plan: Plan
    study: optuna.Study
    best: FrozenTrial | None
    choice: Mapping[str, ChoiceTest]
    config: str
    command: str = "fit"

    @property
    def metrics(self) -> list[str]:
        """Name of each objective."""
        return [objective.metric for objective in self.plan.definition.objectives]

    @property
    def sentences(self) -> list[str]:
        """The tests of the choice, for people."""
        return [sentence for target, test in self.choice.items() for sentence in test.sentences(target)]

    def counts(self) -> dict[str, int]:
        """How many trials there are in each state that occurs."""
        states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
        return {state.name: states.count(state) for state in TrialState if state in states}

    def write(self) -> list[Path]:
        """Writes trials.csv, plots and sweep.html, and of the best trial best.yaml and sweep.json.

        Returns:
            The files that belong to the record of the sweep; space.yaml lies there since its start.
        """
        folder = self.plan.folder
        report = write_report(self.study, folder, self.metrics, self.plan.study_name, self.sentences)
        if self.best is None:
            return report
        write_text_whole(folder / BEST, with_digest(self._best_yaml(self.best)))
        write_text_whole(folder / "sweep.json", json.dumps(self.plain(), indent=2, allow_nan=False) + "\n")
        return [folder / BEST, folder / SPACE, *report, folder / "sweep.json"]

    def plain(self) -> dict[str, Any]:
        """What sweep.json holds, and `sweep --json` prints; of the best trial there is None before one is completed."""
        best = self.best and {
            "trial": self.best.number,
            "values": dict(zip(self.metrics, self.best.values, strict=True)),
            "params": self.best.params,
        }
        return {
            "study_name": self.plan.study_name,
            "trials": dict(sorted(self.counts().items())),
            "best": best,
            "validation": {target: asdict(test) for target, test in self.choice.items()},
        }

    def _best_yaml(self, best: FrozenTrial) -> str:
        """The whole configuration of the best trial, and where it comes from."""
        values = ", ".join(f"{name} {value!r}" for name, value in zip(self.metrics, best.values, strict=True))
        return (
            f"# Trial {best.number} of the study {self.plan.study_name}, the best of {tried(self.study)}: {values},\n"
            f"# found with seed {best.user_attrs['seed']} and OMP_NUM_THREADS={best.user_attrs['threads']}.\n"
            f"{self.config}"
        )

    def lines(self) -> list[str]:
        """The result for people, and where it lies."""
        counts = ", ".join(f"{count} {state.lower()}" for state, count in self.counts().items())
        if self.best is None:
            return [counts, "no trial was completed, so there is no best.yaml"]
        folder = self.plan.folder
        values = ", ".join(f"{value:.6g}" for value in self.best.values)
        places: dict[str, str | Path] = {
            "best config": folder / BEST,
            "all trials": folder / "trials.csv",
            "plots": folder / "sweep.html",
            "dashboard": f"optuna-dashboard {without_credentials(self.plan.storage)}",
            "train it": f"cnn-lstm {self.command} --config {folder / BEST}",
        }
        return [
            *(counts, f"best: trial {self.best.number}, {values}"),
            *(f"  {name} = {value}" for name, value in self.best.params.items()),
            *(f"{name + ':':<13}{place}" for name, place in places.items()),
            *self.sentences,
        ]


def finish_sweep(plan: Plan, interrupted: bool = False) -> SweepResult:
    """Ends a sweep: its result is read, written, recorded in MLflow, and printed.

    Args:
        plan: The plan of the sweep.
        interrupted: Whether somebody waits for the end, so that the test of the choice is left out.
    """
    study = join(plan)
    best = next(iter(best_first(study)), None)
    choice = _tested(plan, study, best) if best and not interrupted else {}
    return handed_back(SweepResult(plan, study, best, choice, _config_of(plan, study, best, choice) if best else ""))


def handed_back(result: SweepResult) -> SweepResult:
    """Writes, records and prints the result of a sweep.

    Args:
        result: The result.
    """
    plan = result.plan
    for trial in result.study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        kinds = [event.content.kind for event in Journal(plan.run(trial.number).tracking).events()]
        if kinds and "end" not in kinds:  # its worker was killed
            record_state(plan, trial)
    files = result.write()
    if result.best is not None:
        _record_parent(plan, result.best, files)
    hand_over(result.plain())
    for line in result.lines():
        print(line)
    return result


def tried(study: optuna.Study) -> int:
    """How many trials the best one was chosen among, those that were ended early too.

    Args:
        study: The study.
    """
    return len(study.get_trials(deepcopy=False, states=FINISHED))


def _config_of(plan: Plan, study: optuna.Study, best: FrozenTrial, choice: Mapping[str, ChoiceTest]) -> str:
    """The whole configuration of the best trial, which says to its report what the choice is worth."""
    known = {
        "spa": {target: test.spa_p for target, test in choice.items()},
        "pbo": {target: test.pbo for target, test in choice.items()},
        "effective_trials": {  # of trials that lie elsewhere nothing is known
            target: test.effective_trials for target, test in choice.items() if test.trials == tried(study)
        },
    }
    options = [f"--evaluation.trials={tried(study)}"]
    for name, by_target in known.items():
        values = {target: value for target, value in by_target.items() if value is not None}
        options += [f"--evaluation.{name}={json.dumps(values)}"] if values else []
    return SWEEP.parsed([*_argv_of(plan, best), *options]).config_text


def _argv_of(plan: Plan, trial: FrozenTrial) -> list[str]:
    """Arguments of `fit` that train a trial's configuration."""
    return [*plan.argv, *options_of(plan.definition.space.settings(trial.params))]


def _tested(plan: Plan, study: optuna.Study, best: FrozenTrial) -> dict[str, ChoiceTest]:
    """The test of the choice; the sweep is not lost if it fails."""
    try:
        with muted_warnings():
            return judge_choice(plan, study, best, SWEEP.parsed(_argv_of(plan, best)))
    except CnnLstmError as error:
        log.warning("the choice among the trials was not tested: %s", error)
        return {}


def _record_parent(plan: Plan, best: FrozenTrial, files: Sequence[Path]) -> None:
    """Puts the result of the sweep into the MLflow run that is the parent of its trials."""
    record = parent_record(plan.folder, plan.run(best.number), plan.tracking_uri)
    names = [f"best_{objective.metric}" for objective in plan.definition.objectives]
    record.log(dict(zip(names, best.values, strict=True)), step=best.number)
    record.tag({"optuna.best_trial": str(best.number)})
    record.keep(*files)
    record.end("FINISHED")
    record.send()
