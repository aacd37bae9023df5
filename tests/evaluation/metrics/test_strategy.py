"""The after-cost book against examples by hand, a plain loop, and nulls under which it must not look good."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cnn_lstm.evaluation.metrics import strategy
from cnn_lstm.evaluation.metrics.book import Rule, ladder, make_book, periods_per_year, trades
from cnn_lstm.evaluation.metrics.sharpe import max_drawdown
from cnn_lstm.evaluation.metrics.strategy import break_even_cost, random_sign_p, strategy_curves, strategy_metrics

Floats = NDArray[np.float64]


def table(forecasts: dict[str, list[float]], returns: dict[str, list[float]]) -> pd.DataFrame:
    """Predictions of symbols that begin on the same day."""
    parts = [
        pd.DataFrame(
            {
                "symbol": symbol,
                "as_of": pd.date_range("2024-01-01", periods=len(values), tz="UTC"),
                "y_pred": values,
                "bar_return": returns[symbol],
            }
        )
        for symbol, values in forecasts.items()
    ]
    return pd.concat(parts, ignore_index=True)


def example() -> pd.DataFrame:
    """Three days of two symbols."""
    return table({"A": [0.3, 0.1, -0.2], "B": [-0.1, 0.0, 0.5]}, {"A": [0.01, 0.02, 0.03], "B": [0.02, -0.01, 0.01]})


def market(seed: int, symbols: int = 3, days: int = 300, drift: float = 0.0) -> pd.DataFrame:
    """Returns that nothing forecasts, with a common factor, under persistent forecasts (a moving average of noise)."""
    random = np.random.default_rng(seed)
    factor = random.normal(size=days)
    parts = []
    for k in range(symbols):
        forecasts = pd.Series(random.normal(size=days)).rolling(10, min_periods=1).mean().to_numpy()
        returns = drift + 0.01 * (factor + random.normal(size=days))
        parts.append(table({f"S{k:03d}": list(forecasts)}, {f"S{k:03d}": list(returns)}))
    return pd.concat(parts, ignore_index=True)


def of(values: Floats) -> list[float]:
    return [round(float(value), 12) for value in values]


def test_three_days_of_two_symbols_by_hand() -> None:
    book = make_book(example(), horizon=1)
    assert of(book.gross) == [-0.005, 0.01, -0.01]
    # A: in, nothing, turned and out; B: in, out, in and out
    assert of(book.turnover) == [(1 + 1) / 2, (0 + 1) / 2, (3 + 2) / 2]
    assert of(book.net) == [-0.006, 0.0095, -0.0125]
    assert of(book.exposure) == [1, 0.5, 1]
    assert of(book.market) == [0.015, 0.005, 0.02]
    assert of(book.buy_and_hold) == of(np.array([0.014, 0.005, 0.019]) * (2.5 / 3))


def test_laddered_book_by_hand() -> None:
    """A holds 0.5, 1, 0 and B holds -0.5, -0.5, 0.5."""
    book = make_book(example(), horizon=2)
    assert of(book.gross) == [(0.005 - 0.01) / 2, (0.02 + 0.005) / 2, (0 + 0.005) / 2]
    assert of(book.turnover) == [(0.5 + 0.5) / 2, (0.5 + 0) / 2, (1 + 1 + 0.5) / 2]
    assert of(book.exposure) == [0.5, 0.75, 0.25]


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_each_decision_earns_its_label(horizon: int) -> None:
    """Sum of the book = sum of decision times the mean return of its label, once the last labels are over."""
    data = market(0, symbols=1, days=60)
    data.loc[60 - horizon + 1 :, "y_pred"] = 0.0
    returns = data["bar_return"].to_numpy()
    labels = np.array([returns[t : t + horizon].sum() for t in range(60)])
    expected = float(np.sum(np.sign(data["y_pred"]) * labels) / horizon)
    assert make_book(data, horizon).gross.sum() == pytest.approx(expected, abs=1e-12)


def plain_book(data: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """The book in a loop over symbols and days."""
    rows = []
    row: Any
    for _, group in data.groupby("symbol"):
        decisions, held = [], 0.0
        for number, row in enumerate(group.sort_values("as_of").itertuples()):
            decisions.append(float(np.sign(row.y_pred)))
            position = sum(decisions[-horizon:]) / horizon
            traded = abs(position - held) + (abs(position) if number == len(group) - 1 else 0)
            rows.append((row.as_of, position * row.bar_return, traded))
            held = position
    return pd.DataFrame(rows, columns=["as_of", "gross", "turnover"]).groupby("as_of").mean()


@pytest.mark.parametrize("horizon", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_book_is_the_plain_loop(seed: int, horizon: int) -> None:
    """Symbols come and go, miss days, and stand in any order."""
    data = market(seed).sample(frac=0.8, random_state=seed)
    data = data[(data["symbol"] != "S001") | (data["as_of"] > pd.Timestamp("2024-04-01", tz="UTC"))]
    book, expected = make_book(data, horizon), plain_book(data, horizon)
    assert list(book.dates) == list(expected.index)
    np.testing.assert_allclose(book.gross, expected["gross"], atol=1e-12)
    np.testing.assert_allclose(book.turnover, expected["turnover"], atol=1e-12)
    by_category = make_book(data.assign(symbol=data["symbol"].astype("category")), horizon)
    np.testing.assert_allclose(by_category.net, book.net, atol=1e-12)


def test_perfect_foresight_earns_every_move_less_costs() -> None:
    """A position of one bar earlier or later would earn about nothing."""
    data = market(1, symbols=2)
    data["y_pred"] = data["bar_return"]
    book = make_book(data, horizon=1)
    expected = data["bar_return"].abs().groupby(data["as_of"]).mean().to_numpy()
    np.testing.assert_allclose(book.gross, expected, atol=1e-12)
    assert book.net.sum() == pytest.approx(expected.sum() - book.turnover.sum() * 10 / 1e4, abs=1e-12)
    for shift in (1, -1):
        late = data.assign(y_pred=data.groupby("symbol")["bar_return"].shift(shift).fillna(0.0))
        assert abs(make_book(late, horizon=1).gross.sum()) < 0.2 * expected.sum()


@pytest.mark.parametrize("rule", ["sign", "rank"])
@pytest.mark.parametrize("horizon", [1, 3])
def test_later_forecasts_change_no_earlier_return(rule: Rule, horizon: int) -> None:
    data = market(2, symbols=6, days=40)
    cut = pd.Timestamp("2024-01-21", tz="UTC")
    other = data.assign(y_pred=np.where(data["as_of"] >= cut, -data["y_pred"] + 0.01, data["y_pred"]))
    first, second = make_book(data, horizon, rule=rule), make_book(other, horizon, rule=rule)
    before = first.dates < cut
    np.testing.assert_array_equal(first.gross[before], second.gross[before])
    np.testing.assert_array_equal(first.turnover[before], second.turnover[before])
    assert first.gross[before.sum()] != second.gross[before.sum()]


def test_rank_is_long_the_top_third_and_short_the_bottom_third() -> None:
    names = "ABCDEFG"
    returns = {name: [10.0**k] for k, name in enumerate(names)}
    seven = {name: [float(k)] for k, name in enumerate("DAGBFCE")}
    # thirds of seven are two: long C and E, short D and A
    book = make_book(table({name: seven[name] for name in names}, returns), 1, rule="rank")
    assert book.gross[0] * 7 == pytest.approx(1e2 + 1e4 - 1e3 - 1)
    assert book.exposure[0] == pytest.approx(4 / 7)


def test_rank_of_equal_forecasts_and_of_few_symbols() -> None:
    equal = table({name: [0.5] for name in "ABCDEF"}, {name: [0.01] for name in "ABCDEF"})
    assert make_book(equal, 1, rule="rank").exposure.tolist() == [0]
    few = equal[equal["symbol"] < "E"]
    assert make_book(few, 1, rule="rank").exposure.tolist() == [1]


@pytest.mark.parametrize(
    ("classes", "decisions"), [(2, [-1, 1]), (3, [-1, 0, 1]), (5, [-1, -1, 0, 1, 1])], ids=["two", "three", "five"]
)
def test_classes_are_long_above_the_middle(classes: int, decisions: list[float]) -> None:
    data = table({"A": [float(c) for c in range(classes)]}, {"A": [1.0] * classes})
    assert make_book(data, 1, classes=classes).gross.tolist() == decisions


def test_unknown_returns_count_as_zero_within_and_are_dropped_at_the_end() -> None:
    """Dropped at the end of each symbol, where the position is closed a bar earlier; 0 and counted elsewhere."""
    data = table({"A": [1, 1, 1, 1], "B": [1, 1, 1]}, {"A": [0.1, math.nan, 0.3, math.nan], "B": [0.5, 0.5, math.nan]})
    book = make_book(data, 1)
    assert of(book.gross) == [0.3, 0.25, 0.3]
    assert of(book.turnover) == [1, 0.5, 1]
    assert book.unknown_returns == 1


@pytest.mark.parametrize("horizon", [1, 5])
def test_more_cost_is_less_return(horizon: int) -> None:
    books = [make_book(market(3), horizon, cost_bp=cost) for cost in (0.0, 1.0, 10.0, 100.0)]
    returns: list[Any] = [strategy_metrics(book)["net_annual_return"] for book in books]
    assert returns == sorted(returns, reverse=True)
    assert returns[0] == strategy_metrics(books[3])["gross_annual_return"]
    assert len(set(returns)) == 4


def test_at_the_break_even_cost_nothing_is_left() -> None:
    cost = break_even_cost(make_book(market(3), 2))
    assert make_book(market(3), 2, cost_bp=cost).net.sum() == pytest.approx(0, abs=1e-12)
    assert math.isnan(break_even_cost(make_book(market(3).assign(y_pred=0.0), 2)))


def test_always_long_is_buy_and_hold() -> None:
    book = make_book(market(4).assign(y_pred=1.0), horizon=1)
    np.testing.assert_allclose(book.net, book.buy_and_hold, atol=1e-12)
    assert random_sign_p(book) == 1


def test_random_books_are_the_flipped_books() -> None:
    """All 2^8 books, each made of positions: mean position plus or minus the rest, one coin a date."""
    data = market(5, symbols=2, days=8)
    book = make_book(data, horizon=3)
    code = pd.factorize(data["symbol"])[0]
    positions = ladder(np.sign(data["y_pred"].to_numpy()), code, 3).reshape(2, 8)
    average = positions.mean(axis=1, keepdims=True)
    returns = data["bar_return"].to_numpy().reshape(2, 8)
    earned = [
        float(np.sum((average + np.array(coins) * (positions - average)) * returns))
        for coins in itertools.product([-1, 1], repeat=8)
    ]
    assert float(np.sum(positions * returns)) == pytest.approx(2 * book.gross.sum(), abs=1e-12)
    exact = np.mean(np.array(earned) >= 2 * book.gross.sum() - 1e-12)
    assert random_sign_p(book, draws=20_000) == pytest.approx(exact, abs=0.02)


def test_random_signs_see_foresight_and_depend_on_the_seed_alone() -> None:
    data = market(6)
    assert random_sign_p(make_book(data.assign(y_pred=data["bar_return"]), 1)) == pytest.approx(1 / 1001)
    book = make_book(data, 1)
    assert random_sign_p(book, seed=1) == random_sign_p(book, seed=1)
    assert random_sign_p(book, seed=1) == pytest.approx(random_sign_p(book, seed=2), abs=0.06)
    assert 0 < random_sign_p(book, draws=1001) <= 1


@pytest.mark.parametrize("numbers", [1, 700, 10_000])
def test_random_books_are_drawn_in_parts(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy, "DRAWS", numbers)
    book = make_book(market(6), 1)
    assert random_sign_p(make_book(market(6).assign(y_pred=1.0), 1), draws=50) == 1
    assert random_sign_p(book, draws=500) == pytest.approx(random_sign_p(book, draws=500, seed=9), abs=0.1)


@pytest.mark.parametrize("drift", [0.0, 0.005], ids=["no drift", "drift"])
@pytest.mark.parametrize("horizon", [1, 10])
def test_useless_forecasts_are_seldom_significant(horizon: int, drift: float) -> None:
    """Persistent forecasts that lean to the long side, a rising market, a long horizon: 5 % of 200, give or take."""
    books = []
    for seed in range(200):
        data = market(seed, drift=drift)
        books.append(make_book(data.assign(y_pred=data["y_pred"] + 0.2), horizon))
    rejected = np.mean([random_sign_p(book, draws=200) <= 0.05 for book in books])
    assert 0.01 <= rejected <= 0.095


def test_bars_per_year_are_counted_in_whole_calendar_years() -> None:
    assert periods_per_year(pd.bdate_range("2019-06-01", "2024-06-01")) == pytest.approx(261, abs=1)
    # the two short years at the ends do not count
    assert periods_per_year(pd.bdate_range("2019-12-01", "2022-02-01")) == pytest.approx(261, abs=1)
    assert periods_per_year(pd.bdate_range("2024-01-01", "2024-12-31")) == pytest.approx(261, abs=2)
    assert periods_per_year(pd.date_range("2024-01-01", periods=500, freq="h")) == pytest.approx(24 * 365.25)
    assert math.isnan(periods_per_year(pd.DatetimeIndex(["2024-01-01"])))


def test_metrics_are_those_of_the_net_returns() -> None:
    data = market(7, days=600)
    book = make_book(data, horizon=2)
    metrics: Any = strategy_metrics(book, trials=25)
    net = book.net
    assert metrics["periods_per_year"] == pytest.approx(365.25, abs=1)
    assert metrics["net_annual_return"] == pytest.approx(net.mean() * book.periods)
    assert metrics["annual_volatility"] == pytest.approx(net.std(ddof=1) * math.sqrt(book.periods))
    assert metrics["sharpe"] == pytest.approx(metrics["net_annual_return"] / metrics["annual_volatility"])
    assert metrics["annual_turnover"] == pytest.approx(book.turnover.mean() * book.periods)
    assert metrics["hit_rate"] == pytest.approx(np.mean(book.gross[book.exposure > 0] > 0))
    assert metrics["max_drawdown"] == max_drawdown(net)
    assert metrics["dsr"] < metrics["psr"]
    assert metrics["trials"] == 25
    curves = strategy_curves(book)
    np.testing.assert_allclose(curves["net"], np.cumsum(net))
    np.testing.assert_allclose(curves["buy_and_hold"], np.cumsum(book.buy_and_hold))
    assert list(curves.index) == list(book.dates)


def test_exposure_of_the_market_is_that_of_the_book() -> None:
    data = market(8, drift=0.002)
    half = data.assign(y_pred=np.where(data["as_of"] < data["as_of"].median(), 1.0, 0.0))
    book = make_book(half, 1, cost_bp=0.0)
    np.testing.assert_allclose(book.buy_and_hold, book.market * np.mean(book.exposure))
    assert strategy_metrics(book)["mean_exposure"] == pytest.approx(0.5, abs=0.01)


def test_the_rule_names_sign_or_rank_horizon_and_costs() -> None:
    book = make_book(example(), 5, rule="rank", cost_bp=15)
    for phrases in ("top third", "bottom third", "5 bars", "1/5", "15 bp"):
        assert phrases in book.rule
    assert "above class 0.5" in make_book(example(), 1, classes=2).rule


@pytest.mark.parametrize("rule", ["sign", "rank"])
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_rows_have_no_metrics_and_no_warnings(rows: int, rule: Rule) -> None:
    metrics = strategy_metrics(make_book(example().head(rows), 3, rule=rule))
    assert metrics["bars"] == rows
    if rows < 2:
        assert math.isnan(float(str(metrics["sharpe"])))
    unknown = make_book(example().assign(bar_return=math.nan), 3, rule=rule)
    assert strategy_metrics(unknown)["bars"] == 0


def test_a_book_without_positions_has_no_sharpe_ratio() -> None:
    metrics = strategy_metrics(make_book(example().assign(y_pred=0.0), 1))
    assert metrics["net_annual_return"] == 0
    for name in ("sharpe", "psr", "dsr", "hit_rate", "break_even_cost_bp", "calmar"):
        assert math.isnan(float(str(metrics[name]))), name


def test_trades_count_entries_changes_and_the_last_exit_of_each_symbol() -> None:
    assert trades(np.array([0.5, 1.0, -1.0, 0.0]), np.array([0, 0, 1, 1])).tolist() == [0.5, 1.5, 1, 1]


# -- gaps --------------------------------------------------------------------------------------------------------------


def dated(rows: pd.DataFrame, delay: int, horizon: int) -> pd.DataFrame:
    """A table of one symbol without a gap, with the bars at which its labels begin and end."""
    bars = pd.date_range("2024-01-01", periods=len(rows) + delay + horizon, tz="UTC")
    start, end = bars[delay : delay + len(rows)], bars[delay + horizon :]
    return rows.assign(target_start=start, target_end=end)


@pytest.mark.parametrize(("delay", "horizon"), [(1, 1), (0, 1), (0, 5), (2, 3), (1, 5)])
@pytest.mark.parametrize("missing", [1, 2, 30])
def test_a_position_is_left_before_a_gap_and_taken_again_behind_it(missing: int, delay: int, horizon: int) -> None:
    """By hand: an exit at the last row before the gap, an entry at the first row behind it, for book and market."""
    whole = dated(market(1, symbols=1, days=120), delay, horizon)
    gap = whole.drop(index=range(50, 50 + missing)).reset_index(drop=True)
    position = ladder(np.sign(gap["y_pred"].to_numpy()), np.zeros(len(gap), dtype=np.int64), horizon)
    expected = np.abs(np.diff(position, prepend=0.0))
    expected[50] = abs(position[50])
    expected[49] += abs(position[49])
    expected[-1] += abs(position[-1])
    book = make_book(gap, horizon)
    np.testing.assert_allclose(book.turnover, expected, atol=1e-12)
    assert book.market_turnover.sum() == 4
    assert make_book(whole, horizon).market_turnover.sum() == 2


def test_a_holiday_of_one_symbol_is_no_gap() -> None:
    """One symbol trades every day and one on weekdays: its next bar is that of Monday, and it is held until then."""
    every_day = dated(market(2, symbols=1, days=70), 1, 1)
    weekdays = dated(market(3, symbols=1, days=50).assign(symbol="W", y_pred=1.0), 1, 1)
    bars = pd.bdate_range("2024-01-01", periods=60, tz="UTC")
    weekdays = weekdays.assign(as_of=bars[:50], target_start=bars[1:51], target_end=bars[2:52])
    book = make_book(pd.concat([every_day, weekdays], ignore_index=True), 1)
    alone = make_book(weekdays, 1)
    assert alone.turnover.sum() == 2
    assert book.market_turnover.max() == 1


def test_holding_always_costs_what_buying_and_holding_does() -> None:
    gap = dated(market(4, symbols=1, days=90), 1, 1).drop(index=range(20, 40)).assign(y_pred=1.0)
    book = make_book(gap, 1)
    np.testing.assert_allclose(book.net, book.buy_and_hold, atol=1e-15)


def test_labels_that_are_not_known_yet_end_at_no_bar() -> None:
    rows = dated(market(5, symbols=2, days=40).query("symbol == 'S000'"), 1, 2)
    rows.loc[rows.index[-3:], "target_end"] = pd.NaT
    rows.loc[rows.index[-1:], "target_start"] = pd.NaT
    assert make_book(rows, 2).market_turnover.sum() == 2
