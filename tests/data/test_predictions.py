"""The predictions table: dates, truth and trivial forecasts, also around gaps and at the end of the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cnn_lstm.data.feature_catalogue import resolve_features
from cnn_lstm.data.predictions import predictions_table
from cnn_lstm.data.targets import ForwardReturn, RealizedVolatility, Target
from cnn_lstm.data.windows import build_panel
from tests.markets import walk

COLUMNS = ["symbol", "as_of", "target_start", "target_end", "horizon", "target", "y_true", "y_pred", "y_last", "y_mean"]
COLUMNS += ["volatility", "scale", "bar_return"]


def two_symbols() -> pd.DataFrame:
    """Thirty rows of AAA with four weeks missing before row 15, twenty rows of BBB."""
    first = walk(50, "AAA").drop(index=range(15, 35))
    return pd.concat([first, walk(20, "BBB", seed=1)], ignore_index=True)


def forecasts(*targets: Target, rows: np.ndarray | None = None, **columns: torch.Tensor) -> pd.DataFrame:
    table = two_symbols()
    panel = build_panel(table, resolve_features(["close"], table.columns), targets, max_gap_days=10)
    rows = np.arange(len(table)) if rows is None else rows
    pred = torch.arange(len(rows) * len(targets), dtype=torch.float32).reshape(len(rows), len(targets))
    means = [0.25 * (k + 1) for k in range(len(targets))]
    return predictions_table(panel, targets, rows, {"y_pred": pred, **columns}, means)


@pytest.mark.parametrize(("horizon", "delay"), [(1, 0), (1, 1), (3, 2)])
def test_dates_are_those_of_the_rows_that_the_label_spans(horizon: int, delay: int) -> None:
    table, found = two_symbols(), forecasts(ForwardReturn(horizon, delay))
    when, segment_of = table["timestamp"], np.repeat([0, 1, 2], [15, 15, 20])
    assert found["as_of"].tolist() == when.tolist()
    for row in range(len(table)):
        for column, steps in (("target_start", delay), ("target_end", delay + horizon)):
            ahead = row + steps
            if ahead < len(table) and segment_of[ahead] == segment_of[row]:
                assert found[column][row] == when[ahead]
            else:
                assert found[column][row] is pd.NaT


def test_truth_is_known_exactly_where_the_label_has_ended() -> None:
    found = forecasts(ForwardReturn(3, 2))
    assert (found["y_true"].isna() == found["target_end"].isna()).all()
    assert found["y_true"].isna().sum() == 3 * 5


def test_truth_follows_from_the_closes_at_the_two_dates() -> None:
    close = two_symbols().set_index(["symbol", "timestamp"])["close"]
    known = forecasts(ForwardReturn(3, 2)).dropna(subset="y_true")
    for _, line in known.iterrows():
        start, end = (close.loc[(line["symbol"], line[name])] for name in ("target_start", "target_end"))
        growth = np.log(end / start)
        assert line["y_true"] == pytest.approx(growth, rel=1e-5)


def test_the_last_value_is_the_return_that_ended_at_the_decision() -> None:
    table, found = two_symbols(), forecasts(ForwardReturn(2, 1))
    expected = np.log(table["close"]).groupby(table["symbol"]).diff(2)
    np.testing.assert_allclose(found["y_last"], expected, rtol=1e-5)


def test_columns_stand_in_their_order_and_have_their_types() -> None:
    found = forecasts(ForwardReturn(2))
    assert found.columns.tolist() == COLUMNS
    assert {str(found[name].dtype) for name in ("as_of", "target_start", "target_end")} == {"datetime64[us, UTC]"}
    assert {str(found[name].dtype) for name in ("y_true", "y_pred", "y_last", "y_mean")} == {"float64"}
    assert {str(found[name].dtype) for name in ("symbol", "target")} == {"str"}


def test_targets_stand_behind_one_another_each_with_its_own_numbers() -> None:
    found = forecasts(ForwardReturn(2), RealizedVolatility(5))
    assert found["target"].unique().tolist() == ["return_2", "volatility_5"]
    for k, (_, part) in enumerate(found.groupby("target", sort=False)):
        assert part["y_pred"].tolist() == [2.0 * row + k for row in range(50)]
        assert set(part["y_mean"]) == {0.25 * (k + 1)}
        assert set(part["horizon"]) == {(2, 5)[k]}
        assert part["symbol"].tolist() == two_symbols()["symbol"].tolist()


def test_further_columns_of_the_objective_follow_the_forecast() -> None:
    spread = torch.full((50, 1), 0.5)
    found = forecasts(ForwardReturn(2), std=spread)
    assert found.columns.tolist() == [*COLUMNS[:8], "std", *COLUMNS[8:]]
    assert set(found["std"]) == {0.5}


def test_only_the_given_rows_are_in_the_table() -> None:
    rows = np.array([3, 14, 29, 49])
    found, everything = forecasts(ForwardReturn(2), rows=rows), forecasts(ForwardReturn(2))
    named = ["symbol", "as_of", "target_start", "target_end", "y_true", "y_last"]
    pd.testing.assert_frame_equal(found[named], everything.loc[rows, named].reset_index(drop=True))
    assert found["y_pred"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_forecast_is_stored_with_all_its_bits() -> None:
    value = torch.tensor([[1 / 3]])
    found = forecasts(ForwardReturn(2), rows=np.array([5]), std=value)
    assert np.float32(found["std"][0]) == value.numpy()[0, 0]


def test_the_file_says_what_kind_each_target_is(tmp_path: Path) -> None:
    table = forecasts(ForwardReturn(2), RealizedVolatility(3, log=True))
    table.to_parquet(tmp_path / "predictions.parquet")
    found = pd.read_parquet(tmp_path / "predictions.parquet").attrs["targets"]
    assert found["return_2"] == {"kind": "return", "unit": "return", "horizon": 2, "delay": 1, "classes": 0}
    assert found["log_volatility_3"]["kind"] == "log_volatility"


def test_no_bar_is_earned_across_a_gap() -> None:
    found = forecasts(ForwardReturn(1, 0))
    assert np.flatnonzero(found["bar_return"].isna()).tolist() == [14, 29, 49], "last rows of the three stretches"
