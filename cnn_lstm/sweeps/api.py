"""The sweep for notebooks and programs: the command in a process of its own, and then its study."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Sequence
from pathlib import Path

import optuna

from cnn_lstm.errors import error_of_line
from cnn_lstm.files import read_json
from cnn_lstm.runs.processes import PROGRAM, trust_argv
from cnn_lstm.sweeps.study import open_storage


def sweep(
    config: str | Path,
    space: str | Path,
    n_trials: int = 50,
    n_jobs: int = 1,
    folder: str | Path = "runs/sweep",
    resume: bool = False,
    options: Sequence[str] = (),
) -> optuna.Study:
    """Searches a space of settings, as `cnn-lstm sweep` does.

    Args:
        config: YAML file of `fit`.
        space: YAML file of the space.
        n_trials: Trials to finish.
        n_jobs: Worker processes.
        folder: Folder of all trials, where best.yaml is written.
        resume: Whether to go on with the sweep that is in the folder.
        options: Further options of the command, for example `["--trainer.max_epochs=5", "--timeout=600"]`.

    Returns:
        The study, for Optuna's own tables and plots.

    Raises:
        CnnLstmError: If the sweep fails, with its line.

    Example:
        >>> study = sweep("x.yaml", "configs/sweep/cnn_lstm.yaml", n_trials=20)  # doctest: +SKIP
        >>> study.best_value  # doctest: +SKIP
    """
    argv = ["--config", str(config), "--space", str(space), "--n_trials", str(n_trials), "--n_jobs", str(n_jobs)]
    return study_of(["sweep"], folder, resume, [*argv, *options])


def study_of(command: Sequence[str], folder: str | Path, resume: bool, argv: Sequence[str]) -> optuna.Study:
    """Runs a command that sweeps, in a process of its own, and opens its study.

    Args:
        command: The words of the command.
        folder: Folder of all trials.
        resume: Whether to go on with the sweep that is in the folder.
        argv: The other arguments.

    Raises:
        CnnLstmError: If the command fails, with its line.
    """
    error = ""
    words = [*PROGRAM, *trust_argv(), *command, *argv, "--folder", str(folder), *(["--resume"] if resume else [])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                error = line.strip() if line.startswith("error[") else error
        except BaseException:  # a notebook's stop button
            process.terminate()
            raise
    code = process.returncode
    if code:
        raise error_of_line(error, code, " ".join(command))
    kept = read_json(Path(folder) / "study.json", "record of the study")
    # the folder does not keep the password of a storage; the options have it
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--storage", default=kept["storage"])
    storage = open_storage(parser.parse_known_args(argv)[0].storage)
    return optuna.load_study(study_name=kept["study_name"], storage=storage)
