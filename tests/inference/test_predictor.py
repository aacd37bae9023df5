"""A checkpoint alone equals the run that wrote it, bit for bit, whatever table it is shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.errors import CheckpointError, CnnLstmError, ConfigError, DataError
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecast_model import ForecastModel
from tests.experiments import FEATURES, experiment, fit, network, predict, spec
from tests.markets import market, walk

KEYS = ["target", "symbol", "as_of"]
RETURN = "cnn_lstm.data.targets.ForwardReturn"
LONE = """
import sys
import pandas as pd
from cnn_lstm.inference.predictor import Predictor
checkpoint, prices, out = sys.argv[1:]
Predictor.from_checkpoint(checkpoint).predict(pd.read_parquet(prices)).to_parquet(out)
"""


class Run(NamedTuple):
    """A finished run, the prices that it saw, and its predictions of every window."""

    folder: Path
    prices: pd.DataFrame
    table: pd.DataFrame

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "best.ckpt"


def finished(folder: Path, data: dict[str, Any], **sections: Any) -> Run:
    prices = market(220)
    config = experiment(folder, prices, data, **sections)
    run_dir = fit(config, folder / "run")
    return Run(run_dir, prices, predict(run_dir, "--data.predict_part", "all"))


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one number": ({}, {}),
    "two numbers, other widths": (
        {
            "targets": [spec(RETURN, horizon=1), spec("cnn_lstm.data.targets.RealizedVolatility", horizon=5)],
            "window": 11,
            "batch_size": 7,
            "scaling": "robust",
        },
        {"network": network(channels=[5, 9], kernel_sizes=[3, 5], norm="batch", lstm_hidden=6, attention_heads=0)},
    ),
    "anchored level": (
        {
            "features": ["close", "log_return_1", "market_return_1"],
            "anchor": ["close"],
            "targets": [spec("cnn_lstm.data.targets.ForwardValue", column="close", horizon=3)],
        },
        {},
    ),
    "anchored volatility": (
        {
            "features": ["log_return_1", "log_realised_volatility_5"],
            "targets": [
                spec(
                    "cnn_lstm.data.targets.RealizedVolatility",
                    horizon=5,
                    log=True,
                    anchor="log_realised_volatility_5",
                )
            ],
        },
        {},
    ),
    "quantiles": ({}, {"objective": spec("cnn_lstm.model.objectives.Quantiles", levels=[0.1, 0.5, 0.9])}),
    "gaussian": ({"batch_size": 33}, {"objective": spec("cnn_lstm.model.objectives.Gaussian")}),
    "skewed t": ({}, {"objective": spec("cnn_lstm.model.objectives.SkewStudentT")}),
    "mixture": ({}, {"objective": spec("cnn_lstm.model.objectives.Mixture", components=2)}),
    "QLIKE": (
        {"targets": [spec("cnn_lstm.data.targets.RealizedVolatility", log=log) for log in (False, True)]},
        {"objective": spec("cnn_lstm.model.objectives.Qlike")},
    ),
    "classes": (
        {
            "targets": [spec("cnn_lstm.data.targets.Direction", thresholds=[-0.005, 0.005], horizon=h) for h in (1, 3)],
        },
        {"objective": spec("cnn_lstm.model.objectives.Classes", classes=3, weighted=True)},
    ),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=list(CASES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    data, model = request.param
    return finished(tmp_path_factory.mktemp("run"), data, model=model)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished(tmp_path_factory.mktemp("run"), {})


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished(tmp_path_factory.mktemp("run"), {"features": [*FEATURES, "market_return_1"]})


def assert_same_bits(found: pd.DataFrame, wanted: pd.DataFrame, rows: int | None = None) -> None:
    """Equal tables; NaN equals NaN, and no tolerance anywhere."""
    assert found.columns.tolist() == wanted.columns.tolist()
    left, right = (frame.sort_values(KEYS, ignore_index=True) for frame in (found, wanted))
    assert len(left) == len(right) > 0
    assert rows is None or len(left) == rows
    for name in left.columns:
        if left[name].dtype == np.float64:
            one, other = (frame[name].to_numpy() for frame in (left, right))
            assert np.array_equal(one.view(np.int64), other.view(np.int64)), name
        else:
            pd.testing.assert_series_equal(left[name], right[name])


def shared(found: pd.DataFrame, wanted: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of `wanted` that `found` has too, and `found`."""
    kept = wanted.merge(found[KEYS], on=KEYS, how="inner")
    return found, kept


def test_a_table_alone_gives_the_forecasts_of_the_run(case: Run) -> None:
    found = Predictor.from_checkpoint(case.checkpoint).predict(case.prices)
    assert found["y_true"].isna().any(), "the last rows are forecast too"
    assert_same_bits(found, case.table)


@pytest.mark.parametrize("case", [CASES["anchored level"]], indirect=True, ids=["anchored level"])
def test_an_anchored_forecast_is_a_change_added_to_the_last_level(case: Run) -> None:
    assert ((case.table["y_pred"] / case.table["y_last"] - 1).abs() < 0.05).all()


