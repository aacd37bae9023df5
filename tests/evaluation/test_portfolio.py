"""Forecasts and strategies as skfolio and quantstats read them, next to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

import cnn_lstm as cl
from cnn_lstm.data.targets import ForwardReturn, RealizedVolatility, Target
from cnn_lstm.errors import DataError
from cnn_lstm.evaluation.foreign.judgement import judge_forecasts
from cnn_lstm.evaluation.settings import Evaluation
from tests.evaluation.foreign import tables

QUICK = Evaluation(resamples=100, fee_bp=3.0)


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return tables.prices()


def made(folder: Path, bars: pd.DataFrame, target: Target) -> tuple[pd.DataFrame, Any]:
    """Predictions table and report of noise."""
    judgement = judge_forecasts(folder, tables.forecasts(bars), tables.data_of(bars, target), QUICK)
    return pd.read_parquet(folder / "predictions.parquet"), judgement.report["targets"][target.name]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, bars: pd.DataFrame) -> tuple[pd.DataFrame, Any]:
    return made(tmp_path_factory.mktemp("returns"), bars, ForwardReturn(horizon=2, delay=1))


def test_returns_are_those_of_the_report(judged: tuple[pd.DataFrame, Any]) -> None:
    table, report = judged
    strategy = report["strategy"]

    returns = cl.strategy_returns(table, name="noise")

    assert returns.name == "noise"
    assert returns.index.tz is None
    assert returns.index.is_monotonic_increasing
    assert len(returns) == strategy["bars"]
    assert returns.mean() * strategy["periods_per_year"] == pytest.approx(strategy["net_annual_return"], rel=1e-9)
    dearer = cl.strategy_returns(table, settings=Evaluation(fee_bp=30.0))
    assert dearer.sum() < returns.sum()


def test_a_return_stands_on_the_day_on_which_it_was_earned(
    judged: tuple[pd.DataFrame, Any], bars: pd.DataFrame
) -> None:
    """A book that is always long earns the mean return of the symbols from the close before to the close of the day."""
    table, _ = judged
    always = table.assign(y_pred=1.0)
    always.attrs = table.attrs
    daily = bars.assign(day=bars["timestamp"].dt.tz_localize(None)).pivot(index="day", columns="symbol", values="close")

    returns = cl.strategy_returns(always, settings=Evaluation(fee_bp=0.0, half_spread_bp=0.0))

    wanted = daily.pct_change().reindex(returns.index)
    both = 8  # dates from which on both symbols are held in full: the second one begins seven days later
    assert returns.iloc[0] == pytest.approx(wanted["AAA"].iloc[0] / 2, abs=1e-6)  # half of the stake for each decision
    assert returns.iloc[both:].to_numpy() == pytest.approx(wanted.mean(axis=1).iloc[both:].to_numpy(), abs=1e-6)


def test_quantstats_has_the_sharpe_ratio_of_the_report(judged: tuple[pd.DataFrame, Any]) -> None:
    stats = pytest.importorskip("quantstats.stats", reason="pip install quantstats", exc_type=ImportError)
    table, report = judged
    strategy = report["strategy"]

    sharpe = stats.sharpe(cl.strategy_returns(table), periods=strategy["periods_per_year"])

    assert sharpe == pytest.approx(strategy["sharpe"], rel=2 / strategy["bars"])  # of another degree of freedom


def test_a_frame_has_a_row_for_each_decision(judged: tuple[pd.DataFrame, Any]) -> None:
    table, _ = judged

    frame = cl.forecast_frame(table)

    assert frame.index.tz is None
    one = table.iloc[7]
    assert frame.at[one["as_of"].tz_localize(None), one["symbol"]] == one["y_pred"] / 2
    assert frame.count().sum() == len(table)


def test_skfolio_learns_from_the_frame_what_the_forecasts_know(
    judged: tuple[pd.DataFrame, Any], bars: pd.DataFrame
) -> None:
    """A forecast that is a part of the truth: the alpha has its sign only where horizon and lag are those of ours."""
    from skfolio.alpha import PredictorAlpha
    from skfolio.containers import AssetPanel
    from skfolio.descriptor import Passthrough

    table, _ = judged
    random = np.random.default_rng(0)
    knowing = table.assign(y_pred=table["y_true"] + random.normal(0, 0.005, len(table))).dropna(subset="y_true")
    knowing.attrs = table.attrs
    frame = cl.forecast_frame(knowing)
    closes = bars.assign(day=bars["timestamp"].dt.tz_localize(None)).pivot(
        index="day", columns="symbol", values="close"
    )
    returns = closes.apply(np.log).diff().reindex(frame.index)

    def slope(horizon: int, lag: int) -> float:
        panel = AssetPanel(
            fields={"forecast": frame.to_numpy(), "idio_returns": returns.to_numpy()},
            observations=frame.index.to_numpy(),
            asset_names=frame.columns.to_numpy(),
        )
        alpha = PredictorAlpha(
            predictor=LinearRegression(),
            descriptors=[("forecast", Passthrough("forecast"))],
            horizon=horizon,
            signal_lag=lag,
            outlier_transformer="passthrough",
            scoring_transformer="passthrough",
            target_outlier_transformer="passthrough",
            calibrate_to_return_units=False,
        ).fit(panel)
        return float(alpha.predictor_.coef_[0])

    ours = slope(horizon=2, lag=2)  # the target has a horizon of 2 and a delay of 1

    assert 0.75 < ours <= 1.05
    assert all(slope(2, lag) < ours - 0.2 for lag in (1, 3))


def test_what_cannot_be_handed_over_is_refused(
    tmp_path: Path, judged: tuple[pd.DataFrame, Any], bars: pd.DataFrame
) -> None:
    volatility, _ = made(tmp_path, bars, RealizedVolatility(5))
    bare = judged[0].copy()
    bare.attrs = {}
    with pytest.raises(DataError, match="no target return_9") as caught:
        cl.forecast_frame(judged[0], "return_9")
    assert caught.value.code == 371
    with pytest.raises(DataError, match="does not say"):
        cl.forecast_frame(bare)
    with pytest.raises(DataError, match="is a volatility"):
        cl.forecast_frame(volatility)
    with pytest.raises(DataError, match="is not traded"):
        cl.strategy_returns(volatility)
