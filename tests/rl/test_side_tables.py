"""A market of a checkpoint that reads facts known ahead or static columns: with their tables, nothing beyond them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.side_tables import KnownFuture, StaticColumns
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.errors import CheckpointError, ConfigError, DataError
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.rl.market import MarketEnv
from tests.experiments import experiment, fit, run, spec
from tests.fits import small_network, small_trainer
from tests.markets import TableSource, market, walk

DELAY, HORIZON, WINDOW = 1, 3, 5
REACH = DELAY + HORIZON
PRICES = pd.concat([walk(120, "AAA", 1), walk(120, "BBB", 2)], ignore_index=True)
DATES = pd.DatetimeIndex(sorted(PRICES["timestamp"].unique()))
SECTORS = pd.DataFrame({"symbol": ["AAA", "BBB"], "sector": ["calm", "wild"]})
BAR = 60  # the bar whose observation is looked at


def events(seed: int = 0, ahead: int = REACH) -> pd.DataFrame:
    """Facts of each session, which reach beyond the last bar."""
    later = pd.bdate_range(DATES[-1], periods=ahead + 1)[1:]
    days = DATES.append(later)
    return pd.DataFrame({"timestamp": days, "event": np.random.default_rng(seed).random(len(days)).round(3)})


@pytest.fixture(scope="module")
def data() -> MarketDataModule:
    module = MarketDataModule(
        TableSource(PRICES),
        features=["log_return_1", "close_location"],
        targets=[ForwardReturn(HORIZON)],
        window=WINDOW,
        known_future=KnownFuture(events(), ["event"], "sum"),
        static=StaticColumns(["sector"], SECTORS),
    )
    module.setup()
    return module


@pytest.fixture(scope="module")
def checkpoint(data: MarketDataModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    trainer = small_trainer(max_epochs=1)
    trainer.fit(Forecaster(small_network(n_features=data.n_features)), datamodule=data)
    path = tmp_path_factory.mktemp("fit") / "x.ckpt"
    trainer.save_checkpoint(path)
    return path


def seen(checkpoint: Path, facts: pd.DataFrame, prices: pd.DataFrame = PRICES) -> Any:
    """What an agent sees at `BAR`."""
    env = MarketEnv(prices, checkpoint=checkpoint, known_future=facts, static=SECTORS)
    observation, info = env.reset(options={"start": str(DATES[BAR].date())})
    assert pd.Timestamp(info["date"], tz="UTC") == DATES[BAR]
    return observation["window"]


def test_the_windows_are_those_of_the_forecaster(checkpoint: Path, data: MarketDataModule) -> None:
    window = seen(checkpoint, events())
    rows = np.flatnonzero(data.panel.time == DATES[BAR].to_datetime64())
    wanted = np.stack([data.panel.values.numpy()[row - WINDOW + 1 : row + 1] for row in rows])
    np.testing.assert_array_equal(window.reshape(wanted.shape), wanted)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_beyond_the_known_facts_moves_an_observation(checkpoint: Path, seed: int) -> None:
    window = seen(checkpoint, events())
    later, changed = events(), events(seed + 1)
    later.loc[BAR + REACH + 1 :, "event"] = changed["event"]
    prices = PRICES.copy()
    after = prices["timestamp"] > DATES[BAR]
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.01, int(after.sum())))
    for name in ("open", "high", "low", "close"):
        prices.loc[after, name] *= noise
    np.testing.assert_array_equal(seen(checkpoint, later, prices), window)
    known = events()
    known.loc[BAR + REACH, "event"] = 9.0  # the last session of the interval is known ahead
    assert (seen(checkpoint, known) != window).any()


def test_a_date_whose_facts_are_not_there_is_not_traded(checkpoint: Path) -> None:
    whole, short = (
        MarketEnv(PRICES, checkpoint=checkpoint, known_future=events(ahead=ahead), static=SECTORS).episodes.data
        for ahead in (REACH, 0)
    )
    assert (whole.last >= 0).sum() - (short.last >= 0).sum() == REACH
    assert (short.last[-REACH:] == -1).all()


def test_what_a_market_needs_is_asked_for_and_checked(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"E429.*event"):
        MarketEnv(PRICES, checkpoint=checkpoint, static=SECTORS)
    with pytest.raises(CheckpointError, match=r"E429.*sector"):
        MarketEnv(PRICES, checkpoint=checkpoint, known_future=events())
    with pytest.raises(DataError, match="E374"):
        MarketEnv(PRICES, checkpoint=checkpoint, known_future=events()[10:], static=SECTORS)
    other = SECTORS.assign(sector="new")
    with pytest.raises(DataError, match="E378"):
        MarketEnv(PRICES, checkpoint=checkpoint, known_future=events(), static=other)
    with pytest.raises(ConfigError, match=r"E266.*without a checkpoint"):
        MarketEnv(PRICES, features=["log_return_1"], window=5, static=SECTORS)


@pytest.mark.parametrize("see", ["embedding", "window"])
def test_agents_learn_and_are_judged_on_such_a_checkpoint(see: str, tmp_path: Path) -> None:
    table = market(240, ("AAA", "BBB"), seed=3)
    days = pd.DatetimeIndex(sorted(table["timestamp"].unique()))  # the facts end with the prices, as fit allows
    facts = pd.DataFrame({"timestamp": days, "event": np.arange(len(days)) % 7 // 6})
    facts.to_csv(tmp_path / "events.csv", index=False)
    SECTORS.to_csv(tmp_path / "sectors.csv", index=False)
    side = {
        "known_future": {"table": str(tmp_path / "events.csv"), "columns": ["event"], "aggregate": "max"},
        "static": {"table": str(tmp_path / "sectors.csv"), "columns": ["sector"]},
    }
    file = experiment(tmp_path, table, {"targets": [spec("cnn_lstm.data.targets.ForwardReturn", horizon=2)], **side})
    run_dir = fit(file, tmp_path / "runs" / "one", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")
    words = ["--market.see", see, "--market.part", "validation", "--market.episode_length", 8, "--agent.steps", 32]
    words += ["--agent.n_envs", 2, "--agent.seeds", "[0]", "--agent.arguments", "{n_steps: 16, batch_size: 16}"]
    assert run("rl", "train", "--ckpt_path", run_dir / "checkpoints" / "best.ckpt", *words, "--folder", "x") == 0
    assert run("rl", "evaluate", run_dir / "rl" / "x") == 0
    assert json.loads((run_dir / "rl" / "x" / "evaluation.json").read_text())["agents"]
