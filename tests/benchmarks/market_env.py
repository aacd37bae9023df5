"""Steps per second of `MarketEnv`: `python -m tests.benchmarks.market_env`.

It compares the environment without any encoder (window and account, or account alone), with embeddings that are looked
up, and with the encoder computed at each step; each as a single environment and in its vector form. A rate is the
median of several rounds, in which the variants take turns, in one process with one thread. The embeddings are random
numbers, since a lookup takes the same time for any values. The goal is 80 % of the environment without encoder;
"account alone" shows nothing of the market: it is an upper bound, not a goal.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import torch

from cnn_lstm.model.forecast_model import fixed_shape
from cnn_lstm.model.network import CNNLSTM
from cnn_lstm.rl import EncoderObservation, MarketEnv, MarketVectorEnv, VectorEncoderObservation
from tests.markets import walk

GOAL = 0.8
NO_ENCODER = "window, no encoder"
Step = Callable[[int], float]


class Computed(gymnasium.ObservationWrapper[Any, Any, Any]):
    """The encoder at each step, as without a table."""

    def __init__(self, env: MarketEnv, network: CNNLSTM) -> None:
        super().__init__(env)
        self.network = network.eval()

    def observation(self, observation: Any) -> Any:
        """The account with the embedding of the window."""
        with torch.inference_mode():
            window = torch.from_numpy(observation["window"])[None]
            (embedding,) = fixed_shape(lambda part: (self.network(part),), window)
        return {"account": observation["account"], "embedding": embedding[0].numpy()}


def single(env: gymnasium.Env[Any, Any], steps: int) -> float:
    """Steps per second."""
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 3, steps).tolist()
    start = time.perf_counter()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return steps / (time.perf_counter() - start)


def vector(env: gymnasium.vector.VectorEnv[Any, Any, Any], steps: int) -> float:
    """Steps per second of all episodes together."""
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 3, (steps // env.num_envs, env.num_envs))
    start = time.perf_counter()
    for action in actions:
        env.step(action)
    return len(actions) * env.num_envs / (time.perf_counter() - start)


def variants(options: argparse.Namespace) -> dict[str, tuple[Step, int]]:
    """The measured variants, each with the steps of one round."""
    prices = walk(options.bars)
    arguments: dict[str, Any] = {"window": options.window, "episode_length": 250}
    windowed, bare = MarketEnv(prices, **arguments), MarketEnv(prices, observe="account", **arguments)
    data = bare.episodes.data
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(len(data.dates), options.width)).astype(np.float32))
    table = table.add_prefix("e").assign(symbol="AAA", as_of=pd.DatetimeIndex(data.dates, tz="UTC"))
    looked_up = EncoderObservation(bare, table)
    computed = Computed(windowed, CNNLSTM(n_features=len(data.features)))
    many = [MarketVectorEnv(market, options.num_envs) for market in (windowed, bare)]
    many_looked_up = VectorEncoderObservation(many[1], table)
    return {
        "window, no encoder": (lambda steps: single(windowed, steps), options.steps),
        "account alone": (lambda steps: single(bare, steps), options.steps),
        "looked-up embedding": (lambda steps: single(looked_up, steps), options.steps),
        "computed embedding": (lambda steps: single(computed, steps), max(options.steps // 50, 1)),
        "vector: window, no encoder": (lambda steps: vector(many[0], steps), options.steps * 10),
        "vector: account alone": (lambda steps: vector(many[1], steps), options.steps * 10),
        "vector: looked-up embedding": (lambda steps: vector(many_looked_up, steps), options.steps * 10),
    }


def main() -> int:
    """Prints a table; 1 if looked-up embeddings are slower than the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=2000)
    parser.add_argument("--window", type=int, default=60)
    parser.add_argument("--width", type=int, default=64, help="numbers of an embedding")
    parser.add_argument("--num_envs", type=int, default=256, help="episodes of the vector form")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured = variants(options)
    rates: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(options.rounds):
        for name, (measure, steps) in measured.items():
            rates[name].append(measure(steps))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in medians.items():
        print(f"{name:<30} {rate:>12,.0f} steps/s")
    shares = {
        f"{form}{other}": medians[f"{form}looked-up embedding"] / medians[f"{form}{other}"]
        for form in ("", "vector: ")
        for other in (NO_ENCODER, "account alone")
    }
    for name, share in shares.items():
        print(f"looked-up embedding has {share:>4.0%} of the speed of: {name}")
    return int(min(share for name, share in shares.items() if name.endswith(NO_ENCODER)) < GOAL)


if __name__ == "__main__":
    raise SystemExit(main())
