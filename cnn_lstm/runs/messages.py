"""What a command says next to its results: warnings of ours in one line, and none that nobody can act on."""

from __future__ import annotations

import logging
import sys
import warnings
from contextvars import ContextVar

from cnn_lstm.errors import shortened

_errors_only: ContextVar[bool] = ContextVar("whether nothing but results and errors is printed", default=False)


def set_up_messages() -> None:
    """Sets up the messages of a command: one line per warning of ours, none for what nobody can act on."""
    _errors_only.set(False)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("warning: %(message)s"))
    logger = logging.getLogger("cnn_lstm")
    logger.handlers, logger.propagate = [handler], True
    # one gather per batch: worker processes only slow it down
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    # https://github.com/pytorch/pytorch: Lightning 2.6 still uses the old name
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    # we step the scheduler ourselves, see `Forecaster.on_train_epoch_end`
    warnings.filterwarnings("ignore", "ReduceLROnPlateau conditioned on metric.*")
    # the run folder is ours, and a resumed fit writes into it on purpose
    warnings.filterwarnings("ignore", ".*exists and is not empty.*")
    warnings.filterwarnings("ignore", ".*checkpoint directory.*exists.*")
    # a short epoch has its metrics at its end
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
    # the callback of a checkpoint that was written when it had another name
    warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint.*BoardPictures.*")
    # they are, by `GoOnWithinEpoch`
    warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")
    # our predict_step keeps its forecasts itself
    warnings.filterwarnings("ignore", ".*predict returned None.*")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_of_use)  # the same one is added once


def say_errors_only() -> None:
    """Leaves out everything but results and errors, until messages are set up again: `--quiet`."""
    _errors_only.set(True)
    for handler in logging.getLogger("cnn_lstm").handlers:
        handler.setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def progress(line: str) -> None:
    """Prints how far a command has come, which is neither a result nor an error; `--quiet` leaves it out.

    Args:
        line: The line.

    Example:
        >>> progress("fold 0: fit")
        fold 0: fit
    """
    if not _errors_only.get():
        print(line, flush=True)


class _OneLine(logging.Formatter):
    """A warning in one line of at most 400 letters, whatever value or library text it holds."""

    def format(self, record: logging.LogRecord) -> str:
        return shortened(" ".join(super().format(record).split()))


def _of_use(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    # the last one says what the end of a fit says, in the middle of its bar
    useless = ("Tip:", "to estimate number of stepping batches", "`Trainer.fit` stopped")
    return not any(text in message for text in useless)
