"""Scalers in front of an encoder, which scales raw features itself: refused or warned about, and raw windows pass."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import pytest
import torch
from gymnasium.wrappers import NormalizeObservation
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

from cnn_lstm.data.feature_catalogue import available_features, resolve_features
from cnn_lstm.data.features import compute_features
from cnn_lstm.errors import ConfigError
from cnn_lstm.rl import CNNLSTMExtractor, Encoder, MarketEnv, extractor
from cnn_lstm.rl.second_scaling import ScaleWatch
from tests.fits import price_file, small_checkpoint
from tests.markets import walk
from tests.rl.small_env import ALGORITHMS, extractors

SHORT: dict[str, dict[str, Any]] = {
    "PPO": {"n_steps": 50, "batch_size": 25, "n_epochs": 1},
    "A2C": {"n_steps": 5},
    "SAC": {"learning_starts": 20, "train_freq": 5, "batch_size": 32},
    "TD3": {"learning_starts": 20, "train_freq": 5, "batch_size": 32},
    "DQN": {"learning_starts": 20, "train_freq": 5, "batch_size": 32},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("scaling"))


@pytest.fixture(scope="module")
def prices(checkpoint: Path) -> pd.DataFrame:
    table = pd.read_csv(price_file(checkpoint.parent), parse_dates=["date"]).rename(columns={"date": "timestamp"})
    return table.assign(timestamp=table["timestamp"].dt.tz_localize("UTC"))


class WindowAlone(gymnasium.ObservationWrapper[Any, Any, Any]):
    """The window in place of the dictionary."""

    def __init__(self, env: MarketEnv) -> None:
        super().__init__(env)
        self.observation_space = env.observation_space["window"]

    def observation(self, observation: Any) -> Any:
        return observation["window"]


class Tenfold(gymnasium.ObservationWrapper[Any, Any, Any]):
    """A scaler of the user's own: windows in units of 1 % and more."""

    def observation(self, observation: Any) -> Any:
        loc, scale = np.array([0.0, 0.0, 0.5]), np.array([0.01, 0.02, 0.3])
        return {**observation, "window": ((observation["window"] - loc) / scale).astype(np.float32)}


def market(checkpoint: Path, prices: pd.DataFrame, name: str = "PPO") -> MarketEnv:
    actions: Any = "continuous" if ALGORITHMS[name][1] else "discrete"
    return MarketEnv(prices, symbols=["AAA"], checkpoint=checkpoint, actions=actions, episode_length=20)


def agent(name: str, env: VecEnv, checkpoint: Path, **options: Any) -> BaseAlgorithm:
    settings = {
        "net_arch": [8],
        "features_extractor_class": CNNLSTMExtractor,
        "features_extractor_kwargs": {"checkpoint": str(checkpoint), **options},
    }
    policy = "MultiInputPolicy" if isinstance(env.observation_space, gymnasium.spaces.Dict) else "MlpPolicy"
    made = ALGORITHMS[name][0](policy, env, policy_kwargs=settings, seed=0, device="cpu", **SHORT[name])
    assert isinstance(made, BaseAlgorithm)
    return made


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_default_of_vec_normalize_is_refused_with_the_cure(
    name: str, checkpoint: Path, prices: pd.DataFrame
) -> None:
    env = VecNormalize(DummyVecEnv([lambda: market(checkpoint, prices, name)]))
    with pytest.raises(ConfigError, match=r"E261.*norm_obs_keys=\['account'\]"):
        agent(name, env, checkpoint)


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda env: VecNormalize(env, norm_obs_keys=["window"]), "norm_obs=False"),
        (lambda env: VecNormalize(env, norm_obs_keys=["window", "account"], norm_reward=False), "norm_obs_keys=.'acc"),
        (lambda env: VecNormalize(VecNormalize(env, norm_obs=False)), "norm_obs_keys=.'acc"),
    ],
    ids=["window", "both", "outer"],
)
def test_every_form_that_scales_windows_is_refused(
    make: Callable[[VecEnv], VecEnv], cure: str, pretrained: bool, checkpoint: Path, prices: pd.DataFrame
) -> None:
    env = make(DummyVecEnv([lambda: market(checkpoint, prices)]))
    with pytest.raises(ConfigError, match=f"E261.*{cure}"):
        agent("PPO", env, checkpoint, pretrained=pretrained, frozen=pretrained)


def test_a_box_of_windows_is_refused_too(checkpoint: Path, prices: pd.DataFrame) -> None:
    env = VecNormalize(DummyVecEnv([lambda: WindowAlone(market(checkpoint, prices))]))
    with pytest.raises(ConfigError, match=r"E261.*norm_obs=False"):
        agent("PPO", env, checkpoint)


