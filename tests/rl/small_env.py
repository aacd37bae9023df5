"""A tiny deterministic environment over given windows, and agents that learn in it within a second."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

from cnn_lstm.rl.extractor import CNNLSTMExtractor

Windows = npt.NDArray[np.float32]
ON_POLICY: dict[str, Any] = {"n_steps": 20}
OFF_POLICY: dict[str, Any] = {"learning_starts": 20, "train_freq": 10, "gradient_steps": 1, "batch_size": 16}
ALGORITHMS: dict[str, tuple[type[BaseAlgorithm], bool, dict[str, Any]]] = {  # class, continuous actions, arguments
    "PPO": (PPO, False, {"n_steps": 50, "batch_size": 25, "n_epochs": 2}),
    "A2C": (A2C, False, ON_POLICY),
    "SAC": (SAC, True, OFF_POLICY),
    "TD3": (TD3, True, OFF_POLICY),
    "DQN": (DQN, False, {**OFF_POLICY, "target_update_interval": 20}),
}


class SmallEnv(gymnasium.Env[Any, Any]):
    """Walks through the windows; the reward is the action times the first feature's next value."""

    def __init__(self, windows: Windows, continuous: bool = False, account: bool = False) -> None:
        self.windows, self.continuous, self.account, self.now = windows, continuous, account, 0
        space: spaces.Space[Any] = spaces.Box(-np.inf, np.inf, windows.shape[1:], dtype=np.float32)
        if account:
            cash = spaces.Box(-1, 1, (2,), dtype=np.float32)
            space = spaces.Dict({"cash": cash, "position": spaces.Discrete(3), "window": space})
        self.observation_space = space
        self.action_space = spaces.Box(-1, 1, (1,), dtype=np.float32) if continuous else spaces.Discrete(3)

    def _observation(self) -> Any:
        window = self.windows[self.now].copy()
        if not self.account:
            return window
        return {"cash": np.array([0.25, -0.5], dtype=np.float32), "position": self.now % 3, "window": window}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.now = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        position = float(action[0]) if self.continuous else float(action) - 1
        self.now += 1
        reward = 100 * position * float(self.windows[self.now].reshape(-1)[0])
        return self._observation(), reward, False, self.now == len(self.windows) - 1, {}


def agent(
    name: str, windows: Windows, account: bool = False, policy: Any = None, arguments: Any = None, **options: Any
) -> BaseAlgorithm:
    """A small agent with the extractor; `options` are the extractor's, `policy` further ones of the policy."""
    algorithm, continuous, usual = ALGORITHMS[name]
    settings = {
        "net_arch": [8],
        "features_extractor_class": CNNLSTMExtractor,
        "features_extractor_kwargs": options,
        **(policy or {}),
    }
    return algorithm(
        "MultiInputPolicy" if account else "MlpPolicy",
        SmallEnv(windows, continuous, account),
        policy_kwargs=settings,
        seed=0,
        device="cpu",
        **(arguments or usual),
    )


def extractors(made: BaseAlgorithm) -> dict[str, CNNLSTMExtractor]:
    """All extractors of an agent, including those of target networks."""
    parts = {name: part for name, part in made.policy.named_modules() if isinstance(part, CNNLSTMExtractor)}
    assert parts
    return parts
