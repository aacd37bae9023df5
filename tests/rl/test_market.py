"""MarketEnv: the report's metrics, no look-ahead, the parts, the checkers of Gymnasium and of Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

from cnn_lstm.data.predictions import predictions_table
from cnn_lstm.data.prices import Checks, check_prices
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.splits import DateSplit, WalkForward
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.data.windows import complete_windows
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.evaluation.metrics.book import Book, make_book
from cnn_lstm.rl.market import NAME, MarketEnv, MarketVectorEnv, market_of
from cnn_lstm.rl.plots import draw_episode
from tests.markets import market, walk

FEATURES = ["log_return_1", "volume_trend_5_20"]
WINDOW = 6
PORTFOLIO = ("AAA", "BBB", "CCC")


def prices(rows: int = 150) -> pd.DataFrame:
    return market(rows, PORTFOLIO, gaps=False)


def market_env(table: pd.DataFrame | None = None, **arguments: Any) -> MarketEnv:
    values: dict[str, Any] = {"features": FEATURES, "window": WINDOW, **arguments}
    return MarketEnv(prices() if table is None else table, **values)


def play(env: MarketEnv, policy: Callable[[int], Any], seed: int = 0, **options: Any) -> pd.DataFrame:
    """One episode: the infos of its steps, with their rewards and observations."""
    observation, info = env.reset(seed=seed, options=options)
    lines, done, number = [{**info, "reward": 0.0, "observation": observation}], False, 0
    while not done:
        observation, reward, terminated, truncated, info = env.step(policy(number))
        lines.append({**info, "reward": reward, "observation": observation})
        done, number = terminated or truncated, number + 1
    return pd.DataFrame(lines)


# -- the report's strategy -------------------------------------------------------------------------------------------


def forecasts(table: pd.DataFrame, delay: int) -> pd.DataFrame:
    """Predictions table of the past return, taken for a forecast, on all dates on which it can be traded."""
    recipe = Recipe(tuple(FEATURES), (ForwardReturn(1, delay).spec(),), WINDOW, (), Checks())
    targets = recipe.build_targets()
    panel = recipe.bind_to(table, targets).panel(check_prices(table, recipe.checks).table)
    rows = complete_windows(panel, WINDOW)
    made = predictions_table(panel, targets, rows, {"y_pred": panel.present[rows]}, [0.0])
    return made[made["bar_return"].notna()]


def book_and_infos(symbols: tuple[str, ...], delay: int, actions: str) -> tuple[Book, pd.DataFrame]:
    table = prices()[lambda rows: rows["symbol"].isin(symbols)]
    first = table.groupby("symbol")["timestamp"].min().max()
    table = table[table["timestamp"] >= first]
    made = forecasts(table, delay)
    sign = np.sign(made.pivot_table(index="as_of", columns="symbol", values="y_pred")[list(symbols)].to_numpy())
    env = market_env(table, delay=delay, actions=actions, fee_bp=3.0, slippage_bp=4.0)

    def rule(number: int) -> Any:
        if number >= len(sign):  # never executed within the episode
            return env.action_space.sample() * 0
        if actions == "continuous":
            return (sign[number] / len(symbols)).astype(np.float32).astype(np.float64)
        return sign[number].astype(np.int64) + 1 if len(symbols) > 1 else int(sign[number][0]) + 1

    return make_book(made, 1, cost_bp=7.0), play(env, rule)


@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize("symbols", [("AAA",), ("AAA", "BBB")], ids=["one", "two"])
def test_a_sign_rule_earns_what_the_report_says(symbols: tuple[str, ...], delay: int) -> None:
    book, infos = book_and_infos(symbols, delay, "discrete")
    bars = infos.iloc[1 + delay :]  # the decision of a date is executed that many bars later
    assert len(bars) == len(book.dates) > 100
    assert (infos["turnover"].iloc[: 1 + delay] == 0).all()
    np.testing.assert_allclose(bars["gross_return"], book.gross, atol=1e-12)
    np.testing.assert_allclose(bars["turnover"], book.turnover, atol=1e-12)
    np.testing.assert_allclose(bars["net_return"], book.net, atol=1e-12)
    np.testing.assert_allclose(bars["reward"], book.net, atol=1e-12)
    np.testing.assert_allclose(bars["equity"], 1 + book.net.cumsum(), atol=1e-12)
    np.testing.assert_allclose(bars["cost"], book.turnover * 7e-4, atol=1e-12)


def test_continuous_weights_earn_what_the_report_says() -> None:
    book, infos = book_and_infos(("AAA", "BBB"), 1, "continuous")
    np.testing.assert_allclose(infos["net_return"].iloc[2:], book.net, atol=1e-12)


# -- no look-ahead ---------------------------------------------------------------------------------------------------


def perturbed(table: pd.DataFrame, after: pd.Timestamp, seed: int) -> pd.DataFrame:
    """The same bars up to a moment, and other bars after it."""
    random = np.random.default_rng(seed)
    later = (table["timestamp"] > after).to_numpy()
    factor = np.where(later, np.exp(random.normal(0, 0.02, len(table))), 1.0)
    moved = table.assign(**{name: table[name] * factor for name in ("open", "high", "low", "close")})
    return moved.assign(volume=np.where(later, np.round(table["volume"] * factor), table["volume"]))


@settings(max_examples=12, deadline=None, database=None, derandomize=True)
@given(step=st.integers(1, 60), seed=st.integers(0, 99), delay=st.integers(0, 2))
def test_nothing_up_to_a_date_depends_on_prices_after_it(step: int, seed: int, delay: int) -> None:
    table = prices(120)
    random = np.random.default_rng(seed)
    actions = random.integers(0, 3, (200, 3))
    known = play(market_env(table, delay=delay), lambda number: actions[number])
    other = perturbed(table, pd.Timestamp(known["date"][step], tz="UTC"), seed)
    again = play(market_env(other, delay=delay), lambda number: actions[number])
    for name in ("date", "reward", "equity", "net_return"):
        assert known[name][: step + 1].tolist() == again[name][: step + 1].tolist()
    for before, after in zip(known["observation"][: step + 1], again["observation"][: step + 1], strict=True):
        np.testing.assert_array_equal(before["window"], after["window"])
        np.testing.assert_array_equal(before["account"], after["account"])
    assert not np.array_equal(known["observation"][step + 1]["window"], again["observation"][step + 1]["window"])
    assert known["reward"][step + 1 + delay :].tolist() != again["reward"][step + 1 + delay :].tolist()


class NextReturn(gymnasium.ObservationWrapper[Any, Any, Any]):
    """A market that leaks the return that today's decision will earn, which must never happen."""

    def __init__(self, env: MarketEnv) -> None:
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))

    def observation(self, observation: Any) -> NDArray[np.float32]:
        episodes = market_of(self).episodes
        earned = episodes.position + episodes.terms.delay
        last = len(episodes.data.returns) - 1
        return np.asarray(episodes.data.returns[np.minimum(earned, last)][0], dtype=np.float32)


