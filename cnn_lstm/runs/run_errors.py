"""What ends a run that parsed well, as one line: whose class or setting it was, and why."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from lightning.fabric.utilities.exceptions import MisconfigurationException

from cnn_lstm.errors import CheckpointError, CnnLstmError, ConfigError, ResourceError
from cnn_lstm.model.trial_step import OPTIMIZER
from cnn_lstm.runs.parser_errors import without_inner_names
from cnn_lstm.specs import trusted_packages

RESTORING = "lightning.pytorch.trainer.connectors.checkpoint_connector"  # of 2.6
MOST_LETTERS = 250
CPU_MEMORY = "DefaultCPUAllocator"  # torch raises a bare RuntimeError there
# what gloo and NCCL say when they lose the other end
LOST = "(?i)connection (was )?(closed|reset|refused)|broken pipe|remote process exited|socket timeout|gloo.*timed out"
WRAPPED = ("Does not validate against any", "Problem with given class")
DEBUG = "correct it; --debug shows the traceback"


@contextmanager
def run_errors_in_one_line() -> Iterator[None]:
    """Turns what a trainer, an optimiser or a class of the user's raises into an error of ours.

    Whose it is, the innermost frame says that belongs to one of them, or to this package: an error of our own code
    stays as it is.

    Raises:
        ConfigError: E238 of Lightning, E281 of an optimiser or scheduler, E282 of a class of the user's own.
        CheckpointError: E422, if a fit cannot go on from the state in its checkpoint.
        ResourceError: E608, if the memory ran out, of the accelerator or of the machine; E656, if another process of
            the training has ended.
    """
    try:
        yield
    except (CnnLstmError, OSError, MemoryError):
        raise
    except torch.OutOfMemoryError as error:
        fix = "use a smaller data.batch_size"
        raise ResourceError(f"out of memory: {str(error).splitlines()[0]}", fix=fix, code=608) from error
    except MisconfigurationException as error:
        raise ConfigError(one_line(error), "trainer", code=238) from error
    except Exception as error:  # anything that their classes may raise
        if CPU_MEMORY in str(error):
            fix = "use a smaller data.batch_size or data.window"
            raise ResourceError(f"out of memory: {one_line(error)}", fix=fix, code=608) from error
        if "Early stopping conditioned on metric" in str(error):
            what = one_line(error).split(". Pass in", maxsplit=1)[0]
            raise ConfigError(what, "early_stopping.monitor", "name a metric of metrics.csv", code=224) from error
        if _restores(error):
            what = "the state of the training in the checkpoint cannot be restored"
            fix = "use another checkpoint of the run, or train again"
            raise CheckpointError(what, one_line(error, named=True), fix, code=422) from error
        if dist.is_available() and dist.is_initialized() and re.search(LOST, str(error)):
            what, fix = "another process of the training has ended", "its output says why; go on with --ckpt_path last"
            raise ResourceError(what, one_line(error), fix, code=656) from error
        owner = _owner(error)
        if owner is None:
            raise
        where, code = owner
        raise ConfigError(one_line(error, named=True), where, DEBUG, code=code) from error


@contextmanager
def constructing() -> Iterator[None]:
    """Turns what a constructor raises into one line: an error of ours as it is, memory, or a value to correct.

    Raises:
        ConfigError: E224.
        ResourceError: E608, if something is too large for the memory.
    """
    try:
        yield
    except (CnnLstmError, OSError):
        raise
    except Exception as error:  # anything that a class of the configuration may raise
        memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if memory or (isinstance(error, RuntimeError) and re.search("memory|Storage size", str(error))):
            fix = "use a smaller network, data.batch_size or data.window"
            raise ResourceError(f"out of memory: {one_line(error)}", fix=fix, code=608) from error
        raise ConfigError(one_line(error), "the configuration", "correct the value", code=224) from error


def one_line(error: Exception, named: bool = False) -> str:
    """The message of an error on one line, cut where it is long.

    Args:
        error: The error.
        named: Whether its class stands before it; it always does where the message is empty.
    """
    if any(sign in str(error) for sign in WRAPPED):
        error = _first(error)
    name, text = type(error).__name__, without_inner_names(str(error))
    text = f"{name}: {text}" if named and text else text or name
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]} ..."


def _first(error: Exception) -> Exception:
    """The error that led to another one: a parser wraps that of a constructor in its own words, with all its types."""
    while isinstance(before := error.__cause__ or error.__context__, Exception):
        error = before
    return error


def _restores(error: Exception) -> bool:
    """Whether an error was raised while a checkpoint's state of the training was read."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(
        frame.f_globals.get("__name__") == RESTORING and frame.f_code.co_name.startswith(("restore", "resume"))
        for frame in frames
    )


def _owner(error: Exception) -> tuple[str, int] | None:
    """Section of the configuration and code of an error; None if it is ours or nobody's."""
    own = trusted_packages() - {"cnn_lstm"}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = str(frame.f_globals.get("__name__", ""))
        package = module.split(".")[0]
        if package in own:
            return f"{module}, line {line}", 282
        if module.startswith("torch.optim"):
            return OPTIMIZER, 281
        if package == "lightning":
            return "trainer", 238
        if package == "cnn_lstm":
            return None
    return None
