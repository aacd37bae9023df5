"""The loggers of a run: TensorBoard first, then MLflow, then CSV; and what MLflow keeps of the data."""

from __future__ import annotations

import csv
import io
import logging
import os
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.files import disk_errors_in_one_line, flush_with_name, reason_text, replace_file
from cnn_lstm.training.event_files import RunTensorBoard
from cnn_lstm.training.row_checksums import RowChecksums
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.record import Record

log = logging.getLogger(__name__)


def build_loggers(run: RunFolder, command: str, tensorboard: bool, record: Record) -> list[Logger]:
    """The loggers of a command; only those of a fit draw curves.

    A later command has no steps, and what it logs lies at step 0: `test` adds its own metrics, which are points.
    `validate` repeats metrics of the fit, whose curves would jump back to their start, so that it adds none.

    Lightning takes its log folder from the first logger. MLflow's journal comes before the CSV file: a Ctrl-C between
    two loggers leaves no metric in the file that the record lacks.

    Args:
        run: The run folder.
        command: Name of the command.
        tensorboard: Whether to write TensorBoard events.
        record: The MLflow record of the run.
    """
    loggers: list[Logger] = []
    if tensorboard and command != "validate":
        kind = RunTensorBoard if command == "fit" else TensorBoardPoints
        loggers.append(kind(run.path, name="", version="", sub_dir="tensorboard", default_hp_metric=False))
    if record.enabled:
        loggers.append(MLflowTracker(record, metrics=command != "validate"))
    if command == "fit":
        loggers.append(AppendingCSVLogger(run.path, name="", version=""))
    return loggers


class TensorBoardPoints(RunTensorBoard):
    """Adds metrics that a fit does not log; Lightning (2.6) puts the number of the epoch next to them, which is 0."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Writes all metrics but the epoch, whose curve is that of the fit."""
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)


