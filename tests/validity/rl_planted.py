"""Does a pretrained encoder make an agent learn faster? `python -m tests.validity.rl_planted`, minutes on one core.

The market has a planted signal: log returns r(t) = phi s(t-2) r(t-2) + noise, where s is 1 on busy days and -1 on quiet
days, which only the volume reveals: momentum on days of much trade, reversal on days of little. With `--signal plain`
all days are busy: one feature is the forecast, and little can be learnt in advance.

PPO learns to trade it after costs, once on the looked-up embeddings of a forecaster that was trained on the same dates,
and once from scratch, on the windows, with the same network as its features extractor (and the forecaster's
standardisation, so that only what was learnt differs). It prints, for each seed, the environment steps until the net
return per bar on the test dates, without exploring, is at least half of what the sign of the best forecast earns there,
at two evaluations in a row; and whether the encoder's median is at most half of the other. A seed that never reaches
this counts with the largest number of steps.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import CNNLSTM
from cnn_lstm.rl import EncoderObservation, MarketEnv
from cnn_lstm.rl.agents import play_agent
from cnn_lstm.rl.track_records import track_record_of_rule
from tests.fits import small_trainer
from tests.markets import TableSource, bars_of, days

SHARE = 0.5  # of the best rule's net return, and of the steps from scratch
# the same for both: a decision pays within two bars, so the discount is strong
PPO_ARGUMENTS: dict[str, Any] = {
    "n_steps": 64,
    "batch_size": 64,
    "gamma": 0.5,
    "gae_lambda": 0.9,
    "learning_rate": 1e-3,
    "device": "cpu",
}
ENVIRONMENTS = 8
FEATURES = ["log_return_1", "log_return_5", "close_location", "volume"]
SWITCH = 0.1  # probability that a quiet day follows a busy one, and the other way round
# neither dropout nor batch norm: PPO would compare actions of one network with those of another
NETWORK: dict[str, Any] = {
    "channels": [8],
    "kernel_sizes": [3],
    "norm": "layer",
    "conv_dropout": 0.0,
    "lstm_hidden": 8,
    "lstm_dropout": 0.0,
    "attention_heads": 2,
    "attention_dropout": 0.0,
}


def planted(options: argparse.Namespace, seed: int = 0) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """A price table, and the best forecast of the log return of the bar after next at each of its rows."""
    random = np.random.default_rng(seed)
    busy = np.where(np.cumsum(random.random(options.bars) < SWITCH) % 2, 1.0, -1.0)
    busy = busy if options.signal == "volume" else np.ones(options.bars)
    returns = random.normal(0, 0.01 * np.sqrt(1 - options.phi**2), options.bars)
    for row in range(2, options.bars):
        returns[row] += options.phi * busy[row - 2] * returns[row - 2]
    bars = bars_of(100 * np.exp(np.cumsum(returns)), days(options.bars, "1990-01-01"))
    volume = np.round(np.exp(12 + 0.5 * busy + random.normal(0, 0.1, options.bars)))
    return bars.assign(volume=volume), options.phi * busy * returns


class Untrained(BaseFeaturesExtractor):
    """The network with random weights and the trained standardisation, next to the account.

    Args:
        space: Observation space of a market that shows windows.
        standardised: Network whose buffers are used.
    """

    def __init__(self, space: gymnasium.spaces.Dict, standardised: CNNLSTM) -> None:
        network = CNNLSTM(n_features=len(FEATURES), **NETWORK)
        network.load_state_dict(dict(standardised.named_buffers()), strict=False)
        super().__init__(space, network.embedding_dim + int(np.prod(space["account"].shape or ())))
        self.network = network

    def forward(self, observation: dict[str, torch.Tensor]) -> torch.Tensor:
        """Embedding and account, (B, D + A)."""
        return torch.cat([self.network(observation["window"]), observation["account"]], dim=1)


def pretrained(folder: Path, prices: pd.DataFrame, options: argparse.Namespace) -> Path:
    """The checkpoint of a forecaster of the market."""
    data = MarketDataModule(
        TableSource(prices),
        features=FEATURES,
        window=16,
        batch_size=64,
        targets=[ForwardReturn(1, 1)],
    )
    torch.manual_seed(0)
    trainer = small_trainer(max_epochs=options.epochs)
    trainer.fit(Forecaster(CNNLSTM(n_features=len(FEATURES), **NETWORK)), datamodule=data)
    path = folder / "planted.ckpt"
    trainer.save_checkpoint(path)
    return path


def steps_needed(agent: PPO, test: gymnasium.Env[Any, Any], goal: float, options: argparse.Namespace) -> int:
    """Steps until the net return per bar reaches the goal and stays there at the next look; else `options.most`."""
    reached = 0
    while agent.num_timesteps < options.most:
        agent.learn(agent.n_steps * agent.n_envs, reset_num_timesteps=False)
        if play_agent(test, agent)["net"].mean() < goal:
            reached = 0
        elif reached:
            return reached
        else:
            reached = int(agent.num_timesteps)
    return int(options.most)


def main() -> int:
    """Prints the steps of each seed; 1 if the encoder does not save the steps that it should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=3000)
    parser.add_argument("--phi", type=float, default=0.7)
    parser.add_argument("--signal", choices=["volume", "plain"], default="volume", help="what its sign depends on")
    parser.add_argument("--epochs", type=int, default=30, help="of the forecaster")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--most", type=int, default=40_000, help="steps after which a seed is given up")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        prices, forecast = planted(options)
        checkpoint = pretrained(Path(folder), prices, options)
        predictor = Predictor.from_checkpoint(checkpoint)
        embeddings = predictor.encode(prices)
        common: dict[str, Any] = {"prices": prices, "checkpoint": checkpoint}
        test = MarketEnv(**common, part="test")
        data, terms = test.episodes.data, test.episodes.terms
        rule = track_record_of_rule(data, terms, lambda at: np.sign(forecast[data.rows[at]]))
        best = rule["net"].mean()
        markets: dict[str, list[MarketEnv]] = {}
        for observe in ("account", "window"):
            learn = MarketEnv(**common, part="train", observe=observe, episode_length=128)
            markets[observe] = [learn, MarketEnv(**common, part="test", observe=observe)]
    print(f"the sign of the best forecast earns {best * 1e4:.1f} bp per bar after costs; the goal is {SHARE:.0%} of it")
    variants: dict[str, tuple[Sequence[gymnasium.Env[Any, Any]], dict[str, Any]]] = {
        "pretrained, frozen": ([EncoderObservation(market, embeddings) for market in markets["account"]], {}),
        "from scratch": (
            markets["window"],
            {
                "features_extractor_class": Untrained,
                "features_extractor_kwargs": {"standardised": predictor.forecaster.network},
            },
        ),
    }
    needed: dict[str, list[int]] = {}
    for name, ((training, unseen), extractor) in variants.items():
        needed[name] = []
        for seed in range(options.seeds):
            envs = DummyVecEnv([partial(copy.deepcopy, training)] * ENVIRONMENTS)
            kwargs = {"net_arch": [32, 32], **extractor}
            agent = PPO("MultiInputPolicy", envs, seed=seed, policy_kwargs=kwargs, **PPO_ARGUMENTS)
            needed[name].append(steps_needed(agent, unseen, SHARE * best, options))
        print(f"{name:<20} steps of each seed {needed[name]}, median {statistics.median(needed[name]):,}", flush=True)
    ours, theirs = (statistics.median(steps) for steps in needed.values())
    print(f"the encoder needs {ours / theirs:.0%} of the steps from scratch (goal {SHARE:.0%})")
    return int(ours > SHARE * theirs)


if __name__ == "__main__":
    raise SystemExit(main())
