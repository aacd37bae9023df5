"""Facts known ahead: aligned to the target interval by their own table, and refused where they do not reach it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.known_future import AheadFact, KnownFuture
from cnn_lstm.data.mapped import MappedPanel
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.data.targets import ForwardReturn, RealizedVolatility
from cnn_lstm.errors import CnnLstmError, ConfigError, DataError, ValidityError
from cnn_lstm.evaluation.audit.known_ahead import facts_known_ahead
from cnn_lstm.evaluation.audit.run_audit import audit
from tests.markets import TableSource, days, market

ROWS, AHEAD = 120, 12
AGGREGATES: dict[str, Callable[[NDArray[np.float64]], float]] = {
    "mean": lambda values: float(values.mean()),
    "sum": lambda values: float(values.sum()),
    "max": lambda values: float(values.max()),
    "last": lambda values: float(values[-1]),
}


def events(rows: int = ROWS + AHEAD, symbols: tuple[str, ...] = (), seed: int = 0) -> pd.DataFrame:
    """Events on a tenth of the days, for all symbols or for each; and the length of a session."""
    random = np.random.default_rng(seed)
    parts = []
    for symbol in symbols or (None,):
        part = pd.DataFrame({"timestamp": days(rows), "event": (random.random(rows) < 0.1) * 1.0})
        part["hours"] = random.choice([3.5, 6.5], rows)
        parts.append(part if symbol is None else part.assign(symbol=symbol))
    return pd.concat(parts, ignore_index=True)


def data_with(known: KnownFuture | None, prices: pd.DataFrame | None = None, **arguments: Any) -> MarketDataModule:
    """A data module of windows of 4 rows."""
    table = market(ROWS) if prices is None else prices
    values: dict[str, Any] = {"features": ["log_return_1"], "window": 4, "targets": [ForwardReturn(3, 1)], **arguments}
    return MarketDataModule(TableSource(table), known_future=known, **values)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("symbols", [(), ("AAA", "BBB", "CCC")])
def test_a_feature_is_the_aggregate_of_the_sessions_of_the_interval(aggregate: Any, symbols: tuple[str, ...]) -> None:
    table = events(symbols=symbols)
    known = KnownFuture(table.sample(frac=1.0, random_state=0), ["hours", "event"], aggregate)
    data = data_with(known, targets=[ForwardReturn(3, 1), ForwardReturn(1, 0)])
    data.setup()
    names = ["hours_ahead_2_4", "hours_ahead_1", "event_ahead_2_4", "event_ahead_1"]
    assert list(data.recipe.features) == ["log_return_1", *names]
    spans = {name: (name.split("_")[0], int(name.split("_")[2]), int(name.split("_")[-1])) for name in names}
    for row in range(len(data.panel)):
        symbol, moment = data.panel.symbols[data.panel.symbol[row]], pd.Timestamp(data.panel.time[row], tz="UTC")
        own = table[table["symbol"] == symbol] if symbols else table
        for place, (fact, first, last) in enumerate(spans.values(), start=1):
            later = own.loc[own["timestamp"] > moment, fact].to_numpy()[first - 1 : last]
            assert data.panel.values[row, place] == np.float32(AGGREGATES[aggregate](later)), (symbol, moment, fact)


def test_a_longer_table_changes_no_bit() -> None:
    fact = AheadFact.of("hours", 1, 7, "mean")
    bars = market(ROWS, ["AAA"], gaps=False)
    table = events(400)
    short, long = (KnownFuture(table[:rows], ["hours"]).load().over(fact, bars) for rows in (ROWS + 7, 400))
    assert short.tobytes() == long.tobytes()


def _csv(table: pd.DataFrame, folder: Path) -> object:
    table.assign(date=table["timestamp"].dt.strftime("%Y-%m-%d")).drop(columns="timestamp").to_csv(
        folder / "x.csv", index=False
    )
    return str(folder / "x.csv")


def _parquet(table: pd.DataFrame, folder: Path) -> object:
    table.to_parquet(folder / "x.parquet")
    return str(folder / "x.parquet")


FORMS: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    "csv": _csv,
    "parquet": _parquet,
    "an index of dates of another zone": lambda table, folder: table.assign(
        timestamp=table["timestamp"].dt.tz_localize(None).dt.tz_localize("Asia/Tokyo")
    ).set_index("timestamp"),
    "text": lambda table, folder: table.assign(timestamp=table["timestamp"].dt.strftime("%Y%m%d"), note="a remark"),
    "flags": lambda table, folder: table.assign(event=table["event"] == 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_table_is_read_by_the_rules_of_prices(form: str, tmp_path: Path) -> None:
    made: Any = FORMS[form](events(), tmp_path)
    plain, other = (KnownFuture(table, ["event"]).load() for table in (events(), made))
    assert plain.digest() == other.digest()


def test_times_of_a_zone_meet_bars_of_that_zone(tmp_path: Path) -> None:
    local = pd.date_range("2024-03-08 10:00", periods=60, freq="h").strftime("%Y-%m-%d %H:%M")
    pd.DataFrame({"time": local, "auction": range(60)}).to_csv(tmp_path / "x.csv", index=False)
    pd.DataFrame({"time": local[:50], "symbol": "A", "close": range(1, 51)}).to_csv(tmp_path / "p.csv", index=False)
    bars = PriceFiles(str(tmp_path / "p.csv"), tz="Asia/Kolkata").load(None, None, None)
    table = KnownFuture(str(tmp_path / "x.csv"), ["auction"], tz="Asia/Kolkata").load()
    assert table.over(AheadFact.of("auction", 2, 2, "mean"), bars).tolist() == list(range(2, 52))


REFUSED: dict[str, tuple[int, Callable[[pd.DataFrame], Any], str]] = {
    "no such column": (376, lambda table: KnownFuture(table, ["earnings"]), "no column earnings"),
    "two rows of a session": (376, lambda table: KnownFuture(pd.concat([table, table[5:6]]), ["event"]), "2010-01-11"),
    "an empty time": (
        376,
        lambda table: KnownFuture(table.assign(timestamp=table["timestamp"].mask(table.index == 7)), ["event"]),
        "a row names no session",
    ),
    "an empty symbol": (
        376,
        lambda table: KnownFuture(table.assign(symbol=pd.Series("AAA", table.index).mask(table.index == 7)), ["event"]),
        "a row names no symbol",
    ),
    "an empty fact": (
        376,
        lambda table: KnownFuture(table.assign(event=table["event"].mask(table.index == 7)), ["event"]),
        "event is empty",
    ),
    "an infinite fact": (376, lambda table: KnownFuture(table.assign(event=np.inf), ["event"]), "132 rows"),
    "no row": (376, lambda table: KnownFuture(table[:0], ["event"]), "0 rows"),
    "text": (304, lambda table: KnownFuture(table.assign(event="soon"), ["event"]), "'soon' is not a number"),
    "not a table": (338, lambda table: KnownFuture(3, ["event"]), "int"),  # type: ignore[arg-type]
    "no such file": (301, lambda table: KnownFuture("nowhere.csv", ["event"]), "nowhere.csv"),
    "a session of the prices is missing": (
        374,
        lambda table: KnownFuture(table.drop(index=9), ["event"]),
        "AAA @ 2010-01-15",
    ),
    "it begins later": (374, lambda table: KnownFuture(table[20:], ["event"]), "AAA @ 2010-01-04, 20 rows"),
    "a symbol is missing": (374, lambda table: KnownFuture(table.assign(symbol="AAA"), ["event"]), "no row of BBB"),
    "other times": (
        374,
        lambda table: KnownFuture(table.assign(timestamp=table["timestamp"] + pd.Timedelta("1h")), ["event"]),
        "",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(case: str) -> None:
    code, known, said = REFUSED[case]
    with pytest.raises(CnnLstmError) as caught:
        data_with(known(events()), market(ROWS, gaps=False)).setup()
    assert caught.value.code == code
    assert said in str(caught.value)
    assert len(str(caught.value)) <= 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: KnownFuture("x.csv", []),
        lambda: KnownFuture("x.csv", ["a", "a"]),
        lambda: KnownFuture("x.csv", "event"),  # type: ignore[arg-type]
        lambda: KnownFuture("x.csv", ["event"], "median"),  # type: ignore[arg-type]
        lambda: KnownFuture("x.csv", ["event"], tz="Moon/Base"),
        lambda: data_with(KnownFuture("x.csv", ["event"]), features=["event_ahead_2_4"]),
        lambda: data_with(KnownFuture("x.csv", ["event"]), anchor=["event_ahead_2_4"]),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_the_last_rows_are_left_out_of_a_fit_and_refused_in_a_forecast(caplog: pytest.LogCaptureFixture) -> None:
    prices = market(ROWS, gaps=False)
    whole, short = (data_with(KnownFuture(events(ROWS + rows), ["event"]), prices) for rows in (4, 1))
    with caplog.at_level(logging.WARNING):
        for data in (whole, short):
            data.setup()
    assert sum("[W375]" in line for line in caplog.messages) == 1
    assert "the last 9 rows" in caplog.text  # 3 of each symbol lack a session
    for part in ("train", "validation", "test"):  # their labels are not known either
        assert getattr(whole.parts, part).tolist() == getattr(short.parts, part).tolist()
    assert len(whole.rows_to_predict()) > 0
    with pytest.raises(DataError, match=r"E375.*1 session after .*, it needs 4 — AAA @ .*, 3 rows"):
        short.rows_to_predict()


def test_future_prices_move_nothing_and_the_audit_says_what_is_declared() -> None:
    data = data_with(KnownFuture(events(), ["event"], "max"), features=["log_return_1", "close_location"])
    report = audit(data)
    assert not report.failed
    check = next(part for part in report.results if part.name == "facts known ahead")
    assert (check.outcome, "event_ahead_2_4 = max of event over (t+1, t+4]" in check.compared) == ("passed", True)


def test_the_audit_finds_a_value_that_is_not_that_of_the_table() -> None:
    data = data_with(KnownFuture(events(), ["event"], "max"))
    data.setup()
    data.panel.values[50, 1] += 1.0
    check = facts_known_ahead(data)
    assert (check.outcome, [finding.column for finding in check.findings]) == ("failed", ["event_ahead_2_4"])
    assert check.findings[0].times == 1
    assert facts_known_ahead(_set_up(data_with(None))).outcome == "not applicable"


def _set_up(data: MarketDataModule) -> MarketDataModule:
    data.setup()
    return data


def test_a_fact_that_is_the_label_is_refused() -> None:
    prices = market(ROWS, ["AAA"], gaps=False)
    leak = events().assign(event=0.0)
    leak.loc[: ROWS - 1, "event"] = prices["close"].pct_change().fillna(0.0).to_numpy()
    with pytest.raises(ValidityError, match="event_ahead_1 is the target"):
        data_with(KnownFuture(leak, ["event"]), prices, targets=[ForwardReturn(1, 0)]).setup()


def test_a_panel_in_files_has_the_same_bits(tmp_path: Path) -> None:
    known = KnownFuture(events(), ["event", "hours"])
    market(ROWS).assign(timestamp=lambda table: table["timestamp"].dt.strftime("%Y-%m-%d")).to_csv(
        tmp_path / "p.csv", index=False
    )
    panels = []
    for storage in (None, MappedPanel(str(tmp_path / "panel"))):
        data = MarketDataModule(
            PriceFiles(str(tmp_path / "p.csv")),
            known_future=known,
            storage=storage,
            window=4,
            features=["log_return_1"],
        )
        data.setup()
        panels.append(data.panel.values.numpy().tobytes())
    assert panels[0] == panels[1]


@pytest.mark.parametrize("storage", [False, True])
def test_a_kept_panel_of_another_table_is_not_used(storage: bool, tmp_path: Path) -> None:
    market(ROWS).assign(timestamp=lambda table: table["timestamp"].dt.strftime("%Y-%m-%d")).to_csv(
        tmp_path / "p.csv", index=False
    )
    means, fingerprints = [], []
    for seed in (0, 1):
        data = MarketDataModule(
            PriceFiles(str(tmp_path / "p.csv")),
            known_future=KnownFuture(events(seed=seed), ["event"]),
            cache=None if storage else str(tmp_path / "cache"),
            storage=MappedPanel(str(tmp_path / "panel")) if storage else None,
            window=4,
            features=["log_return_1"],
        )
        if data.cache is not None:
            data.cache = replace(data.cache, least=0)
        data.setup()
        means.append(float(data.panel.values[:, 1].nanmean()))
        fingerprints.append(data.fingerprint)
        assert len(data.prices) == len(data.panel.time) or storage  # read again, and found unchanged
    assert means[0] != means[1]
    assert fingerprints[0] != fingerprints[1]  # --same_prices refuses another table, too


def test_a_recipe_goes_through_a_checkpoint_and_an_old_one_stays_as_it_was() -> None:
    recipe = data_with(KnownFuture("x.csv", ["event"], "sum"), targets=[RealizedVolatility(5)]).recipe
    assert Recipe.from_plain(recipe.to_plain()) == recipe
    assert {"known_future", "static", "tables"}.isdisjoint(data_with(None).recipe.to_plain())