class LastReturn(NextReturn):
    """The same wrapper without the leak: it shows the newest return that is known."""

    def observation(self, observation: Any) -> NDArray[np.float32]:
        episodes = market_of(self).episodes
        return np.asarray(episodes.data.returns[episodes.position - 1][0], dtype=np.float32)


def sharpe_of_signs(env: gymnasium.Env[Any, Any]) -> float:
    """Sharpe ratio of a year of an agent that takes the sign of what it sees as its position."""
    observation, _ = env.reset(seed=0)
    net, done = [], False
    while not done:
        observation, _, terminated, truncated, info = env.step(int(np.sign(observation[0])) + 1)
        net.append(info["net_return"])
        done = terminated or truncated
    return float(np.mean(net) / np.std(net) * np.sqrt(252))


def test_an_oracle_wins_where_the_future_leaks_and_only_there() -> None:
    env = market_env(walk(600))
    assert sharpe_of_signs(NextReturn(env)) > 10
    assert sharpe_of_signs(LastReturn(env)) < 1


# -- parts and episodes ----------------------------------------------------------------------------------------------

SPLIT = DateSplit("2010-05-03", "2010-06-14")


@pytest.mark.parametrize(
    ("part", "first", "behind"),
    [
        ("train", "2010-01-01", "2010-05-03"),
        ("validation", "2010-05-03", "2010-06-14"),
        ("test", "2010-06-14", "2011-01-01"),
    ],
)
def test_an_episode_stays_inside_its_part(part: str, first: str, behind: str) -> None:
    table = walk(150)
    infos = play(market_env(table, split=SPLIT, part=part), lambda _: 2)
    inside = table["timestamp"][(table["timestamp"] >= first) & (table["timestamp"] < behind)]
    if part == "train":
        inside = inside[19 + WINDOW - 1 :]  # the first value of volume_trend_5_20 needs 19 bars before it
    assert [pd.Timestamp(day, tz="UTC") for day in infos["date"]] == list(inside)


