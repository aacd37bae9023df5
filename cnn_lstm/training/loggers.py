"""The loggers of a run: TensorBoard first, then MLflow, then CSV."""

from __future__ import annotations

import csv
from pathlib import Path

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from cnn_lstm.files import replace_file
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.record import Record
from cnn_lstm.training.tracking.tracker import MLflowTracker


def build_loggers(run: RunFolder, command: str, tensorboard: bool, record: Record) -> list[Logger]:
    """The loggers of a command; validate and test add to those of the fit.

    Lightning takes its log folder from the first logger. MLflow's journal comes before the CSV file: a Ctrl-C between
    two loggers leaves no metric in the file that the record lacks.

    Args:
        run: The run folder.
        command: Name of the command.
        tensorboard: Whether to write TensorBoard events.
        record: The MLflow record of the run.
    """
    loggers: list[Logger] = []
    if tensorboard:
        loggers.append(TensorBoardLogger(run.path, name="", version="", sub_dir="tensorboard", default_hp_metric=False))
    if record.enabled:
        loggers.append(MLflowTracker(record))
    if command == "fit":
        loggers.append(AppendingCSVLogger(run.path, name="", version=""))
    return loggers


class AppendingWriter(ExperimentWriter):
    """Goes on in the file of the run that is resumed; Lightning's class deletes it (2.6)."""

    def _check_log_dir_exists(self) -> None:
        file = Path(self.metrics_file_path)
        if file.is_file():
            with file.open(newline="") as lines:
                self.metrics_keys = next(csv.reader(lines), [])

    def forget_from(self, step: int) -> None:
        """Drops the rows at and after a step, and those that a kill has cut off; the file is replaced in one step."""
        if Path(self.metrics_file_path).is_file():
            self._replace([row for row in self._rows() if _is_before(row, step)])

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        """Lightning's method empties the file first, so that a kill in that moment loses all of it."""
        try:
            self._replace(self._rows())
        except BaseException:
            self._check_log_dir_exists()  # rows that are saved later fit the header that is still there
            raise

    def _rows(self) -> list[dict[str, str]]:
        with Path(self.metrics_file_path).open(newline="") as lines:
            return list(csv.DictReader(lines))

    def _replace(self, rows: list[dict[str, str]]) -> None:
        def write(partial: Path) -> None:
            with partial.open("w", newline="") as lines:
                writer = csv.DictWriter(lines, self.metrics_keys)
                writer.writeheader()
                writer.writerows(rows)

        replace_file(Path(self.metrics_file_path), write)


def _is_before(row: dict[str, str], step: int) -> bool:
    whole = None not in row and None not in row.values()
    return whole and row["step"].isdecimal() and int(row["step"]) < step


class AppendingCSVLogger(CSVLogger):
    """metrics.csv of a run, also across resumes."""

    @property
    @rank_zero_experiment
    def experiment(self) -> AppendingWriter:
        """The writer, made on first use."""
        if self._experiment is None:
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = AppendingWriter(log_dir=self.log_dir)
        writer: AppendingWriter = self._experiment  # type: ignore[assignment]  # Lightning's is declared as its own
        return writer