@pytest.mark.parametrize(
    "arguments", [{"norm_obs_keys": ["account"]}, {"norm_obs": False}], ids=["account", "rewards alone"]
)
def test_what_leaves_the_windows_raw_is_taken_and_embeds_as_without(
    arguments: dict[str, Any], checkpoint: Path, prices: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    raw = DummyVecEnv([lambda: market(checkpoint, prices)])
    env = VecNormalize(raw, **arguments)
    made = agent("PPO", env, checkpoint)
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        made.learn(200)
    assert "W261" not in caplog.text
    observation = raw.reset()
    assert isinstance(observation, dict)
    seen = env.normalize_obs(observation)
    assert isinstance(seen, dict)
    encoder = extractors(made)["features_extractor"].encoder
    right = Encoder.from_checkpoint(checkpoint)(torch.from_numpy(observation["window"]))
    torch.testing.assert_close(encoder(torch.from_numpy(seen["window"])), right)


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_a_scaler_that_comes_later_is_warned_about_once(
    name: str, checkpoint: Path, prices: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    raw = DummyVecEnv([lambda: market(checkpoint, prices, name)])
    made = agent(name, raw, checkpoint)
    made.set_env(VecNormalize(raw))
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        made.learn(300)
    extractors_of_it = {id(part) for part in extractors(made).values()}
    assert 1 <= caplog.text.count("W261") <= len(extractors_of_it)
    assert "norm_obs_keys=['account']" in caplog.text


@pytest.mark.parametrize("scaler", ["gymnasium", "own", "loaded"])
def test_other_scalers_are_warned_about(
    scaler: str,
    checkpoint: Path,
    prices: pd.DataFrame,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def env() -> gymnasium.Env[Any, Any]:
        one = market(checkpoint, prices)
        if scaler == "gymnasium":
            return NormalizeObservation(WindowAlone(one))
        return Tenfold(one) if scaler == "own" else one

    made = agent("PPO", DummyVecEnv([env]), checkpoint)
    if scaler == "loaded":  # an agent of an earlier version, which was trained so, is loaded in another process
        made.save(tmp_path / "agent.zip")
        monkeypatch.setattr(extractor, "PROCESS", "another")
        made = type(made).load(tmp_path / "agent.zip", env=VecNormalize(DummyVecEnv([env])), device="cpu")
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        made.learn(300)
    assert caplog.text.count("W261") == 1


def test_frames_that_are_stacked_are_no_scaler(checkpoint: Path, prices: pd.DataFrame) -> None:
    """What fails there fails for its own reason, not for a scaler."""
    env = VecFrameStack(DummyVecEnv([lambda: WindowAlone(market(checkpoint, prices))]), 2)
    with pytest.raises(ConfigError, match=r"E261.*observed windows of"):
        agent("PPO", env, checkpoint)


# -- the watch ---------------------------------------------------------------------------------------------------------


def windows_of(values: np.ndarray, rows: int) -> torch.Tensor:
    return torch.from_numpy(np.lib.stride_tricks.sliding_window_view(values, rows, axis=0).transpose(0, 2, 1).copy())


@pytest.mark.parametrize("seed", range(30))
def test_raw_windows_of_any_shipped_features_in_any_regime_are_not_taken_for_scaled(seed: int) -> None:
    random = np.random.default_rng(seed)
    names = random.choice([offer.default for offer in available_features()], random.integers(1, 7), replace=False)
    table = walk(1200, seed=seed)
    values = compute_features(table, resolve_features([*names], list(table.columns))).to_numpy()
    calm = np.nanstd(values[600:900], axis=0)
    later = values[900:] * np.exp(random.normal(0, 0.7))  # of another regime than that of the training
    watch = ScaleWatch([*names], calm)
    watch.see(windows_of(later, 20))
    assert not watch.warned


@pytest.mark.parametrize("seed", range(30))
def test_standardised_windows_are_noticed_where_it_matters(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 7))
    scale = np.exp(random.normal(0, 2.5, count))
    watch = ScaleWatch([f"f{k}" for k in range(count)], scale)
    watch.see(torch.from_numpy(random.normal(0, 1, (100, 10, count))))
    matters = (np.log(scale) ** 2).sum() > 8 and (np.log(scale) ** 2).mean() > 3
    assert watch.warned or not matters
    if (np.abs(np.log(scale)) < np.log(2)).all():
        assert not watch.warned


def test_the_watch_ends_and_takes_what_says_nothing() -> None:
    watch = ScaleWatch(["a", "b"], np.array([0.01, np.nan]))
    watch.see(torch.zeros(64, 10, 2))
    watch.see(torch.full((64, 10, 2), torch.nan))
    assert not watch.warned
    for _ in range(600):
        watch.see(0.01 * torch.randn(64, 10, 2))
    assert (watch.warned, watch.done) == (False, True)
