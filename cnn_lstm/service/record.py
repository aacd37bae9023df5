"""live.parquet in the MLflow record of its run."""

from __future__ import annotations

import logging
from pathlib import Path

from cnn_lstm.errors import ConfigError, TrackingError
from cnn_lstm.locks import take_folder
from cnn_lstm.service.live import LIVE
from cnn_lstm.training.tracking.delivery import send_rest
from cnn_lstm.training.tracking.journal import Journal
from cnn_lstm.training.tracking.kept_files import artifact_of, is_kept

log = logging.getLogger(__name__)


def keep_live(run: Path, tracking_uri: str | None = None) -> None:
    """Keeps live.parquet in the record of a run that has one; what a server does not take waits in the run folder.

    Where the file is kept as it is, nothing is written, and what waits is sent.

    Args:
        run: The run folder.
        tracking_uri: MLflow server or database; by default the one of MLFLOW_TRACKING_URI, else mlflow.db next to the
            run folder. A server that only the run folder names gets nothing.

    Raises:
        ConfigError: E243, if another command writes in the folder.
        ResourceError: If the folder cannot be written.
    """
    journal = Journal(run / "tracking")
    if not journal.exists():
        return
    with take_folder(run, "update", "run"):
        live = artifact_of(run, run / LIVE)
        if not is_kept(journal, live):  # else a crash, or a server that was down, may have left it unsent
            journal.append(live)
        try:
            send_rest(run, tracking_uri)
        except (ConfigError, TrackingError) as error:
            log.warning("%s — %s — %s", error.what, error.where, error.fix)
