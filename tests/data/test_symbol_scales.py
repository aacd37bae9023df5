"""A location and scale of each symbol: its own training rows and no others, and the code that a window carries."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from jsonargparse import ArgumentParser

from cnn_lstm.data import symbol_codes
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.prices import Checks
from cnn_lstm.data.statistics import LEAST_ROWS, TrainingStatistics
from cnn_lstm.data.symbol_codes import SYMBOL_CODE, code_of, distinct_codes
from cnn_lstm.data.targets import Direction, ForwardValue, Target
from cnn_lstm.errors import ConfigError
from tests.markets import PRICES, TableSource, market, walk

LENGTH = 6


def data_of(table: pd.DataFrame, *targets: Target, **arguments: Any) -> MarketDataModule:
    values: dict[str, Any] = {
        "features": ["log_return_1", "close"],
        "window": LENGTH,
        "per_symbol": True,
        "checks": Checks(allow_jumps=True, on_short="skip"),
        **arguments,
    }
    data = MarketDataModule(TableSource(table), targets=list(targets) or [ForwardValue("close")], **values)
    data.setup()
    return data


def small_scale(factor: float = 1e-3) -> pd.DataFrame:
    """Three random walks, the prices of BBB in another unit."""
    table = market(300, gaps=False)
    table.loc[table["symbol"] == "BBB", PRICES] *= factor
    return table


def bits(found: TrainingStatistics) -> dict[str, bytes]:
    return {part.name: getattr(found, part.name).numpy().tobytes() for part in fields(found)}


def row_of(data: MarketDataModule, symbol: str) -> int:
    return data.statistics.codes.tolist().index(code_of(symbol))


# -- what is measured ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["standard", "robust"])
def test_each_symbol_is_measured_over_the_rows_of_its_training_windows(scaling: Any) -> None:
    data = data_of(small_scale(), scaling=scaling)
    panel, known = data.panel, data.statistics
    assert known.x_loc.shape == known.x_scale.shape == (4, 3)
    assert known.y_loc.shape == known.y_scale.shape == (4, 1)
    for position, symbol in enumerate(panel.symbols):
        rows = data.parts.train[panel.symbol[data.parts.train] == position]
        covered = np.unique(np.concatenate([rows - back for back in range(LENGTH)]))
        values, labels = panel.values.double().numpy()[covered, :2], panel.labels.double().numpy()[rows]
        row = row_of(data, symbol)
        for found, numbers in (
            ((known.x_loc[row, :2], known.x_scale[row, :2]), values),
            ((known.y_loc[row], known.y_scale[row]), labels),
        ):
            low, middle, high = np.quantile(numbers, [0.25, 0.5, 0.75], axis=0)
            wanted = (middle, (high - low) * 0.741301109252801)
            if scaling == "standard":
                wanted = (numbers.mean(axis=0), numbers.std(axis=0))
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-9)


def test_the_last_row_is_that_of_all_symbols_together() -> None:
    per_symbol, pooled = data_of(small_scale()).statistics, data_of(small_scale(), per_symbol=False).statistics
    for name in ("x_loc", "x_scale"):
        assert torch.equal(getattr(per_symbol, name)[-1, :2], getattr(pooled, name))
    for name in ("y_loc", "y_scale"):
        assert torch.equal(getattr(per_symbol, name)[-1], getattr(pooled, name))
    assert len(pooled.codes) == 0


@pytest.mark.parametrize("anchor", [[], ["close"]], ids=["level", "anchored"])
def test_another_unit_of_one_symbol_changes_its_own_rows_only(anchor: list[str]) -> None:
    one, other = (data_of(small_scale(factor), anchor=anchor).statistics for factor in (1.0, 1024.0))
    assert torch.equal(one.codes, other.codes)
    row = one.codes.tolist().index(code_of("BBB"))
    for name in ("x_loc", "x_scale", "y_loc", "y_scale"):
        before, after = (getattr(part, name).clone() for part in (one, other))
        column = 1 if name.startswith("x") else 0
        before[row, column] *= 1024.0
        assert torch.equal(before[:-1], after[:-1]), name


def test_the_code_is_no_input() -> None:
    known = data_of(small_scale()).statistics
    assert torch.equal(known.x_loc[:, -1], torch.zeros(4))
    assert known.x_scale[:, -1].isinf().all()


def test_a_column_that_tells_symbols_apart_keeps_the_scale_of_all() -> None:
    table = small_scale()
    table["sector"] = table["symbol"].map({"AAA": 1.0, "BBB": 2.0, "CCC": 4.0})
    known = data_of(table, features=["log_return_1", "sector"]).statistics
    assert torch.equal(known.x_loc[:-1, 1], known.x_loc[-1, 1].expand(3))
    assert torch.equal(known.x_scale[:-1, 1], known.x_scale[-1, 1].expand(3))
    assert known.x_scale[-1, 1].isfinite()


def test_classes_are_not_scaled_but_their_features_are() -> None:
    known = data_of(small_scale(), Direction()).statistics
    assert torch.equal(known.y_loc, torch.zeros(4, 1))
    assert torch.equal(known.y_scale, torch.ones(4, 1))
    assert len({round(value, 6) for value in known.x_scale[:, 1].tolist()}) == 4


def test_validation_and_test_rows_change_nothing() -> None:
    table = small_scale()
    data = data_of(table)
    later = table["timestamp"] >= pd.Timestamp(data.parts.boundaries.validation, tz="UTC")
    changed = table.copy()
    changed.loc[later, PRICES] *= 7.0
    for per_symbol in (True, "auto"):
        one, other = (data_of(part, per_symbol=per_symbol).statistics for part in (table, changed))
        assert bits(one) == bits(other)
    earlier = table.copy()
    earlier.loc[~later, PRICES] *= 7.0
    assert bits(data_of(earlier).statistics) != bits(data.statistics)


# -- who has a scale of its own --------------------------------------------------------------------------------------


def late(rows: int) -> tuple[pd.DataFrame, int]:
    """Three symbols, the last of which has few training rows; and how many."""
    table = pd.concat([walk(300, "AAA"), walk(300, "BBB", 1), walk(300, "CCC", 2).iloc[rows:]], ignore_index=True)
    data = data_of(table, per_symbol=False)
    return table, int((data.panel.symbol[data.parts.train] == 2).sum())


def test_a_symbol_with_few_training_rows_takes_the_scale_of_all(caplog: pytest.LogCaptureFixture) -> None:
    _, most = late(0)
    for rows, scaled in ((LEAST_ROWS, ["AAA", "BBB", "CCC"]), (LEAST_ROWS - 1, ["AAA", "BBB"])):
        # one row less, one training window less; the parts are cut by date over all symbols
        table, count = late(most - rows)
        assert count == rows
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="cnn_lstm"):
            data = data_of(table)
        assert data.contract()["scaled_symbols"] == scaled
        said = [record.getMessage() for record in caplog.records if "W343" in record.getMessage()]
        assert len(said) == (len(scaled) == 2)
        assert all("no scale of its own for CCC: fewer than 30 training rows" in message for message in said)


def test_symbols_of_one_code_take_the_scale_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {"AAA": 5, "BBB": 5, "CCC": 6}
    monkeypatch.setattr(symbol_codes, "code_of", codes.__getitem__)
    assert distinct_codes(codes) == {"CCC": 6}
    assert data_of(small_scale()).statistics.codes.tolist() == [6.0]


@pytest.mark.parametrize(("factor", "scaled"), [(1e-3, True), (0.5, False)])
def test_auto_scales_per_symbol_where_scales_are_uneven(factor: float, scaled: bool) -> None:
    table = small_scale()
    spread = table.groupby("symbol")["close"].transform("std")
    table[PRICES] = table[PRICES].div(spread, axis=0)
    table.loc[table["symbol"] == "BBB", PRICES] *= factor
    data = data_of(table, per_symbol="auto")
    assert (len(data.statistics.codes) == 3) == scaled
    assert data.recipe.features[-1] == SYMBOL_CODE
    assert (data.contract()["scaled_symbols"] is not None) == scaled
    if scaled:
        assert bits(data.statistics) == bits(data_of(table).statistics)
    else:
        pooled = data_of(table, per_symbol=False).statistics
        assert torch.equal(data.statistics.x_loc[:2], pooled.x_loc)
        assert data.statistics.x_scale[2].isinf()


def test_nothing_is_said_of_uneven_scales_then(caplog: pytest.LogCaptureFixture) -> None:
    for per_symbol, said in ((False, 1), (True, 0), ("auto", 0)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="cnn_lstm"):
            data_of(small_scale(), per_symbol=per_symbol)
        messages = [record.getMessage() for record in caplog.records]
        assert sum("W342" in message and "set data.per_symbol: true" in message for message in messages) == said
        assert not [message for message in messages if SYMBOL_CODE in message], "a constant code is not a defect"


# -- the code --------------------------------------------------------------------------------------------------------


def test_the_panel_ends_in_the_code_of_each_symbol() -> None:
    data = data_of(small_scale())
    assert data.n_features == data.panel.values.shape[1] == 3
    names = np.array(data.panel.symbols)[data.panel.symbol]
    assert data.panel.values[:, -1].tolist() == [float(code_of(name)) for name in names]


def test_codes_are_exact_in_single_precision_and_hardly_ever_shared() -> None:
    names = [f"{letter}{number}" for letter in "ABCDE" for number in range(100)]
    codes = [code_of(name) for name in names]
    assert torch.tensor(codes, dtype=torch.float32).tolist() == codes
    assert len(distinct_codes(names)) >= len(names) - 2


@pytest.mark.parametrize("key", ["features", "anchor"])
def test_the_name_of_the_code_is_reserved(key: str) -> None:
    arguments: dict[str, Any] = {"features": ["close"], key: [SYMBOL_CODE], "per_symbol": True}
    with pytest.raises(ConfigError, match=rf"{SYMBOL_CODE}.*data\.{key}") as caught:
        MarketDataModule(**arguments)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("word", "value"), [("true", True), ("false", False), ("auto", "auto")])
def test_the_key_reads_its_three_words(word: str, value: object) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(MarketDataModule, "data")
    assert parser.parse_args([f"--data.per_symbol={word}"]).data.per_symbol is value or value == "auto"
    assert parser.parse_args([f"--data.per_symbol={word}"]).data.per_symbol == value
