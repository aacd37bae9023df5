"""A data module and a checkpoint that belong together: the same recipe, and the dates of the checkpoint."""

from __future__ import annotations

from cnn_lstm.data.market_data import MarketData
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.contract import refuse_differences, refuse_other_scales


def take_over(data: MarketData, predictor: Predictor) -> None:
    """Lets data take over the dates and the limit of gaps of a checkpoint.

    Args:
        data: The data module, before or after its set-up.
        predictor: The checkpoint.

    Raises:
        CheckpointError: E436, if the checkpoint is of another recipe.
    """
    contract = predictor.forecaster.contract
    data.keep_gap_limit(contract.gap_limit)
    refuse_differences(predictor.recipe.to_plain(), data.recipe.to_plain())
    data.keep_dates(contract.boundaries)
    refuse_other_scales(contract, data.scaling, data.per_symbol)