def test_an_embargo_keeps_episodes_away_from_the_next_part() -> None:
    table = walk(210)
    days = table["timestamp"].dt.tz_localize(None).to_numpy()
    edges = WalkForward(folds=3, fold=1, embargo=5).boundaries(days)
    infos = play(market_env(table, split=WalkForward(folds=3, fold=1, embargo=5), part="train"), lambda _: 2)
    assert infos["date"].max() == days[days < edges.validation][-6]


def test_a_window_of_one_row_does_not_bridge_a_gap_either() -> None:
    table = walk(60)
    env = market_env(table.drop(index=range(25, 45)), features=["close_location"], window=1)
    assert len(env.episodes.stretches()) == 2
    infos = play(env, lambda _: 2, start="2010-01-04")
    assert infos["date"].max() == table["timestamp"].dt.tz_localize(None)[24]


def test_an_episode_never_crosses_a_gap() -> None:
    table = walk(200)
    hole = table["timestamp"].between("2010-05-03", "2010-05-25")
    env = market_env(table[~hole])
    starts = env.episodes.stretches()
    assert len(starts) == 2
    for start, behind in zip(starts, ("2010-05-03", "2011-01-01"), strict=True):
        infos = play(env, lambda _: 2, start=start)
        assert infos["date"].iloc[0] == pd.Timestamp(start)
        assert infos["date"].max() < np.datetime64(behind)
    assert {str(env.reset(seed=seed)[1]["date"]) for seed in range(20)} == set(starts)


def test_episodes_of_a_length_start_anywhere() -> None:
    env = market_env(walk(80), episode_length=10)
    infos = [play(env, lambda _: 1, seed=seed) for seed in range(30)]
    assert {len(each) for each in infos} == {11}
    assert len({each["date"].iloc[0] for each in infos}) > 15


def test_a_portfolio_trades_on_the_dates_that_its_symbols_share() -> None:
    table = market(150, PORTFOLIO, gaps=True)
    env = market_env(table, symbols=["CCC", "AAA"])
    shared = set.intersection(*(set(rows["timestamp"]) for name, rows in table.groupby("symbol") if name != "BBB"))
    assert {pd.Timestamp(day, tz="UTC") for day in env.episodes.data.dates} == shared
    infos = play(env, lambda _: np.array([2, 1]))  # half of the stake in CCC
    close = table[(table["symbol"] == "CCC")].set_index("timestamp")["close"]
    traded = close[[pd.Timestamp(day, tz="UTC") for day in infos["date"]]].to_numpy()
    np.testing.assert_allclose(infos["gross_return"].iloc[2:], 0.5 * (traded[2:] / traded[1:-1] - 1), atol=1e-8)


@pytest.mark.parametrize("action", [1.5, np.nan, 3, -1, None], ids=str)
def test_an_action_is_the_number_of_a_position(action: Any) -> None:
    env = market_env(symbols="AAA")
    env.reset(seed=0)
    with pytest.raises(ConfigError, match=r"E267.*a whole number, 0 to 2"):
        env.step(action)


