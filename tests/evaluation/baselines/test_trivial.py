"""Seasons, seasonal values and naive errors, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue, RealizedVolatility
from cnn_lstm.data.windows import Panel
from cnn_lstm.evaluation.baselines.trivial import fit_trivial, naive_errors, season_of, seasonal
from tests.evaluation.baselines.inputs import inputs_of
from tests.markets import market, walk


def panel_of(present: list[float], segment: list[int]) -> Panel:
    column = torch.tensor(present)[:, None]
    count = len(present)
    segments = np.array(segment, dtype=np.int32)
    time = np.arange(count).astype("datetime64[D]").astype("datetime64[us]")
    return Panel(column, column, column, column, column, ("A",), np.zeros(count, np.int32), time, segments)


@pytest.mark.parametrize(
    ("reach", "season", "expected"),
    [
        (1, 1, [0, 1, 2, 3, 40, 50]),  # nothing changes
        (1, 3, [0, 1, 0, 1, 40, 50]),  # two rows back; the first rows of a segment take the last value
        (2, 3, [0, 0, 1, 2, 40, 40]),
        (3, 3, [0, 1, 2, 3, 40, 50]),
        (4, 3, [0, 1, 0, 1, 40, 50]),  # the season before the last is the latest known one
    ],
)
def test_seasonal_values_by_hand(reach: int, season: int, expected: list[float]) -> None:
    panel = panel_of([0.0, 1.0, 2.0, 3.0, 40.0, 50.0], [1, 1, 1, 1, 2, 2])
    assert seasonal(panel, np.arange(6), 0, reach, season).tolist() == expected


@given(
    reach=st.integers(1, 30),
    season=st.integers(1, 12),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
)
def test_seasonal_values_are_known_and_of_the_same_phase(reach: int, season: int, lengths: list[int]) -> None:
    segment = np.repeat(np.arange(len(lengths)), lengths).tolist()
    panel = panel_of([float(row) for row in range(len(segment))], segment)
    for row, source in enumerate(seasonal(panel, np.arange(len(segment)), 0, reach, season)):
        assert row - season < source <= row
        assert segment[int(source)] == segment[row]
        assert source == row or (row + reach - source) % season == 0


def test_a_missing_seasonal_value_is_the_last_one() -> None:
    panel = panel_of([0.0, float("nan"), 2.0, 3.0], [1, 1, 1, 1])
    assert seasonal(panel, np.array([3]), 0, 1, 3).tolist() == [3.0]


@pytest.mark.parametrize(
    ("dates", "season"),
    [
        (pd.bdate_range("2020-01-01", periods=100), 5),
        (pd.date_range("2020-01-01", periods=100, freq="D"), 7),
        (pd.bdate_range("2020-01-01", periods=300).delete([5, 17, 80, 81]), 5),
        (pd.date_range("2020-01-01", periods=200, freq="h"), 24),
        (
            pd.date_range("2020-01-06 14:30", periods=7, freq="h").append(
                pd.date_range("2020-01-07 14:30", periods=7, freq="h")
            ),
            7,
        ),
        (pd.date_range("2020-01-03", periods=80, freq="W"), 52),
        (pd.date_range("2020-01-31", periods=40, freq="ME"), 12),
        (pd.date_range("2000-01-31", periods=40, freq="QE"), 4),
        (pd.date_range("1980-12-31", periods=30, freq="YE"), 1),
        (pd.DatetimeIndex(["2020-01-01"]), 1),
    ],
    ids=["weekdays", "days", "holidays", "hours", "session", "weeks", "months", "quarters", "years", "one bar"],
)
def test_the_season_is_guessed_from_the_dates(dates: pd.DatetimeIndex, season: int) -> None:
    times = np.tile(dates.to_numpy().astype("datetime64[us]"), 2)
    assert season_of(times, np.repeat([0, 1], len(dates)).astype(np.int32)) == season


def test_each_kind_of_target_has_its_columns() -> None:
    numbers = fit_trivial(inputs_of(market(300), ForwardReturn(), RealizedVolatility()))
    assert numbers.season == 5
    returns, volatility = numbers.forecast(numbers.inputs.parts.test)
    assert set(returns) == {"y_seasonal", "y_zero"}
    assert not returns["y_zero"].any()
    assert set(volatility) == {"y_seasonal"}
    assert set(fit_trivial(inputs_of(walk(), ForwardValue("close")), 3).forecast(np.arange(20, 30))[0]) == {
        "y_seasonal"
    }


def test_prior_is_the_training_share() -> None:
    data = inputs_of(market(300), Direction([-0.01, 0.01]))
    columns = fit_trivial(data).forecast(data.parts.test)[0]
    labels = data.labels(data.parts.train, 0)
    for k in range(3):
        np.testing.assert_allclose(columns[f"prior_p{k}"], (labels == k).mean())
    assert "y_prior" not in columns


def test_naive_errors_are_those_of_the_last_value() -> None:
    data = inputs_of(market(300), ForwardReturn(), RealizedVolatility())
    naive, train = naive_errors(data), data.parts.train
    for k in range(2):
        frame = pd.DataFrame(
            {"symbol": data.panel.symbol[train], "error": data.labels(train, k) - data.present(train, k)}
        )
        np.testing.assert_allclose(naive.mae[:, k], frame["error"].abs().groupby(frame["symbol"]).mean())
        np.testing.assert_allclose(naive.mse[:, k], (frame["error"] ** 2).groupby(frame["symbol"]).mean())


def test_naive_errors_of_few_rows_or_zero_are_pooled() -> None:
    data = inputs_of(market(300), ForwardReturn())
    symbol = data.panel.symbol[data.parts.train]
    few = np.flatnonzero(symbol == 0)[:19]
    train = data.parts.train[np.concatenate([few, np.flatnonzero(symbol > 0)])]
    present = data.panel.present.clone()
    present[data.panel.symbol == 1] = data.panel.labels[data.panel.symbol == 1]
    changed = replace(data, parts=replace(data.parts, train=train), panel=replace(data.panel, present=present))
    naive = naive_errors(changed)
    error = np.abs(changed.labels(train, 0) - changed.present(train, 0))
    np.testing.assert_allclose(naive.mae[:2, 0], error.mean())
    np.testing.assert_allclose(naive.mae[2, 0], error[data.panel.symbol[train] == 2].mean())
