"""`cnn-lstm roll` from Python: refits as time goes on, and the champion that is in service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.notebook.experiment import Settings
from cnn_lstm.notebook.kept import KeptRuns
from cnn_lstm.notebook.model import Model
from cnn_lstm.notebook.report import TestReport
from cnn_lstm.notebook.several import Begun, PathText
from cnn_lstm.service.champion import FILE
from cnn_lstm.service.roll import ROLL
from cnn_lstm.service.roll import roll as roll_on
from cnn_lstm.service.roll_plan import Words


@dataclass(frozen=True, repr=False)
class Rolled(KeptRuns):
    """The steps of a roll, their decisions, and the champion.

    Attributes:
        folder: The folder of all steps.
    """

    command: ClassVar[str] = "roll"
    file: ClassVar[str] = "roll"

    def report(self) -> TestReport:
        """The judgement of all forecasts of the champions, each from its reign.

        Raises:
            DataError: If there is none yet, since too few outcomes are known.
        """
        return TestReport.from_run(self.folder)

    def champion(self) -> Model:
        """The model in service, which expires as `champion.ckpt` says.

        Raises:
            CheckpointError: If there is none.
        """
        number = self.result["steps"][-1]["champion"]
        return Model(self.folder / f"step_{number}", self.folder / FILE)


def roll(  # noqa: PLR0913 - those of the command
    data: MarketDataModule | None = None,
    settings: Settings = None,
    *,
    every: str | None = None,
    first: str | None = None,
    until: str | None = None,
    judge_on: str | None = None,
    grace: str | None = None,
    warm_start: bool = False,
    max_epochs: int | None = None,
    folder: PathText | None = None,
    n_jobs: int | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Rolled:
    """Refits step by step in time, and lets a new model take over where it is better, as `cnn-lstm roll` does.

    Args:
        data: See `fit`; its split says when the first step is.
        settings: See `fit`.
        every: From one step to the next: `20bars`, `2w`, `3mo`, `1y`. Needed where the roll begins.
        first: Date of the first step, ISO; the first of the test part by default.
        until: Where the walk ends, ISO; after the last bar by default.
        judge_on: Span before each step on which champion and challenger are judged; that of `every` by default.
        grace: Span that a champion may forecast after the next step was due; that of `every` by default.
        warm_start: Whether each fit begins with the weights of the one before.
        max_epochs: `trainer.max_epochs`.
        folder: Folder of all steps; a new one in `runs` by default.
        n_jobs: Fits at a time; 1 by default.
        resume: Whether to go on in the folder, where there is one: an evening calls it with the same arguments.
        quiet: Whether nothing is printed but warnings.

    Raises:
        CnnLstmError: As `fit`, or of the first step that failed.

    Example:
        >>> roll(data, every="3mo", folder="runs/roll", resume=True).champion().predict(prices)  # doctest: +SKIP
    """
    words = Words(every, judge_on, grace, first, until, warm_start or None)
    begun = Begun(ROLL.command, data, settings, max_epochs, folder, quiet)
    return Rolled(begun.run(lambda argv, path: roll_on(argv, words, n_jobs, path, resume)))
