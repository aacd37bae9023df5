"""Checkpoint files that survive errors, a full disk and a kill."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from cnn_lstm.errors import ResourceError
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.training.durable import DurableCheckpointIO
from tests.fits import small_data, small_network, small_trainer

OLD, NEW = {"value": torch.zeros(20_000)}, {"value": torch.ones(20_000)}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder with one good checkpoint."""
    DurableCheckpointIO().save_checkpoint(OLD, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def require_old(target: Path) -> None:
    """The old file is whole and alone."""
    assert [file.name for file in target.parent.iterdir()] == ["last.ckpt"]
    assert torch.equal(torch.load(target, weights_only=True)["value"], OLD["value"])


def test_new_file_takes_the_place_of_the_old_one(target: Path) -> None:
    DurableCheckpointIO().save_checkpoint(NEW, target)
    assert torch.equal(torch.load(target, weights_only=True)["value"], NEW["value"])
    assert [file.name for file in target.parent.iterdir()] == ["last.ckpt"]


def test_folder_is_made(tmp_path: Path) -> None:
    DurableCheckpointIO().save_checkpoint(NEW, str(tmp_path / "a" / "b" / "c.ckpt"))
    assert (tmp_path / "a" / "b" / "c.ckpt").is_file()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos")])
def test_failure_midway_keeps_the_old_file(target: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def half(checkpoint: dict[str, Any], file: Any) -> None:
        file.write(b"half of it")
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(ResourceError, match=r"last\.ckpt") as caught:
        DurableCheckpointIO().save_checkpoint(NEW, target)
    assert caught.value.exit_code == 6
    monkeypatch.undo()
    require_old(target)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TypeError("a lock cannot be pickled")])
def test_any_other_end_leaves_no_partial_file(
    target: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def half(checkpoint: dict[str, Any], file: Any) -> None:
        file.write(b"half of it")
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(type(error)):
        DurableCheckpointIO().save_checkpoint(NEW, target)
    monkeypatch.undo()
    require_old(target)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writes beyond this size fail, as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 4096, 70_000])
def test_full_disk_keeps_the_old_file(target: Path, size: int) -> None:
    with pytest.raises(ResourceError, match="free disk space") as caught, largest_file(size):
        DurableCheckpointIO().save_checkpoint(NEW, target)
    assert caught.value.exit_code == 6
    require_old(target)


@pytest.mark.parametrize("place", ["file/last.ckpt", "file/below/last.ckpt"])
def test_folder_that_cannot_be_made_is_an_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot write") as caught:
        DurableCheckpointIO().save_checkpoint(NEW, tmp_path / place)
    assert caught.value.exit_code == 6


def test_content_reaches_the_disk_before_the_name(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush of the file, then rename, then flush of the folder: any other order can lose both files."""
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def flushed(handle: int) -> None:
        calls.append(f"flush {Path(f'/proc/self/fd/{handle}').readlink().name}")
        fsync(handle)

    def renamed(self: Path, other: Path) -> Path:
        calls.append("rename")
        assert torch.equal(torch.load(self, weights_only=True)["value"], NEW["value"])
        return replace(self, other)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    DurableCheckpointIO().save_checkpoint(NEW, target)
    assert calls == [f"flush .last.ckpt.{os.getpid()}.partial", "rename", f"flush {target.parent.name}"]


def test_trainer_saves_through_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    trainer = small_trainer(max_steps=1, plugins=[DurableCheckpointIO()])
    trainer.fit(Forecaster(small_network()), datamodule=small_data(tmp_path))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert len(flushed) == 2
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["global_step"] == 1


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from cnn_lstm.training.durable import DurableCheckpointIO
torch.set_num_threads(1)
target, whence, saves = Path(sys.argv[1]), random.Random(3), set()
for round in range(20):
    child = os.fork()
    if child == 0:
        number = 1000 * round
        while True:
            number += 1
            values = {str(k): torch.full((20_000,), float(number)) for k in range(5)}
            DurableCheckpointIO().save_checkpoint(values, target)
    while round == 0 and not target.exists():
        time.sleep(0.01)
    time.sleep(0.01 + 0.05 * whence.random())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    values = torch.load(target, weights_only=True)
    numbers = {float(number) for tensor in values.values() for number in tensor.unique()}
    assert len(values) == 5 and len(numbers) == 1, numbers
    saves |= numbers
    # a child that was killed before its first save has not yet removed what the one before it left
    left = [file.name for file in target.parent.iterdir() if file != target]
    assert len(left) <= 1 and all(name.endswith(".partial") for name in left), left
print(len(saves))
"""


@pytest.mark.slow
def test_kill_in_the_middle_of_saving_leaves_a_whole_file(tmp_path: Path) -> None:
    """Twenty times, at random moments."""
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path / "last.ckpt")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5  # different saves survived


def test_the_state_of_a_renamed_callback_is_read_from_an_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    states = {"BoardPictures": {"best": 0.5}, "RandomState": {"cpu": 1}}
    torch.save({"callbacks": states, "epoch": 3}, path)
    loaded = DurableCheckpointIO().load_checkpoint(path, weights_only=True)
    assert loaded == {"callbacks": {"TensorBoardPlots": {"best": 0.5}, "RandomState": {"cpu": 1}}, "epoch": 3}
