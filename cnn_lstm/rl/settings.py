"""What `cnn-lstm rl` is told: the market, what the agent sees of it, the agent, and how long it learns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from cnn_lstm.errors import ConfigError
from cnn_lstm.rl.accounts import Reward
from cnn_lstm.rl.episodes import Kind

Algorithm = Literal["ppo", "a2c", "sac", "td3", "dqn"]
Sight = Literal["embedding", "forecast", "window"]
Lesson = Literal["train", "validation"]


@dataclass(frozen=True)
class MarketSettings:
    """The market that agents trade in; see `MarketEnv` for the keys that are not here explained.

    Attributes:
        symbols: Symbols to trade; all of the forecaster's data by default.
        see: What is shown beside the account: the checkpoint's `embedding`, `forecast`s of a predictions table, or the
            `window` itself.
        forecasts: Predictions table of `walk-forward`, for `see: forecast`.
        part: Part in which agents learn; never the one in which they are judged.
        in_sample: Allow embeddings or forecasts of dates whose labels their model was trained on. They look better
            there than they ever will, so agents learn to trust them too much; the evaluation says so.
        actions: Kind of action.
        positions: Positions to choose from.
        delay: Bars from decision to trade.
        fee_bp: Fee.
        slippage_bp: Slippage.
        reward: What is learnt from.
        episode_length: Steps of an episode.
    """

    symbols: list[str] | None = None
    see: Sight = "embedding"
    forecasts: str | None = None
    part: Lesson = "train"
    in_sample: bool = False
    actions: Kind = "discrete"
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
        lr_factor: Share of the agent's learning rate that a fine-tuned one gets.
        forecast: Append the forecast of each target.
        uncertainty: Append how unsure each forecast is.
        pretrained: False draws the weights anew.
    """

    frozen: bool = True
    lr_factor: float = 1.0
    forecast: bool = False
    uncertainty: bool = False
    pretrained: bool = True


@dataclass(frozen=True)
class AgentSettings:
    """The agent.

    Attributes:
        algo: Algorithm of Stable-Baselines3.
        policy: Its policy; observations are dictionaries.
        arguments: Other arguments of its constructor, by their names there.
        encoder: What reads the windows of `market.see: window`; without one they are flattened.
        steps: Environment steps that it learns for, rounded up to whole rollouts.
        seeds: One agent each.
        n_envs: Environments that it learns in at once.
        device: Where its networks are.
        progress_bar: Show the bar of Stable-Baselines3 on a terminal.

    Raises:
        ConfigError: E224, if nothing would be learnt, or one agent twice.
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
