"""The runs of a repeat: one process at a time for each seed, and what each needs next from what lies in its folder."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from cnn_lstm.specs import trusted_packages
from cnn_lstm.training.runs import RunFolder

PROGRAM = [sys.executable, "-m", "cnn_lstm"]
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Repeat:
    """What was asked for.

    Attributes:
        folder: Where all runs lie.
        seeds: Their seeds.
        jobs: Runs at a time.
        words: Arguments of `fit`, the same for each run.
    """

    folder: Path
    seeds: Sequence[int]
    jobs: int
    words: Sequence[str]

    def run(self, seed: int) -> RunFolder:
        """The run folder of a seed."""
        return RunFolder(self.folder / f"seed_{seed}")

    def report(self, seed: int) -> dict[str, Any] | None:
        """The report of a seed's test; null where there is none yet, or a broken one."""
        return read_report(self.run(seed).path)

    def log(self, seed: int) -> Path:
        """What the commands of a seed print."""
        return self.folder / f"seed_{seed}.log"


def next_words(run: RunFolder, seed: int, words: Sequence[str]) -> list[str] | None:
    """The command that a run needs next, from what lies in its folder.

    Args:
        run: The run folder, which need not exist.
        seed: Its seed.
        words: Arguments of a new `fit`.

    Returns:
        A fit, the rest of one, or a test; null once there is a report.
    """
    if read_report(run.path) is not None:
        return None
    if run.summary.is_file():  # written at the end of a fit
        return ["test", "--config", str(run.config), "--ckpt_path", "best"]
    for alias in ("last", "best"):
        if (run.checkpoints / f"{alias}.ckpt").is_file():
            return ["fit", "--config", str(run.config), "--ckpt_path", alias]
    return ["fit", *words, "--seed_everything", str(seed), "--run_dir", str(run.path)]


def read_report(folder: Path) -> dict[str, Any] | None:
    """Content of a folder's report.json; null where there is none, or a broken one."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None


@dataclass
class Runs:
    """The processes of a repeat."""

    repeat: Repeat
    lock: int
    running: dict[int, tuple[subprocess.Popen[bytes], list[str]]] = field(default_factory=dict)
    failed: dict[int, int] = field(default_factory=dict)

    def start(self, seed: int) -> None:
        """Starts what a seed needs next, if anything."""
        words = next_words(self.repeat.run(seed), seed, self.repeat.words)
        if words is None:
            print(f"seed {seed}: done", flush=True)
            return
        goes_on = words[0] == "fit" and "--ckpt_path" in words
        print(f"seed {seed}: {words[0]}{' goes on' if goes_on else ''}", flush=True)
        with self.repeat.log(seed).open("ab") as log:
            process = subprocess.Popen(
                [*PROGRAM, *_trust(), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self.lock,),
            )
        self.running[seed] = process, words

    def finish(self) -> list[int]:
        """Seeds whose command ended well, and need the next one."""
        ready = []
        for seed, (process, words) in list(self.running.items()):
            code = process.poll()
            if code is None:
                continue
            del self.running[seed]
            if code == 0 and next_words(self.repeat.run(seed), seed, self.repeat.words) != words:
                ready.append(seed)
            else:  # a command that changed nothing would be started for ever
                self.failed[seed] = 128 - code if code < 0 else code or 1
                print(f"seed {seed}: failed", flush=True)
        return ready

    def end(self) -> None:
        """Ends what still runs."""
        for process, _ in self.running.values():
            process.terminate()
        for process, _ in self.running.values():
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def train_all(repeat: Repeat, lock: int) -> dict[int, int]:
    """Trains and tests what is missing; exit codes of the seeds that failed, in the order of the seeds."""
    runs, waiting = Runs(repeat, lock), list(repeat.seeds)
    with _ended_by_sigterm():
        try:
            while waiting or runs.running:
                while waiting and len(runs.running) < repeat.jobs:
                    runs.start(waiting.pop(0))
                time.sleep(POLL_SECONDS)
                waiting = runs.finish() + waiting
        except (KeyboardInterrupt, SystemExit):
            print(f"to go on: the same command with --repeat_dir {repeat.folder}", file=sys.stderr)
            raise
        finally:
            runs.end()
    return {seed: runs.failed[seed] for seed in repeat.seeds if seed in runs.failed}


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Makes SIGTERM an orderly end with exit code 143."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _trust() -> list[str]:
    """The packages that the user trusts, for the runs' own command lines."""
    packages = sorted(trusted_packages() - {__package__.split(".")[0]})
    return ["--trust-imports", ",".join(packages)] if packages else []


def last_error(repeat: Repeat, seed: int) -> str:
    """The last error of a run's log, and where to read on."""
    log = repeat.log(seed)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error[")]
    return f"{errors[-1]} ({log})" if errors else f"see {log}"
