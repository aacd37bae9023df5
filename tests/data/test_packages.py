"""Closes that lie inside skfolio: read without a network, close only, and what the checks say of them."""

from __future__ import annotations

import socket
import sys

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.checks import Checks
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.prices import check_prices
from cnn_lstm.data.sources import SkfolioBars
from cnn_lstm.data.splits import DateSplit
from cnn_lstm.data.targets import RealizedVolatility
from cnn_lstm.errors import ConfigError, DataError, DefectsError

LOG_HAR = ["log_realised_volatility_1", "log_realised_volatility_5", "log_realised_volatility_22"]


@pytest.fixture(scope="module")
def stocks() -> pd.DataFrame:
    pytest.importorskip("skfolio")
    return SkfolioBars().load(None, None, None)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    ("dataset", "symbols", "rows"), [("sp500", 20, 8313), ("sp500_index", 1, 8313), ("factors", 5, 2264)]
)
def test_data_sets_load_without_a_network(offline: None, dataset: str, symbols: int, rows: int) -> None:
    pytest.importorskip("skfolio")
    table = SkfolioBars(dataset).load(None, None, None)  # type: ignore[arg-type]  # pytest knows no Literal
    assert list(table.columns) == ["symbol", "timestamp", "close"]
    assert str(table["timestamp"].dtype) == "datetime64[us, UTC]"
    assert (table["timestamp"] == table["timestamp"].dt.normalize()).all()
    assert table.groupby("symbol").size().tolist() == [rows] * symbols


def test_the_values_are_those_of_skfolio(stocks: pd.DataFrame) -> None:
    from skfolio.datasets import load_sp500_dataset  # takes seconds

    wide = stocks.pivot(index="timestamp", columns="symbol", values="close")
    theirs = load_sp500_dataset()
    np.testing.assert_array_equal(wide[list(theirs.columns)].to_numpy(), theirs.to_numpy())
    assert pd.DatetimeIndex(wide.index).tz_localize(None).tolist() == theirs.index.tolist()


def test_symbols_and_days_are_selected(stocks: pd.DataFrame) -> None:
    table = SkfolioBars().load(["KO", "PEP"], "2000-01-01", "2001-01-01")
    assert set(table["symbol"]) == {"KO", "PEP"}
    assert table["timestamp"].dt.year.unique().tolist() == [2000]
    with pytest.raises(DataError, match=r"E333.*no rows for KOO.*skfolio's sp500 has"):
        SkfolioBars().load(["KOO"], None, None)


def test_the_checks_refuse_one_stock_and_no_other(stocks: pd.DataFrame) -> None:
    with pytest.raises(DefectsError) as caught:
        check_prices(stocks, Checks(), ["close"])
    assert [(defect.code, defect.where[:16]) for defect in caught.value.defects] == [(317, "RRC @ 1990-04-10")]
    later = stocks[stocks["timestamp"] >= pd.Timestamp("1993-01-01", tz="UTC")]
    for sound in (stocks[stocks["symbol"] != "RRC"], later):
        warned = check_prices(sound, Checks(), ["close"]).warnings
        assert warned == (), "seven moves by a third or a half are real"


def test_close_only_bars_make_windows_of_log_volatilities(stocks: pd.DataFrame) -> None:
    features = [*LOG_HAR, "market_log_volatility_5", "market_return_1", "abs_return_1"]
    split = DateSplit("2003-01-01", "2004-01-01")
    target = RealizedVolatility(horizon=5, log=True)
    given = SkfolioBars(), ["AMD", "BBY", "KO"], "2000-01-01", "2005-01-01"
    data = MarketDataModule(*given, features=features, targets=[target], split=split, window=22)
    data.setup()
    assert data.statistics.x_scale.isfinite().all()
    lost = len(data.prices) / 3 - len(data.windows) / 3
    assert lost == 63 + 22 - 1, "the longest warm-up and the window, and nothing in between"


def test_a_feature_of_other_columns_is_refused_by_name(stocks: pd.DataFrame) -> None:
    data = MarketDataModule(SkfolioBars(), ["KO"], features=["log_return_1", "garman_klass_volatility_5"])
    with pytest.raises(DefectsError, match=r"E303.*no column open"):
        data.setup()


def test_a_missing_package_and_an_unknown_data_set_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skfolio", None)
    with pytest.raises(ConfigError, match=r"E235.*skfolio is not installed.*pip install skfolio"):
        SkfolioBars().load(None, None, None)
    with pytest.raises(ConfigError, match=r"E233.*use one of sp500"):
        SkfolioBars("sp501")  # type: ignore[arg-type]  # on purpose: not one of them
