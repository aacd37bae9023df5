"""Agents on the forecasts of a walk-forward: none where a label is not known yet, and judged all the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from stable_baselines3 import PPO

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.data.splits import WalkForward
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.errors import DataError
from cnn_lstm.inference.given_tables import GivenTables
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.rl import EncoderObservation, MarketEnv, MarketVectorEnv, VectorEncoderObservation
from cnn_lstm.rl.agent_inputs import read_inputs
from cnn_lstm.rl.job import saved_config
from cnn_lstm.rl.market_data import MarketData
from cnn_lstm.rl.settings import AgentSettings
from tests.experiments import experiment, fit, run, spec
from tests.markets import market

FOLDS = 3
ARGUMENTS = {
    "ppo": ("discrete", "{n_steps: 16, batch_size: 16}"),
    "a2c": ("discrete", "{n_steps: 16}"),
    "sac": ("continuous", "{learning_starts: 16, batch_size: 16}"),
}


def forecaster(folder: Path, horizon: int) -> Path:
    """The run of a forecaster on two symbols, one of which pauses for four weeks."""
    target = spec("cnn_lstm.data.targets.ForwardReturn", horizon=horizon)
    config = experiment(folder, market(420, ("AAA", "BBB"), seed=3), {"targets": [target]})
    return fit(config, folder / "runs" / "one", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")


def labelled_forecasts(run_dir: Path, horizon: int) -> pd.DataFrame:
    """What walk-forward writes of these prices: forecasts of the test rows of each fold, and the fold's dates."""
    prices = run_dir.parents[1] / "prices.parquet"
    predictor = Predictor.from_checkpoint(run_dir / "checkpoints" / "best.ckpt")
    data = MarketDataModule(
        PriceFiles(str(prices)),
        features=list(predictor.recipe.features),
        targets=[ForwardReturn(horizon)],
        window=predictor.recipe.window,
    )
    data.setup()
    folds = []
    for fold in range(FOLDS):
        parts = data.parts_of(WalkForward(FOLDS, fold))
        trained = [pd.Timestamp(day, tz="UTC") for day in data.panel.time[parts.train][[0, -1]]]
        rows = predictor.predict_rows(data.panel, parts.test)
        folds.append(rows.assign(fold=fold, train_first=trained[0], train_last=trained[1]))
    return pd.concat(folds, ignore_index=True)


def train(run_dir: Path, forecasts: Path, algo: str = "ppo", *more: object) -> Path:
    actions, arguments = ARGUMENTS[algo]
    words = ["--market.see", "forecast", "--market.forecasts", forecasts, "--market.actions", actions]
    words += ["--agent.steps", 64, "--agent.n_envs", 2, "--agent.seeds", "[0]", "--agent.arguments", arguments]
    words += ["--market.episode_length", 20, "--algo", algo, "--folder", algo]
    assert run("rl", "train", "--ckpt_path", run_dir / "checkpoints" / "best.ckpt", *words, *more) == 0
    return run_dir / "rl" / algo


def judged(agents: Path, forecasts: pd.DataFrame) -> None:
    """Evaluates agents, and compares the dates that they traded on with those that have forecasts."""
    assert run("rl", "evaluate", agents) == 0
    report = json.loads((agents / "evaluation.json").read_text())
    both = forecasts.groupby("as_of")["symbol"].nunique()
    known = both.index[both == forecasts["symbol"].nunique()]
    bars = pd.read_parquet(agents / "bars.parquet")
    assert set(bars["date"]) <= set(known)
    assert bars["date"].max() == known[-2]  # the position of the last date with forecasts is not held over a bar
    assert report["dates_without_forecast"] > 0
    assert f"to show: {report['dates_without_forecast']}." in (agents / "evaluation.txt").read_text()


def test_agents_on_labelled_forecasts_are_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = forecaster(tmp_path, 5)
    forecasts = labelled_forecasts(run_dir, 5)
    forecasts.to_parquet(tmp_path / "predictions.parquet")
    agents = train(run_dir, tmp_path / "predictions.parquet")
    assert "dates of the train part without a forecast of every symbol, left out: " in capsys.readouterr().out
    judged(agents, forecasts)


@pytest.mark.slow
@pytest.mark.parametrize("horizon", [1, 5])
def test_agents_on_the_files_of_walk_forward_are_judged(horizon: int, tmp_path: Path) -> None:
    run_dir, walk = forecaster(tmp_path, horizon), tmp_path / "walk"
    words = ["--folds", FOLDS, "--folder", walk, "--trainer.max_epochs", 1]
    assert run("walk-forward", "--config", tmp_path / "experiment.yaml", *words) == 0
    for algo in ARGUMENTS:
        judged(train(run_dir, walk / "predictions.parquet", algo), pd.read_parquet(walk / "predictions.parquet"))


