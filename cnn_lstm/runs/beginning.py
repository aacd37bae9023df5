"""When a fit begins to leave something behind: with its training. What fails before that leaves nothing."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_only

from cnn_lstm.bounded import with_digest
from cnn_lstm.files import write_text_whole
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.record import Record


class Beginning(Callback):
    """Writes config.yaml and begins the MLflow record of a fit when its training starts.

    Bad data, a refused checkpoint or a setting that the trainer does not take end a command before that. Such a command
    leaves neither a folder nor a failed run in MLflow, and a run that was to go on stays as it was. This callback has
    to be the first one, so that what others log comes behind the beginning.

    Args:
        run: The run folder.
        record: Its MLflow record.
        config: The configuration that reruns the run, as YAML text.
        resumed: Whether the fit goes on from a checkpoint.
    """

    def __init__(self, run: RunFolder, record: Record, config: str, resumed: bool) -> None:
        self.run, self.record, self.config, self.resumed = run, record, config, resumed
        self.begun = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning calls this when data and checkpoint are read, and all settings are accepted."""
        self.begin()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A fit that has nothing left to train begins at its end, before what it lacks is added."""
        if self.resumed:
            self.begin()

    def begin(self) -> None:
        """Begins, unless it has begun."""
        if not self.begun:
            self.begun = True
            self._write_config()
            self.record.begin(self.config, self.resumed)

    @rank_zero_only
    def _write_config(self) -> None:
        write_text_whole(self.run.config, with_digest(self.config))