@pytest.mark.parametrize("case", [CASES["anchored volatility"]], indirect=True, ids=["anchored volatility"])
def test_the_anchor_of_a_volatility_travels_with_the_checkpoint(case: Run) -> None:
    predictor = Predictor.from_checkpoint(case.checkpoint)
    assert isinstance(predictor.forecaster, ForecastModel)
    assert predictor.forecaster.y_anchor.tolist() == [1]
    assert predictor.targets[0].anchor == "log_realised_volatility_5"


def test_a_process_with_nothing_but_the_checkpoint_gives_the_forecasts_of_the_run(plain: Run, tmp_path: Path) -> None:
    lone, prices = tmp_path / "elsewhere.ckpt", tmp_path / "prices.parquet"
    lone.write_bytes(plain.checkpoint.read_bytes())
    plain.prices.to_parquet(prices)
    words = [sys.executable, "-c", LONE, str(lone), str(prices), str(tmp_path / "out.parquet")]
    subprocess.run(words, check=True, cwd=tmp_path)
    assert_same_bits(pd.read_parquet(tmp_path / "out.parquet"), plain.table)


@pytest.mark.parametrize("symbol", ["AAA", "BBB", "CCC"])
def test_a_table_of_one_symbol_gives_that_symbols_forecasts(plain: Run, symbol: str) -> None:
    prices = plain.prices[plain.prices["symbol"] == symbol]
    found = Predictor.from_checkpoint(plain.checkpoint).predict(prices)
    assert_same_bits(found, plain.table[plain.table["symbol"] == symbol])


def test_rows_in_any_order_give_the_same_forecasts(plain: Run) -> None:
    found = Predictor.from_checkpoint(plain.checkpoint).predict(plain.prices.sample(frac=1, random_state=0))
    assert_same_bits(found, plain.table)


@pytest.mark.parametrize("first", ["2010-02-01", "2010-06-15"])
def test_a_history_that_starts_later_gives_the_same_forecasts(plain: Run, first: str) -> None:
    prices = plain.prices[plain.prices["timestamp"] >= first]
    found = Predictor.from_checkpoint(plain.checkpoint).predict(prices)
    found, wanted = shared(found, plain.table)
    known = ["y_pred", "y_true", "target_end"]
    assert_same_bits(found[[*KEYS, *known]], wanted[[*KEYS, *known]])
    assert len(found) > 100


@pytest.mark.parametrize("case", [CASES["one number"]], indirect=True, ids=["one number"])
@pytest.mark.parametrize("count", [1, 2, 31, 32, 33])
def test_the_number_of_windows_changes_no_bit_of_any(case: Run, count: int) -> None:
    last = case.table["as_of"].drop_duplicates().nlargest(count).min()
    found = Predictor.from_checkpoint(case.checkpoint).predict(
        case.prices[case.prices["symbol"] == "AAA"], start=str(last)[:10]
    )
    assert_same_bits(*shared(found, case.table))


def test_a_cross_sectional_feature_needs_the_other_symbols(crossed: Run) -> None:
    predictor = Predictor.from_checkpoint(crossed.checkpoint)
    assert_same_bits(predictor.predict(crossed.prices), crossed.table)
    alone, wanted = shared(predictor.predict(crossed.prices[crossed.prices["symbol"] == "AAA"]), crossed.table)
    assert not np.array_equal(alone["y_pred"], wanted["y_pred"])


def test_start_leaves_out_earlier_decisions_and_nothing_else(plain: Run) -> None:
    predictor = Predictor.from_checkpoint(plain.checkpoint)
    day = plain.table["as_of"].sort_values().iloc[100]
    found = predictor.predict(plain.prices, start=str(day)[:10])
    assert_same_bits(found, plain.table[plain.table["as_of"] >= day])
    assert found["as_of"].min() == day


@pytest.mark.parametrize("start", ["soon", "2010-13-45", ""])
def test_a_start_that_is_no_date_is_told_as_such(plain: Run, start: str) -> None:
    with pytest.raises(ConfigError):
        Predictor.from_checkpoint(plain.checkpoint).predict(plain.prices, start=start)


def test_a_start_may_name_a_zone(plain: Run) -> None:
    predictor = Predictor.from_checkpoint(plain.checkpoint)
    found = predictor.predict(plain.prices, start="2010-06-01T00:00+09:00")
    assert_same_bits(found, plain.table[plain.table["as_of"] >= pd.Timestamp("2010-05-31T15:00", tz="UTC")])