class AppendingWriter(ExperimentWriter):
    """Goes on in the file of the run that is resumed; Lightning's class deletes it (2.6)."""

    _whole: int | None = None  # bytes of the file before a write that has not ended

    def _check_log_dir_exists(self) -> None:
        file = Path(self.metrics_file_path)
        if file.is_file():
            with file.open(newline="", encoding="utf-8", errors="replace") as lines:
                header = lines.readline()
            # a header that is not whole is written again, and would else make columns of its parts
            self.metrics_keys = next(csv.reader([header]), []) if _is_whole(header) else []

    @property
    def _checksums(self) -> RowChecksums:
        return RowChecksums(Path(self.metrics_file_path))

    def save(self) -> None:
        """Adds the rows that wait. Where the disk refuses one, they go on to wait, and none is there in part.

        Raises:
            OSError: If the disk refuses them.
        """
        if not self.metrics:
            return
        file = Path(self.metrics_file_path)
        self._take_back(file)
        if self._record_new_keys() and file.is_file():
            self._rewrite_with_new_header(self.metrics_keys)
        self._whole = file.stat().st_size if file.is_file() else 0
        text = io.StringIO(newline="")
        csv.DictWriter(text, self.metrics_keys).writerows(self.metrics)
        rows = csv.DictReader(io.StringIO(text.getvalue(), newline=""), self.metrics_keys)
        try:
            self._checksums.add(rows, begin=not self._whole)
            with file.open("a", newline="", encoding="utf-8") as lines:
                if not self._whole:
                    csv.DictWriter(lines, self.metrics_keys).writeheader()
                lines.write(text.getvalue())
        except OSError:
            with suppress(OSError):  # it is tried again before the next rows
                self._take_back(file)
            raise
        self.metrics, self._whole = [], None

    def _take_back(self, file: Path) -> None:
        """Cuts off what a write that failed has left, or its rows would be there twice."""
        if self._whole is not None and file.is_file() and file.stat().st_size > self._whole:
            os.truncate(file, self._whole)
        self._whole = None

    def flush(self) -> None:
        """Waits until all rows are on the disk.

        Raises:
            OSError: If they cannot be written.
        """
        self.save()
        self._checksums.flush()
        if Path(self.metrics_file_path).is_file():
            flush_with_name(Path(self.metrics_file_path))

    def missing(self, metrics: Mapping[str, float], step: int) -> dict[str, float]:
        """Metrics that have no cell at a step, with the number of the epoch; empty if all are there.

        Args:
            metrics: Metrics by name.
            step: The step.
        """
        rows = self._rows() if Path(self.metrics_file_path).is_file() else []
        there = {name for row in rows if row.get("step") == str(step) for name, cell in row.items() if cell}
        lacking = {name: value for name, value in metrics.items() if name not in there}
        return (
            {name: value for name, value in metrics.items() if name in lacking or name == "epoch"}
            if (lacking.keys() - {"epoch"})
            else {}
        )

    def forget_from(self, step: int) -> None:
        """Drops the rows at and after a step, and those that a kill has cut off; the file is replaced in one step."""
        if Path(self.metrics_file_path).is_file():
            kept = [row for row in self._rows() if _is_before(row, step)]
            self._checksums.warn_of_damage(kept, all_rows=False)
            self._replace(kept)
            self._checksums.replace(kept)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        """Lightning's method empties the file first, so that a kill in that moment loses all of it."""
        try:
            self._replace(self._rows())
        except BaseException:
            self._check_log_dir_exists()  # rows that are saved later fit the header that is still there
            raise

    def _rows(self) -> list[dict[str, str]]:
        """All rows but one at the end that a kill has cut off, maybe within its last number."""
        with Path(self.metrics_file_path).open(newline="", encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
        if not lines or not _is_whole(lines[0]):
            return []
        return list(csv.DictReader(filter(_is_whole, lines)))

    def _replace(self, rows: list[dict[str, str]]) -> None:
        def write(partial: Path) -> None:
            with partial.open("w", newline="", encoding="utf-8") as lines:
                writer = csv.DictWriter(lines, self.metrics_keys)
                writer.writeheader()
                writer.writerows(rows)

        replace_file(Path(self.metrics_file_path), write)


def _is_whole(line: str) -> bool:
    """Whether a crash has neither cut off a line nor left it as zeros."""
    return line.endswith("\n") and "\0" not in line


def _is_before(row: dict[str, str], step: int) -> bool:
    whole = None not in row and None not in row.values()
    return whole and row.get("step", "").isdecimal() and int(row["step"]) < step


class AppendingCSVLogger(CSVLogger):
    """metrics.csv of a run, also across resumes, and on a disk that is full for a while."""

    _refused = False

    @property
    @rank_zero_experiment
    def experiment(self) -> AppendingWriter:
        """The writer, made on first use."""
        if self._experiment is None:
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = AppendingWriter(log_dir=self.log_dir)
        writer: AppendingWriter = self._experiment  # type: ignore[assignment]  # Lightning's is declared as its own
        return writer

    def save(self) -> None:
        """Adds the rows that wait; those that the disk refuses wait for the next time, with one warning."""
        try:
            super().save()
        except OSError as error:
            if not self._refused:
                reason = reason_text(error, self._file)
                log.warning("[W372] %s cannot be written, training goes on: %s — its rows are kept", self._file, reason)
            self._refused = True
        else:
            self._refused = False

    def finalize(self, status: str) -> None:
        """Adds the last rows.

        Raises:
            ResourceError: E606, if the disk refuses the rows of a run that has ended well.
        """
        self.save()
        if self._refused and status == "success":
            with disk_errors_in_one_line("cannot write the metrics", self._file, "free disk space, then resume"):
                self.experiment.save()

    @property
    def _file(self) -> Path:
        return Path(self.log_dir) / AppendingWriter.NAME_METRICS_FILE


class MLflowTracker(Logger):
    """Passes what a trainer logs to a record.

    Args:
        record: The record.
        metrics: Whether it passes metrics on.
    """

    def __init__(self, record: Record, metrics: bool = True) -> None:
        super().__init__()
        self.record, self.metrics = record, metrics

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.record.experiment

    @property
    def version(self) -> str:
        """Name of the run."""
        return self.record.run.path.resolve().name

    @property
    def save_dir(self) -> str:
        """The run folder, which Lightning takes as its log folder where this is the only logger."""
        return str(self.record.run.path)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Passes metrics on; the record keeps those of the main process."""
        if self.metrics:
            self.record.log(metrics, 0 if step is None else step)

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Passes parameters on."""
        self.record.params(vars(params) if isinstance(params, Namespace) else params)


class TrackedData(Callback):
    """Records what a fit is trained on, once the data module has read it.

    Args:
        record: The record.
        source: Class and arguments of the source, as the configuration says.
    """

    def __init__(self, record: Record, source: Mapping[str, Any]) -> None:
        self.record, self.source = record, source

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The record begins when the training does."""
        data = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning's connectors
        if isinstance(data, MarketDataModule):
            self.record.dataset(data, self.source)
