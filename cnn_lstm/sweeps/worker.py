"""A worker of a sweep: a process that takes one trial after another until the study has enough of them."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import IO, Any, Protocol

import optuna
import torch
from optuna.storages import RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from cnn_lstm.credentials import without_credentials
from cnn_lstm.data.kept_panels import kept_in_process
from cnn_lstm.errors import CnnLstmError, ConfigError, interruption
from cnn_lstm.hints import counted
from cnn_lstm.runs.messages import set_up_messages
from cnn_lstm.sweeps.callbacks import PRUNED_AT
from cnn_lstm.sweeps.definition import experimental
from cnn_lstm.sweeps.space import options_of
from cnn_lstm.sweeps.storage import exclusive, storage_errors
from cnn_lstm.sweeps.study import (
    FINISHED,
    Plan,
    SilentTrials,
    best_first,
    drop_checkpoints,
    join,
    keep_checksum,
    sampler_of,
)
from cnn_lstm.sweeps.trial import END_WITHIN, TrialFits, record_state

WORKER_COMMAND = "sweep-worker"
POLL = 0.5  # seconds between two looks for trials that end elsewhere
FAILURES_ALIKE = 3  # trials that fail alike before any was finished
REASON = "reason"  # user attribute of a failed trial


class Result(Protocol):
    """What a trial has reached."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Each objective by its name."""

    @property
    def attributes(self) -> Mapping[str, int]:
        """What the study keeps next to them; `epochs` or `steps` says how long the trial was."""


Fit = Callable[[optuna.Trial, Sequence[str]], Result]
Settle = Callable[[FrozenTrial], None]


class TrialFailedError(Exception):
    """A trial that ended without a value; the study goes on."""


class Stop:
    """The order to a worker to end: the pipe from its parent closes, also if the parent was killed.

    Args:
        pipe: The end of the pipe to read from.
    """

    def __init__(self, pipe: IO[Any]) -> None:
        self.asked = threading.Event()
        self._pipe, self._lock, self._in_fit = pipe, threading.Lock(), False
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
        threading.Thread(target=self._watch, name="stop", daemon=True).start()

    @contextmanager
    def interrupts(self) -> Iterator[None]:
        """Turns the order into a Ctrl-C for what runs inside; outside it waits, so that no write is cut off."""
        with self._lock:
            if self.asked.is_set():
                raise KeyboardInterrupt
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a fit that failed badly may have kept it
            self._in_fit = True
        try:
            yield
        finally:
            with self._lock:
                self._in_fit = False

    def _watch(self) -> None:
        self._pipe.read()
        with self._lock:
            self.asked.set()
            sys.unraisablehook = lambda _: None  # an object that is interrupted while it is built cannot be taken apart
        for _k in range(2):  # a fit ends after its batch, and at the second Ctrl-C at once
            with self._lock:
                if self._in_fit:
                    _interrupt()
            time.sleep(END_WITHIN / 2)
        os._exit(130)  # other workers see that its trial is dead, and retry it


def _interrupt() -> None:
    """A Ctrl-C for the main thread of this process; `os.kill` would end it at once on Windows."""
    if os.name == "posix":
        os.kill(os.getpid(), signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)


