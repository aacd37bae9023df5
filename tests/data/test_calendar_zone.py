"""Features of the calendar in the zone of the market."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.errors import ConfigError
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecaster import Forecaster
from tests.fits import small_network, small_trainer
from tests.markets import TableSource, walk

HOURS = ["hour_sin", "hour_cos", "minute_of_day_sin", "minute_of_day_cos", "day_of_week_sin", "day_of_week_cos"]
FEATURES = ["log_return_1", *HOURS, "days_since_bar"]


def sessions(zone: str = "America/New_York", symbol: str = "AAA") -> pd.DataFrame:
    """Hourly bars from 9:30 to 15:30 of the local clock, over a year."""
    days = pd.bdate_range("2023-01-02", "2023-12-29").tz_localize(zone)
    when = pd.DatetimeIndex([day + pd.Timedelta(minutes=570 + 60 * k) for day in days for k in range(7)])
    return walk(len(when), symbol).assign(timestamp=when.tz_convert("UTC").as_unit("us"))


def module(table: pd.DataFrame, zone: str | None, features: list[str] | None = None) -> MarketDataModule:
    data = MarketDataModule(TableSource(table), features=features or FEATURES, window=6, calendar_zone=zone)
    data.setup()
    return data


def test_a_session_has_the_same_hours_all_year() -> None:
    table = sessions()
    local = table["timestamp"].dt.tz_convert("America/New_York").dt
    minute = 2 * np.pi * (local.hour * 60 + local.minute).to_numpy() / 1440
    wanted = {
        "hour_sin": np.sin(2 * np.pi * local.hour.to_numpy() / 24),
        "minute_of_day_sin": np.sin(minute),
        "minute_of_day_cos": np.cos(minute),
        "day_of_week_sin": np.sin(2 * np.pi * local.day_of_week.to_numpy() / 7),
    }
    values = module(table, "America/New_York").panel.values.numpy()
    for name, column in wanted.items():
        np.testing.assert_allclose(values[:, FEATURES.index(name)], column, atol=1e-6)
    assert len(np.unique(values[:, FEATURES.index("minute_of_day_sin")])) == 7
    in_utc = module(table, None).panel.values.numpy()
    assert len(np.unique(in_utc[:, FEATURES.index("minute_of_day_cos")])) == 8
    for name in ("log_return_1", "days_since_bar"):
        column = FEATURES.index(name)
        np.testing.assert_array_equal(values[:, column], in_utc[:, column])


def test_hours_that_wander_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    cases = [
        (sessions(), None, FEATURES, True),
        (sessions("Australia/Sydney"), None, FEATURES, True),
        (sessions(), "America/New_York", FEATURES, False),
        (sessions(), None, ["log_return_1", "day_of_week_sin"], False),
        (sessions("Asia/Tokyo"), None, FEATURES, False),
        (
            walk(8000).assign(timestamp=pd.date_range("2023-01-01", periods=8000, freq="h", tz="UTC")),
            None,
            HOURS,
            False,
        ),
        (walk(300), None, HOURS, False),
    ]
    for table, zone, features, warned in cases:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "cnn_lstm"):
            module(table, zone, features)
        assert ("W352" in caplog.text) == warned
    assert "W352" not in caplog.text


@pytest.mark.parametrize(("zone", "code"), [("America/New_York", 278), ("America/NewYork", 210), ("New York", 210)])
def test_dates_have_no_zone_and_zones_have_names(zone: str, code: int) -> None:
    with pytest.raises(ConfigError) as caught:
        module(walk(300), zone)
    assert caught.value.code == code


def test_a_checkpoint_keeps_its_zone_and_an_old_one_has_none(tmp_path: Path) -> None:
    table = sessions()[:700]
    data = MarketDataModule(TableSource(table), features=FEATURES, window=6, calendar_zone="America/New_York")
    trainer = small_trainer()
    trainer.fit(Forecaster(small_network(n_features=len(FEATURES))), datamodule=data)
    trainer.save_checkpoint(tmp_path / "zone.ckpt")
    predictor = Predictor.from_checkpoint(tmp_path / "zone.ckpt")
    assert predictor.recipe == data.recipe
    panel, *_ = predictor._complete(table)
    np.testing.assert_array_equal(panel.values.numpy(), data.panel.values.numpy())
    now = table["timestamp"].max()
    stream = predictor.stream(table[table["timestamp"] < now])
    streamed, wanted = stream.update(table[table["timestamp"] == now]), predictor.predict(table)
    assert streamed["y_pred"].iloc[-1] == wanted["y_pred"].iloc[-1]
    old = {name: value for name, value in data.recipe.to_plain().items() if name != "zone"}
    assert Recipe.from_plain(old).zone == ""
    assert "zone" not in Recipe.from_plain(old).to_plain()