def test_weights_never_exceed_the_stake() -> None:
    env = market_env(actions="continuous")
    infos = play(env, lambda _: np.array([1.0, -1.0, 0.5]))
    np.testing.assert_allclose(infos["weights"].iloc[5], np.array([1.0, -1.0, 0.5]) / 2.5)
    long_only = market_env(actions="continuous", positions=(0, 1))
    infos = play(long_only, lambda _: np.array([0.25, -1.0, 0.5]))
    np.testing.assert_allclose(infos["weights"].iloc[5], [0.25, 0.0, 0.5])


def test_the_window_holds_the_forecasters_features() -> None:
    table = prices()
    env = market_env(table, symbols=["BBB"])
    observation, info = env.reset(seed=0)
    close = table[table["symbol"] == "BBB"].set_index("timestamp")["close"]
    returns = np.log(close).diff()[: pd.Timestamp(info["date"], tz="UTC")].to_numpy()[-WINDOW:]
    np.testing.assert_allclose(observation["window"][:, 0], returns, atol=1e-6)
    assert env.observation_space["window"].features == tuple(FEATURES)  # type: ignore[attr-defined]


# -- the libraries' own checks ---------------------------------------------------------------------------------------

VARIANTS: dict[str, dict[str, Any]] = {
    "one": {"symbols": ["AAA"]},
    "one-weight": {"symbols": ["AAA"], "actions": "continuous", "delay": 0},
    "portfolio": {"reward": "differential_sharpe"},
    "portfolio-weights": {"actions": "continuous", "reward": "log_return", "delay": 2},
    "account": {"observe": "account", "episode_length": 7},
}


# features have no bounds, and a window is neither a plot nor a vector: both checkers only warn of it
@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*imum value is:UserWarning")
@pytest.mark.parametrize("name", VARIANTS)
def test_an_environment_passes_the_checks_of_gymnasium_and_sb3(name: str) -> None:
    env = market_env(**VARIANTS[name])
    check_env(env, skip_render_check=True)
    check_env_of_sb3(env, warn=False)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_vector_form_equals_single_environments(name: str) -> None:
    arguments = {"episode_length": 9, **VARIANTS[name]}
    table = prices(80)
    vector = MarketVectorEnv(market_env(table, **arguments), 3)
    single = SyncVectorEnv([lambda: market_env(table, **arguments)] * 3)
    assert vector.observation_space == single.observation_space
    assert vector.metadata == single.metadata
    vector.action_space.seed(0)
    same(vector.reset(seed=5), single.reset(seed=5))
    for _ in range(25):  # two ends of episodes lie in it
        actions = vector.action_space.sample()
        same(vector.step(actions), single.step(actions))


def test_the_action_of_an_ended_episode_is_ignored() -> None:
    vector = MarketVectorEnv(market_env(prices(80), symbols=["AAA"], actions="continuous", episode_length=3), 2)
    vector.reset(seed=0)
    action = np.zeros((2, 1), dtype=np.float32)
    for _ in range(3):
        *_, ended, _ = vector.step(action)
    assert ended.all()
    _, reward, *_ = vector.step(np.full_like(action, np.nan))
    assert (reward == 0).all()
    with pytest.raises(ConfigError, match="E267"):
        vector.step(np.full_like(action, np.nan))


