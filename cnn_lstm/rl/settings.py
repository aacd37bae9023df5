"""Settings of `cnn-lstm rl train`: the market, what the agent sees of it, the agent, and how long it learns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from cnn_lstm.errors import ConfigError
from cnn_lstm.rl.accounts import ActionKind, Reward

Algorithm = Literal["ppo", "a2c", "sac", "td3", "dqn"]
InputKind = Literal["embedding", "forecast", "window"]
LearningPart = Literal["train", "validation"]


@dataclass(frozen=True)
class MarketSettings:
    """The market that agents trade in.

    Keys that `MarketEnv` has too mean the same there.

    Attributes:
        symbols: Symbols to trade; all of the forecaster's data by default.
        see: What the agent sees next to its account: the checkpoint's `embedding`, the `forecast`s of a predictions
            table, or the `window` of features itself.
        forecasts: Predictions table of `walk-forward`, for `see: forecast`.
        embeddings: Its embeddings, to see next to the forecasts; of their aligned columns.
        uncertainty: Whether `see: forecast` shows the uncertainty of each forecast too.
        part: Part in which agents learn; never the one in which they are judged.
        in_sample: Allow embeddings or forecasts of dates whose labels their model was trained on. They look better
            there than they ever will again, so agents learn to trust them too much. The evaluation reports it.
        actions: Kind of action.
        positions: Positions to choose from.
        delay: Bars from decision to trade.
        fee_bp: Fee in basis points of what is traded, per side.
        slippage_bp: Half spread and slippage in basis points, per side.
        reward: What the agent maximises.
        episode_length: Steps of an episode in training; None for the whole part.
    """

    symbols: list[str] | None = None
    see: InputKind = "embedding"
    forecasts: str | None = None
    embeddings: str | None = None
    uncertainty: bool = False
    part: LearningPart = "train"
    in_sample: bool = False
    actions: ActionKind = "discrete"
    positions: list[float] = field(default_factory=lambda: [-1.0, 0.0, 1.0])
    delay: int = 1
    fee_bp: float = 5.0
    slippage_bp: float = 5.0
    reward: Reward = "return"
    episode_length: int | None = 250


@dataclass(frozen=True)
class EncoderSettings:
    """The checkpoint's encoder inside an agent's policy; see `CNNLSTMExtractor`.

    Attributes:
        frozen: Whether its weights stay as they are.
        lr_factor: Share of the agent's learning rate that a fine-tuned encoder gets.
        forecast: Append the forecast of each target.
        uncertainty: Append the uncertainty of each forecast.
        pretrained: False replaces the trained weights by random ones.
    """

    frozen: bool = True
    lr_factor: float = 1.0
    forecast: bool = False
    uncertainty: bool = False
    pretrained: bool = True


@dataclass(frozen=True)
class AgentSettings:
    """The agent and its training.

    Attributes:
        algo: Algorithm of Stable-Baselines3.
        policy: Policy of the algorithm; observations are dictionaries.
        arguments: Other arguments of the algorithm's constructor, by their names there.
        encoder: What reads the windows of `market.see: window`; without one they are flattened.
        steps: Environment steps of the training of each agent, rounded up to whole rollouts.
        seeds: One agent per seed.
        n_envs: Environments in which an agent learns at the same time.
        device: Device of its networks.
        progress_bar: Show the progress bar of Stable-Baselines3 on a terminal.

    Raises:
        ConfigError: E224, if nothing would be learnt, or one agent would be trained twice.
    """

    algo: Algorithm = "ppo"
    policy: str = "MultiInputPolicy"
    arguments: dict[str, Any] = field(default_factory=dict)
    encoder: EncoderSettings | None = field(default_factory=EncoderSettings)
    steps: int = 100_000
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    n_envs: int = 8
    device: str = "cpu"
    progress_bar: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "n_envs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"agent.{name}={getattr(self, name)}", fix="give at least 1", code=224)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(f"agent.seeds={self.seeds}", fix="give different numbers from 0 on", code=224)
