"""Checkpoint files: read without running code, refused in one line if damaged or foreign; written durably."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch

from cnn_lstm.bounded import PackedError, require_stored
from cnn_lstm.errors import CheckpointError, ResourceError
from cnn_lstm.files import make_folder, reason_text, replace_file, room_text
from cnn_lstm.model.checkpoint_schema import FIX, require_categories, require_forward, require_scales, require_size
from cnn_lstm.model.contract import require_intact
from cnn_lstm.model.forecast_model import ForecastModel
from cnn_lstm.model.own_class import untrained


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of ours, read without running any code in it.

    Args:
        path: A file on this machine.

    Raises:
        CheckpointError: If it is missing, a URL, damaged, unsafe or not ours.
    """
    if "://" in str(path):
        raise CheckpointError(f"{path} is a URL", fix="download the file first; only local files are read", code=416)
    path = Path(path)
    if not path.is_file():
        raise CheckpointError("no such checkpoint file", str(path), candidates(path), code=437)
    _require_whole(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "it holds pickled objects, which could run code" if zipfile.is_zipfile(path) else "not a checkpoint"
        raise CheckpointError(f"refused: {reason}", str(path), "use a checkpoint written by fit", code=415) from error
    except Exception as error:  # the unpickler may stumble over damaged content in any way
        raise CheckpointError("the checkpoint is damaged", str(path), candidates(path), code=414) from error
    require_intact(checkpoint, str(path), candidates(path))
    return dict(checkpoint)


def _require_whole(path: Path) -> None:
    """Compares all content with its checksums, which `torch.load` does not; nothing in it may have to be unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            require_stored(archive, path.stat().st_size)
            damaged = archive.testzip()
    except PackedError as error:
        raise CheckpointError(f"refused: {error}", str(path), "use a checkpoint written by fit", code=418) from error
    except Exception as error:  # zipfile may stumble over a damaged header in any way
        raise CheckpointError("the checkpoint is damaged, or not one", str(path), candidates(path), code=414) from error
    if damaged is not None:
        raise CheckpointError(f"the checkpoint is damaged in {damaged}", str(path), candidates(path), code=414)


def candidates(path: Path) -> str:
    """What the user can take instead of a missing or damaged file."""
    folder = path if path.is_dir() else path.parent
    # no deeper, or a misspelt path in a home folder would search all of it
    patterns = ("*.ckpt", "checkpoints/*.ckpt", "*/checkpoints/*.ckpt")
    files = [str(file) for pattern in patterns for file in sorted(folder.glob(pattern)) if file != path][:5]
    return f"candidates: {', '.join(files)}" if files else "train one with fit"


def forecaster_from(checkpoint: Mapping[str, Any]) -> ForecastModel:
    """The trained forecaster of a checkpoint, in evaluation mode, from plain values and weights alone.

    Args:
        checkpoint: As `read_checkpoint` returns it.

    Raises:
        CheckpointError: If it is an ensemble, its classes are not trusted or its weights do not fit them.
    """
    try:
        require_single(checkpoint)
        plain, state = checkpoint["hyper_parameters"], checkpoint["state_dict"]
        require_size(partial(untrained, plain), plain, state)
        forecaster = untrained(plain)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError("the checkpoint does not say how to build its model", repr(error), code=417) from error
    try:
        forecaster.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError("the weights do not fit the network", reason, FIX, code=417) from error
    forecaster.take_contract(checkpoint)
    require_scales(forecaster.contract.scaled_symbols, state)
    features = forecaster.contract.recipe.get("features", ())
    require_categories(forecaster.contract.static, features, forecaster.categories.known)
    if len(forecaster.contract.target_names) != forecaster.n_targets:
        raise CheckpointError("the network and the contract differ in their number of targets", fix=FIX, code=421)
    require_forward(forecaster, forecaster.contract.recipe)
    return forecaster.eval()


def is_ensemble(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint holds several members, as `inference.ensemble.write_ensemble` writes them."""
    return "members" in checkpoint["hyper_parameters"]


def plain_members(checkpoint: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """How to build each member of an ensemble, or the one model of any other checkpoint, in plain values.

    Args:
        checkpoint: As `read_checkpoint` returns it.

    Raises:
        CheckpointError: If an ensemble's file does not say it.
    """
    if not is_ensemble(checkpoint):
        return [checkpoint["hyper_parameters"]]
    members = checkpoint["hyper_parameters"]["members"]
    if not isinstance(members, list) or not members or not all(isinstance(plain, Mapping) for plain in members):
        raise CheckpointError("the checkpoint does not say how to build its members", code=417)
    return members


def require_single(checkpoint: Mapping[str, Any], path: str | Path = "") -> None:
    """Refuses an ensemble where the checkpoint of one run is needed.

    Args:
        checkpoint: As `read_checkpoint` returns it.
        path: Its file, for the message.

    Raises:
        CheckpointError: If it is an ensemble.
    """
    if is_ensemble(checkpoint):
        fix = "give it to Predictor.from_checkpoint, or name the checkpoint of a member"
        raise CheckpointError("the checkpoint is an ensemble, not that of one run", str(path), fix, code=439)


class _Counted:
    """Takes all that is written to a file, and counts it, also what the disk refuses.

    torch's writer turns a refused write into "unexpected pos 64 vs 0"; so it gets none, and the size is known.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.size = 0
        self.error: OSError | None = None
        self._file = file

    def write(self, content: bytes) -> int:
        """Never refuses."""
        self.size += len(content)
        if self.error is None:
            try:
                self._file.write(content)
            except OSError as error:
                self.error = error
        return len(content)

    def flush(self) -> None:
        """Does nothing: torch asks for it at the end; the file is flushed where it is closed."""


def write_checkpoint(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Writes a checkpoint by `replace_file`: the old file lives until the new one is whole and on the disk.

    Args:
        checkpoint: Plain values and tensors.
        path: The file; its folder is made.

    Raises:
        ResourceError: E604, with the room that is needed and free, if the disk is full or the folder cannot be
            written; the old file stays.
    """
    target, size = Path(path), None

    def save(partial: Path) -> None:
        nonlocal size
        with partial.open("wb") as file:  # torch writes the name of a path into the file
            counted = _Counted(file)
            torch.save(checkpoint, counted)  # type: ignore[arg-type]  # it needs no more than write and flush
            size = counted.size
            if counted.error is not None:
                raise counted.error

    try:
        make_folder(target.parent)
        replace_file(target, save)
    except (OSError, RuntimeError) as error:
        reason = (
            reason_text(error, target, size)
            if isinstance(error, OSError)
            else f"torch cannot write it ({room_text(target)})"
        )
        fix = "free disk space; the old file is intact"
        raise ResourceError("cannot write the checkpoint", f"{target}: {reason}", fix, code=604) from error
