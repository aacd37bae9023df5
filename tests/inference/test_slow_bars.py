"""Bars of a week, a month and a quarter need no setting: the limit of gaps follows them, and a checkpoint keeps it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.checks import Checks
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecaster import Forecaster
from tests.fits import FEATURES, small_network, small_trainer
from tests.markets import TableSource, bars_of

KEYS = ["symbol", "as_of", "y_pred", "lower_90", "upper_90"]


def slow_market(freq: str, rows: int = 160) -> pd.DataFrame:
    """Two symbols, one bar missing from the second."""
    when = pd.date_range("1950-01-06", periods=rows, freq=freq, tz="UTC").as_unit("us")
    walks = [100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.03, rows))) for seed in (0, 1)]
    first, second = (bars_of(close, when, name, 3) for close, name in zip(walks, ("AAA", "BBB"), strict=True))
    return pd.concat([first, second.drop(index=60)], ignore_index=True)


def data_of(table: pd.DataFrame, checks: Checks | None = None) -> MarketDataModule:
    return MarketDataModule(TableSource(table), features=FEATURES, window=6, batch_size=16, checks=checks)


def fitted(folder: Path, table: pd.DataFrame, checks: Checks | None = None) -> Path:
    trainer = small_trainer()
    trainer.fit(Forecaster(small_network()), datamodule=data_of(table, checks))
    trainer.save_checkpoint(folder / "slow.ckpt")
    return folder / "slow.ckpt"


@pytest.mark.parametrize(("freq", "limit"), [("W-FRI", 21), ("MS", 90), ("QE", 270)])
def test_slow_bars_are_learnt_forecast_and_streamed_without_a_setting(tmp_path: Path, freq: str, limit: float) -> None:
    table = slow_market(freq)
    path = fitted(tmp_path, table[table["timestamp"] < table["timestamp"].max()])
    predictor = Predictor.from_checkpoint(path)
    assert predictor.forecaster.contract.gap_limit == limit
    whole = predictor.predict(table)
    assert len(whole) > 0
    old, new = (table[(table["timestamp"] < table["timestamp"].unique()[-8]) == early] for early in (True, False))
    stream = predictor.stream(old)
    streamed = pd.concat([stream.update(bars) for _, bars in new.groupby("timestamp")])
    order = ["symbol", "as_of"]
    expected = whole[whole["as_of"].isin(streamed["as_of"])].sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(streamed.sort_values(order, ignore_index=True)[KEYS], expected[KEYS])
    assert len(expected) == 16


def test_a_checkpoint_of_another_limit_goes_on_with_its_own(tmp_path: Path) -> None:
    table = slow_market("W-FRI")
    path = fitted(tmp_path, table, Checks(max_gap_days=10))  # as all weekly bars had before
    read = data_of(table)
    small_trainer().test(Forecaster(small_network()), datamodule=read, ckpt_path=str(path), verbose=False)
    assert read.recipe.checks.max_gap_days == 10
    small_trainer(max_epochs=2).fit(Forecaster(small_network()), datamodule=data_of(table), ckpt_path=str(path))
