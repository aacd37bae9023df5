"""Several runs from Python, and the audit: the commands of the same names, with the arguments of `fit`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import optuna

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.splits import CPCV, WalkForward
from cnn_lstm.errors import require
from cnn_lstm.evaluation.audit import run_audit
from cnn_lstm.notebook.calls import command, options
from cnn_lstm.notebook.experiment import RUNS, Settings, argv_of
from cnn_lstm.notebook.kept import KeptRuns
from cnn_lstm.notebook.model import Model
from cnn_lstm.notebook.report import TestReport
from cnn_lstm.runs import cross_validation as crosses
from cnn_lstm.runs import repeat as repeats
from cnn_lstm.runs import walk_forward as walks
from cnn_lstm.sweeps import api
from cnn_lstm.training.run_folder import empty_run_removed, unused_folder

PathText = str | Path


@dataclass(frozen=True)
class Begun:
    """What every command of several runs is called with.

    Attributes:
        name: Name of the command.
        data: See `fit`.
        settings: See `fit`.
        max_epochs: `trainer.max_epochs`.
        folder: Folder of all runs; by default a new one in `runs`, which is named after the command.
        quiet: Whether nothing is printed but warnings.
    """

    name: str
    data: MarketDataModule | None
    settings: Settings
    max_epochs: int | None
    folder: PathText | None
    quiet: bool

    def run(self, call: Callable[[list[str], Path], None]) -> Path:
        """Calls the command; returns its folder.

        Args:
            call: The command, which takes arguments of `fit` and the folder.
        """
        with empty_run_removed():
            new = Path(RUNS) / f"{self.name}-{time.strftime('%Y%m%d-%H%M%S')}"
            path = Path(self.folder) if self.folder else unused_folder(new)
            with argv_of(self.data, self.settings, path.parent) as argv, command(self.name, self.quiet):
                call([*argv, *flags(self.max_epochs, self.quiet)], path)
        return path


@dataclass(frozen=True, repr=False)
class Repeat(KeptRuns):
    """What several seeds have in common: the seeds, and by target mean, spread and whether skill may be claimed.

    Attributes:
        folder: The folder of all runs.
    """

    command: ClassVar[str] = "repeat"
    file: ClassVar[str] = "repeat"

    def report(self) -> TestReport:
        """The test of the seeds' average.

        Raises:
            DataError: If there is none, since a seed failed or there was only one.
        """
        return TestReport.from_run(self.folder / "ensemble")

    def model(self) -> Model:
        """The seeds' average.

        Raises:
            CheckpointError: If there is none.
        """
        return Model.from_checkpoint(self.folder / "ensemble.ckpt")


def repeat(
    data: MarketDataModule | None = None,
    settings: Settings = None,
    *,
    seeds: int | Sequence[int] = 5,
    max_epochs: int | None = None,
    folder: PathText | None = None,
    n_jobs: int | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Repeat:
    """Trains and tests several seeds, as `cnn-lstm repeat` does.

    Args:
        data: See `fit`.
        settings: See `fit`.
        seeds: How many seeds, from 42 on, or which.
        max_epochs: `trainer.max_epochs`.
        folder: Folder of all runs; a new one in `runs` by default.
        n_jobs: Runs at a time; 1 by default.
        resume: Whether to go on in the folder.
        quiet: Whether nothing is printed but warnings.

    Raises:
        CnnLstmError: As `fit`, or of the first seed that failed.

    Example:
        >>> repeat(data, max_epochs=30, seeds=5).result["targets"]  # doctest: +SKIP
    """
    which = str(seeds) if isinstance(seeds, int) else "".join(f"{seed}," for seed in seeds)
    begun = Begun("repeat", data, settings, max_epochs, folder, quiet)
    return Repeat(begun.run(lambda argv, path: repeats.repeat(argv, which, None, n_jobs, path, resume)))


def walk_forward(  # noqa: PLR0913 - those of the command
    data: MarketDataModule | None = None,
    settings: Settings = None,
    *,
    folds: int = 5,
    sliding: bool = False,
    embargo: int = 0,
    max_epochs: int | None = None,
    folder: PathText | None = None,
    n_jobs: int | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> TestReport:
    """Retrains fold by fold, and judges the forecasts of all test parts as one, as `cnn-lstm walk-forward` does.

    Args:
        data: See `fit`; its split is not used.
        settings: See `fit`.
        folds: Number of folds.
        sliding: Whether each fold is trained on as many dates; else on all before.
        embargo: Dates between the last label of a part and the next part.
        max_epochs: `trainer.max_epochs`.
        folder: Folder of all folds; a new one in `runs` by default.
        n_jobs: Folds at a time; 1 by default.
        resume: Whether to go on in the folder.
        quiet: Whether nothing is printed but warnings.

    Raises:
        CnnLstmError: As `fit`, or of the first fold that failed.

    Example:
        >>> walk_forward(data, max_epochs=30, folds=4).verdict  # doctest: +SKIP
    """
    splits = [WalkForward(folds, fold, sliding, embargo) for fold in range(max(folds, 1))]
    begun = Begun(walks.WALK.command, data, settings, max_epochs, folder, quiet)
    return TestReport.from_run(begun.run(lambda argv, path: walks.walk_forward(argv, splits, n_jobs, path, resume)))


@dataclass(frozen=True, repr=False)
class CrossValidation(KeptRuns):
    """Combinations of test groups, and the paths that their forecasts make.

    Attributes:
        folder: The folder of all fits.
    """

    command: ClassVar[str] = crosses.CROSS.command
    file: ClassVar[str] = crosses.NAME

    @property
    def page(self) -> Path:
        """The page of all paths."""
        return self.folder / f"{self.file}.html"

    def report(self, path: int) -> TestReport:
        """The judgement of one path through the test groups.

        Args:
            path: Its number, from 0.

        Raises:
            DataError: If the split has fewer paths.
        """
        return TestReport.from_run(self.folder / f"path_{path}")


def cross_validate(  # noqa: PLR0913 - those of the command
    data: MarketDataModule | None = None,
    settings: Settings = None,
    *,
    groups: int = 6,
    test_groups: int = 2,
    validation: float = 0.2,
    embargo: int = 0,
    max_epochs: int | None = None,
    folder: PathText | None = None,
    n_jobs: int | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> CrossValidation:
    """Trains on every choice of test groups, and judges the paths through them, as `cnn-lstm cross-validate` does.

    Args:
        data: See `fit`; its split is not used.
        settings: See `fit`.
        groups: Groups of dates.
        test_groups: Groups that a fit is tested on.
        validation: Share of the other dates that chooses the best epoch.
        embargo: Dates that stay free around each stretch, next to what is purged.
        max_epochs: `trainer.max_epochs`.
        folder: Folder of all fits; a new one in `runs` by default.
        n_jobs: Fits at a time; 1 by default.
        resume: Whether to go on in the folder.
        quiet: Whether nothing is printed but warnings.

    Raises:
        CnnLstmError: As `fit`, or of the first fit that failed.

    Example:
        >>> cross_validate(data, groups=4, test_groups=1, max_epochs=30).result  # doctest: +SKIP
    """
    first = CPCV(groups, test_groups, 0, validation, embargo)
    splits = [CPCV(groups, test_groups, number, validation, embargo) for number in range(first.fits)]
    begun = Begun(crosses.CROSS.command, data, settings, max_epochs, folder, quiet)
    return CrossValidation(begun.run(lambda argv, path: crosses.cross_validate(argv, splits, n_jobs, path, resume)))


def sweep(  # noqa: PLR0913 - those of the command
    data: MarketDataModule | None = None,
    settings: Settings = None,
    *,
    space: PathText,
    n_trials: int = 50,
    max_epochs: int | None = None,
    folder: PathText = "runs/sweep",
    n_jobs: int = 1,
    resume: bool = False,
    more: Sequence[str] = (),
) -> optuna.Study:
    """Searches a space of settings on the validation part, as `cnn-lstm sweep` does.

    `fit(settings="FOLDER/best.yaml")` trains the best settings.

    Args:
        data: See `fit`.
        settings: See `fit`.
        space: YAML file of the space, or the name of a shipped one such as `sweep/quick`.
        n_trials: Trials to finish.
        max_epochs: `trainer.max_epochs`.
        folder: Folder of all trials, where best.yaml is written.
        n_jobs: Worker processes.
        resume: Whether to go on with the sweep that is in the folder.
        more: Further options of the command, for example `["--timeout=600"]`.

    Returns:
        The study, for Optuna's own tables and plots.

    Raises:
        CnnLstmError: If the sweep fails, with its line.

    Example:
        >>> sweep(data, space="configs/sweep/cnn_lstm.yaml", n_trials=20).best_value  # doctest: +SKIP
    """
    with argv_of(data, settings, Path(folder).parent) as argv:
        files = argv[1::2]
        require(bool(files), "neither data nor settings", "sweep", "give at least one of them", code=225)
        others = [word for file in files[1:] for word in ("--config", file)]
        return api.sweep(files[0], space, n_trials, n_jobs, folder, resume, [*others, *flags(max_epochs), *more])


def rl_sweep(
    model: Model | PathText,
    settings: PathText | Mapping[str, Any] | None = None,
    *,
    space: PathText,
    n_trials: int = 50,
    folder: PathText = "runs/rl-sweep",
    n_jobs: int = 1,
    resume: bool = False,
    more: Sequence[str] = (),
) -> optuna.Study:
    """Searches a space of settings of agents on the validation part, as `cnn-lstm rl sweep` does.

    `cnn-lstm rl train --config FOLDER/best.yaml` trains the best settings.

    Args:
        model: The forecaster, or its checkpoint.
        settings: Settings of `rl train`: a YAML file, or values by dotted keys; the defaults without any.
        space: YAML file of the space.
        n_trials: Trials to finish.
        folder: Folder of all trials, where best.yaml is written.
        n_jobs: Worker processes.
        resume: Whether to go on with the sweep that is in the folder.
        more: Further options of the command, for example `["--timeout=600"]`.

    Returns:
        The study, for Optuna's own tables and plots.

    Raises:
        CnnLstmError: If the sweep fails, with its line.

    Example:
        >>> space = "configs/rl/sweep/ppo.yaml"
        >>> rl_sweep(model, {"market.symbols": ["IBM"]}, space=space, n_trials=20).best_value  # doctest: +SKIP
    """
    checkpoint = model.checkpoint if isinstance(model, Model) else model
    argv = ["--ckpt_path", str(checkpoint), "--space", str(space), "--n_trials", str(n_trials), "--n_jobs", str(n_jobs)]
    given = options(settings) if isinstance(settings, Mapping) else ["--config", str(settings)] if settings else []
    return api.study_of(["rl", "sweep"], folder, resume, [*given, *argv, *more])


def audit(data: MarketDataModule, model: Model | None = None, *, warnings_fail: bool = False) -> run_audit.Audit:
    """Checks on the data, and on a model if one is given, that nothing looks ahead, as `cnn-lstm audit` does.

    Args:
        data: The data; they are set up.
        model: A model of the same features, targets and window, whose dates the data take over.
        warnings_fail: Whether a warning is a failure.

    Returns:
        The result of each check; `failed` is empty where nothing looks ahead.

    Raises:
        CheckpointError: If the model is of another recipe.

    Example:
        >>> audit(data, model).failed  # doctest: +SKIP
        ()
    """
    if model is None:
        return run_audit.audit(data, warnings_fail=warnings_fail)
    checkpoint, predictor = run_audit.joined(data, model.checkpoint)
    return run_audit.audit(data, predictor, checkpoint, warnings_fail=warnings_fail)


def flags(max_epochs: int | None, quiet: bool = False) -> list[str]:
    """Options of `fit` that have arguments of their own in Python.

    Args:
        max_epochs: `trainer.max_epochs`.
        quiet: `quiet`.
    """
    return options({} if max_epochs is None else {"trainer.max_epochs": max_epochs}) + (["--quiet=true"] * quiet)
