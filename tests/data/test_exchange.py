"""The calendar of an exchange: holidays are no gaps, sessions that are missing are reported, bars know their place."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_lstm.cli import main
from cnn_lstm.data import exchange
from cnn_lstm.data.checks import Checks
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.exchange import elapsed, known_exchange, sessions_of
from cnn_lstm.data.feature_catalogue import resolve_features
from cnn_lstm.data.mapped import MappedPanel
from cnn_lstm.data.prices import check_prices
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.session_checks import session_defects
from cnn_lstm.data.session_features import minutes_since_open, minutes_to_close
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.errors import CheckpointError, ConfigError, DataError
from cnn_lstm.evaluation.audit.run_audit import audit
from cnn_lstm.evaluation.explanation.explain import explain
from cnn_lstm.evaluation.same_recipe import take_over
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecaster import Forecaster
from tests.fits import small_network, small_trainer
from tests.markets import bars_of

calendars = pytest.importorskip("exchange_calendars")
DAY = 86_400_000_000
PLACE = ["minutes_since_open", "minutes_to_close"]


@lru_cache
def calendar(code: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return calendars.get_calendar(code, start="1999-01-01")


def open_sessions(code: str, times: NDArray[np.int64]) -> dict[int, pd.Timestamp]:
    """The session that is open at each moment, by the place of the moment: looked for in all of them."""
    of = calendar(code)
    opens, closes = (pd.DatetimeIndex(one).as_unit("us").asi8 for one in (of.opens, of.closes))
    found = {k: np.flatnonzero((opens <= at) & (at < closes)) for k, at in enumerate(times)}
    return {k: of.sessions[places[0]] for k, places in found.items() if len(places)}


def bars_at(when: pd.DatetimeIndex, symbol: str = "AAA", seed: int = 0) -> pd.DataFrame:
    close = 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, len(when))))
    return bars_of(close, when.as_unit("us"), symbol, seed)


def daily(
    first: str, last: str, code: str = "XNYS", without: tuple[str, ...] = (), symbol: str = "AAA"
) -> pd.DataFrame:
    """One bar for each session, but for some."""
    when = calendar(code).sessions_in_range(first, last).tz_localize("UTC")
    return bars_at(when[~when.strftime("%Y-%m-%d").isin(without)], symbol)


def hourly(first: str, last: str, code: str = "XNYS", symbol: str = "AAA", minutes: int = 60) -> pd.DataFrame:
    """Bars from each open on, up to the close; none within a break."""
    of = calendar(code)
    moments: list[pd.Timestamp] = []
    for session in of.sessions_in_range(first, last):
        begin, end = of.session_open_close(session)
        pause = of.session_break_start(session), of.session_break_end(session)
        every = pd.date_range(begin, end, freq=f"{minutes}min", inclusive="left")
        moments += [at for at in every if pd.isna(pause[0]) or not pause[0] <= at < pause[1]]
    return bars_at(pd.DatetimeIndex(moments), symbol)


def microseconds(*moments: str) -> NDArray[np.int64]:
    return pd.DatetimeIndex(moments).as_unit("us").asi8


def segments(table: pd.DataFrame, code: str | None, **checks: Any) -> int:
    """Stretches without a gap."""
    data = MarketDataModule(
        table, features=["log_return_1"], window=3, exchange=code, checks=Checks(**checks), cache=None
    )
    data.setup()
    return int(data.panel.segment.max())


# -- gaps ------------------------------------------------------------------------------------------------------------

CLOSED = {  # the bar before, and the next one
    "11 September 2001": ("XNYS", "2001-09-10", "2001-09-17"),
    "hurricane Sandy": ("XNYS", "2012-10-26", "2012-10-31"),
    "Juneteenth, observed on a Monday": ("XNYS", "2022-06-17", "2022-06-21"),
    "a weekend": ("XNYS", "2022-06-10", "2022-06-13"),
    "lunar new year of 2020": ("XSHG", "2020-01-23", "2020-02-03"),
    "golden week of 2019": ("XTKS", "2019-04-26", "2019-05-07"),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_days_are_no_gap(name: str) -> None:
    code, before, after = CLOSED[name]
    assert (np.diff(elapsed(microseconds(before, after), code)) == DAY).all()
    assert elapsed(microseconds(before, after), "").tolist() == microseconds(before, after).tolist()
    table = daily(
        str(pd.Timestamp(before) - pd.Timedelta(days=80))[:10],
        str(pd.Timestamp(after) + pd.Timedelta(days=80))[:10],
        code,
    )
    assert segments(table, code, max_gap_days=1) == 1
    assert segments(table, None, max_gap_days=1) > 10
    assert not [one for one in check_prices(table, Checks(), exchange=code).warnings if one.code == 320]


def test_a_long_holiday_is_a_gap_without_an_exchange_alone() -> None:
    table = daily("2019-11-01", "2020-04-30", "XSHG")
    (warning,) = [one for one in check_prices(table, Checks()).warnings if one.code == 320]
    assert "gap of more than 10 days" in warning.what
    assert (segments(table, None), segments(table, "XSHG")) == (2, 1)


def test_missing_sessions_are_a_gap() -> None:
    table = daily("2012-08-01", "2013-01-31", without=("2012-10-26", "2012-10-31"))
    assert segments(table, "XNYS", max_gap_days=3) == 1  # from the 25th to the 1st: three sessions
    assert segments(table, "XNYS", max_gap_days=2) == 2
    checked = check_prices(table, Checks(max_gap_days=2), exchange="XNYS")
    (gap,) = [one for one in checked.warnings if one.code == 320]
    assert gap.what == "gap of more than 2 sessions of XNYS in AAA"
    assert "2012-11-01, 1 gap, the longest 3 sessions of XNYS" in gap.where


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 8 * 365 * 24 * 60), min_size=2, max_size=30),
    st.sampled_from(["XNYS", "XTKS", "CMES", "XASX", "24/5"]),
)
def test_numbers_of_sessions_never_fall_and_agree_with_the_calendar(minutes: list[int], code: str) -> None:
    start = pd.Timestamp("2018-01-01").value // 1000
    midnights = np.array(minutes, dtype=np.int64) // 1440 * 1440
    times = np.unique([*minutes, *midnights]) * 60_000_000 + start
    number = sessions_of(code, times).number(times)
    assert (np.diff(number) >= 0).all()
    dates = sessions_of(code, times).dates
    for place, session in open_sessions(code, times).items():
        if code != "24/5" or times[place] % DAY:  # there the end of a session is the beginning of the next one
            assert dates[number[place]] == session.value // 1000 // DAY


def test_nothing_changes_without_an_exchange() -> None:
    table = daily("2012-01-03", "2012-12-31")
    plain, placed = (
        MarketDataModule(table, features=["log_return_1"], window=6, exchange=code) for code in (None, "NYSE")
    )
    for data in (plain, placed):
        data.setup()
    assert "exchange" not in plain.recipe.to_plain()
    assert placed.recipe.to_plain() == plain.recipe.to_plain() | {"exchange": "XNYS"}  # an alias has its code
    assert Recipe.from_plain(placed.recipe.to_plain()) == placed.recipe
    np.testing.assert_array_equal(plain.panel.values, placed.panel.values)
    np.testing.assert_array_equal(plain.panel.segment, placed.panel.segment)


def test_weekly_bars_keep_their_limit() -> None:
    weeks = calendar("XNYS").sessions_in_range("2010-01-04", "2013-12-31")
    last = pd.Series(weeks, index=weeks).groupby(pd.Grouper(freq="W")).last().dropna()
    table = bars_at(pd.DatetimeIndex(last).tz_localize("UTC"))
    assert Checks().gap_limit(table, "XNYS") == 21
    assert segments(table, "XNYS") == 1
    assert not list(session_defects(table, "XNYS"))  # a week is no missing session
    months = bars_at(pd.date_range("2010-01-01", "2015-12-01", freq="MS", tz="UTC"))
    assert not list(session_defects(months, "XNYS"))  # and the first of a month no closed day


# -- what is reported ------------------------------------------------------------------------------------------------


def said(table: pd.DataFrame, code: str = "XNYS") -> list[str]:
    return [f"{one.what} — {one.where}" for one in session_defects(table, code)]


def test_missing_sessions_are_counted_and_named_by_symbol() -> None:
    holes = tuple(f"2012-07-{day:02d}" for day in (2, 3, 5, 6, 9, 10))
    table = pd.concat(
        [daily("2012-06-01", "2012-12-31", without=holes), daily("2012-06-01", "2012-12-31", symbol="BBB")]
    )
    (line,) = said(table.reset_index(drop=True))
    assert line.startswith("6 sessions of XNYS without a bar, of 146 — AAA @ 2012-07-02, 2012-07-03, 2012-07-05")
    assert line.endswith("and 1 more")
    assert not said(daily("2001-06-01", "2001-12-31"))  # September 2001
    assert said(daily("2012-06-01", "2012-12-31", without=("2012-06-01",))) == []  # it is listed later


def test_bars_on_closed_days_are_named() -> None:
    table = pd.concat(
        [daily("2022-06-01", "2022-07-29"), bars_at(pd.DatetimeIndex(["2022-06-20", "2022-07-04"], tz="UTC"))]
    )
    (line,) = said(table.sort_values("timestamp", ignore_index=True))
    assert line == "2 bars on 2 days without a session of XNYS — AAA @ 2022-06-20, 2022-07-04"


@pytest.mark.parametrize(("code", "first", "last"), [
    ("XNYS", "2024-06-24", "2024-12-31"),  # three early closes
    ("XTKS", "2024-10-01", "2024-11-29"),  # a break, and a later close from November on
    ("XHKG", "2023-12-01", "2024-02-29"),
])  # fmt: skip
@pytest.mark.parametrize("minutes", [30, 60])
def test_early_closes_and_breaks_are_understood(code: str, first: str, last: str, minutes: int) -> None:
    table = hourly(first, last, code, minutes=minutes)
    assert said(table, code) == []
    thinned = table.drop(index=table.index[40:43]).reset_index(drop=True)
    (line,) = said(thinned, code)
    assert "too few bars for their length" in line


def test_bars_before_the_open_and_after_the_close_are_no_defects() -> None:
    table = hourly("2024-01-02", "2024-03-28")
    wide = [pd.date_range(f"{day} 04:00", f"{day} 19:30", freq="30min", tz="America/New_York").tz_convert("UTC")
            for day in table["timestamp"].dt.strftime("%Y-%m-%d").unique()]  # fmt: skip
    assert said(bars_at(pd.DatetimeIndex(pd.concat([pd.Series(one) for one in wide])))) == []


@pytest.mark.filterwarnings("ignore")
def test_data_check_reports_and_the_gap_limit_counts_sessions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = daily("2019-01-02", "2020-12-31", "XSHG", without=("2019-06-03",))
    table.assign(date=table["timestamp"].dt.strftime("%Y-%m-%d")).drop(columns="timestamp").to_csv(
        tmp_path / "p.csv", index=False
    )
    config = tmp_path / "c.yaml"
    config.write_text(
        f"data:\n  source: {{class_path: cnn_lstm.data.sources.PriceFiles, init_args: {{paths: {tmp_path}/p.csv}}}}\n"
        "  features: [log_return_1]\n  window: 5\n  cache: null\n"
    )
    assert main(["data", "check", "--config", str(config), "--data.exchange", "XSHG"]) == 0
    out = capsys.readouterr()
    assert "[W389] 1 session of XSHG without a bar" in out.err
    assert "AAA @ 2019-06-03" in out.err
    assert "W320" not in out.err
    assert "warnings: 1," in out.out
    assert main(["data", "check", "--config", str(config)]) == 0
    assert "W389" not in capsys.readouterr().err


# -- features --------------------------------------------------------------------------------------------------------


def minutes_of(code: str, *moments: str) -> list[tuple[float, float]]:
    bars = pd.DataFrame({"timestamp": pd.DatetimeIndex(moments, tz="UTC").as_unit("us")})
    return list(zip(minutes_since_open(code, bars), minutes_to_close(code, bars), strict=True))


def test_the_place_in_a_session() -> None:
    # the week before and after a change of the clock: 9:30 in New York is 14:30, then 13:30 UTC
    assert (
        minutes_of("XNYS", "2024-03-08 14:30", "2024-03-11 13:30", "2024-11-01 13:30", "2024-11-04 14:30")
        == [(0, 390)] * 4
    )
    # a half day ends at 13:00; before the open and after the close
    assert minutes_of("XNYS", "2024-07-03 16:30", "2024-07-03 17:00", "2024-07-03 20:00") == [
        (180, 30),
        (210, 0),
        (210, 0),
    ]
    assert minutes_of("XNYS", "2024-07-02 08:00", "2024-07-03 00:30") == [(0, 390), (390, 0)]  # 20:30 of the 2nd there
    # Tokyo opens at midnight UTC; its break counts as the rest does
    assert minutes_of("XTKS", "2024-06-03 00:00", "2024-06-03 02:30", "2024-06-03 03:30") == [
        (0, 360),
        (150, 210),
        (210, 150),
    ]
    # a session of futures begins in the evening before
    assert minutes_of("CMES", "2024-06-02 23:00", "2024-06-03 00:00") == [(60, 1380), (120, 1320)]
    assert np.isnan(minutes_of("XNYS", "2024-07-04 15:00")).all()


def test_features_are_those_of_the_calendar() -> None:
    table = hourly("2024-01-02", "2024-12-31", minutes=30)
    data = MarketDataModule(table, features=PLACE, window=4, exchange="XNYS", cache=None)
    data.setup()
    sessions = list(open_sessions("XNYS", pd.DatetimeIndex(table["timestamp"]).asi8).values())
    begin, end = (one.loc[sessions].to_numpy() for one in (calendar("XNYS").opens, calendar("XNYS").closes))
    at = table["timestamp"].to_numpy()
    wanted = np.stack([at - begin, end - at], axis=1).astype("timedelta64[s]").astype(float) / 60
    np.testing.assert_array_equal(data.panel.values, wanted)
    assert set(wanted[:, 0]) == set(range(0, 390, 30))
    # the other rooms know of them
    assert "minutes_since_open" in [one.name for one in data.bound.features]


def test_a_planted_place_in_the_session_is_found_and_explained() -> None:
    """The return of the next bar but one grows with the minutes to the close, which early closes tear off the clock."""
    table = hourly("2022-01-03", "2024-12-31", minutes=30)
    left = minutes_to_close("XNYS", table)
    random = np.random.default_rng(0)
    returns = 0.002 * (left - left.mean()) / left.std() + 0.002 * random.normal(size=len(table))
    close = 100 * np.exp(np.cumsum(np.concatenate([[0.0, 0.0], returns[:-2]])))
    table = bars_of(close, pd.DatetimeIndex(table["timestamp"]))
    features = ["log_return_1", "close_location", *PLACE]
    data = MarketDataModule(table, features=features, window=4, exchange="XNYS", cache=None)
    forecaster = Forecaster(small_network(n_features=4))
    small_trainer().fit(forecaster, datamodule=data)
    predictor = Predictor(forecaster)
    judged = predictor.predict_rows(data.panel, data.parts.test)
    error = ((judged["y_true"] - judged["y_pred"]) ** 2).mean() / judged["y_true"].var()
    assert error < 0.7
    pytest.importorskip("captum")
    explained = explain(predictor, data, rows=200, repeats=3)
    assert explained.by_feature["feature"][int(explained.by_feature["rise"].argmax())] in PLACE
    assert explained.by_feature["feature"][0] in PLACE


def test_bar_by_bar_is_the_table(tmp_path: Path) -> None:
    """Gaps, sessions and features of a stream are those of the whole table, over half days and changes of the clock."""
    features = ["log_return_1", *PLACE]
    tables = [hourly("2024-09-03", "2024-12-31", symbol=name) for name in ("AAA", "BBB")]
    holes = tables[1].index[200:230]  # more than two sessions
    table = pd.concat([tables[0], tables[1].drop(index=holes)], ignore_index=True)
    data = MarketDataModule(
        table, features=features, window=5, exchange="XNYS", checks=Checks(max_gap_days=2), cache=None
    )
    forecaster = Forecaster(small_network())
    trainer = small_trainer()
    trainer.fit(forecaster, datamodule=data)
    path = tmp_path / "m.ckpt"
    trainer.save_checkpoint(path)
    predictor = Predictor.from_checkpoint(path)
    assert predictor.recipe.exchange == "XNYS"
    whole = predictor.predict(table)
    cut = pd.Timestamp("2024-10-25", tz="UTC")
    stream = predictor.stream(table[table["timestamp"] < cut])
    later = table[table["timestamp"] >= cut]
    parts = [stream.update(bars, absent={"AAA", "BBB"} - set(bars["symbol"])) for _, bars in later.groupby("timestamp")]
    streamed = pd.concat(parts)[["symbol", "as_of", "y_pred"]].sort_values(["symbol", "as_of"], ignore_index=True)
    wanted = whole[whole["as_of"] >= cut][["symbol", "as_of", "y_pred"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(streamed, wanted, check_exact=True, check_dtype=False)
    first_after = tables[1]["timestamp"][holes[-1] + 1]
    missing = whole[(whole["symbol"] == "BBB") & (whole["as_of"] >= first_after)]
    assert missing["as_of"].iloc[0] == tables[1]["timestamp"][holes[-1] + 5]  # a window after the gap
    with pytest.raises(CheckpointError, match=r"E436.*exchange.*XNYS"):
        take_over(MarketDataModule(table, features=features[:1], window=5, checks=Checks(max_gap_days=2)), predictor)


def test_a_panel_in_files_is_that_in_memory(tmp_path: Path) -> None:
    for number, name in enumerate(("AAA", "BBB", "CCC")):
        hourly("2024-06-03", "2024-12-31", symbol=name).iloc[number:].to_csv(tmp_path / f"{name}.csv", index=False)
    source = PriceFiles(f"{tmp_path}/*.csv")
    values: dict[str, Any] = {"features": ["log_return_1", *PLACE], "window": 5, "exchange": "XNYS"}
    plain = MarketDataModule(source, cache=None, **values)
    filed = MarketDataModule(source, storage=MappedPanel(str(tmp_path / "panel"), "2MB"), **values)
    for data in (plain, filed):
        data.setup()
    for name in ("values", "segment", "labels"):
        np.testing.assert_array_equal(getattr(plain.panel, name), getattr(filed.panel, name))
    assert filed.recipe.checks.max_gap_days == plain.recipe.checks.max_gap_days == 10


@pytest.mark.filterwarnings("ignore")
def test_the_audit_finds_nothing() -> None:
    table = pd.concat([hourly("2024-06-03", "2024-12-31", symbol=name) for name in ("AAA", "BBB")], ignore_index=True)
    data = MarketDataModule(table, features=["log_return_1", *PLACE], window=5, exchange="XNYS", cache=None)
    assert audit(data).failed == ()


# -- refusals --------------------------------------------------------------------------------------------------------


def test_wrong_exchanges_are_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert known_exchange(None) == ""
    for code, hint in (("XNYSE", "XNYS"), ("xnys", "XNYS"), ("", "one of"), ("Nasdaq", "NASDAQ")):
        with pytest.raises(ConfigError, match=rf"E230.*unknown exchange '{code}'.*{hint}") as refused:
            MarketDataModule(exchange=code)
        assert len(str(refused.value)) <= 400
    with pytest.raises(ConfigError, match=r"E230.*24/7 is open on every day.*leave it out"):
        MarketDataModule(exchange="24/7")
    monkeypatch.setattr(exchange, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'E230.*pip install "cnn-lstm\[calendars\]"'):
        MarketDataModule(exchange="XNYS")
    exchange._sessions.cache_clear()
    with pytest.raises(ConfigError, match="E230"):
        sessions_of("XNYS", microseconds("2020-01-02"))


def test_dates_that_the_calendar_does_not_know_are_refused() -> None:
    table = bars_at(pd.bdate_range("1985-01-02", periods=300, tz="UTC"))
    with pytest.raises(DataError, match=r"E388.*1985-01-02 lies outside of the calendar of XTKS, 1997.*data.start"):
        MarketDataModule(table, features=["log_return_1"], window=5, exchange="XTKS").setup()
    old = bars_at(pd.bdate_range("1962-01-02", periods=300, tz="UTC"))
    MarketDataModule(old, features=["log_return_1"], window=5, exchange="XNYS", cache=None).setup()
    with pytest.raises(DataError, match=r"E388.*2099-01-01"):
        sessions_of("XNYS", microseconds("2099-01-01"))


def test_features_of_sessions_need_an_exchange_and_moments() -> None:
    table = hourly("2024-06-03", "2024-08-30")
    with pytest.raises(ConfigError, match=r"E230.*minutes_to_close needs an exchange.*XNYS"):
        MarketDataModule(table, features=["minutes_to_close"], window=5).setup()
    with pytest.raises(ConfigError, match=r"E230.*minutes_since_open for daily bars"):
        MarketDataModule(daily("2012-01-03", "2012-12-31"), features=["log_return_1", "minutes_since_open"], window=5,
                         exchange="XNYS").setup()  # fmt: skip
    with pytest.raises(ConfigError, match=r"E225.*did you mean 'minutes_since_open'"):
        resolve_features(["minutes_since_opn"], ["close"])
