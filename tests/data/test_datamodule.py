"""The data module: what it refuses and with which exit code, what it hands out, and what a checkpoint learns."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch

from cnn_lstm.data.batches import WindowDataset
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.feature_catalogue import DEFAULT_FEATURES
from cnn_lstm.data.prices import Checks
from cnn_lstm.data.recipe import Recipe
from cnn_lstm.data.sources.sample import SampleBars
from cnn_lstm.data.splits import DateSplit, FractionSplit, WalkForward
from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue, RealizedVolatility
from cnn_lstm.errors import CnnLstmError, ConfigError, DataError, DefectsError, ValidityError
from tests.experiments import experiment, run, spec
from tests.markets import PRICES, TableSource, market, walk


def data_of(table: pd.DataFrame, **arguments: Any) -> MarketDataModule:
    settings: dict[str, Any] = {"features": ["log_return_1", "close_location"], "window": 6, "batch_size": 16}
    return MarketDataModule(TableSource(table), **{**settings, **arguments})


def ready(table: pd.DataFrame, **arguments: Any) -> MarketDataModule:
    data = data_of(table, **arguments)
    data.setup("fit")
    return data


def refused(table: pd.DataFrame, kind: type[CnnLstmError], code: int, **arguments: Any) -> str:
    """The message with which a set-up ends."""
    with pytest.raises(kind) as caught:
        ready(table, **arguments)
    assert (caught.value.code, caught.value.exit_code) == (code, code // 100)
    assert str(caught.value).startswith(f"error[E{code}]: ")
    return str(caught.value)


def oracle(table: pd.DataFrame, values: pd.Series) -> pd.DataFrame:
    """The table with a column that knows the future; nothing is missing, also not at the end."""
    return table.assign(oracle=values.fillna(0.0))


# -- too few rows ----------------------------------------------------------------------------------------


def test_a_short_symbol_is_refused_with_the_rows_that_it_needs() -> None:
    table = pd.concat([walk(200), walk(29, "TINY")], ignore_index=True)
    message = refused(table, DefectsError, 306, features=["close_to_sma_20"], targets=[ForwardReturn(3)])
    assert "29 rows, needs at least 30 (warm-up 19 + window 6 + label 4 + 1) — TINY" in message


def test_just_enough_rows_are_enough() -> None:
    table = pd.concat([walk(200), walk(30, "TINY")], ignore_index=True)
    checks = Checks(on_short="skip")
    data = ready(table, features=["close_to_sma_20"], targets=[ForwardReturn(3)], checks=checks)
    assert data.panel.symbols == ("AAA", "TINY")
    assert (data.panel.symbol[data.windows] == 1).sum() == 30 - 19 - 6 + 1


def test_a_symbol_without_a_window_in_a_part_is_refused_or_reported(caplog: pytest.LogCaptureFixture) -> None:
    late = walk(60, "LATE", start="2010-08-02")
    table = pd.concat([walk(200), late], ignore_index=True)
    message = refused(table, DefectsError, 306, features=["log_return_1"])
    assert "no window in the train part — LATE" in message
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        data = ready(table, features=["log_return_1"], checks=Checks(on_short="skip"))
    assert data.panel.symbols == ("AAA", "LATE")
    assert any("LATE" in record.getMessage() for record in caplog.records)


def test_a_short_symbol_is_left_out_when_the_checks_say_so(caplog: pytest.LogCaptureFixture) -> None:
    table = pd.concat([walk(200), walk(20, "TINY")], ignore_index=True)
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        data = ready(table, features=["close_to_sma_20"], checks=Checks(on_short="skip"))
    assert data.panel.symbols == ("AAA",)
    assert any("TINY" in record.getMessage() and "left out" in record.getMessage() for record in caplog.records)


def test_the_prices_that_it_keeps_are_the_rows_of_the_panel() -> None:
    table = pd.concat([walk(8, "AAAA"), market(200), walk(8, "ZZZ")], ignore_index=True)
    data = ready(table, features=["close"], checks=Checks(on_short="skip"))
    assert data.panel.symbols == ("AAA", "BBB", "CCC")
    assert data.prices["symbol"].tolist() == [data.panel.symbols[code] for code in data.panel.symbol]
    np.testing.assert_allclose(data.prices["close"], data.panel.values[:, 0], rtol=1e-6)


def test_a_table_of_short_symbols_only_is_refused_even_then() -> None:
    refused(walk(20), DefectsError, 306, features=["close_to_sma_20"], checks=Checks(on_short="skip"))


# -- constants ------------------------------------------------------------------------------------------


def test_a_constant_feature_is_muted_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    table = walk(200).assign(flat=4.2)
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        data = ready(table, features=["log_return_1", "flat"])
    assert data.statistics.x_scale.isinf().tolist() == [False, True]
    assert any("flat is constant over the training rows" in record.getMessage() for record in caplog.records)


def test_a_feature_that_changes_is_not_called_constant(caplog: pytest.LogCaptureFixture) -> None:
    """A pattern that is there on one day in ten has equal quartiles, and is not a constant."""
    table = walk(200).assign(flag=(np.arange(200) % 10 == 0).astype(float))
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        ready(table, features=["log_return_1", "flag"], scaling="robust")
    assert not any("constant" in record.getMessage() for record in caplog.records)


def test_a_constant_target_is_refused() -> None:
    table = walk(200).assign(flat=4.25)
    message = refused(table, DataError, 318, targets=[ForwardReturn(), ForwardValue("flat")])
    assert "the target never changes: always 4.25 — flat_1" in message


def test_a_target_that_is_constant_in_training_only_is_refused_too() -> None:
    table = walk(200).assign(rate=np.where(np.arange(200) < 150, 1.0, np.arange(200.0)))
    refused(table, DataError, 318, targets=[ForwardValue("rate")])


# -- a target among the features ------------------------------------------------------------------------


def test_a_feature_that_is_the_target_fails_the_validity_gate() -> None:
    table = walk(300)
    close = np.log(table["close"])
    message = refused(
        oracle(table, close.shift(-2) - close.shift(-1)),
        ValidityError,
        819,
        features=["log_return_1", "oracle"],
    )
    assert "the feature oracle is the target return_1: correlation 1.00000" in message


@pytest.mark.parametrize("factor", [-3.0, 1e-4, 1e6])
def test_neither_sign_nor_scale_hides_the_target(factor: float) -> None:
    table = walk(300)
    close = np.log(table["close"])
    leaked = oracle(table, factor * (close.shift(-2) - close.shift(-1)) + 1.0)
    refused(leaked, ValidityError, 819, features=["log_return_1", "oracle"])


def test_the_second_target_is_looked_at_too() -> None:
    table = walk(300)
    volatility = pd.Series(RealizedVolatility(5).future(table))
    targets = [ForwardReturn(), RealizedVolatility(5)]
    message = refused(
        oracle(table, volatility), ValidityError, 819, features=["oracle", "log_return_1"], targets=targets
    )
    assert "volatility_5" in message


def test_a_future_level_is_found_among_the_features_of_a_level_target() -> None:
    table = walk(300)
    leaked = oracle(table, table["close"].shift(-2))
    message = refused(leaked, ValidityError, 819, features=["close", "oracle"], targets=[ForwardValue("close", 2)])
    assert "the feature oracle is the target close_2" in message


@pytest.mark.parametrize("anchor", [[], ["close"]])
def test_a_level_may_forecast_its_own_future(anchor: list[str]) -> None:
    """The level of a rising price correlates with tomorrow's to 0.9999; that is not a leak."""
    table = walk(600)
    table[PRICES] = table[PRICES].mul(np.exp(0.005 * np.arange(600)), axis=0)
    data = ready(table, features=["close"], targets=[ForwardValue("close")], anchor=anchor)
    values = data.panel.values[data.parts.train, 0]
    labels = data.panel.labels[data.parts.train, 0]
    assert float(torch.corrcoef(torch.stack([values, labels]))[0, 1]) > 0.999
    assert data.statistics.y_anchor.tolist() == ([0] if anchor else [-1])