@pytest.mark.slow
def test_agents_see_forecasts_uncertainty_and_aligned_embeddings_of_a_walk_forward(tmp_path: Path) -> None:
    """By the commands alone: walk-forward, rl train, rl evaluate; then the agent is loaded in a script."""
    run_dir, walk = forecaster(tmp_path, 2), tmp_path / "walk"
    words = ["--folds", FOLDS, "--folder", walk, "--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2]
    assert run("walk-forward", "--config", tmp_path / "experiment.yaml", *words) == 0
    table = pd.read_parquet(walk / "embeddings.parquet")
    aligned = [name for name in map(str, table) if name[0] == "a" and name[1:].isdigit()]
    shown = ["y_pred__return_2", "uncertainty__return_2", *aligned]
    words = ["--market.embeddings", walk / "embeddings.parquet", "--market.uncertainty", "true"]

    agents = train(run_dir, walk / "predictions.parquet", "ppo", *words)

    forecasts = pd.read_parquet(walk / "predictions.parquet")
    judged(agents, forecasts)
    seen = read_inputs(saved_config(agents, "test").market, AgentSettings(), run_dir, forecasts, GivenTables())
    assert seen.columns == shown
    assert seen.table is not None
    both = forecasts.merge(table, on=["symbol", "as_of"]).set_index(["symbol", "as_of"]).sort_index()
    rows = seen.table.set_index(["symbol", "as_of"]).sort_index()
    np.testing.assert_array_equal(rows[aligned], both.loc[rows.index, aligned])
    np.testing.assert_array_equal(rows["uncertainty__return_2"], (both["upper_95"] - both["lower_95"])[rows.index] / 2)
    assert ((rows["train_last"] < both.index.get_level_values("as_of")) | rows["train_last"].isna()).all()
    agent = PPO.load(agents / "agent_seed0.zip")
    assert dict(agent.observation_space)["embedding"].shape == (2 * len(shown),)  # type: ignore[call-overload]
    market = MarketEnv(tmp_path / "prices.parquet", part="test", observe="account")
    env = EncoderObservation(market, seen.table, shown, on_missing="skip")
    action, _ = agent.predict(env.reset(seed=0)[0], deterministic=True)
    assert env.action_space.contains(action)


def test_forecasts_of_other_dates_are_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = forecaster(tmp_path, 1)
    forecasts = labelled_forecasts(run_dir, 1)
    forecasts.assign(as_of=forecasts["as_of"] + pd.Timedelta(days=4000)).to_parquet(tmp_path / "other.parquet")
    words = ["--market.see", "forecast", "--market.forecasts", tmp_path / "other.parquet", "--folder", "other"]
    words += ["--market.episode_length", 20]
    assert run("rl", "train", "--ckpt_path", run_dir / "checkpoints" / "best.ckpt", *words) == 3
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert line.startswith("error[E363]: the table has no date with a row of every traded symbol — AAA, BBB, 2010-")
    assert not (run_dir / "rl").exists()


# -- the market kept to dates ------------------------------------------------------------------------------------------


def small_market(**arguments: object) -> MarketEnv:
    prices = market(90, ("AAA", "BBB"), seed=1)
    return MarketEnv(prices, features=["log_return_1"], window=3, observe="account", **arguments)  # type: ignore[arg-type]  # wrong on purpose


def forecasts_of(data: MarketData, kept: np.ndarray) -> pd.DataFrame:
    dates = pd.DatetimeIndex(data.dates[kept], tz="UTC")
    table = pd.DataFrame({"symbol": np.repeat(data.symbols, len(dates)), "as_of": np.tile(dates, len(data.symbols))})
    return table.assign(y_pred=np.arange(len(table), dtype=float))


@pytest.mark.parametrize("seed", range(8))
def test_no_episode_lies_on_a_date_that_is_left_out(seed: int) -> None:
    data = small_market().episodes.data
    kept = np.random.default_rng(seed).random(len(data.dates)) < 0.8
    after = data.kept_to(kept).last
    inside = (data.last >= 0) & kept
    assert ((after >= 0) == inside).all()
    for date in np.flatnonzero(inside):
        # from each date on, the stretch is the longest run of kept dates that does not leave the former stretch
        end = date
        while end < data.last[date] and kept[end + 1]:
            end += 1
        assert after[date] == end


@pytest.mark.parametrize("vector", [False, True], ids=["single", "vector"])
def test_dates_without_a_row_are_left_out_where_that_is_asked_for(vector: bool) -> None:
    env = small_market()
    data = env.episodes.data
    kept = np.ones(len(data.dates), dtype=bool)
    kept[[20, 21]] = kept[-6:] = False
    table = forecasts_of(data, kept)
    if vector:
        vectors = MarketVectorEnv(env, 2)
        VectorEncoderObservation(vectors, table, ["y_pred"], "skip").reset(seed=0)
        episodes = vectors.episodes
    else:
        EncoderObservation(env, table, ["y_pred"], "skip").reset(seed=0)
        episodes = env.episodes
    assert episodes.left_out == int(((data.last >= 0) & ~kept).sum())
    assert (kept | (episodes.data.last < 0)).all()
    assert len(episodes.stretches()) == 1 + len(small_market().episodes.stretches())


def test_an_agent_sees_the_forecast_of_its_date_on_both_sides_of_a_hole() -> None:
    env = small_market()
    kept = np.ones(len(env.episodes.data.dates), dtype=bool)
    kept[30:33] = False
    table = forecasts_of(env.episodes.data, kept)
    shown = EncoderObservation(env, table, ["y_pred"], on_missing="skip")
    wide = table.pivot(index="as_of", columns="symbol", values="y_pred")
    seen = 0
    for first in env.episodes.stretches():
        observation, info = shown.reset(options={"start": first})
        done = False
        while not done:
            row = wide.reindex([pd.Timestamp(info["date"], tz="UTC")])
            np.testing.assert_array_equal(observation["embedding"], row.to_numpy(np.float32)[0])
            seen += 1
            observation, _, _, done, info = shown.step(np.array([2, 2]))
    assert seen > 50


def test_too_little_is_refused() -> None:
    env = small_market()
    every_second = np.arange(len(env.episodes.data.dates)) % 2 == 0
    with pytest.raises(DataError, match=r"E362.*no stretch of 2 bars"):
        EncoderObservation(env, forecasts_of(env.episodes.data, every_second), ["y_pred"], "skip")
    env = small_market()
    table = forecasts_of(env.episodes.data, ~np.zeros_like(every_second))
    table["as_of"] += pd.Timedelta(days=4000)
    with pytest.raises(DataError, match=r"E363.*no date with a row of every traded symbol"):
        EncoderObservation(env, table, ["y_pred"], "skip")