def test_embeddings_belong_to_the_windows_of_the_forecasts(plain: Run) -> None:
    predictor = Predictor.from_checkpoint(plain.checkpoint)
    found = predictor.encode(plain.prices)
    assert found.columns.tolist() == ["symbol", "as_of", "e0", "e1", "e2", "e3"]
    assert str(found["symbol"].dtype) == "str"
    pd.testing.assert_frame_equal(found[["symbol", "as_of"]], plain.table[["symbol", "as_of"]].reset_index(drop=True))
    forecaster = predictor.forecaster
    assert isinstance(forecaster, ForecastModel)
    weight, bias = (part.detach().numpy().astype(float) for part in (forecaster.head.weight, forecaster.head.bias))
    scaled = found.drop(columns=["symbol", "as_of"]).to_numpy(float) @ weight.T + bias
    added = scaled[:, 0] * float(forecaster.y_scale[0])  # to the linear part
    np.testing.assert_allclose(plain.table["y_linear"] + added, plain.table["y_pred"], rtol=1e-4, atol=1e-8)


def test_embeddings_of_one_symbol_are_those_of_the_whole_table(plain: Run) -> None:
    predictor = Predictor.from_checkpoint(plain.checkpoint)
    whole = predictor.encode(plain.prices)
    alone = predictor.encode(plain.prices[plain.prices["symbol"] == "CCC"], start="2010-08-02")
    kept = whole[(whole["symbol"] == "CCC") & (whole["as_of"] >= "2010-08-02")].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, kept, check_exact=True)


def test_samples_of_dropout_are_repeatable_and_spread(plain: Run) -> None:
    predictor = Predictor.from_checkpoint(plain.checkpoint)
    one, again = (predictor.predict(plain.prices, samples=5) for _ in range(2))
    pd.testing.assert_frame_equal(one, again, check_exact=True)
    assert (one["mc_std"] > 0).all()
    assert not predictor.forecaster.training
    assert_same_bits(predictor.predict(plain.prices), plain.table)


def test_the_table_given_is_left_alone(plain: Run) -> None:
    prices = plain.prices.copy()
    Predictor.from_checkpoint(plain.checkpoint).predict(prices)
    pd.testing.assert_frame_equal(prices, plain.prices)


# -- damaged tables ----------------------------------------------------------------------------------


def test_a_table_without_one_complete_window_is_refused_with_the_rows_it_needs(plain: Run) -> None:
    predictor = Predictor.from_checkpoint(plain.checkpoint)
    needed = 19 + 8
    with pytest.raises(DataError, match=f"need {needed} rows of history, have {needed - 1}") as caught:
        predictor.predict(walk(needed - 1))
    assert (caught.value.code, caught.value.exit_code) == (335, 3)
    assert len(predictor.predict(walk(needed))) == 1


def test_no_decision_after_the_start_is_refused(plain: Run) -> None:
    with pytest.raises(DataError, match="no bar at or after 2031-01-01") as caught:
        Predictor.from_checkpoint(plain.checkpoint).predict(plain.prices, start="2031-01-01")
    assert caught.value.exit_code == 3


def test_a_start_without_enough_history_before_it_is_refused(plain: Run) -> None:
    """Beginning later than asked without a word would hide the decisions that are missing."""
    first = plain.prices["timestamp"].min()
    start = str((first + pd.Timedelta(days=4)).date())
    with pytest.raises(DataError, match=r"need \d+ rows before") as caught:
        Predictor.from_checkpoint(plain.checkpoint).predict(plain.prices, start=start)
    assert caught.value.code == 335


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.assign(close=t["close"].where(t.index != 50)), "close is missing"),
        (lambda t: t.assign(close=t["close"].where(t.index != 50, -1.0)), "close <= 0"),
        (lambda t: t.assign(volume=t["volume"].where(t.index != 50, np.inf)), "volume is infinite"),
        (lambda t: t.drop(columns="volume"), "volume"),
        (lambda t: t.assign(timestamp=t["timestamp"].dt.tz_localize(None) + pd.Timedelta("1h")), "without a time zone"),
        (lambda t: t.assign(timestamp=t["timestamp"].dt.strftime("%d/%m/%Y")), "is not an ISO date"),
        (lambda t: t.iloc[:0], "0 rows"),
        (lambda t: t.assign(close="x"), "'x' is not a number"),
        (lambda t: t.assign(close=t["close"] + 1j), "column close is complex128"),
    ],
)
def test_a_damaged_table_is_refused_as_in_training(plain: Run, damage: Any, message: str) -> None:
    with pytest.raises(CnnLstmError, match=message):
        Predictor.from_checkpoint(plain.checkpoint).predict(damage(plain.prices))


@pytest.mark.parametrize("harm", ["cut", "flipped", "missing"])
def test_a_damaged_checkpoint_is_refused(plain: Run, tmp_path: Path, harm: str) -> None:
    file, content = tmp_path / "harmed.ckpt", bytearray(plain.checkpoint.read_bytes())
    if harm == "cut":
        file.write_bytes(content[: len(content) // 2])
    if harm == "flipped":
        forecaster = Predictor.from_checkpoint(plain.checkpoint).forecaster
        assert isinstance(forecaster, ForecastModel)
        weight = forecaster.head.weight.detach().numpy().tobytes()
        content[content.find(weight) + 1] ^= 1
        file.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        Predictor.from_checkpoint(file)
    assert caught.value.exit_code == 4