def test_the_latest_known_target_is_a_legitimate_feature() -> None:
    data = ready(walk(300), features=["log_return_1"], targets=[ForwardReturn(1, delay=0)])
    assert len(data.parts.train) > 100


def test_the_command_line_leaves_with_the_exit_code_of_the_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = walk(300)
    close = np.log(table["close"])
    leaked = oracle(table, close.shift(-3) - close.shift(-1))
    config = experiment(tmp_path, leaked, {"features": ["log_return_1", "oracle"]})
    assert run("fit", "--config", config, "--run_dir", tmp_path / "run") == 8
    assert "error[E819]: the feature oracle is the target return_2" in capsys.readouterr().err


# -- classes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("part", "days"), [("train", (0, 150)), ("validation", (150, 200)), ("test", (200, 300))])
def test_a_part_with_one_class_is_refused_with_the_counts(part: str, days: tuple[int, int]) -> None:
    table = walk(300, seed=4)
    rising = table.copy()
    growth = np.zeros(300)
    growth[days[0] + 1 : days[1]] = 0.05
    for name in PRICES:
        rising[name] *= np.exp(np.cumsum(growth))
    when = table["timestamp"].dt.strftime("%Y-%m-%d")
    split = DateSplit(when[150], when[200])
    message = refused(rising, DataError, 322, targets=[Direction()], split=split)
    assert f"only one class in the {part} part — direction_1, rows of each class: [0, " in message
    ready(table, targets=[Direction()], split=split)


