"""Fine-tuning: how far an agent's update moves the encoder, compared with an update without the factor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.fits import small_checkpoint
from tests.rl.small_env import ALGORITHMS, Windows, agent

FACTOR = 0.25
FIRST = {"PPO": 50, "A2C": 20, "SAC": 30, "TD3": 30, "DQN": 30}  # steps up to and with the first update


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("tuning"))


@pytest.fixture(scope="module")
def windows() -> Windows:
    return np.random.default_rng(0).normal(0, 0.01, (60, 6, 3)).astype(np.float32)


def moves(name: str, checkpoint: Path, windows: Windows, factor: float) -> dict[str, Tensor]:
    """How far each tensor of the policy is after the first update."""
    arguments = ALGORITHMS[name][2]
    arguments = {**arguments, "n_epochs": 1, "batch_size": 50} if name == "PPO" else arguments
    made = agent(name, windows, arguments=arguments, checkpoint=str(checkpoint), frozen=False, lr_factor=factor)
    before = {key: values.detach().clone() for key, values in made.policy.named_parameters()}
    made.learn(FIRST[name])
    assert made._n_updates == 1
    return {key: values.detach() - before[key] for key, values in made.policy.named_parameters() if "target" not in key}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_encoder_moves_by_its_share_of_the_step(name: str, checkpoint: Path, windows: Windows) -> None:
    whole, part = (moves(name, checkpoint, windows, factor) for factor in (1.0, FACTOR))

    encoders = [key for key in whole if "features_extractor" in key and bool(whole[key].any())]
    others = [key for key in whole if "features_extractor" not in key and bool(whole[key].any())]
    assert len(encoders) > 5
    assert len(others) > 3
    # SAC's actor learns from the critic that has just moved, so its gradient differs
    alike = [key for key in whole if not (name == "SAC" and key.startswith("actor"))]
    for key in alike:
        share = FACTOR if key in encoders else 1
        torch.testing.assert_close(part[key], share * whole[key], rtol=1e-4, atol=2e-7)
