"""A predictor that is asked every evening computes the new windows alone, and says what a new one would say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.inference import remembered
from cnn_lstm.inference.ensemble import write_ensemble
from cnn_lstm.inference.predictor import Predictor
from tests.inference.test_stream import trained
from tests.markets import market

START = "2011-06-01"
LAST = -6  # rows that come later


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return market(400).sort_values(["timestamp", "symbol"], ignore_index=True)


@pytest.fixture(scope="module")
def checkpoint(prices: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("remembered"), prices)


@pytest.fixture
def predictor(checkpoint: Path) -> Predictor:
    return Predictor.from_checkpoint(checkpoint)


@pytest.fixture
def computed(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of windows that the network was given."""
    counts: list[int] = []
    plain = predictor.forecast_rows

    def watched(panel: object, rows: Rows, samples: int = 0) -> dict[str, Tensor]:
        counts.append(len(rows))
        return plain(panel, rows, samples)  # type: ignore[arg-type]

    monkeypatch.setattr(predictor, "forecast_rows", watched)
    return counts


def said_by_a_new_one(checkpoint: Path, prices: pd.DataFrame, start: str = START) -> pd.DataFrame:
    return Predictor.from_checkpoint(checkpoint).predict(prices, start)


Change = Callable[[pd.DataFrame], pd.DataFrame]
CHANGES: dict[str, tuple[Change, int | None]] = {
    "nothing": (lambda p: p, 0),
    "two days": (lambda p: p, 6),
    "a later beginning": (lambda p: p[p["timestamp"] >= "2010-03-01"], None),
    "a price of the past": (
        lambda p: p.assign(close=p["close"].where(p.index != 900, p[["low", "close"]].mean(axis=1))),
        None,
    ),
    "a symbol less": (lambda p: p[p["symbol"] != "BBB"], 0),
    "other names": (lambda p: p.assign(symbol=p["symbol"].replace({"AAA": "CCC", "CCC": "AAA"})), 0),
}


@pytest.mark.parametrize(("change", "fresh"), CHANGES.values(), ids=CHANGES.keys())
def test_the_second_evening_is_that_of_a_new_predictor(
    predictor: Predictor,
    checkpoint: Path,
    prices: pd.DataFrame,
    computed: list[int],
    change: Change,
    fresh: int | None,
) -> None:
    predictor.predict(prices[:LAST] if fresh == -LAST else prices, START)
    table = change(prices)
    computed.clear()
    found = predictor.predict(table, START)
    pd.testing.assert_frame_equal(found, said_by_a_new_one(checkpoint, table), rtol=0, atol=0, check_exact=True)
    if fresh is not None:
        assert sum(computed) == fresh
    predictor.predict(table, "2011-07-01")
    assert sum(computed) == (fresh if fresh is not None else sum(computed))


def test_other_weights_have_nothing_to_remember(predictor: Predictor, prices: pd.DataFrame) -> None:
    before = predictor.predict(prices, START)
    with torch.no_grad():
        for weight in predictor.forecaster.parameters():
            weight.mul_(0.5)
    after = predictor.predict(prices, START)
    assert not after["y_pred"].equals(before["y_pred"])
    predictor._remembered = remembered.RememberedForecasts()
    pd.testing.assert_frame_equal(predictor.predict(prices, START), after, check_exact=True)


def test_an_ensemble_and_other_columns_are_remembered_too(
    checkpoint: Path, prices: pd.DataFrame, tmp_path: Path
) -> None:
    calibration = Predictor.from_checkpoint(checkpoint).forecaster.contract.calibration
    write_ensemble([checkpoint, trained(tmp_path, prices, name="other")], tmp_path / "both.ckpt", calibration)
    both = Predictor.from_checkpoint(tmp_path / "both.ckpt")
    both.predict(prices[:LAST], START)
    found = both.predict(prices, START)
    assert "ensemble_std" in found
    pd.testing.assert_frame_equal(found, said_by_a_new_one(tmp_path / "both.ckpt", prices), check_exact=True)


def test_passes_with_dropout_are_not_remembered(
    predictor: Predictor, prices: pd.DataFrame, computed: list[int]
) -> None:
    for _ in range(2):
        computed.clear()
        predictor.predict(prices, START, samples=2)
        assert sum(computed) > 0


def test_more_windows_than_fit_are_computed_each_time(
    predictor: Predictor, prices: pd.DataFrame, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "MOST_WINDOWS", 10)
    for _ in range(2):
        computed.clear()
        predictor.predict(prices, START)
        assert sum(computed) > 10
    assert predictor._remembered.known == 0


def test_twenty_evenings_are_those_of_new_predictors(
    predictor: Predictor, checkpoint: Path, prices: pd.DataFrame
) -> None:
    """Labels end, symbols pause, and a day is asked for twice."""
    times = sorted(prices["timestamp"].unique())
    for days in (*range(40, 20, -1), 20, 20, 12, 1):
        until = prices[prices["timestamp"] <= times[-days]]
        start = str(pd.Timestamp(times[-days - 2]).date())
        found = predictor.predict(until, start)
        pd.testing.assert_frame_equal(found, said_by_a_new_one(checkpoint, until, start), check_exact=True)
        assert found["lower_90"].notna().all()


def test_a_changed_label_of_the_past_changes_the_intervals_that_learnt_from_it(
    predictor: Predictor, checkpoint: Path, prices: pd.DataFrame
) -> None:
    predictor.predict(prices[:LAST], START)
    row = prices.index[prices["timestamp"] == prices["timestamp"].iloc[-60]][0]
    changed = prices.copy()
    changed.loc[row, ["open", "high", "low", "close"]] *= 1.02
    found = predictor.predict(changed, START)
    pd.testing.assert_frame_equal(found, said_by_a_new_one(checkpoint, changed), check_exact=True)
