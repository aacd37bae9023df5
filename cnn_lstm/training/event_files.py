"""TensorBoard's event files, on a disk that may be full or a folder that may be gone."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import TensorBoardLogger
from lightning_utilities.core.rank_zero import rank_zero_only
from tensorboard.compat import tf
from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter, _AsyncWriter
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import FileWriter, SummaryWriter

from cnn_lstm.files import reason_text
from cnn_lstm.training.metric_names import all_grouped

log = logging.getLogger(__name__)
_numbers = itertools.count()
FORMER_TAG = b"\n\ntrain_loss"  # a curve of an earlier version: the field, the length of the name, the name


class ForgivingFile:
    """A file whose first refusal is one warning; what is written after it is dropped.

    TensorBoard (2.20) writes in a thread, which ends with a traceback there, and every later call raises its error.

    Args:
        path: The file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.off = False
        self.closed = False
        self._file: Any = None
        self._lock = threading.Lock()
        self._attempt(self._open)

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = tf.io.gfile.GFile(str(self.path), "wb")

    def write(self, content: bytes) -> None:
        """Writes, or drops."""
        self._attempt(lambda: self._file.write(content))

    def flush(self) -> None:
        """Writes what waits."""
        self._attempt(lambda: self._file.flush())

    def close(self) -> None:
        """Ends the file."""
        self._attempt(lambda: self._file.close())
        self.closed = True

    def _attempt(self, call: Callable[[], object]) -> None:
        with self._lock:  # its own thread writes, and that of the training flushes
            if self.off:
                return
            try:
                call()
            except Exception as error:  # its stand-in for TensorFlow has errors of its own
                self.off = True
                reason = reason_text(error, self.path) if isinstance(error, OSError) else type(error).__name__
                log.warning("TensorBoard is left off for the rest of the run: %s: %s", self.path.parent, reason)


class EventFile(EventFileWriter):  # type: ignore[misc]  # TensorBoard has no types
    """An event file, as TensorBoard's own class makes it, in a `ForgivingFile`.

    Args:
        folder: Its folder.
        queue: Events that may wait for the thread that writes.
        seconds: Between two flushes.
    """

    def __init__(self, folder: Path, queue: int, seconds: int) -> None:
        self._logdir = str(folder)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self.file = ForgivingFile(folder / name)
        self._async_writer = _AsyncWriter(RecordWriter(self.file), queue, seconds)
        origin = SourceMetadata(writer="tensorboard.summary.writer.event_file_writer")
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2", source_metadata=origin))
        self.flush()


class ForgivingFileWriter(FileWriter):
    """torch's writer of events, with an `EventFile`."""

    def __init__(self, folder: Path, queue: int, seconds: int) -> None:
        self.event_writer = EventFile(folder, queue, seconds)


class ForgivingSummaryWriter(SummaryWriter):
    """torch's writer of curves and plots, which never fails because of its disk."""

    def _get_file_writer(self) -> FileWriter:
        if vars(self)["file_writer"] is None:
            writer = ForgivingFileWriter(Path(self.log_dir), self.max_queue, self.flush_secs)
            vars(self).update(file_writer=writer, all_writers={str(self.log_dir): writer})
        current: FileWriter = vars(self)["file_writer"]  # torch declares it as None
        return current


class RunTensorBoard(TensorBoardLogger):
    """TensorBoard's logger of a run: a full disk or a lost folder turns it off, and does not end the run.

    Metrics have the names of their groups. A run of an earlier version, whose curves have no groups, goes on so.
    """

    _former: bool | None = None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Writes metrics."""
        if self._former is None:  # before the first event of this process is there
            self._former = _has_former_names(Path(self.log_dir))
        super().log_metrics(dict(metrics) if self._former else all_grouped(metrics), step)

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """The writer, made on first use."""
        if self._experiment is None:
            self._experiment = ForgivingSummaryWriter(log_dir=self.log_dir, **self._kwargs)
        return self._experiment

    def save(self) -> None:
        """Writes what waits; a file of hyperparameters that the disk refuses is not worth a run either."""
        try:
            super().save()
        except OSError as error:
            log.warning("TensorBoard without its hparams.yaml: %s", reason_text(error, Path(self.log_dir)))


def _has_former_names(folder: Path) -> bool:
    """Whether the event files of a folder have curves without groups."""
    try:
        return any(FORMER_TAG in file.read_bytes() for file in folder.glob("events.out.tfevents.*"))
    except OSError:
        return False
