"""One run, one folder: where everything of a run lies, and which checkpoint `best` and `last` mean."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from cnn_lstm.errors import CheckpointError, ConfigError, ResourceError
from cnn_lstm.model.checkpoints import candidates

ENVIRONMENT_KEY = "CNN_LSTM_RUN_DIR"
TRIAL_KEY = "CNN_LSTM_TRIAL"  # tells a fit which trial of a sweep it is


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of best.ckpt and last.ckpt."""
        return self.path / "checkpoints"

    @property
    def config(self) -> Path:
        """The configuration that reruns the run."""
        return self.path / "config.yaml"

    @property
    def summary(self) -> Path:
        """Best epoch, and what the fit took."""
        return self.path / "summary.json"

    @property
    def validation(self) -> Path:
        """Forecasts of the validation part, of a trial of a sweep."""
        return self.path / "validation.parquet"

    @property
    def tracking(self) -> Path:
        """Folder of the MLflow record."""
        return self.path / "tracking"

    @property
    def model(self) -> Path:
        """The best checkpoint as an MLflow model."""
        return self.path / "model"

    def checkpoint(self, alias: str) -> Path:
        """The file that `best` or `last` means.

        Raises:
            CheckpointError: If the run has no such file.
        """
        file = self.checkpoints / f"{alias}.ckpt"
        if not file.is_file():
            raise CheckpointError(f"no {alias} checkpoint", str(file), candidates(file), code=437)
        return file


def new_run(explicit: str | None, root: str, name: str) -> RunFolder:
    """A folder for a new fit: the given one, or `root/name-date-time`.

    Processes that a distributed strategy starts from this one share the folder through the environment.

    Raises:
        ConfigError: If the given folder holds a run already.
        ResourceError: If the folder cannot be made.
    """
    shared = os.environ.get(ENVIRONMENT_KEY)
    if shared and "LOCAL_RANK" in os.environ:
        return RunFolder(Path(shared))
    path = Path(explicit) if explicit else _unused(Path(root) / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    if any((path / "checkpoints").glob("*.ckpt")):
        raise ConfigError(
            "the run folder holds a run already",
            str(path),
            "choose another --run_dir, or continue it with --ckpt_path last",
            code=206,
        )
    require_writable(path)
    os.environ[ENVIRONMENT_KEY] = str(path)
    return RunFolder(path)


def require_writable(path: Path) -> None:
    """Makes a folder where there is none, and refuses one that cannot be written before any work is done.

    Raises:
        ResourceError: If it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / ".writable").touch()
        (path / ".writable").unlink()
    except OSError as error:
        raise ResourceError(
            "cannot write the run folder", f"{path}: {error.strerror}", "choose another --run_dir", code=606
        ) from error


def _unused(path: Path) -> Path:
    number, unused = 2, path
    while unused.exists():
        unused, number = path.with_name(f"{path.name}-{number}"), number + 1
    return unused


def run_of_checkpoint(file: Path) -> RunFolder:
    """The run that a checkpoint file belongs to: the folder above `checkpoints`, else its own folder."""
    folder = file.resolve().parent
    return RunFolder(folder.parent if folder.name == "checkpoints" else folder)