def test_two_of_three_classes_are_enough() -> None:
    data = ready(walk(300), targets=[Direction([0.0, 0.5])])
    assert data.statistics.class_counts[0, 2] == 0
    assert data.statistics.class_counts.sum() == len(data.parts.train)


# -- dates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "split",
    [
        DateSplit("2010-09-01", "2010-06-01"),
        DateSplit("2009-01-01", "2010-06-01"),
        DateSplit("2010-09-01", "2031-01-01"),
    ],
)
def test_dates_out_of_order_are_refused_with_all_of_them(split: DateSplit) -> None:
    message = refused(walk(300), ConfigError, 223, split=split)
    assert "the parts are not in order: train from 2010-01-04, validation from " in message
    assert "end 2011-02-25" in message


def test_an_empty_part_is_refused_with_the_three_ranges() -> None:
    message = refused(walk(300), DataError, 323, split=DateSplit("2010-01-08", "2010-09-01"))
    assert "the train part has no window — train 2010-01-04..2010-01-08, validation ..2010-09-01" in message


def test_too_few_dates_for_the_folds_are_refused() -> None:
    message = refused(walk(40), ConfigError, 223, split=WalkForward(folds=60))
    assert "too few" in message


# -- arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["window", "batch_size"])
@pytest.mark.parametrize("value", [0, -3])
def test_counts_below_one_are_refused_before_any_data_is_read(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{name}={value}"):
        data_of(walk(10), **{name: value})


def test_an_anchor_must_be_a_feature() -> None:
    with pytest.raises(ConfigError, match=r"anchor \['close'\] is not a feature"):
        data_of(walk(10), anchor=["close"])


@pytest.mark.parametrize("name", ["targets", "features"])
def test_an_empty_list_is_refused_rather_than_replaced_by_a_default(name: str) -> None:
    with pytest.raises(ConfigError):
        ready(walk(200), **{name: []})


def test_the_sizes_of_the_network_are_known_before_any_data_is_read() -> None:
    data = data_of(walk(10), targets=[ForwardReturn(1), ForwardReturn(5)])
    assert (data.n_features, data.n_targets) == (2, 2)
    assert MarketDataModule().n_features == len(DEFAULT_FEATURES)


# -- what it hands out ---------------------------------------------------------------------------------------


def test_data_are_read_once_for_all_stages() -> None:
    class Counting(TableSource):
        loads = 0

        def load(self, *arguments: Any) -> pd.DataFrame:
            Counting.loads += 1
            return super().load(*arguments)

    data = MarketDataModule(Counting(walk(200)), features=["log_return_1"], window=5)
    for stage in ("fit", "validate", "test", "predict"):
        data.setup(stage)
    assert Counting.loads == 1


@pytest.mark.parametrize("part", ["train", "val", "test", "predict"])
def test_a_loader_serves_the_rows_of_its_part(part: str) -> None:
    data = ready(market(200))
    wanted = {
        "train": data.parts.train,
        "val": data.parts.validation,
        "test": data.parts.test,
        "predict": data.rows_to_predict(),
    }[part]
    rows = torch.cat([batch.row for batch in getattr(data, f"{part}_dataloader")()]).numpy()
    if part == "train":
        assert len(rows) == len(wanted) // 16 * 16
        assert set(rows) <= set(wanted)
        assert rows.tolist() != sorted(rows)
    else:
        assert rows.tolist() == wanted.tolist()


def test_all_loaders_share_one_panel() -> None:
    data = ready(market(200))
    loaders = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()]
    panels = [cast("WindowDataset", loader.dataset).values for loader in loaders]
    assert {values.data_ptr() for values in panels} == {data.panel.values.data_ptr()}


def test_batches_hold_no_missing_value_outside_of_predict() -> None:
    data = ready(market(200), targets=[ForwardReturn(4)])
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert torch.isfinite(batch.x).all()
            assert torch.isfinite(batch.y).all()


def test_predict_forecasts_the_test_part_and_the_rows_whose_label_is_not_known_yet() -> None:
    data = ready(walk(200), targets=[ForwardReturn(4)])
    rows = data.rows_to_predict()
    assert rows.tolist() == [*data.parts.test.tolist(), *range(195, 200)]
    everything = ready(walk(200), predict_part="all")
    assert everything.rows_to_predict().tolist() == everything.windows.tolist()


