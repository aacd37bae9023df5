"""Embeddings that are looked up: those of the predictor, on the date that the agent sees."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.inference.embeddings import embeddings_table
from cnn_lstm.inference.ensemble import write_ensemble
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.rl import EncoderObservation, MarketEnv, MarketVectorEnv, VectorEncoderObservation
from tests.fits import price_file, small_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoder")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    return small_checkpoint(folder)


@pytest.fixture(scope="module")
def prices(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(price_file(folder), parse_dates=["date"]).rename(columns={"date": "timestamp"})
    return table.assign(timestamp=table["timestamp"].dt.tz_localize("UTC"))


@pytest.fixture(scope="module")
def embeddings(checkpoint: Path, prices: pd.DataFrame) -> pd.DataFrame:
    return Predictor.from_checkpoint(checkpoint).encode(prices)


def row_of(table: pd.DataFrame, symbol: str, info: dict[str, Any]) -> NDArray[np.float32]:
    """The embedding of a date, looked up by pandas."""
    at = pd.Timestamp(info["date"], tz="UTC")
    rows = table[(table["symbol"] == symbol) & (table["as_of"] == at)]
    assert len(rows) == 1
    return np.asarray(rows.filter(regex=r"^e\d+$").to_numpy(np.float32)[0])


@pytest.mark.parametrize("observe", ["account", "window"])
def test_the_wrapper_shows_the_predictors_embedding_of_each_date(
    observe: Any, checkpoint: Path, prices: pd.DataFrame, embeddings: pd.DataFrame
) -> None:
    market = MarketEnv(prices, checkpoint=checkpoint, symbols=["BBB", "AAA"], observe=observe)
    env = EncoderObservation(market, embeddings.sample(frac=1, random_state=0))
    observation, info = env.reset(seed=0)
    for _ in range(60):
        wanted = np.concatenate([row_of(embeddings, symbol, info) for symbol in ("BBB", "AAA")])
        np.testing.assert_array_equal(observation["embedding"], wanted)
        assert env.observation_space.contains(observation)
        assert set(observation) == {"account", "embedding"}
        observation, _, _, _, info = env.step(np.array([2, 0]))
    assert observation["account"].tolist() == [0.5, -0.5, 0.5, -0.5]


def test_the_embedding_is_that_of_the_window_that_it_stands_for(
    checkpoint: Path, prices: pd.DataFrame, embeddings: pd.DataFrame
) -> None:
    env = MarketEnv(prices, checkpoint=checkpoint, symbols=["AAA"], part="test")
    observation, info = env.reset(seed=0)
    encode = Predictor.from_checkpoint(checkpoint).forecaster.encode
    with torch.inference_mode():
        computed = encode(torch.from_numpy(observation["window"])[None])[0].numpy()
    np.testing.assert_allclose(computed, row_of(embeddings, "AAA", info), atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*imum value is:UserWarning")
@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version:UserWarning")
def test_the_wrapper_passes_the_checks_of_gymnasium_and_sb3(
    checkpoint: Path, prices: pd.DataFrame, embeddings: pd.DataFrame
) -> None:
    env = EncoderObservation(MarketEnv(prices, checkpoint=checkpoint, symbols=["AAA"], observe="account"), embeddings)
    check_env(env, skip_render_check=True)
    check_env_of_sb3(env)


def test_the_vector_form_shows_the_same_as_single_environments(
    checkpoint: Path, prices: pd.DataFrame, embeddings: pd.DataFrame
) -> None:
    market = MarketEnv(prices, checkpoint=checkpoint, observe="account", episode_length=5)
    vector = VectorEncoderObservation(MarketVectorEnv(market, 3), embeddings)
    single = gymnasium.vector.SyncVectorEnv([lambda: EncoderObservation(copy.deepcopy(market), embeddings)] * 3)
    vector.action_space.seed(0)
    mine, other = vector.reset(seed=1)[0], single.reset(seed=1)[0]
    for _ in range(14):
        assert mine in vector.observation_space
        for name in ("account", "embedding"):
            np.testing.assert_array_equal(mine[name], other[name])
        actions = vector.action_space.sample()
        mine, other = vector.step(actions)[0], single.step(actions)[0]


def test_the_wrapper_shows_chosen_columns(checkpoint: Path, prices: pd.DataFrame, embeddings: pd.DataFrame) -> None:
    market = MarketEnv(prices, checkpoint=checkpoint, symbols=["AAA"], observe="account")
    env = EncoderObservation(market, embeddings.assign(y_pred=7.0), columns=["y_pred", "e0"])
    observation, info = env.reset(seed=0)
    assert observation["embedding"].tolist() == [7.0, row_of(embeddings, "AAA", info)[0]]


def test_embeddings_are_read_from_a_file(
    folder: Path, checkpoint: Path, prices: pd.DataFrame, embeddings: pd.DataFrame
) -> None:
    embeddings.to_parquet(folder / "embeddings.parquet")
    market = MarketEnv(prices, checkpoint=checkpoint, symbols=["AAA"], observe="account")
    observation, info = EncoderObservation(market, folder / "embeddings.parquet").reset(seed=0)
    np.testing.assert_array_equal(observation["embedding"], row_of(embeddings, "AAA", info))


def test_missing_and_doubled_embeddings_are_refused(
    checkpoint: Path, prices: pd.DataFrame, embeddings: pd.DataFrame
) -> None:
    market = MarketEnv(prices, checkpoint=checkpoint, symbols=["AAA"], observe="account")
    day = market.episodes.data.dates[60]
    gone = embeddings[embeddings["as_of"] != pd.Timestamp(day, tz="UTC")]
    with pytest.raises(DataError, match=rf"E363.*AAA @ {str(day)[:10]}, 1 of"):
        EncoderObservation(market, gone)
    with pytest.raises(DataError, match=r"E363.*two embeddings"):
        EncoderObservation(market, pd.concat([embeddings, embeddings[:200]]))
    with pytest.raises(ConfigError, match=r"E269.*y_pred"):
        EncoderObservation(market, embeddings, columns=["y_pred"])
    with pytest.raises(ConfigError, match=r"E269.*e0"):
        EncoderObservation(market, embeddings[["symbol", "as_of"]])
    with pytest.raises(ConfigError, match=r"E269.*CartPole"):
        EncoderObservation(gymnasium.make("CartPole-v1"), embeddings)


def wrappers(market: MarketEnv) -> list[Callable[..., Any]]:
    """Both forms of the wrapper around a market."""
    vector = MarketVectorEnv(market, 2)
    return [partial(EncoderObservation, market), partial(VectorEncoderObservation, vector)]


@pytest.mark.parametrize("kind", [0, 1], ids=["single", "vector"])
@pytest.mark.parametrize("model", ["one", "ensemble"])
def test_embeddings_of_another_checkpoint_are_refused(
    kind: int, model: str, folder: Path, checkpoint: Path, prices: pd.DataFrame, tmp_path: Path
) -> None:
    same = checkpoint
    if model == "ensemble":
        same = folder / "ensemble.ckpt"
        write_ensemble([checkpoint, checkpoint], same)
    torch.manual_seed(5)
    other = small_checkpoint(tmp_path)
    tables: dict[str, Any] = {}
    for name, path in (("same", same), ("other", other)):
        predictor = Predictor.from_checkpoint(path)
        embeddings_table(predictor, prices).to_parquet(tmp_path / name)
        tables[name] = tmp_path / name
        tables[f"{name} in memory"] = predictor.encode(prices)
    market = MarketEnv(prices, checkpoint=same, symbols=["AAA"], observe="account")
    wrap = wrappers(market)[kind]
    for kept in ("", " in memory"):
        assert wrap(tables[f"same{kept}"]).reset(seed=0)
        with pytest.raises(
            ConfigError, match=r"E269.*of checkpoint [0-9a-f]{12}, the market is of [0-9a-f]{12}"
        ) as raised:
            wrap(tables[f"other{kept}"])
        assert "\n" not in str(raised.value)
    with pytest.raises(ConfigError, match="E269"):  # whatever is shown of it
        wrap(tables["other"], ["y_pred__log_return_1"])


def test_a_table_or_a_market_without_a_named_checkpoint_is_accepted(
    checkpoint: Path, prices: pd.DataFrame, embeddings: pd.DataFrame
) -> None:
    market = MarketEnv(prices, checkpoint=checkpoint, symbols=["AAA"], observe="account")
    assert EncoderObservation(market, embeddings).reset(seed=0)
    unnamed = MarketEnv(prices, features=["log_return_1"], window=60, symbols=["AAA"], observe="account")
    named = embeddings.copy()
    named.attrs["checkpoint"] = "0" * 64
    assert EncoderObservation(unnamed, named).reset(seed=0)
    with pytest.raises(ConfigError, match="E269"):
        EncoderObservation(market, named)


def test_dates_without_a_zone_are_refused(checkpoint: Path, prices: pd.DataFrame, embeddings: pd.DataFrame) -> None:
    market = MarketEnv(prices, checkpoint=checkpoint, symbols=["AAA"], observe="account")
    with pytest.raises(DataError, match=r"E363.*as_of is.*time zone"):
        EncoderObservation(market, embeddings.assign(as_of=embeddings["as_of"].dt.tz_localize(None)))


@pytest.mark.parametrize("kind", [0, 1], ids=["single", "vector"])
def test_embeddings_of_several_folds_are_refused(
    kind: int, checkpoint: Path, prices: pd.DataFrame, embeddings: pd.DataFrame
) -> None:
    border = embeddings["as_of"].sort_values().iloc[len(embeddings) // 2]
    folds = embeddings.assign(fold=(embeddings["as_of"] >= border).astype(int), y_pred=0.5)
    market = MarketEnv(prices, checkpoint=checkpoint, symbols=["AAA"], observe="account")
    wrap = wrappers(market)[kind]
    with pytest.raises(ConfigError, match=r"E269.*2 folds.*coordinates of its own — folds 0, 1 —"):
        wrap(folds)
    with pytest.raises(ConfigError, match=r"E269.*2 folds"):
        wrap(folds, ["y_pred", "e0"])
    assert wrap(folds, ["y_pred"]).reset(seed=0)  # a forecast means the same whoever makes it
    assert wrap(folds.assign(fold=3)).reset(seed=0)
    later = MarketEnv(
        prices, checkpoint=checkpoint, symbols=["AAA"], observe="account", start=border.date().isoformat()
    )
    assert wrappers(later)[kind](folds).reset(seed=0)


def test_the_environment_and_its_vector_form_are_registered(checkpoint: Path, prices: pd.DataFrame) -> None:
    arguments: dict[str, Any] = {"prices": prices, "checkpoint": checkpoint, "part": "train"}
    one = gymnasium.make("cnn_lstm/MarketEnv-v0", **arguments)
    many = gymnasium.make_vec("cnn_lstm/MarketEnv-v0", num_envs=4, vectorization_mode="vector_entry_point", **arguments)
    assert isinstance(one.unwrapped, MarketEnv)
    assert isinstance(many.unwrapped, MarketVectorEnv)
    observation, _ = many.reset(seed=0)
    np.testing.assert_array_equal(observation["window"][0], one.reset(seed=0)[0]["window"])
    assert len(observation["window"]) == 4
