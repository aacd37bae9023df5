"""What belongs together: a data module and a checkpoint, and the models that one recipe has trained over time."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from cnn_lstm.bounded import load_yaml_values
from cnn_lstm.data.market_data import MarketData
from cnn_lstm.evaluation.json_types import ModelInfo
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.contract import Contract, refuse_differences, refuse_other_scales


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


def recipe_key(folder: Path, info: ModelInfo, contract: Contract) -> str:
    """What stays the same when a model is trained again on more data: how prices become forecasts, and the seed.

    Dates, prices and weights are left out. Symbols belong to it, and what the configuration of the run says of the
    model, such as its optimiser: another one is another recipe.

    Args:
        folder: The run folder; without a config.yaml in it, network and objective alone say what the model is.
        info: The model information sheet.
        contract: What the checkpoint says of its data.
    """
    configuration = folder / "config.yaml"
    given = load_yaml_values(configuration.read_text(encoding="utf-8")) if configuration.is_file() else {}
    known = {
        "data": contract.recipe,
        "source": contract.source,
        "symbols": contract.symbols,
        "fitted_on": contract.fitted_on,
        "network": [info["model"]["network"], info["model"]["objective"]] if info["model"] else [],
        "members": len(contract.members),
        "configured": {name: given.get(name) for name in ("model", "seed_everything")},
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:12]