def same(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> None:
    for mine, other in zip((ours[0], *ours[1:-1], ours[-1]), (theirs[0], *theirs[1:-1], theirs[-1]), strict=True):
        if not isinstance(mine, dict):
            mine, other = {"value": mine}, {"value": other}
        for key, value in mine.items():
            np.testing.assert_array_equal(np.asarray(value), np.asarray(list(other[key])), err_msg=key)


# -- plots --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*imum value is:UserWarning")
def test_a_registered_environment_passes_the_check_of_its_plots() -> None:
    env = gymnasium.make(NAME, prices=walk(60), features=FEATURES, window=WINDOW, render_mode="rgb_array")
    check_env(env.unwrapped)


def test_a_plot_draws_price_position_and_equity_since_the_reset() -> None:
    env = market_env(walk(80), render_mode="rgb_array")
    assert env.render() is None
    env.reset(seed=0)
    for _ in range(10):
        env.step(2)
    plot = env.render()
    assert plot is not None
    assert (plot.shape[2], plot.dtype) == (3, np.dtype(np.uint8))
    assert plot.std() > 1
    dates, equity = env.episodes.data.dates, np.array([1.0, 1.1])
    figure = draw_episode(dates[:2], np.array([[2.0], [3.0]]), np.array([[0.0], [-1.0]]), equity, ("A$B$",))
    drawn = [[np.asarray(line.get_ydata()).tolist() for line in axes.lines] for axes in figure.axes]
    assert drawn == [[[1.0, 1.5]], [[0.0, -1.0], [0, 0]], [[1, 1], [1.0, 1.1]]]
    assert len(env._trail) == 11
    env.reset(seed=0)
    assert len(env._trail) == 1
    assert market_env(walk(80)).render() is None


# -- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"symbols": ["AAB"]}, 265),
        ({"symbols": []}, 265),
        ({"part": "tset"}, 265),
        ({"positions": (1, -1)}, 266),
        ({"positions": (-2, 2)}, 266),
        ({"actions": "discreet"}, 266),
        ({"observe": "all"}, 266),
        ({"episode_length": 1}, 266),
        ({"render_mode": "ansi"}, 266),
        ({"checkpoint": "best.ckpt"}, 266),
    ],
    ids=lambda value: "-".join(f"{key}={each}" for key, each in value.items()) if isinstance(value, dict) else None,
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], code: int) -> None:
    with pytest.raises(ConfigError, match=f"E{code}"):
        market_env(prices(60), **arguments)


@pytest.mark.parametrize(
    ("arguments", "code"), [({"episode_length": 500}, 362), ({"start": "2011-01-01"}, 361)], ids=["long", "late"]
)
def test_too_few_bars_are_refused(arguments: dict[str, Any], code: int) -> None:
    with pytest.raises(DataError, match=f"E{code}"):
        market_env(prices(60), **arguments)


def test_actions_and_options_that_are_impossible_are_refused() -> None:
    env = market_env(prices(60))
    env.reset(seed=0)
    for action in ([3, 0, 0], [-1, 0, 0]):
        with pytest.raises(ConfigError, match="E267"):
            env.step(np.array(action))
    env = market_env(prices(60), actions="continuous")
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="E267"):
        env.step(np.array([0.1, np.nan, 0.0]))
    for options in ({"stat": "2010-01-01"}, {"start": "2030-01-01"}):
        with pytest.raises(ConfigError, match="E268"):
            env.reset(options=options)


# -- the zone of the calendar ----------------------------------------------------------------------------------------


def hours(days: int = 200) -> pd.DataFrame:
    """Hourly bars of a session in New York, in winter and in summer."""
    dates = pd.bdate_range("2024-02-12", periods=days)
    local = np.concatenate([pd.date_range(day + pd.Timedelta(hours=10), periods=6, freq="h") for day in dates])
    when = pd.DatetimeIndex(local).tz_localize("America/New_York").tz_convert("UTC")
    return walk(len(when)).assign(timestamp=when)


def test_the_calendar_runs_in_the_given_zone(caplog: pytest.LogCaptureFixture) -> None:
    bars = hours()
    env = market_env(bars, features=["hour_sin", "hour_cos"], window=1, calendar_zone="America/New_York")
    assert "W352" not in caplog.text
    local = pd.DatetimeIndex(bars["timestamp"]).tz_convert("America/New_York").hour
    np.testing.assert_allclose(env.episodes.data.values[:, 0], np.sin(2 * np.pi * local / 24), atol=1e-6)
    market_env(bars, features=["hour_sin"], window=1)
    assert "W352" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"calendar_zone": "New_York"}, 210),
        ({"calendar_zone": ""}, 210),
        ({"calendar_zone": "America/New_York"}, 278),
        ({"calendar_zone": "UTC", "checkpoint": "best.ckpt", "features": None, "window": None}, 266),
    ],
)
def test_a_zone_that_cannot_be_is_refused(arguments: dict[str, Any], code: int) -> None:
    with pytest.raises(ConfigError, match=f"E{code}"):
        market_env(**arguments)
