"""What a command leaves behind: files in the run folder, and what it prints at its end."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.predictions import collected_columns, collected_table, predictions_blocks
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.documents import hand_over
from cnn_lstm.evaluation.scoreboard import render, scoreboard
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.files import write_json_whole, write_text_whole, write_whole
from cnn_lstm.hints import counted
from cnn_lstm.inference.ensemble_module import EnsembleModule
from cnn_lstm.inference.intervals import add_intervals
from cnn_lstm.inference.outputs import with_intervals, write_csv_of, write_table_of
from cnn_lstm.model.contract import refuse_expired
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.runs.tracking import keep_model
from cnn_lstm.training.console import Resources, totals_line
from cnn_lstm.training.plots import attention_windows_plot
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.starting_line import StartingLine
from cnn_lstm.training.tracking.record import Record

log = logging.getLogger(__name__)
ATTENTION_WINDOWS = 3


class Outcome:
    """The end of a command that ran.

    Args:
        run: The run folder.
        record: Its MLflow record.
        trainer: The trainer.
        model: The forecaster, or an ensemble.
        data: The data module.
    """

    def __init__(
        self,
        run: RunFolder,
        record: Record,
        trainer: Trainer,
        model: Forecaster | EnsembleModule,
        data: MarketDataModule,
    ) -> None:
        self.run, self.record, self.trainer, self.model, self.data = run, record, trainer, model, data

    def trial(self, command: str) -> None:
        """Says what `trainer.fast_dev_run` was: nothing of it is kept, and no metric of a few batches is shown.

        Args:
            command: The command.
        """
        batches = counted(int(self.trainer.fast_dev_run), "batch")  # type: ignore[attr-defined]  # set by Lightning
        parts = {"fit": "training, then of validation,", "validate": "validation", "test": "the test part"}
        print(
            f"fast_dev_run: {batches} of {parts.get(command, 'the rows to forecast')} ran without an error; "
            "this was a trial, not a result, and nothing of it is kept"
        )

    def fit(self, model: bool = True) -> None:
        """Keeps the best model; prints its loss, and where everything lies.

        Args:
            model: Whether to make it an MLflow model.
        """
        if model:
            keep_model(self.record)
        first_best: dict[str, Any] = {}
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.best_model_score is not None and callback.monitor:
                epoch = torch.load(callback.best_model_path, weights_only=True, map_location="cpu")["epoch"]
                print(
                    f"best {callback.monitor} {float(callback.best_model_score):.5f} at epoch {epoch}, "
                    f"stopped after epoch {self.trainer.current_epoch - 1}"
                )
                best = {"best_epoch": epoch, "monitor": callback.monitor, "best": float(callback.best_model_score)}
                first_best = first_best or best
        self._summarize(first_best)
        if not any(self.run.checkpoints.glob("*.ckpt")):
            print("nothing was trained: no epoch was finished")
        elif "val_loss" not in self.trainer.callback_metrics and not (self.run.checkpoints / "best.ckpt").is_file():
            print("nothing was validated: there is no best.ckpt; the newest epoch is last.ckpt (--ckpt_path last)")
        self._print_places()

    def _summarize(self, best: dict[str, Any]) -> None:
        """Prints what the run took, and keeps it next to the best epoch in summary.json."""
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning's connectors
        for callback in callbacks:
            if isinstance(callback, StartingLine) and callback.compared:
                print(callback.compared)
                best = best | {"starting_line": asdict(callback.compared)}
        for callback in callbacks:
            if isinstance(callback, Resources) and (totals := callback.totals()):
                print(totals_line(totals))
                write_json_whole(self.run.summary, best | totals)
                self.record.keep(self.run.summary)

    def validate(self) -> None:
        """Prints the metrics of the validation part next to those of trivial forecasts."""
        self._keep_metrics("validate")
        self._warn_of_rows_left_out("val", self.data.parts.validation)
        hand_over({"metrics": self._metrics()})
        text = f"{render(scoreboard(self.predictions()))}\n"
        self._keep(self.run.path / "validate.txt", text)
        print(text, end="")
        self._print_places()

    def test(self, settings: Evaluation, checkpoint: Path) -> None:
        """Judges the forecasts of the test part: verdict, tables, report.

        Args:
            settings: Evaluation settings.
            checkpoint: File that was tested.
        """
        from cnn_lstm.evaluation.judge import judge

        self._keep_metrics("test")
        self._warn_of_rows_left_out("test", self.data.parts.test)
        table = self.predictions()
        judgement = judge(self.run.path, table, self.data, self.model, settings, checkpoint, self._attention_plots())
        self.record.log(judgement.metrics)
        self.record.keep(*judgement.files)
        hand_over(judgement.report)
        print(judgement.text, end="")
        self._print_places({"report": judgement.page})

    def _attention_plots(self) -> list[Path]:
        """Draws what the network looks at in a few windows of the test part; nothing without attention.

        Of an ensemble it is the first member's: the heads of one have nothing to do with those of another.
        """
        model, title = (
            (self.model.forecasters[0], "attention of the first member, test part")
            if isinstance(self.model, EnsembleModule)
            else (self.model, "attention, test part")
        )
        rows = torch.from_numpy(self.data.parts.test)
        plot = attention_windows_plot(model, self.data, rows, ATTENTION_WINDOWS, title)
        if plot is None:
            return []
        path = self.run.path / "attention_test.png"
        write_whole(path, lambda partial: plot.savefig(partial, format="png"))
        return [path]

    def predict(self, csv: bool, allow_expired: bool = False) -> None:
        """Writes the forecasts.

        Args:
            csv: Whether to write them as CSV too.
            allow_expired: Whether the checkpoint may have expired.

        Raises:
            CheckpointError: E430, if it has.
        """
        path, rows = self.run.path / "forecasts.parquet", self.model.forecasts["row"].numpy()
        columns, contract = collected_columns(self.model.forecasts), self.model.contract
        if not allow_expired:
            refuse_expired(contract, self.data.panel.time[rows].max() if len(rows) else None)
        blocks = predictions_blocks(self.data.panel, self.data.targets, rows, columns, contract.target_mean)
        widened = with_intervals(blocks, contract.calibration, contract.boundaries.test)
        written = write_table_of(path, widened, len(rows) * len(self.data.targets))
        if csv:
            write_csv_of(path, path.with_suffix(".csv"))
        self.record.keep(path, path.with_suffix(".csv"))
        print(f"{written.summary('forecast')}, in {path}")

    def predictions(self) -> pd.DataFrame:
        """The predictions table of the forecasts that the command made."""
        data, contract = self.data, self.model.contract
        table = collected_table(data.panel, data.targets, self.model.forecasts, contract.target_mean)
        return add_intervals(table, contract.calibration, contract.boundaries.test)

    def _warn_of_rows_left_out(self, part: str, rows: Rows) -> None:
        """Says how many rows of a part a limit has left out: what follows knows nothing of them."""
        known = len(self.model.forecasts["row"])
        if known < len(rows):
            what, where = f"only {known:,} of {len(rows):,} rows of the part were forecast", f"limit_{part}_batches"
            log.warning("[W396] %s — trainer.%s — leave it out to judge the whole part", what, where)

    def _keep_metrics(self, stage: str) -> None:
        metrics = self._metrics()
        self._keep(self.run.path / f"{stage}_metrics.json", json.dumps(metrics, indent=2) + "\n")

    def _metrics(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.trainer.callback_metrics.items()}

    def _keep(self, path: Path, text: str) -> None:
        write_text_whole(path, text)
        self.record.keep(path)

    def _print_places(self, more: dict[str, object] | None = None) -> None:
        print_places(self.run, self.record, self.run.path / "tensorboard", more or {})


def print_places(run: RunFolder, record: Record, board: Path, more: Mapping[str, object]) -> None:
    """Prints where everything of a run lies, and how to look at it.

    Args:
        run: The run folder.
        record: Its MLflow record.
        board: Folder of TensorBoard's event files.
        more: Further places by name.
    """
    lines: dict[str, object] = {"run folder": run.path, "checkpoints": run.checkpoints}
    if board.is_dir():
        lines["TensorBoard"] = f"tensorboard --logdir {board}"
    for name, value in (lines | record.where() | dict(more)).items():
        print(f"{name + ':':<13}{value}")
