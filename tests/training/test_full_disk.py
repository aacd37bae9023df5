"""A disk that is full for a while, or for good: a fit goes on, says so, and ends in order."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from cnn_lstm import files
from cnn_lstm.errors import ResourceError
from cnn_lstm.files import reason_text, room_text, size_text
from cnn_lstm.model import checkpoints
from cnn_lstm.model.checkpoints import read_checkpoint, write_checkpoint
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.training.callbacks import LastCheckpoint
from cnn_lstm.training.durable import DurableCheckpointIO, SavesAgain
from cnn_lstm.training.event_files import RunTensorBoard
from cnn_lstm.training.loggers import AppendingCSVLogger
from tests.experiments import experiment, run
from tests.fits import small_data, small_network, small_trainer
from tests.markets import market

ROOT = Path(__file__).parents[2]


def refusing(monkeypatch: pytest.MonkeyPatch, refused: Callable[[str, int], bool]) -> None:
    """Makes the n-th writes of the checkpoints called so fail, as on a full disk."""
    whole, counts = files.replace_file, dict.fromkeys(("best.ckpt", "last.ckpt"), 0)

    def write(path: Path, content: Callable[[Path], object]) -> None:
        if path.name in counts:
            counts[path.name] += 1
            if refused(path.name, counts[path.name]):
                path.with_name("half").write_bytes(b"half")
                path.with_name("half").unlink()
                raise OSError(errno.ENOSPC, "No space left on device")
        whole(path, content)

    monkeypatch.setattr(checkpoints, "replace_file", write)


class Score(Callback):
    """A metric that is better in each epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs it before the checkpoints are written."""
        pl_module.log("score", float(trainer.current_epoch))


def fit(tmp_path: Path, epochs: int, ckpt_path: Path | None = None) -> ModelCheckpoint:
    folder = tmp_path / "checkpoints"
    names: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(folder, "best", monitor="score", mode="max", **names)
    callbacks = [SavesAgain(folder), Score(), best, LastCheckpoint(folder)]
    arguments: dict[str, Any] = {"max_epochs": epochs, "enable_checkpointing": True, "limit_train_batches": 1}
    trainer = small_trainer(callbacks=callbacks, plugins=[DurableCheckpointIO()], **arguments)
    data = small_data(tmp_path)
    trainer.fit(Forecaster(small_network()), datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return best


def epoch_of(tmp_path: Path, alias: str) -> int:
    epoch: int = read_checkpoint(tmp_path / "checkpoints" / f"{alias}.ckpt")["epoch"]
    return epoch


def test_training_goes_on_after_two_refusals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusing(monkeypatch, lambda name, number: name == "last.ckpt" and number in (2, 3, 5, 6))
    fit(tmp_path, 7)
    said = [record.message for record in caplog.records if "W372" in record.message]
    assert len(said) == 4
    assert all("last.ckpt: No space left on device (" in line and "free)" in line for line in said)
    assert epoch_of(tmp_path, "last") == 6


def test_best_names_a_file_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each epoch is better than the one before; those of epochs 1 and 2 cannot be written, and do not count."""
    refusing(monkeypatch, lambda name, number: name == "best.ckpt" and number in (2, 3))
    with pytest.raises(ResourceError, match="E612") as caught:
        fit(tmp_path, 3)
    assert caught.value.exit_code == 6
    assert (epoch_of(tmp_path, "best"), epoch_of(tmp_path, "last")) == (0, 2)
    states = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["callbacks"]
    best = next(state for key, state in states.items() if key.startswith("ModelCheckpoint"))
    assert float(best["best_model_score"]) == 0
    assert [float(score) for score in best["best_k_models"].values()] == [0]
    monkeypatch.undo()
    assert fit(tmp_path, 5, tmp_path / "checkpoints" / "last.ckpt").best_model_score == 4
    assert epoch_of(tmp_path, "best") == 4


@pytest.mark.parametrize(("first", "advice"), [(1, "train again"), (2, "--ckpt_path last")])
def test_three_refusals_in_a_row_end_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, first: int, advice: str
) -> None:
    """Best and last checkpoint of an epoch are one attempt."""
    refusing(monkeypatch, lambda name, number: number >= first)
    with pytest.raises(ResourceError, match=f"E611.*3 times.*{advice}") as caught:
        fit(tmp_path, 9)
    assert caught.value.exit_code == 6
    assert sum("W372" in record.message for record in caplog.records) == 4
    names = {file.name for file in (tmp_path / "checkpoints").glob("*")}
    assert names == ({"best.ckpt", "last.ckpt"} if first == 2 else set())
    monkeypatch.undo()
    if first == 2:
        fit(tmp_path, 3, tmp_path / "checkpoints" / "last.ckpt")
        assert (epoch_of(tmp_path, "last"), epoch_of(tmp_path, "best")) == (2, 2)


def test_the_command_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing(monkeypatch, lambda name, number: name == "last.ckpt")
    config = experiment(tmp_path, market(110))
    assert run("fit", "--config", config, "--run_dir", tmp_path / "run", "--trainer.max_epochs", 9) == 6
    lines = capsys.readouterr().err.splitlines()
    assert sum("W372" in line for line in lines) == 2
    assert lines[-1].startswith("error[E611]")
    assert len(lines[-1]) <= 400


