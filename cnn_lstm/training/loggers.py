"""The experiment trackers of a run: TensorBoard first, then CSV, MLflow beside them."""

from __future__ import annotations

import csv
import logging
import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from cnn_lstm.training.runs import RunFolder

EXPERIMENT = "cnn_lstm"


def build_loggers(run: RunFolder, stage: str, tensorboard: bool, mlflow: bool) -> list[Logger]:
    """Loggers of a stage of a run; validate and test write into the trackers of the fit.

    TensorBoard or CSV comes first, since Lightning takes its log folder from the first logger, and MLflow's is
    null for a database (https://github.com/Lightning-AI/pytorch-lightning/issues/19441).

    Args:
        run: The run folder.
        stage: Name of the command.
        tensorboard: Whether to write TensorBoard events.
        mlflow: Whether to write to MLflow.
    """
    loggers: list[Logger] = []
    if tensorboard:
        loggers.append(TensorBoardLogger(run.path, name="", version="", sub_dir="tensorboard", default_hp_metric=False))
    if stage == "fit":
        loggers.append(AppendingCSVLogger(run.path, name="", version=""))
    if mlflow and (stage == "fit" or run.mlflow_run.exists()):
        loggers.append(_mlflow_logger(run))
    return loggers


class _AppendingWriter(ExperimentWriter):
    """Goes on in the file of the run that is resumed; Lightning's deletes it."""

    def _check_log_dir_exists(self) -> None:
        file = Path(self.metrics_file_path)
        if file.is_file():
            with file.open(newline="") as lines:
                self.metrics_keys = next(csv.reader(lines), [])

    def forget_from(self, step: int) -> None:
        """Drops the rows at and after a step, and those that a kill has cut off; the file is replaced at once."""
        file = Path(self.metrics_file_path)
        if not file.is_file():
            return
        with file.open(newline="") as lines:
            kept = [row for row in csv.DictReader(lines) if _is_before(row, step)]
        partial = file.with_name(f".{file.name}.partial")
        with partial.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, self.metrics_keys)
            writer.writeheader()
            writer.writerows(kept)
            lines.flush()
            os.fsync(lines.fileno())
        partial.replace(file)


def _is_before(row: dict[str, str], step: int) -> bool:
    whole = None not in row and None not in row.values()
    return whole and row["step"].isdecimal() and int(row["step"]) < step


class AppendingCSVLogger(CSVLogger):
    """metrics.csv of a run, also across resumes."""

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer, made on first use."""
        if self._experiment is None:
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _AppendingWriter(log_dir=self.log_dir)
        writer: ExperimentWriter = self._experiment  # type: ignore[assignment]
        return writer

    def forget_from(self, step: int) -> None:
        """Drops the rows at and after a step, which is trained again."""
        writer = self.experiment
        if isinstance(writer, _AppendingWriter):
            writer.forget_from(step)


def _mlflow_logger(run: RunFolder) -> MLFlowLogger:
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they tell each step of making the database
    run_id = run.mlflow_run.read_text().strip() if run.mlflow_run.exists() else None
    home = run.path.parent.resolve()
    return MLFlowLogger(
        experiment_name=EXPERIMENT,
        run_name=run.path.name,
        tracking_uri=tracking_uri(home),
        artifact_location=(home / "mlartifacts").as_uri(),
        run_id=run_id,
    )


def tracking_uri(home: Path) -> str:
    """The server named by MLFLOW_TRACKING_URI, else a SQLite file beside the runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"


def shown_uri(home: Path) -> str:
    """The tracking URI without credentials, for people to read.

    Example:
        >>> os.environ["MLFLOW_TRACKING_URI"] = "https://me:secret@mlflow.example.org/x"
        >>> shown_uri(Path("runs"))
        'https://mlflow.example.org/x'
        >>> del os.environ["MLFLOW_TRACKING_URI"]
    """
    parts = urlsplit(tracking_uri(home))
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.netloc else tracking_uri(home)
