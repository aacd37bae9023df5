"""Runs that belong together. Each runs in its own process; what it needs next follows from the files in its folder.

The folders hold all state, so a command that was killed continues when it is started again.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from cnn_lstm.bounded import load_json
from cnn_lstm.data.stored_tables import read_text_of
from cnn_lstm.evaluation.json_types import Report
from cnn_lstm.locks import LOCK, try_lock
from cnn_lstm.runs.argv import word_of
from cnn_lstm.runs.cluster import Cluster
from cnn_lstm.runs.messages import progress
from cnn_lstm.runs.processes import Command, Engine, LocalProcesses, Running, end_all, trust_argv
from cnn_lstm.training.interrupts import ended_by_sigterm
from cnn_lstm.training.run_folder import RunFolder

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 30.0
LOSSES = 3  # machines that a run may lose


@dataclass(frozen=True)
class Member:
    """One of the runs.

    Attributes:
        kind: What sets the runs apart, such as `seed`.
        number: Which one this is.
        folder: Where all runs lie.
        argv: Arguments of `fit`.
        tested: Whether its fit is followed by a test.
    """

    kind: str
    number: int
    folder: Path
    argv: Sequence[str]
    tested: bool = True

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind} {self.number}"

    @property
    def run(self) -> RunFolder:
        """Its run folder."""
        return RunFolder(self.folder / f"{self.kind}_{self.number}")

    @property
    def report(self) -> Report | None:
        """The report of its test; None if there is none yet, or a broken one."""
        return read_report(self.run.path)

    @property
    def log(self) -> Path:
        """What its commands print."""
        return self.run.path.with_suffix(".log")

    def next_command(self) -> list[str] | None:
        """The command that it needs next: a fit, the rest of one, or a test; None where nothing is missing."""
        run = self.run
        if self.report is not None:
            return None
        if run.summary.is_file():  # written at the end of a fit
            return ["test", "--config", word_of(run.config), "--ckpt_path", "best"] if self.tested else None
        begun = {"last": run.members.is_dir()}  # an ensemble has no last.ckpt
        for alias in ("last", "best"):
            if (run.checkpoints / f"{alias}.ckpt").is_file() or begun.get(alias):
                return ["fit", "--config", word_of(run.config), "--ckpt_path", alias]
        return ["fit", *self.argv, "--run_dir", word_of(run.path)]

    def last_error(self) -> str:
        """The last error of the log; empty if there is none, as after a crash."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.startswith("error[")), "")


def read_report(folder: Path) -> Report | None:
    """Content of a folder's report.json; None if there is none, or a broken one."""
    try:
        report: object = load_json(read_text_of(folder / "predictions.parquet", "report.json"))
    except (OSError, ValueError):
        return None
    return cast(Report, report) if isinstance(report, dict) else None


@dataclass(frozen=True)
class _Started:
    """A command of a member that was started."""

    member: Member
    argv: list[str]
    process: Running


class MemberProcesses:
    """The commands of runs that belong together, one after another for each run.

    Args:
        engine: What starts them.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.running: list[_Started] = []
        self.failed: dict[int, int] = {}
        self._lost: dict[int, int] = {}

    def start(self, member: Member) -> None:
        """Starts what a member needs next, if anything."""
        argv = member.next_command()
        if argv is None:
            progress(f"{member.name}: done")
            return
        goes_on = argv[0] == "fit" and "--ckpt_path" in argv
        progress(f"{member.name}: {argv[0]}{' goes on' if goes_on else ''}")
        process = self.engine.start(Command([*trust_argv(), *argv], member.log))
        self.running.append(_Started(member, argv, process))

    def can_start(self, member: Member) -> bool:
        """Whether nobody works in a member's folder any more: its machine was lost, but not its process at once.

        A file server frees the lock of a machine that it cannot reach after a minute or two.
        """
        if member.number not in self._lost or not member.run.path.is_dir():
            return True
        if (lock := try_lock(member.run.path / LOCK)) is not None:
            lock.release()
        return lock is not None

    def finish(self) -> list[Member]:
        """Members whose command ended well, or was lost with its machine, and need the next one."""
        ready = []
        for one in list(self.running):
            ended = one.process.ended()
            if ended is None:
                continue
            self.running.remove(one)
            lost = self._lost.get(one.member.number, 0) + ended.lost
            if ended.lost and lost <= LOSSES:
                self._lost[one.member.number] = lost
                progress(f"{one.member.name}: its machine was lost, it goes on elsewhere")
                ready.append(one.member)
            elif ended.code == 0 and one.member.next_command() != one.argv:
                ready.append(one.member)
            else:  # a command that changed nothing would be started for ever
                self.failed[one.member.number] = ended.code or 1
                progress(f"{one.member.name}: failed")
        return ready

    def end(self) -> None:
        """Ends what still runs."""
        end_all([one.process for one in self.running], PATIENCE_SECONDS)


def train_all(
    members: Sequence[Member],
    jobs: int | None,
    lock: int | None,
    advice: str | None = None,
    at_begin: Callable[[], None] = lambda: None,
    cluster: Cluster | None = None,
) -> dict[int, int]:
    """Trains and tests what is missing.

    Args:
        members: The runs.
        jobs: Runs at a time; None for as many as there is room for.
        lock: Descriptor of the folder's lock, which each process of this machine holds open; None where there is none.
        advice: How to go on after an interruption; by default the options of a command that makes several runs.
        at_begin: Called while a run has begun its training, so perhaps often.
        cluster: Where the runs are trained; None for this machine.

    Returns:
        Exit codes of the runs that failed by their number, in order.
    """
    folder, waiting = members[0].folder, list(members)
    engine = LocalProcesses(lock) if cluster is None else cluster.engine(folder)
    with engine, ended_by_sigterm():
        runs = MemberProcesses(engine)
        try:
            while waiting or runs.running:
                for member in [one for one in waiting if runs.can_start(one)]:
                    if len(runs.running) < (jobs or engine.room):
                        waiting.remove(member)
                        runs.start(member)
                time.sleep(POLL_SECONDS)
                if any(member.run.config.is_file() for member in members):  # the beginning of a training writes it
                    at_begin()
                waiting = runs.finish() + waiting
        except (KeyboardInterrupt, SystemExit):
            options = advice or f"the same command with --resume --folder {folder}"
            print(f"to go on: {options}", file=sys.stderr)
            raise
        finally:
            runs.end()
    return {member.number: runs.failed[member.number] for member in members if member.number in runs.failed}


def left_nothing(members: Sequence[Member], failed: Mapping[int, int]) -> bool:
    """Whether no run has begun its training, and those that failed said why in one line.

    A fit that fails before its training removes its run folder; nothing but its log is left.

    Args:
        members: The runs.
        failed: As `train_all` returns it.
    """
    said = all(member.last_error() for member in members if member.number in failed)
    return bool(failed) and said and not any(member.run.path.exists() for member in members)


def leave_with(
    members: Sequence[Member], failed: Mapping[int, int], new: Path | None, kept: Collection[str] = ()
) -> None:
    """Says which runs failed, and leaves with the exit code of the first of them.

    Args:
        members: The runs.
        failed: As `train_all` returns it.
        new: The folder that the command has made, which is emptied if nothing was trained; None where it goes on.
        kept: Names of what lay there before.

    Raises:
        SystemExit: If a run failed.
    """
    if not failed:
        return
    nothing = new is not None and left_nothing(members, failed)
    for member in members:
        if member.number in failed:
            error = member.last_error()
            reason = f"see {member.log}" if not error else error if nothing else f"{error} ({member.log})"
            print(f"{member.name} failed with exit code {failed[member.number]}: {reason}", file=sys.stderr)
    if new is not None and nothing:
        print("nothing was trained, and nothing is left behind", file=sys.stderr)
        empty(new, kept)
    raise SystemExit(next(iter(failed.values())))


def empty(folder: Path, kept: Collection[str] = ()) -> None:
    """Removes what a command wrote into its folder, but for the lock.

    Args:
        folder: The folder.
        kept: Names of what lay there before.
    """
    for path in folder.iterdir():
        if path.name not in {LOCK, *kept}:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