class Worker:
    """Runs the trials of a plan.

    Args:
        plan: The plan.
        fit: Runs a trial with the options that only it has.
        settle: Called with each trial that has ended.
        stop: The order to end.
    """

    def __init__(self, plan: Plan, fit: Fit, settle: Settle, stop: Stop) -> None:
        self.plan, self._fit, self._settle, self._stop = plan, fit, settle, stop
        self.study = join(plan)
        self._silent = SilentTrials(plan.storage)

    def work(self) -> None:
        """Takes trials until there are enough.

        Raises:
            ConfigError: If all trials fail alike.
            ResourceError: If the study's database fails.
        """
        with storage_errors(self.plan.storage):
            while not self._stop.asked.is_set() and self._next():
                pass

    def _next(self) -> bool:
        """Runs a trial, or waits for those that run elsewhere; false once there are enough."""
        with ExitStack() as lock:
            lock.enter_context(exclusive(self.plan.storage))
            self._silent.give_sign(self.study)
            with experimental():  # the heartbeat, since Optuna 2.9
                fail_stale_trials(self.study)  # whose workers were killed; they run again
            trials = self.study.get_trials(deepcopy=False)
            states = [trial.state for trial in trials]
            waiting = [number for number, state in enumerate(states) if state == TrialState.WAITING]
            finished, running = sum(state in FINISHED for state in states), states.count(TrialState.RUNNING)
            combinations = self.plan.definition.combinations
            begun = {trial.system_attrs["grid_id"] for trial in trials if "grid_id" in trial.system_attrs}
            # Optuna's sampler would begin a grid again
            searched = not waiting and combinations is not None and len(begun) >= combinations
            if finished >= self.plan.n_trials or (searched and not running):
                return False
            if finished + running < self.plan.n_trials and not searched:
                self.study.sampler = sampler_of(self.plan, min(waiting, default=len(states)))
                self._run(lock)
                return True
        self._stop.asked.wait(POLL)
        return True

    def _run(self, lock: ExitStack) -> None:
        """One trial through Optuna, which writes its heartbeat."""
        try:
            self.study.optimize(
                partial(self._objective, lock), n_trials=1, catch=(TrialFailedError,), callbacks=[self._ended]
            )
        except KeyboardInterrupt:
            self._settle(self.study.get_trials(deepcopy=False)[self._number])
            if not self._stop.asked.is_set():  # somebody ends only this worker
                raise
        except ValueError as error:
            if "Cannot tell a" not in str(error):
                raise
            print_line(f"trial {self._number}: counted as dead and given to another worker")

    def _objective(self, lock: ExitStack, trial: optuna.Trial) -> list[float]:
        """What Optuna calls: suggests, fits, and turns what went wrong into a failed trial."""
        lock.close()  # the trial runs now, so that others count it
        self._number, started = trial.number, time.monotonic()
        options = options_of(self.plan.definition.space.suggest(trial))
        # where it runs, and what it takes to run it again
        trial.set_user_attr("host", socket.gethostname())
        trial.set_user_attr("seed", self.plan.seed)
        trial.set_user_attr("threads", torch.get_num_threads())
        try:
            with self._stop.interrupts():
                result = self._fit(trial, options)
        except BaseException as error:
            if interruption(error) is not None:
                retry(self.study, trial)
                raise KeyboardInterrupt from error
            early = isinstance(error, SystemExit)
            reason = ConfigError("fit ended early", str(error), code=247) if early else error
            raise self._failed(trial, reason) from error
        for name, value in result.attributes.items():
            trial.set_user_attr(name, value)
        trial.set_user_attr("seconds", round(time.monotonic() - started, 2))
        pruned = PRUNED_AT in self.study.get_trials(deepcopy=False)[trial.number].user_attrs
        values = [result.metrics[objective.metric] for objective in self.plan.definition.objectives]
        keep_checksum(self.study, trial, None if pruned else values)
        if pruned:
            raise optuna.TrialPruned
        return values

    def _failed(self, trial: optuna.Trial, error: BaseException) -> TrialFailedError:
        """Writes the reason into the study and into the log."""
        reason = str(error) if isinstance(error, CnnLstmError) else f"{type(error).__name__}: {error}"
        reason = without_credentials(" ".join(reason.split()))
        trial.set_user_attr(REASON, reason[:1000])
        with self.plan.log(trial.number).open("a", encoding="utf-8") as log:
            text = reason if isinstance(error, CnnLstmError) else "".join(traceback.format_exception(error))
            log.write(f"{without_credentials(text)}\n")
        return TrialFailedError(reason)

    def _ended(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """After each trial: its line, fewer checkpoints, its record; or the end, if nothing works."""
        print_line(line_of(self.plan, study, trial))
        drop_checkpoints(self.plan, study)
        self._settle(trial)
        self._stop_if_all_fail(study)

    def _stop_if_all_fail(self, study: optuna.Study) -> None:
        failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        reasons = [trial.user_attrs[REASON] for trial in failed if REASON in trial.user_attrs]
        if len(reasons) > 2 * self.plan.n_trials + FAILURES_ALIKE:
            raise ConfigError(f"{counted(len(reasons), 'trial')} failed", f"the last one: {reasons[-1]}", code=244)
        kinds = {reason.partition(":")[0] for reason in reasons}
        if len(reasons) >= FAILURES_ALIKE and len(kinds) == 1 and not study.get_trials(deepcopy=False, states=FINISHED):
            raise ConfigError(f"the first {len(reasons)} trials fail alike", reasons[-1], code=244)


def retry(study: optuna.Study, trial: optuna.Trial) -> None:
    """Lets an interrupted trial run again with the same draws, without a limit; but not one that others gave up."""
    begun = study.get_trials(deepcopy=True)[trial.number]
    if begun.state != TrialState.RUNNING:
        return
    begun.user_attrs = {}
    begun.system_attrs = {name: value for name, value in begun.system_attrs.items() if name != "retry_history"}
    with experimental():
        RetryHeartbeatStaleTrialCallback()(study, begun)


def print_line(line: str) -> None:
    """Prints a line in one write: `print` makes two where output is unbuffered, and other workers write meanwhile."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def line_of(plan: Plan, study: optuna.Study, trial: FrozenTrial) -> str:
    """What became of a trial, for people."""
    if trial.state == TrialState.FAIL:
        return f"trial {trial.number}: failed: {trial.user_attrs.get(REASON, '')} ({plan.log(trial.number)})"
    unit = "epoch" if "epochs" in trial.user_attrs else "step"
    length = f"{counted(trial.user_attrs[f'{unit}s'], unit)}, {trial.user_attrs['seconds']:.1f} s"
    if trial.state == TrialState.PRUNED:
        return f"trial {trial.number}: pruned after {length}"
    pairs = zip(plan.definition.objectives, trial.values, strict=True)
    values = ", ".join(f"{objective.metric} {value:.6g}" for objective, value in pairs)
    best = best_first(study)[0]
    return f"trial {trial.number}: {values} after {length}; best {best.values[0]:.6g} of trial {best.number}"


def work(pipe: IO[str], kind: type[Plan] = Plan, fits: Callable[[Any], Fit] = TrialFits) -> None:
    """Runs the command `sweep-worker`: works on a plan until the study has enough trials, or the pipe closes.

    Args:
        pipe: Its first line is the plan, as `Plan.to_text` writes it; the parent holds it open.
        kind: Class of the plan.
        fits: Makes what runs a trial of the plan.
    """
    text = pipe.readline()
    if not text:  # the sweep has ended already
        return
    plan = kind.from_text(text)
    stop = Stop(pipe)
    set_up_messages()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with kept_in_process():  # trials whose data are alike share one panel
        Worker(plan, fits(plan), lambda trial: record_state(plan, trial), stop).work()
    if stop.asked.is_set():
        raise SystemExit(130)  # at once: an interrupted trainer cannot be taken apart
