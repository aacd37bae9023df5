"""Frames that neuralforecast, darts and Qlib made by their own code, judged; next to numbers computed by hand."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.errors import DataError
from cnn_lstm.evaluation.foreign.files import read_forecast_file
from cnn_lstm.evaluation.foreign.forms import read_forms
from cnn_lstm.evaluation.foreign.judgement import Reading, judge_forecasts
from cnn_lstm.evaluation.json_types import TargetReport
from cnn_lstm.evaluation.settings import Evaluation
from tests.environments import ROOT
from tests.evaluation.foreign import tables
from tests.evaluation.foreign.frames import make
from tests.markets import TableSource

FRAMES = Path(make.__file__).parent
Floats = NDArray[np.float64]


def frame(name: str) -> pd.DataFrame:
    return read_forecast_file(FRAMES / f"{name}.parquet")


def judged(folder: Path, theirs: pd.DataFrame, model: str | None = None) -> TargetReport:
    target = ForwardReturn(make.HORIZON, delay=0)
    data = MarketData(TableSource(make.bars()), features=tables.FEATURES, targets=[target], window=5)
    report = judge_forecasts(folder, theirs, data, Evaluation(resamples=100), Reading(model=model, closes=True)).report
    return report["targets"]["return_5"]


def closes() -> pd.DataFrame:
    """Closes by day, a column for each symbol."""
    bars = make.bars()
    by_day = bars.assign(day=bars["timestamp"].dt.tz_localize(None))
    wide: pd.DataFrame = by_day.pivot(index="day", columns="symbol", values="close")
    return wide


def of_our_steps(validated: pd.DataFrame) -> pd.DataFrame:
    """Rows of `cross_validation` whose `ds` is five bars after the cutoff, with the close of the cutoff."""
    days = closes().index
    ahead = days.searchsorted(validated["ds"]) - days.searchsorted(validated["cutoff"])
    kept: pd.DataFrame = validated[ahead == make.HORIZON]
    known = closes().stack().reindex(pd.MultiIndex.from_frame(kept[["cutoff", "unique_id"]])).to_numpy()
    return kept.assign(known=known)


@pytest.mark.parametrize(("model", "column"), [("NHITS", "NHITS-median"), ("Points", "Points")])
def test_cross_validation_of_neuralforecast(model: str, column: str, tmp_path: Path) -> None:
    validated = frame("neuralforecast_cross_validation")
    kept = of_our_steps(validated)
    truth = np.log(kept["y"] / kept["known"])

    report = judged(tmp_path, validated, model)

    assert report["rows"] == len(kept) == 2 * (make.TESTED - make.HORIZON + 1)
    wanted = np.mean((truth - np.log(kept[column] / kept["known"])) ** 2)
    assert report["loss_model"] == pytest.approx(wanted, rel=1e-4)
    if model == "Points":
        assert not report["intervals"]
        return
    inside = (kept["NHITS-lo-90"] <= kept["y"]) & (kept["y"] <= kept["NHITS-hi-90"])
    assert report["intervals"]["90"]["coverage"] == pytest.approx(inside.mean(), rel=1e-12)
    assert list(report["intervals"]) == ["80", "90"]


def test_the_models_of_neuralforecast_have_to_be_chosen_from() -> None:
    with pytest.raises(DataError, match="several models: NHITS, Points, Normal"):
        read_forms(frame("neuralforecast_cross_validation"))
    predicted = frame("neuralforecast_predict")
    read = read_forms(predicted, model="NHITS").table
    assert list(read) == ["symbol", "target_end", "y_pred", "lower_90", "lower_80", "upper_80", "upper_90"]
    for model in ("Normal", "Normal-median"):
        read = read_forms(predicted, model=model).table
        assert list(read) == ["symbol", "target_end", "y_pred", "lower_90", "upper_90"]
        assert read["y_pred"].tolist() == predicted[model].tolist()


def by_hand(points: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """Forecast, truth and known close of forecasts by the day that they are about, without those over a filled day.

    Darts counts five weekdays. Where one of them has no bar, the forecast was decided less than five bars before.
    """
    real, rows = closes(), []
    for symbol in make.SYMBOLS:
        for day, forecast in points[symbol].items():
            weekdays = pd.bdate_range(end=pd.Timestamp(str(day)), periods=make.HORIZON + 1)
            if weekdays.isin(real.index).all():
                rows.append((forecast, real.at[day, symbol], real.at[weekdays[0], symbol]))
    forecasts, truths, known = np.array(rows).T
    return forecasts, truths, known


def test_points_of_darts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    points = frame("darts_points")
    forecasts, truths, known = by_hand(points)

    with caplog.at_level(logging.WARNING):
        report = judged(tmp_path, points)

    assert report["rows"] == len(forecasts)
    assert len(forecasts) == points.size - 2 * 4  # Thanksgiving, and the days whose five weekdays cross it
    assert "left out" in caplog.text
    wanted = np.mean((np.log(truths / known) - np.log(forecasts / known)) ** 2)
    assert report["loss_model"] == pytest.approx(wanted, rel=1e-4)


def test_quantiles_of_darts(tmp_path: Path) -> None:
    quantiles = frame("darts_quantiles")
    middle, low, high = (
        quantiles[[f"{symbol}_q{level}" for symbol in make.SYMBOLS]].set_axis(make.SYMBOLS, axis=1)
        for level in ("0.500", "0.050", "0.950")
    )
    forecasts, truths, known = by_hand(middle)

    report = judged(tmp_path, quantiles)

    assert report["rows"] == len(forecasts)
    wanted = np.mean((np.log(truths / known) - np.log(forecasts / known)) ** 2)
    assert report["loss_model"] == pytest.approx(wanted, rel=1e-4)
    assert sorted(report["intervals"]) == ["50", "80", "90"]
    inside = (by_hand(low)[0] <= truths) & (truths <= by_hand(high)[0])
    assert report["intervals"]["90"]["coverage"] == pytest.approx(inside.mean(), rel=1e-12)


def test_samples_of_darts(tmp_path: Path) -> None:
    samples = frame("darts_samples")
    paths = [
        samples[[f"{symbol}_s{number}" for symbol in make.SYMBOLS]].set_axis(make.SYMBOLS, axis=1)
        for number in range(make.SAMPLES)
    ]
    _, truths, known = by_hand(paths[0])
    drawn = np.column_stack([np.log(by_hand(path)[0] / known) for path in paths])

    report = judged(tmp_path, samples)

    wanted = pytest.importorskip("scoringrules").crps_ensemble(np.log(truths / known), drawn, estimator="nrg")
    assert report["distribution"]["head"]["name"] == "20 samples"
    assert report["distribution"]["head"]["crps"] == pytest.approx(float(np.mean(wanted)), rel=1e-4)


def test_scores_of_qlib(tmp_path: Path) -> None:
    """Its label is `Ref($close, -2) / Ref($close, -1) - 1`: the bar after the next close, which is our delay of 1."""
    scores = frame("qlib_scores")
    data = MarketData(TableSource(make.bars()), features=tables.FEATURES, targets=[ForwardReturn(1)], window=5)

    report = judge_forecasts(tmp_path, scores, data, Evaluation(resamples=100)).report["targets"]["return_1"]

    growth = (closes().shift(-2) / closes().shift(-1)).stack()
    known = scores.assign(truth=np.log(growth.reindex(scores.index))).dropna()
    assert report["rows"] == len(known) == len(scores) - 2 * 2  # the last two days end after the prices
    wanted = np.mean((known["truth"] - known["score"]) ** 2)
    assert report["loss_model"] == pytest.approx(wanted, rel=1e-4)


def test_a_frame_of_prices_of_kronos(tmp_path: Path) -> None:
    """`KronosPredictor.predict` gives open to amount by the days ahead; its user says which bar was the last one."""
    real, rows = closes(), []
    for symbol in make.SYMBOLS:
        for at in range(len(real) - 60, len(real) - make.HORIZON):
            ahead = real.index[at + 1 : at + 1 + make.HORIZON]
            for sample in range(3):
                close = real[symbol].iloc[at] * (1 + 0.01 * sample * np.arange(1, make.HORIZON + 1))
                bars = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close", "volume", "amount"), close))
                keys = {"symbol": symbol, "as_of": real.index[at], "sample": sample}
                rows.append(bars.set_index(ahead.rename("timestamps")).assign(**keys))
    data = MarketData(
        TableSource(make.bars()), features=tables.FEATURES, targets=[ForwardReturn(make.HORIZON, delay=0)], window=5
    )
    reading = Reading(columns={"y_pred": "close", "target_end": "timestamps"}, closes=True)

    report = judge_forecasts(tmp_path, pd.concat(rows), data, Evaluation(resamples=100), reading).report["targets"]

    growth = (real.shift(-make.HORIZON) / real).iloc[-60 : -make.HORIZON]
    truth = np.log(growth.to_numpy())
    forecast = np.log(1 + 0.01 * make.HORIZON)  # of the mean of three prices
    assert report["return_5"]["rows"] == truth.size
    assert report["return_5"]["loss_model"] == pytest.approx(np.mean((truth - forecast) ** 2), rel=1e-4)
    assert report["return_5"]["distribution"]["head"]["name"] == "3 samples"


@pytest.mark.slow
def test_the_libraries_make_frames_of_this_form(tmp_path: Path) -> None:
    for library in ("neuralforecast", "darts", "qlib"):
        pytest.importorskip(library, reason="make foreign-frames installs it")
    command = [sys.executable, "-W", "ignore", "-m", make.__name__, "--folder", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    for file in FRAMES.glob("*.parquet"):
        new, old = pd.read_parquet(tmp_path / file.name), pd.read_parquet(file)
        assert list(new.columns) == list(old.columns)
        assert new.index.equals(old.index)
        assert (new.dtypes == old.dtypes).all()
