"""Training statistics against numpy on the covered rows, and deaf to everything that is not a training row."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from cnn_lstm.data import statistics
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.prices import Checks
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.statistics import Scaler, TrainingStatistics, training_statistics
from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue, Target
from cnn_lstm.data.windows import Panel
from tests.markets import PRICES, TableSource, market, walk

FEATURES = ["log_return_1", "close_location", "volume", "market_return_1", "close"]
ROWS = np.array([4, 5, 6, 20, 21, 33])
LENGTH = 5
COVERED = [*range(0, 7), *range(16, 22), *range(29, 34)]


def panel(seed: int = 0, classes: int = 0) -> Panel:
    random = np.random.default_rng(seed)
    values = (random.normal(size=(40, 3)) * [1e-3, 1.0, 1e6] + [0.5, -2.0, 1e7]).astype(np.float32)
    numbers = random.normal(size=(40, 2)) * [0.01, 3.0] + [0.0, 100.0]
    labels = random.integers(0, classes, size=(40, 2)) if classes else numbers
    known = torch.from_numpy(labels.astype(np.float32))
    code = np.zeros(40, np.int32)
    return Panel(
        torch.from_numpy(values), known, known, known, known, ("A",), code, np.zeros(40, "datetime64[us]"), code
    )


def of(
    panel: Panel,
    rows: Rows = ROWS,
    length: int = LENGTH,
    anchored: tuple[int, ...] = (),
    y_anchor: tuple[int, ...] = (-1, -1),
    classes: int = 0,
    scaling: statistics.Scaling = "standard",
) -> TrainingStatistics:
    return training_statistics(panel, rows, Scaler(length, anchored, y_anchor, classes, scaling))


def bits(found: TrainingStatistics) -> dict[str, bytes]:
    return {part.name: getattr(found, part.name).numpy().tobytes() for part in fields(found)}


def data_of(table: pd.DataFrame, targets: list[Target] | None = None, **arguments: object) -> MarketDataModule:
    settings: dict[str, object] = {"features": FEATURES, "window": 8, "checks": Checks(allow_jumps=True)}
    data = MarketDataModule(TableSource(table), targets=targets, **{**settings, **arguments})  # type: ignore[arg-type]
    data.setup()
    return data


def test_location_and_scale_are_those_of_the_covered_rows() -> None:
    given, found = panel(), of(panel())
    values = given.values.numpy().astype(float)[COVERED]
    np.testing.assert_allclose(found.x_loc, values.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.x_scale, values.std(axis=0), rtol=1e-6)
    labels = given.labels.numpy().astype(float)[ROWS]
    np.testing.assert_allclose(found.y_loc, labels.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.y_scale, labels.std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.y_mean, labels.mean(axis=0), rtol=1e-6)


def test_each_covered_row_counts_once_however_many_windows_cover_it() -> None:
    twice = of(panel(), np.sort(np.concatenate([ROWS, [5, 6, 20]])))
    assert torch.equal(twice.x_loc, of(panel()).x_loc)
    assert torch.equal(twice.x_scale, of(panel()).x_scale)


@pytest.mark.parametrize("row", [7, 15, 22, 28, 34, 39])
def test_a_row_outside_of_the_training_windows_changes_nothing(row: int) -> None:
    given = panel()
    before = bits(of(given, anchored=(1,)))
    given.values[row] *= 10
    given.labels[row] *= 10
    assert bits(of(given, anchored=(1,))) == before


@pytest.mark.parametrize("row", [0, 6, 16, 21, 29, 33])
def test_each_row_inside_of_them_counts(row: int) -> None:
    given = panel()
    before = bits(of(given))
    given.values[row] *= 10
    assert bits(of(given))["x_loc"] != before["x_loc"]


@pytest.mark.parametrize("row", sorted({*range(40)} - {*ROWS.tolist()}))
def test_labels_of_other_rows_do_not_count(row: int) -> None:
    given = panel()
    before = bits(of(given))
    given.labels[row] += 7
    assert bits(of(given)) == before


def test_robust_scaling_is_median_and_interquartile_range() -> None:
    given, found = panel(), of(panel(), scaling="robust")
    for values, loc, scale in (
        (given.values.numpy().astype(float)[COVERED], found.x_loc, found.x_scale),
        (given.labels.numpy().astype(float)[ROWS], found.y_loc, found.y_scale),
    ):
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
        np.testing.assert_allclose(loc, middle, rtol=1e-6)
        np.testing.assert_allclose(scale, (high - low) / 1.3489795, rtol=1e-5)


def test_robust_scaling_of_a_normal_sample_is_its_standard_deviation() -> None:
    given = panel()
    sample = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0)) * 3 + 1
    wide = replace(given, values=sample, labels=sample, present=sample)
    found = of(wide, np.arange(20_000), 1, y_anchor=(-1,), scaling="robust")
    assert float(found.x_scale[0]) == pytest.approx(3.0, rel=0.03)


def test_an_outlier_moves_standard_scaling_but_hardly_robust_scaling() -> None:
    given, wild = panel(), panel()
    wild.values[4, 1] = 1e6
    plain, robust = of(wild), of(wild, scaling="robust")
    assert float(plain.x_scale[1]) > 1e4 * float(of(given).x_scale[1])
    assert float(robust.x_scale[1]) < 2 * float(of(given, scaling="robust").x_scale[1])


def test_anchored_moments_are_those_of_all_distances_to_the_last_value() -> None:
    given, found = panel(), of(panel(), anchored=(1,))
    column = given.values[:, 1].numpy().astype(float)
    distances = [column[k] - column[row] for row in ROWS for k in range(row - LENGTH + 1, row + 1)]
    assert float(found.x_loc[1]) == pytest.approx(np.mean(distances), rel=1e-5)
    assert float(found.x_scale[1]) == pytest.approx(np.std(distances), rel=1e-5)
    assert found.x_anchored.tolist() == [0, 1, 0]
    free = of(given)
    assert found.x_loc[[0, 2]].tolist() == free.x_loc[[0, 2]].tolist()


@pytest.mark.parametrize("scaling", ["standard", "robust"])
def test_zero_is_the_last_value_of_an_anchored_target(scaling: statistics.Scaling) -> None:
    assert float(of(panel(), anchored=(1,), y_anchor=(-1, 1), scaling=scaling).y_loc[1]) == 0.0


def test_an_anchored_target_is_scaled_by_its_moves() -> None:
    given, found = panel(), of(panel(), anchored=(1,), y_anchor=(-1, 1))
    moves = (given.labels[ROWS, 1] - given.values[ROWS, 1]).numpy().astype(float)
    assert float(found.y_scale[1]) == pytest.approx(moves.std(), rel=1e-5)
    assert found.y_anchor.tolist() == [-1, 1]
    assert found.y_loc[0] == of(given).y_loc[0]
    assert found.y_mean.tolist() == of(given).y_mean.tolist(), "the training mean is that of the raw target"


@pytest.mark.parametrize("value", [0.0, 0.1, 123456.7, -3e8])
@pytest.mark.parametrize("scaling", ["standard", "robust"])
def test_a_constant_feature_has_an_infinite_scale_which_mutes_it(value: float, scaling: statistics.Scaling) -> None:
    given = panel()
    given.values[COVERED, 0] = value
    found = of(given, scaling=scaling)
    assert found.x_scale.isinf().tolist() == [True, False, False]
    assert ((given.values - found.x_loc) / found.x_scale)[:, 0].tolist() == [0.0] * 40


def test_robust_scaling_keeps_a_feature_that_changes_seldom() -> None:
    """Candle patterns are 0 on most days: their quartiles are equal, but they are not constant."""
    given = panel()
    given.values[:, 0] = 0.0
    given.values[COVERED[::6], 0] = 1.0
    assert torch.isfinite(of(given, scaling="robust").x_scale).all()


def test_robust_scaling_of_a_target_that_changes_seldom_stays_finite() -> None:
    """A price that seldom trades has returns of 0 on most days; an infinite scale makes its forecasts infinite."""
    given = panel()
    given.labels[:, 0] = 0.0
    given.labels[int(ROWS[0]), 0] = 0.02
    assert torch.isfinite(of(given, scaling="robust").y_scale).all()


@pytest.mark.parametrize("classes", [2, 4])
def test_classes_are_counted_and_not_scaled(classes: int) -> None:
    given = panel(classes=classes)
    found = of(given, classes=classes)
    for target in range(2):
        expected = np.bincount(given.labels[ROWS, target].long().numpy(), minlength=classes)
        assert found.class_counts[target].tolist() == expected.tolist()
        assert int(found.y_mean[target]) == int(expected.argmax())
    assert found.y_loc.tolist() == [0, 0]
    assert found.y_scale.tolist() == [1, 1]


def test_numbers_have_no_class_counts() -> None:
    assert of(panel()).class_counts.shape == (2, 0)


@pytest.mark.parametrize("chunk", [8, 24, 40])
@pytest.mark.parametrize("scaling", ["standard", "robust"])
def test_moments_do_not_depend_on_the_chunks(
    monkeypatch: pytest.MonkeyPatch, chunk: int, scaling: statistics.Scaling
) -> None:
    whole = of(panel(), anchored=(1,), y_anchor=(-1, 1), scaling=scaling)
    monkeypatch.setattr(statistics, "CHUNK", chunk)
    parts = of(panel(), anchored=(1,), y_anchor=(-1, 1), scaling=scaling)
    for part in fields(whole):
        one, other = getattr(whole, part.name), getattr(parts, part.name)
        assert isinstance(one, Tensor)
        torch.testing.assert_close(other, one, rtol=1e-6, atol=0)


def test_a_far_location_does_not_swallow_a_small_scale() -> None:
    given = panel()
    given.values[:, 2] = 1e6 + torch.arange(40) % 2
    assert float(of(given).x_scale[2]) == pytest.approx(np.std([k % 2 for k in COVERED]), rel=1e-6)


TARGETS: dict[str, list[Target]] = {
    "numbers": [ForwardReturn(3), ForwardValue("close", 2)],
    "classes": [Direction([-0.005, 0.005], 3)],
}


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS.keys())
@pytest.mark.parametrize("scaling", ["standard", "robust"])
@pytest.mark.parametrize("symbols", [["AAA", "BBB", "CCC"], ["BBB"]], ids=["all symbols", "one symbol"])
def test_validation_and_test_rows_change_no_training_statistic(
    symbols: list[str], scaling: str, targets: list[Target]
) -> None:
    table = market(250)
    anchor = [] if targets[0].classes else ["close"]
    data = data_of(table, targets, scaling=scaling, anchor=anchor)
    later = table["timestamp"].dt.tz_localize(None) >= pd.Timestamp(data.parts.boundaries.validation)
    changed = table.copy()
    changed.loc[later & table["symbol"].isin(symbols), [*PRICES, "volume"]] *= 10
    again = data_of(changed, targets, scaling=scaling, anchor=anchor)
    assert not torch.equal(again.panel.values.nan_to_num(), data.panel.values.nan_to_num())
    assert again.parts.train.tolist() == data.parts.train.tolist()
    assert bits(again.statistics) == bits(data.statistics)
    assert again.contract()["target_mean"] == data.contract()["target_mean"]


def test_a_training_row_does_change_them() -> None:
    table = market(250)
    data = data_of(table)
    changed = table.copy()
    changed.loc[60:65, [*PRICES, "volume"]] *= 10
    assert bits(data_of(changed).statistics) != bits(data.statistics)


def test_statistics_of_the_training_slice_alone_are_the_stored_ones() -> None:
    table = walk(300)
    data = data_of(table)
    rows = data.parts.train
    assert (np.diff(rows) == 1).all()
    alone = data.panel.values[rows[0] - 7 : rows[-1] + 1].numpy().astype(float)
    np.testing.assert_allclose(data.statistics.x_loc, alone.mean(axis=0), rtol=1e-5, atol=1e-9)
    scale = np.where(alone.std(axis=0) > 0, alone.std(axis=0), np.inf)
    np.testing.assert_allclose(data.statistics.x_scale, scale, rtol=1e-5)
