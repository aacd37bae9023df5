"""What of a user's trainer and callbacks goes with ours: who steps aside, and what cannot be in a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelSummary, ProgressBar, WeightAveraging

from cnn_lstm.errors import require

WHERE = "trainer"


def callbacks_of_user(trainer: Namespace, quiet: bool, on_terminal: bool) -> tuple[list[Callback], bool]:
    """The callbacks of the user that take part, and whether our own progress bar does; Lightning then adds none.

    A bar of the user's choice replaces ours; where no bar is wanted there is none.

    Args:
        trainer: Section `trainer` of a configuration whose objects are built.
        quiet: Whether `--quiet` is given.
        on_terminal: Whether the output is a terminal.

    Raises:
        ConfigError: E280, if something in it cannot be in a run of ours.
    """
    given: Any = trainer.callbacks or []
    callbacks: list[Callback] = list(given) if isinstance(given, Sequence) else [given]
    _require_a_whole_run(trainer, callbacks)
    unwanted = quiet or trainer.enable_progress_bar is False
    if unwanted:
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    theirs = any(isinstance(callback, ProgressBar) for callback in callbacks)
    ours = on_terminal and not unwanted and not theirs
    trainer.enable_progress_bar = ours or theirs
    if quiet:  # with rich installed, Lightning prints its summary past the level of the log
        callbacks = [callback for callback in callbacks if not isinstance(callback, ModelSummary)]
        trainer.enable_model_summary = False
    return callbacks, ours


def _require_a_whole_run(trainer: Namespace, callbacks: Sequence[Callback]) -> None:
    """Refuses what would leave out the checkpoints or the history of a run, or does not work on our model.

    Raises:
        ConfigError: E280.
    """
    fix = "leave it out; --quiet true --mlflow false --tensorboard false is the leanest run"
    require(not trainer.barebones, "trainer.barebones=true leaves out all that a run keeps", WHERE, fix, code=280)
    what = "trainer.enable_checkpointing=false, but a run is its checkpoints"
    require(trainer.enable_checkpointing is not False, what, WHERE, "leave it out", code=280)
    for callback in callbacks:
        # https://github.com/Lightning-AI/pytorch-lightning/issues/21724: it copies the model before its line is known
        averages, name = isinstance(callback, WeightAveraging), type(callback).__name__
        fix = "set weight_averaging.kind to ema or tail, see docs/training.md"
        require(not averages, f"{name} cannot average this model", f"{WHERE}.callbacks", fix, code=280)


def without_doubles(ours: Sequence[Callback], of_user: object) -> list[Callback]:
    """Our callbacks but for the early stopping that the user has given a replacement for.

    Args:
        ours: Those with keys of their own.
        of_user: All callbacks of section `trainer`.
    """
    given = of_user if isinstance(of_user, list) else []
    replaced = {callback.state_key for callback in given if isinstance(callback, EarlyStopping)}
    return [one for one in ours if not isinstance(one, EarlyStopping) or one.state_key not in replaced]