@pytest.mark.parametrize("space", [0, 1000, 40_000])
def test_the_message_of_a_checkpoint_says_how_much_room_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: int
) -> None:
    """A file that takes `space` bytes; torch is never refused, so that it says nothing of positions."""
    file = tmp_path / "last.ckpt"
    write_checkpoint({"value": torch.zeros(20_000)}, file)
    old, size = file.read_bytes(), file.stat().st_size

    whole = checkpoints._Counted.write
    left = space

    class Full:
        def write(self, content: bytes) -> None:
            nonlocal left
            left -= len(content)
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")

    def write(self: Any, content: bytes) -> int:
        self._file = Full()
        return whole(self, content)

    monkeypatch.setattr(checkpoints._Counted, "write", write)
    with pytest.raises(ResourceError) as caught:
        write_checkpoint({"value": torch.ones(20_000)}, file)
    assert f"No space left on device ({size_text(size)} needed, " in str(caught.value)
    assert "unexpected pos" not in str(caught.value)
    assert file.read_bytes() == old


def test_rows_that_were_half_written_are_there_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = AppendingCSVLogger(tmp_path, name="", version="")
    logger.log_metrics({"x": 0.5}, step=0)
    logger.save()

    class Half:
        def __init__(self, file: Any, keys: list[str]) -> None:
            self.file = file

        def writeheader(self) -> None:
            self.file.write("step,x\n")

        def writerows(self, rows: Any) -> None:
            self.file.write("1,1.5\n2,")
            self.file.flush()
            raise OSError(errno.ENOSPC, "No space left on device")

    for step in (1, 2):
        logger.log_metrics({"x": step + 0.5}, step=step)
    monkeypatch.setattr("csv.DictWriter", Half)
    logger.save()
    monkeypatch.setattr("os.truncate", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    logger.save()
    with pytest.raises(ResourceError, match=r"E606.*metrics"):
        logger.finalize("success")
    monkeypatch.undo()
    logger.log_metrics({"x": 3.5}, step=3)
    logger.finalize("success")
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert table.to_dict("list") == {"step": [0, 1, 2, 3], "x": [0.5, 1.5, 2.5, 3.5]}


def test_a_lost_folder_turns_tensorboard_off_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = RunTensorBoard(tmp_path / "run", name="", version="", sub_dir="tensorboard", default_hp_metric=False)
    logger.log_metrics({"x": 1.0}, step=0)
    logger.save()
    folder = tmp_path / "run" / "tensorboard"
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    for step in range(30):
        logger.log_metrics({"x": 1.0}, step=step)
        logger.save()
    logger.finalize("success")
    assert sum("TensorBoard is left off" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("call", ["write", "flush", "open"])
def test_a_full_disk_turns_tensorboard_off_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    """Also in the very first event, and in its own thread, which must not die."""

    def refused(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    logger = RunTensorBoard(tmp_path, name="", version="", sub_dir="tensorboard", default_hp_metric=False)
    if call == "open":
        (tmp_path / "tensorboard").write_text("a file")
    else:
        monkeypatch.setattr(f"tensorboard.compat.tensorflow_stub.io.gfile.GFile.{call}", refused)
    for step in range(30):
        logger.log_metrics({"x": 1.0}, step=step)
    logger.save()
    logger.finalize("success")
    said = [record.message for record in caplog.records if "TensorBoard" in record.message]
    assert len(said) == 1
    assert call == "open" or "No space left on device (" in said[0]


def test_sizes_and_room(tmp_path: Path) -> None:
    assert [size_text(size) for size in (0, 999, 1000, 999_999, 5_400_000, 7e15)] == [
        *("0 B", "999 B", "1.0 KB", "1.0 MB", "5.4 MB", "7000000.0 GB")
    ]
    assert room_text(tmp_path / "no" / "such" / "file", 1234).startswith("1.2 KB needed, ")
    full, other = OSError(errno.ENOSPC, "full"), OSError(errno.EACCES, "Permission denied")
    assert reason_text(full, tmp_path).startswith("full (")
    assert reason_text(other, tmp_path) == "Permission denied"


SMALL_DISK = """
mount -t tmpfs -o size={size} none {folder} || exit 99
{python} -m cnn_lstm fit --config {config} --run_dir {folder}/run --mlflow false --trainer.max_epochs 9
code=$?
ls {folder}/run/checkpoints
for f in {folder}/run/checkpoints/*.ckpt; do cp $f {copies}; done
exit $code
"""


@pytest.mark.slow
@pytest.mark.parametrize("size", ["600k", "300k", "150k"])
def test_a_real_disk_that_is_full(tmp_path: Path, size: str) -> None:
    """A file system of that size; whatever the fit comes to, the checkpoints are whole and it ends in one line."""
    folder, copies = tmp_path / "disk", tmp_path / "copies"
    folder.mkdir()
    copies.mkdir()
    config = experiment(tmp_path, market(110))
    script = SMALL_DISK.format(size=size, folder=folder, python=sys.executable, config=config, copies=copies)
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    if done.returncode in (1, 99) and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip("nobody may mount here")
    print(done.stdout, done.stderr)
    assert done.returncode in (0, 6), done.stderr
    assert "Traceback" not in done.stderr
    assert "unexpected pos" not in done.stderr
    assert done.returncode == 0 or done.stderr.splitlines()[-1].startswith("error[E6")
    for file in copies.iterdir():
        read_checkpoint(file)
