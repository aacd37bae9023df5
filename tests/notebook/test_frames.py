"""A frame, and the file that stands for it in YAML, are the same prices, whatever the frame looks like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.sources import SampleBars
from cnn_lstm.data.sources.frame import FrameBars
from cnn_lstm.notebook.experiment import from_yaml, to_yaml
from tests.markets import market

Change = Callable[[pd.DataFrame], pd.DataFrame]
HOURS = pd.Timedelta("14h30min")
FORMS: dict[str, Change] = {
    "long": lambda t: t,
    "midnights of a zone": lambda t: t.assign(
        timestamp=t["timestamp"].dt.tz_localize(None).dt.tz_localize("America/New_York")
    ),
    "hours of a zone": lambda t: t.assign(timestamp=(t["timestamp"] + HOURS).dt.tz_convert("America/New_York")),
    "an index of both keys": lambda t: t.set_index(["symbol", "timestamp"]),
    "capital names": lambda t: t.rename(columns=str.capitalize),
    "whole numbers": lambda t: t.assign(volume=t["volume"].astype(int)),
    "single precision": lambda t: t.assign(close=t["close"].astype("float32")),
    "missing closes": lambda t: t.assign(close=t["close"].where(t.index % 9 != 0)),
    "any order": lambda t: t.sample(frac=1, random_state=1),
    "symbols that are numbers": lambda t: t.assign(symbol=t["symbol"].map({"AAA": 1, "BBB": 2, "CCC": 3})),
    "one symbol without a name": lambda t: t[t["symbol"] == "AAA"].drop(columns="symbol"),
    "own columns": lambda t: t.assign(Sentiment=np.arange(len(t)), my_col=2.0, adjusted=1.0).rename(
        columns={"my_col": "my col", "adjusted": "Adj Close"}
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
def test_the_file_holds_what_the_frame_held(form: str, tmp_path: Path) -> None:
    frame = FORMS[form](market(60))
    before = frame.copy()
    data = MarketDataModule(frame)
    again, _ = from_yaml(to_yaml(data, folder=tmp_path))
    pd.testing.assert_frame_equal(again.load(), data.load(), check_exact=True)
    pd.testing.assert_frame_equal(frame, before)


def test_own_columns_keep_the_name_that_a_feature_asks_for(tmp_path: Path) -> None:
    frame = (
        market(90, gaps=False)
        .assign(Sentiment=lambda t: np.arange(len(t)) % 7.0)
        .rename(columns={"symbol": "Ticker", "timestamp": "Date"})
    )
    data = MarketDataModule(frame, features=["log_return_1", "Sentiment"], window=3)
    again, _ = from_yaml(to_yaml(data, folder=tmp_path))
    for one in (data, again):
        one.setup()
    np.testing.assert_array_equal(again.panel.values, data.panel.values)
    assert again.fingerprint == data.fingerprint


def test_a_frame_is_selected_from_as_a_file_is() -> None:
    source = FrameBars(market(60))
    assert source.load(["BBB"], "2010-02-01", "2010-02-10")["symbol"].unique().tolist() == ["BBB"]
    with pytest.raises(Exception, match=r"E333.*the frame"):
        source.load(["DDD"], None, None)


def test_another_frame_is_another_file(tmp_path: Path) -> None:
    table = market(60)
    changed = table.assign(close=table["close"].where(table.index != 3, 1.0))
    files = {FrameBars(frame).write(tmp_path) for frame in (table, changed, table.assign(x=1.0), table.copy())}
    assert len(files) == 3


def test_a_frame_is_kept_once() -> None:
    frame = SampleBars().load(["IBM"], "2012-01-01", None)
    data = MarketDataModule(frame)
    assert data.init_args["source"] is data.source
    assert not any(value is frame for value in vars(data).values())
