"""One trial of a sweep: an ordinary fit, and what is measured of it.

A trial is fitted in the process of its worker. If the trainer starts several processes (DDP and the like), the fit runs
as the internal command `sweep-trial`, since Lightning starts the command line again for each of them; the trial comes
by an environment variable, which they all inherit.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from statistics import median

import optuna
import torch
from lightning.pytorch import Callback, Trainer
from optuna.trial import FrozenTrial

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import one_of
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.runs import forecast_cli
from cnn_lstm.runs.argv import word_of
from cnn_lstm.runs.forecast_cli import ForecastCLI
from cnn_lstm.runs.messages import set_up_messages
from cnn_lstm.runs.processes import PROGRAM, trust_argv
from cnn_lstm.sweeps.callbacks import BestForecasts, StopPruned
from cnn_lstm.sweeps.objectives import MEASURES
from cnn_lstm.sweeps.study import Plan, open_storage
from cnn_lstm.training.history import read_history
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.record import reopened_record

TRIAL_COMMAND = "sweep-trial"
TRIAL_KEY = "CNN_LSTM_TRIAL"  # environment variable with the trial of a `sweep-trial` process
LATENCY_CALLS = 30
END_WITHIN = 8.0  # seconds that an interrupted fit may take to end


@dataclass(frozen=True)
class TrialResult:
    """What a fit of a trial has reached.

    Attributes:
        metrics: Each objective by its name.
        epochs: How many epochs it took.
        best_epoch: The epoch that the metrics belong to.
    """

    metrics: Mapping[str, float]
    epochs: int
    best_epoch: int

    @property
    def attributes(self) -> dict[str, int]:
        """What the study keeps of it next to the metrics."""
        return {"epochs": self.epochs, "best_epoch": self.best_epoch}


class TrialFits:
    """Runs trials as ordinary fits, in this process or in processes of their own.

    Args:
        plan: The plan of the sweep.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        config = ForecastCLI(["fit", *plan.argv], run=False).built().trainer
        chosen = {name: config[name] for name in ("accelerator", "strategy", "devices", "num_nodes")}
        trainer = Trainer(**chosen, logger=False, enable_checkpointing=False, enable_progress_bar=False)
        self._in_processes = trainer.strategy.launcher is not None

    def __call__(self, trial: optuna.Trial, options: Sequence[str]) -> TrialResult:
        """Fits, and measures the best checkpoint.

        Args:
            trial: The trial.
            options: Options of `fit` that only this trial has.
        """
        run = self.plan.run(trial.number)
        # one member, also where the configuration asks for an ensemble: seeds would cost more than they tell apart
        argv = [*self.plan.argv, *options, "--ensemble=1", "--run_dir", word_of(run.path)]
        if self._in_processes:
            self._fit_in_processes(trial, argv)
        else:
            self._fit_here(trial, argv)
        return measured(run, [objective.metric for objective in self.plan.definition.objectives])

    def _fit_here(self, trial: optuna.Trial, argv: Sequence[str]) -> None:
        try:
            with (
                self.plan.log(trial.number).open("a", encoding="utf-8", buffering=1) as output,
                redirect_stdout(output),
                redirect_stderr(output),
            ):
                forecast_cli.run(["fit", *argv], callbacks_of(trial, self.plan))
        finally:
            set_up_messages()  # our warnings go to the worker's own output again
            gc.collect()
            if not gc.get_freeze_count():
                gc.freeze()  # what the first fit imported stays, so that later collections need not look at it

    def _fit_in_processes(self, trial: optuna.Trial, argv: Sequence[str]) -> None:
        path = self.plan.log(trial.number)
        payload = {"plan": self.plan.to_text(), "trial_id": trial._trial_id}
        with path.open("ab") as output:
            process = subprocess.Popen(
                [*PROGRAM, *trust_argv(), TRIAL_COMMAND, *argv],
                # as -P of PROGRAM, for the processes that Lightning starts
                env=os.environ | {TRIAL_KEY: json.dumps(payload), "PYTHONSAFEPATH": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait()
            except KeyboardInterrupt:
                _end(process)
                raise
        if code:
            errors = [
                line
                for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
                if line.startswith("error[")
            ]
            raise ConfigError(errors[-1] if errors else f"fit ended with exit code {code}", str(path), code=247)


def fit_of_environment(argv: Sequence[str]) -> None:
    """Runs the fit of the trial that the environment names: the command `sweep-trial`.

    Only the first process of the fit speaks to the study's database.

    Args:
        argv: Arguments of `fit`.
    """
    payload = json.loads(os.environ[TRIAL_KEY])
    plan = Plan.from_text(payload["plan"])
    callbacks: list[Callback] = [StopPruned(None, plan.monitor.metric)]
    if os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0":
        study = optuna.load_study(
            study_name=plan.study_name,
            storage=open_storage(plan.storage),
            sampler=optuna.samplers.RandomSampler(),  # everything is drawn already
            pruner=plan.definition.make_pruner(),
        )
        callbacks = callbacks_of(optuna.Trial(study, payload["trial_id"]), plan)
    forecast_cli.run(["fit", *argv], callbacks)


def callbacks_of(trial: optuna.Trial, plan: Plan) -> list[Callback]:
    """What ends a trial early, and keeps its forecasts.

    Without a pruner the metrics are reported all the same, since optuna-dashboard shows the curves. Optuna takes no
    reports in a study with several objectives.

    Args:
        trial: The trial.
        plan: The plan of its sweep.
    """
    pruning = StopPruned(trial if len(plan.definition.objectives) == 1 else None, plan.monitor.metric)
    return [pruning, BestForecasts(plan.run(trial.number).validation, plan.monitor)]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a fit and the processes that it has started; those that do not obey are killed."""
    try:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_WITHIN)
    finally:  # the worker has to end within that time, and is interrupted once more before
        if os.name == "posix":
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()


# -- what is measured ------------------------------------------------------------------------------------------------


def measured(run: RunFolder, metrics: Sequence[str]) -> TrialResult:
    """The result of a fit that has ended.

    Args:
        run: Its run folder.
        metrics: Metrics of its best epoch, `parameters`, or `latency_ms`.

    Raises:
        ConfigError: If a metric was never logged.
    """
    summary = run.read_summary()
    values: dict[str, float] = {}
    for metric in metrics:
        if metric in MEASURES:
            predictor = Predictor.from_checkpoint(run.checkpoint("best"))
            parameters = predictor.forecaster.parameters()
            values[metric] = (
                float(sum(part.numel() for part in parameters)) if metric == "parameters" else _latency_ms(predictor)
            )
        elif metric == summary["monitor"]:
            values[metric] = summary["best"]
        else:
            history = read_history(run.path)
            if metric not in history.metrics:
                fix = one_of(metric, sorted(history.metrics))
                raise ConfigError(f"{metric} is never logged", "objectives", fix, code=247)
            values[metric] = float(history.metrics[metric][list(history.epochs).index(summary["best_epoch"])])
    return TrialResult(values, summary["epochs"], summary["best_epoch"])


def _latency_ms(predictor: Predictor) -> float:
    """Median of the time that one forecast of one window takes."""
    model = predictor.forecaster
    x = torch.zeros(1, predictor.recipe.window, len(predictor.recipe.features))
    seconds = []
    with torch.inference_mode():
        for _ in range(LATENCY_CALLS):
            since = time.perf_counter()
            model.forecast(x)
            seconds.append(time.perf_counter() - since)
    return 1000 * median(seconds)


def record_state(plan: Plan, trial: FrozenTrial) -> None:
    """Records in MLflow what became of a trial; a run whose worker was killed is ended there.

    Args:
        plan: The plan.
        trial: The trial, ended.
    """
    record = reopened_record(plan.run(trial.number), plan.tracking_uri)
    record.tag({"optuna.state": trial.state.name, "optuna.trial": str(trial.number)})
    record.send()
