"""One trial of a sweep: an ordinary fit, and what is measured of it."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from statistics import median
from typing import IO, Any

import optuna
import torch
from lightning.pytorch import Trainer
from optuna.trial import FrozenTrial

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import one_of
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.runs import forecast_cli
from cnn_lstm.runs.forecast_cli import ForecastCLI, quiet
from cnn_lstm.runs.processes import PROGRAM, trust_words
from cnn_lstm.sweeps.callbacks import callbacks_of, callbacks_of_environment, environment_of
from cnn_lstm.sweeps.samplers import MEASURES
from cnn_lstm.sweeps.study import Plan
from cnn_lstm.sweeps.worker import END_WITHIN, Stop, Worker
from cnn_lstm.training.history import read_history
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.record import reopened_record

LATENCY_CALLS = 30
TRIAL_COMMAND = "sweep-trial"


def work(text: str, pipe: IO[str]) -> None:
    """Works on a plan until the study has enough trials, or the pipe closes.

    Args:
        text: The plan, as `Plan.to_text` writes it.
        pipe: What the parent holds open.
    """
    plan = Plan.from_text(text)
    stop = Stop(pipe)
    quiet()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    Worker(plan, TrialFits(plan), lambda trial: record_state(plan, trial), stop).work()
    if stop.asked.is_set():
        raise SystemExit(130)  # at once: an interrupted trainer cannot be taken apart


def fit_of_environment(argv: Sequence[str]) -> None:
    """Runs the fit of the trial that the environment names, see `environment_of`.

    Args:
        argv: Arguments of `fit`.
    """
    forecast_cli.run(["fit", *argv], callbacks_of_environment())


class TrialFits:
    """Runs trials as ordinary fits: here, or where the trainer starts processes of its own, in one of its own.

    Args:
        plan: The plan.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._spreads = spreads(ForecastCLI(["fit", *plan.words], run=False))

    def __call__(self, trial: optuna.Trial, words: Sequence[str]) -> dict[str, Any]:
        """Fits, and measures the best checkpoint.

        Args:
            trial: The trial.
            words: Arguments of `fit` that are its own.

        Returns:
            Figures by name: those of the objectives, and what summary.json holds.
        """
        run = self.plan.run(trial.number)
        arguments = ["fit", *self.plan.words, *words, "--run_dir", str(run.path)]
        if self._spreads:
            self._elsewhere(trial, arguments)
        else:
            self._here(trial, arguments)
        return figures(run, [objective.metric for objective in self.plan.definition.objectives])

    def _here(self, trial: optuna.Trial, arguments: list[str]) -> None:
        try:
            with (
                self.plan.log(trial.number).open("a", encoding="utf-8", buffering=1) as output,
                redirect_stdout(output),
                redirect_stderr(output),
            ):
                forecast_cli.run(arguments, callbacks_of(trial, self.plan))
        finally:
            quiet()  # our warnings go to the worker's own output again
            gc.collect()
            if not gc.get_freeze_count():
                gc.freeze()  # what the first fit imported stays, so that later collections need not look at it

    def _elsewhere(self, trial: optuna.Trial, arguments: list[str]) -> None:
        """Lightning starts the command line once more for each further process, so that it has to be a command."""
        path = self.plan.log(trial.number)
        with path.open("ab") as output:
            process = subprocess.Popen(
                [*PROGRAM, *trust_words(), TRIAL_COMMAND, *arguments[1:]],
                env=os.environ | environment_of(trial, self.plan),
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
            errors = [line for line in path.read_text(errors="replace").splitlines() if line.startswith("error[")]
            raise ConfigError(errors[-1] if errors else f"fit ended with exit code {code}", str(path), code=247)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a fit and the processes that it has started; those that do not heed it are killed."""
    try:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_WITHIN)
    finally:  # the worker has to end within that time, and is interrupted once more before
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def spreads(cli: ForecastCLI) -> bool:
    """Whether a configuration trains in more than one process.

    Args:
        cli: The configuration, parsed.
    """
    given = cli.built().trainer
    chosen = {name: given[name] for name in ("accelerator", "strategy", "devices", "num_nodes")}
    trainer = Trainer(**chosen, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    return trainer.strategy.launcher is not None


def figures(run: RunFolder, metrics: Sequence[str]) -> dict[str, Any]:
    """Figures of a fit that has ended.

    Args:
        run: Its run folder.
        metrics: Names of figures of its best epoch, `parameters`, or `latency_ms`.

    Returns:
        These figures, and what summary.json holds.

    Raises:
        ConfigError: If one is not there.
    """
    found: dict[str, Any] = json.loads(run.summary.read_text(encoding="utf-8"))
    found[found["monitor"]] = found["best"]
    for metric in metrics:
        if metric in MEASURES:
            found[metric] = MEASURED[metric](Predictor.from_checkpoint(run.checkpoint("best")))
        elif metric not in found:
            found[metric] = _of_epoch(run, found["best_epoch"], metric)
    return found


def _of_epoch(run: RunFolder, epoch: int, metric: str) -> float:
    history = read_history(run.path)
    if metric not in history.metrics:
        raise ConfigError(f"{metric} is never logged", "objectives", one_of(metric, sorted(history.metrics)), code=247)
    return float(history.metrics[metric][list(history.epochs).index(epoch)])


def _parameters(predictor: Predictor) -> float:
    return float(sum(parameter.numel() for parameter in predictor.forecaster.parameters()))


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


MEASURED: dict[str, Callable[[Predictor], float]] = {"parameters": _parameters, "latency_ms": _latency_ms}


def record_state(plan: Plan, trial: FrozenTrial) -> None:
    """Records in MLflow what became of a trial; a run whose worker was killed is ended there.

    Args:
        plan: The plan.
        trial: The trial, ended.
    """
    record = reopened_record(plan.run(trial.number), plan.tracking_uri)
    record.tag({"optuna.state": trial.state.name, "optuna.trial": str(trial.number)})
    record.send()
