"""How to build the networks of an encoder without their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from cnn_lstm import specs
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import Backbone
from cnn_lstm.model.objectives import Objective


class EncoderPlan(TypedDict):
    """What a saved agent keeps of a checkpoint, in plain values.

    Attributes:
        members: Arguments of each forecaster: `network` and `objective` as specs, and `n_targets`.
        features: Names of the features in their order.
        window: Rows of a window, T.
    """

    members: list[Mapping[str, Any]]
    features: list[str]
    window: int


def plan_of(checkpoint: Mapping[str, Any]) -> EncoderPlan:
    """The plan of a checkpoint.

    Args:
        checkpoint: As `read_checkpoint` returns it.
    """
    parameters, recipe = checkpoint["hyper_parameters"], Contract.of(checkpoint).recipe
    return {
        "members": parameters.get("members", [parameters]),
        "features": list(recipe["features"]),
        "window": int(recipe["window"]),
    }


def untrained(plan: EncoderPlan) -> list[Forecaster]:
    """The forecasters of a plan, with random weights.

    Args:
        plan: The plan.
    """
    return [
        Forecaster(
            network=specs.build(member["network"], Backbone),
            objective=specs.build(member["objective"], Objective),
            n_targets=member["n_targets"],
        )
        for member in plan["members"]
    ]
