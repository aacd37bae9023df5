"""Targets against values written by hand, and the promise that no label can be earned before it is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cnn_lstm import specs
from cnn_lstm.data.column_targets import LabelColumn, RealizedMeasure
from cnn_lstm.data.targets import (
    Direction,
    ForwardReturn,
    ForwardValue,
    RealizedVolatility,
    Target,
    check_targets,
    ewma_volatility,
)
from cnn_lstm.errors import ConfigError
from tests.markets import walk

ROWS = 40
SPANS = [(1, 0), (1, 1), (2, 1), (5, 0), (5, 3), (20, 1)]
Make = Callable[[int, int], Target]
MAKERS: dict[str, Make] = {
    "return": lambda h, d: ForwardReturn(h, d),
    "simple return": lambda h, d: ForwardReturn(h, d, log=False),
    "direction": lambda h, d: Direction([-0.005, 0.0, 0.01], h, d),
    "volatility": lambda h, d: RealizedVolatility(h, d),
    "log volatility": lambda h, d: RealizedVolatility(h, d, log=True),
    "value": lambda h, d: ForwardValue("close", h, d),
    "measure": lambda h, d: RealizedMeasure("volume", h, d),
    "measured volatility": lambda h, d: RealizedMeasure("volume", h, d, log=False, measure="volatility"),
    "labels at their end": lambda h, d: LabelColumn("close", h, d),
    "labels at their decision": lambda h, d: LabelColumn("volume", h, d, stands="decision"),
}
CASES = [pytest.param(make, *span, id=f"{name}-{span}") for name, make in MAKERS.items() for span in SPANS]


def log_price(row: NDArray[np.float64] | float) -> NDArray[np.float64] | float:
    """A price path whose every return is known: the log price is a parabola of the row number."""
    return 0.01 * row + 0.001 * row**2


def parabola(rows: int = ROWS) -> pd.DataFrame:
    return pd.DataFrame({"close": np.exp(log_price(np.arange(float(rows))))})


def same(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool(np.array_equal(a, b, equal_nan=True))


@pytest.mark.parametrize(("horizon", "delay"), SPANS)
def test_forward_return_is_the_closed_form_of_a_parabola(horizon: int, delay: int) -> None:
    row = np.arange(ROWS - delay - horizon, dtype=float)
    expected = 0.01 * horizon + 0.001 * ((row + delay + horizon) ** 2 - (row + delay) ** 2)
    for log, wanted in ((True, expected), (False, np.expm1(expected))):
        found = ForwardReturn(horizon, delay, log=log).future(parabola())
        np.testing.assert_allclose(found[: len(row)], wanted, rtol=1e-12)


@pytest.mark.parametrize(("horizon", "delay"), SPANS)
def test_volatility_is_the_closed_form_of_a_parabola(horizon: int, delay: int) -> None:
    for row in range(ROWS - delay - horizon):
        ends = range(row + delay + 1, row + delay + horizon + 1)
        squares = [(0.01 + 0.001 * (2 * end - 1)) ** 2 for end in ends]
        expected = (sum(squares) / horizon) ** 0.5
        assert RealizedVolatility(horizon, delay).future(parabola())[row] == pytest.approx(expected, rel=1e-9)
        log = RealizedVolatility(horizon, delay, log=True).future(parabola())[row]
        assert log == pytest.approx(np.log(expected), rel=1e-9)


@pytest.mark.parametrize(("horizon", "delay"), SPANS)
def test_forward_value_is_the_value_that_many_rows_ahead(horizon: int, delay: int) -> None:
    bars = pd.DataFrame({"rate": np.arange(float(ROWS)) ** 2})
    found = ForwardValue("rate", horizon, delay).future(bars)
    known = ROWS - delay - horizon
    assert found[:known].tolist() == [(row + delay + horizon) ** 2 for row in range(known)]


@pytest.mark.parametrize(("make", "horizon", "delay"), CASES)
def test_exactly_the_last_delay_plus_horizon_labels_are_unknown(make: Make, horizon: int, delay: int) -> None:
    unknown = np.isnan(make(horizon, delay).future(walk(ROWS)))
    assert unknown.tolist() == [False] * (ROWS - delay - horizon) + [True] * (delay + horizon)
    assert make(horizon, delay).reach == delay + horizon


@pytest.mark.parametrize(("make", "horizon", "delay"), CASES)
def test_the_future_is_the_present_of_the_row_where_the_label_ends(make: Make, horizon: int, delay: int) -> None:
    bars, target = walk(ROWS), make(horizon, delay)
    reach = delay + horizon
    assert same(target.future(bars)[:-reach], target.present(bars)[reach:])


@pytest.mark.parametrize(("make", "horizon", "delay"), CASES)
def test_a_history_shorter_than_the_label_has_no_label(make: Make, horizon: int, delay: int) -> None:
    for rows in range(1, horizon + delay + 1):
        assert np.isnan(make(horizon, delay).future(walk(rows))).all()


@pytest.mark.parametrize(("horizon", "delay"), SPANS)
def test_a_feature_equal_to_the_shifted_target_correlates_at_the_documented_lag_only(horizon: int, delay: int) -> None:
    bars, target = walk(400), ForwardReturn(horizon, delay)
    label, known = target.future(bars), target.present(bars)

    def correlation(lag: int) -> float:
        pair = pd.DataFrame({"label": np.roll(label, lag)[lag:], "known": known[lag:]}).dropna()
        return float(pair["label"].corr(pair["known"]))

    perfect = [lag for lag in range(0, 2 * (delay + horizon) + 2) if correlation(lag) > 0.999]
    assert perfect == [delay + horizon]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
@pytest.mark.parametrize("delay", [1, 3])
def test_with_a_delay_no_label_uses_the_close_of_its_decision(make: Make, delay: int) -> None:
    """Whoever decides at the close of row t cannot trade at it: the first price of the label is row t + delay."""
    bars, target = walk(ROWS), make(2, delay)
    before = target.future(bars)
    for row in range(ROWS):
        moved = bars.copy()
        moved.loc[moved.index < row + delay, "close"] *= 3.0
        assert before[row] == target.future(moved)[row] or np.isnan(before[row])


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_a_return_starts_at_the_close_of_its_delay_and_ends_at_its_horizon(delay: int) -> None:
    bars, target, row = walk(ROWS), ForwardReturn(2, delay), 10
    before = target.future(bars)[row]
    used = []
    for moved_row in range(ROWS):
        moved = bars.copy()
        moved.loc[moved_row, "close"] = moved["close"][moved_row] * 1.5
        if target.future(moved)[row] != before:
            used.append(moved_row)
    assert used == [row + delay, row + delay + 2]


def test_a_return_at_a_threshold_belongs_to_the_class_above() -> None:
    bars = pd.DataFrame({"close": [1.0, 1.0, 2.0, 1.0]})
    up = float(np.log(2.0))
    assert Direction([0.0], 1, 0).future(bars).tolist()[:3] == [1.0, 1.0, 0.0]
    assert Direction([-up, up], 1, 0).future(bars).tolist()[:3] == [1.0, 2.0, 1.0]
    assert Direction([np.nextafter(0.0, 1.0)], 1, 0).future(bars).tolist()[:3] == [0.0, 1.0, 0.0]


def test_direction_has_one_class_more_than_thresholds() -> None:
    assert [Direction(cuts).classes for cuts in (None, [0.1], [-0.1, 0.1], [-0.2, 0.0, 0.2])] == [2, 2, 3, 4]


def test_direction_counts_thresholds_of_the_log_return() -> None:
    bars = walk(ROWS)
    label = ForwardReturn(2, 1).future(bars)[:-3]
    cuts = [-0.01, 0.0, 0.01]
    expected = [sum(value >= cut for cut in cuts) for value in label]
    assert Direction(cuts, 2, 1).future(bars)[:-3].tolist() == expected


def test_volatility_of_no_movement_is_zero_and_its_logarithm_unknown() -> None:
    still = pd.DataFrame({"close": [5.0] * 8})
    assert RealizedVolatility(3).future(still)[:5].tolist() == [0.0] * 5
    assert np.isnan(RealizedVolatility(3, log=True).future(still)).all()


def test_a_wild_row_leaves_calm_volatility_untouched() -> None:
    close = np.full(60, 5.0)
    close[10] = 5e8
    calm = RealizedVolatility(5).present(pd.DataFrame({"close": close}))[17:]
    assert (calm == 0).all()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_targets_leave_the_bars_alone(make: Make) -> None:
    bars = walk(ROWS)
    before = bars.copy()
    make(3, 1).future(bars)
    make(3, 1).present(bars)
    pd.testing.assert_frame_equal(bars, before)


def test_targets_read_the_named_column() -> None:
    bars = walk(ROWS)
    swapped = bars.rename(columns={"close": "open", "open": "close"})
    for cls in (ForwardReturn, RealizedVolatility, Direction):
        assert same(cls(column="open").future(bars), cls().future(swapped))


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_a_target_is_rebuilt_from_its_plain_spec(make: Make) -> None:
    target = make(3, 2)
    twin = specs.build(target.spec(), Target)
    assert type(twin) is type(target)
    assert twin.name == target.name
    assert same(twin.future(walk(ROWS)), target.future(walk(ROWS)))


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
@pytest.mark.parametrize(("horizon", "delay"), [(0, 1), (-1, 1), (1, -1)])
def test_impossible_spans_are_refused(make: Make, horizon: int, delay: int) -> None:
    with pytest.raises(ConfigError, match="E224") as caught:
        make(horizon, delay)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("cuts", [[], [0.1, 0.0], [0.0, 0.0], [0.0, 0.1, 0.1]])
def test_thresholds_that_do_not_ascend_are_refused(cuts: list[float]) -> None:
    with pytest.raises(ConfigError, match="ascending"):
        Direction(cuts)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([], "no target"),
        ([ForwardReturn(1), ForwardReturn(1, delay=2)], "two targets of one name"),
        ([ForwardReturn(1), Direction()], "numbers and classes"),
        ([Direction([0.0], 1), Direction([0.0, 0.1], 2)], "numbers and classes"),
    ],
)
def test_targets_that_do_not_fit_together_are_refused(targets: list[Target], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_targets(targets)


def test_targets_of_one_kind_fit_together() -> None:
    check_targets([ForwardReturn(1), ForwardReturn(5), RealizedVolatility(5), ForwardValue("close")])
    check_targets([Direction([0.0], 1), Direction([0.1], 5)])


def test_volatility_is_the_weighted_mean_square_of_the_latest_sixty_returns() -> None:
    changes = np.random.default_rng(0).normal(size=200) * 0.01
    weights = 0.94 ** np.arange(60)[::-1]
    for row in (0, 5, 59, 60, 199):
        squares = changes[max(row - 59, 0) : row + 1] ** 2
        expected = np.sqrt(np.average(squares, weights=weights[-len(squares) :]))
        assert ewma_volatility(changes)[row] == pytest.approx(expected, rel=1e-12)


def test_volatility_does_not_depend_on_where_the_table_begins() -> None:
    bars = walk(200)
    late = ForwardReturn().volatility(bars.iloc[50:].reset_index(drop=True))
    assert same(late[60:], ForwardReturn().volatility(bars)[110:])


def test_volatility_of_a_level_is_of_its_changes() -> None:
    rate = pd.DataFrame({"rate": [1.0, 1.5, 1.0]})
    assert same(ForwardValue("rate").volatility(rate), np.array([np.nan, 0.5, 0.5]))


def test_a_column_without_returns_has_no_volatility() -> None:
    assert np.isnan(ForwardReturn(column="x").volatility(pd.DataFrame({"x": [1.0, -1.0, 2.0]}))).all()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (ForwardReturn(4), 0.04),
        (RealizedVolatility(4), 0.02),
        (RealizedVolatility(4, log=True), 1.0),
        (Direction(horizon=4), 1.0),
        (ForwardValue("close", 4), 0.04),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_scale_of_a_surprise(target: Target, expected: float) -> None:
    assert target.scale(np.array([0.02])) == pytest.approx(expected)


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_bar_return_is_what_the_bar_after_the_delay_earns(delay: int) -> None:
    close = np.array([1.0, 2.0, 3.0, 3.0, 6.0, 9.0])
    growth = np.append(close[1:] / close[:-1] - 1, [np.nan] * (delay + 1))[delay:][:6]
    for target in (ForwardReturn(2, delay), Direction(horizon=2, delay=delay)):
        assert same(target.bar_return(pd.DataFrame({"close": close})), growth)


def test_nothing_is_traded_on_a_volatility() -> None:
    assert np.isnan(RealizedVolatility().bar_return(parabola())).all()
