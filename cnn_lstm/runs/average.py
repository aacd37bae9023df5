"""The average of runs that differ in their seed, as one checkpoint with intervals of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.evaluation.audit.learning import calibration_of
from cnn_lstm.inference.ensemble import Ensemble, ensemble_from, joined, write_ensemble
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import refuse_differences


def write_average(checkpoints: Sequence[Path], file: Path, data: MarketDataModule) -> Ensemble:
    """Writes the ensemble of several checkpoints, and returns it as it was written.

    Its intervals are calibrated on the errors of the averaged forecast in the validation part: a member's scores would
    make them too wide, since errors that the members do not share average out.

    Args:
        checkpoints: Best checkpoints of the runs.
        file: The file to write.
        data: The data module of the runs, which has read its data.

    Raises:
        CheckpointError: If the checkpoints do not belong together, or were trained on other prices.
        ResourceError: If the file cannot be written.
    """
    average = Predictor(ensemble_from(joined(checkpoints)))
    refuse_differences({"data": average.forecaster.contract.fingerprint}, {"data": data.fingerprint})
    write_ensemble(checkpoints, file, calibration_of(average, data))
    return ensemble_from(read_checkpoint(file))