def test_symbols_and_dates_are_asked_of_the_source() -> None:
    data = ready(market(300), symbols=["CCC", "AAA"], start="2010-03-01", end="2010-12-31")
    assert set(data.panel.symbols) == {"AAA", "CCC"}
    assert data.panel.time.min() >= np.datetime64("2010-03-01")
    assert data.panel.time.max() < np.datetime64("2010-12-31")


# -- the contract --------------------------------------------------------------------------------------------


def contract(**arguments: Any) -> dict[str, Any]:
    return ready(market(200), targets=[ForwardReturn(1), RealizedVolatility(5)], **arguments).contract()


def test_the_contract_is_plain_and_loads_without_running_code() -> None:
    given = contract(split=FractionSplit(0.6, 0.2), anchor=["close_location"])
    assert json.loads(json.dumps(given)) == given
    file = io.BytesIO()
    torch.save(given, file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == given


def test_the_contract_names_what_a_reader_of_a_checkpoint_needs() -> None:
    given = contract()
    assert given["symbols"] == ["AAA", "BBB", "CCC"]
    assert given["target_names"] == ["return_1", "volatility_5"]
    assert given["target_units"] == ["return", "volatility a bar"]
    assert len(given["target_mean"]) == 2
    assert given["source"] == "TableSource"
    assert list(given["boundaries"]) == ["train", "validation", "test", "end"]
    assert sorted(given["boundaries"].values()) == list(given["boundaries"].values())
    assert len(given["fingerprint"]) == 64
    recipe = given["recipe"]
    assert recipe["features"] == ["log_return_1", "close_location"]
    assert recipe["window"] == 6
    assert [target["init_args"]["horizon"] for target in recipe["targets"]] == [1, 5]


def test_the_contract_rebuilds_the_panel() -> None:
    data = ready(market(200), checks=Checks(fill_max_gap=2, max_gap_days=12))
    recipe = Recipe.from_plain(json.loads(json.dumps(data.contract()))["recipe"])
    bound = recipe.bind_to(market(200), recipe.build_targets())
    panel = bound.panel(bound.check(market(200)).table)
    assert torch.equal(panel.values.view(torch.int32), data.panel.values.view(torch.int32))
    assert recipe == Recipe.from_plain(data.recipe.to_plain())


def test_the_fingerprint_follows_the_data() -> None:
    table = market(200)
    before = ready(table).fingerprint
    assert ready(table.sample(frac=1, random_state=1)).fingerprint == before
    table.loc[5, "close"] = table["close"][5] * (1 + 1e-12)
    assert ready(table).fingerprint != before


def test_rows_in_any_order_give_the_same_panel() -> None:
    one, other = ready(market(200)), ready(market(200).sample(frac=1, random_state=3))
    assert torch.equal(one.panel.values.view(torch.int32), other.panel.values.view(torch.int32))
    assert one.parts.train.tolist() == other.parts.train.tolist()


def test_a_target_of_a_trusted_package_is_written_by_its_class_path() -> None:
    target = ready(walk(200)).contract()["recipe"]["targets"][0]
    assert target == spec("cnn_lstm.data.targets.ForwardReturn", horizon=1, delay=1, log=True, column="close")


@pytest.mark.parametrize(("noise", "warned"), [(0.2, True), (1.0, True), (3.0, False)])
def test_a_leak_with_noise_is_warned_of(noise: float, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    table = walk(600)
    future = np.log(table["close"]).diff().shift(-2)
    random = np.random.default_rng(0).normal(0, noise * float(future.std()), len(table))
    leaked = oracle(table, future.fillna(0.0) + random)
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        data = ready(leaked, features=["log_return_1", "oracle"], targets=[ForwardReturn(1, 1)])
    assert ("the feature oracle nearly is the target" in caplog.text) == warned
    correlation = np.corrcoef(data.panel.values[data.fit_rows, 1], data.panel.labels[data.fit_rows, 0])[0, 1]
    assert warned == (correlation > 0.5)


def test_the_past_of_a_volatility_is_no_leak_of_it(caplog: pytest.LogCaptureFixture) -> None:
    bars = SampleBars().load(["IBM"], "2000-03-01", None)
    features = ["log_realised_volatility_5", "log_realised_volatility_22", "garman_klass_volatility_20"]
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        ready(bars, features=features, targets=[RealizedVolatility(20, log=True)], window=10)
    assert "nearly is the target" not in caplog.text
