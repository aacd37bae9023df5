"""Makes the frames of README.md again, by neuralforecast, darts and Qlib: `make foreign-frames`.

The models are tiny and forecast the closes of two shipped symbols, as a first script with these libraries does.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm.data.sources import SampleBars

FOLDER = Path(__file__).parent
SYMBOLS, FIRST, END = ["IBM", "MSFT"], "2009-01-02", "2010-12-01"
HORIZON, TESTED, WINDOW = 5, 60, 20  # bars
SAMPLES = 20
QLIB_PARTS = ((FIRST, "2010-03-31"), ("2010-04-01", "2010-06-30"), ("2010-07-01", "2010-11-30"))


def bars() -> pd.DataFrame:
    """The price table of all frames."""
    return SampleBars().load(SYMBOLS, FIRST, END)


def of_neuralforecast(folder: Path = FOLDER) -> None:
    """`cross_validation` and `predict` of a model with quantiles, a model of points, and a distribution."""
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MAE, DistributionLoss, MQLoss
    from neuralforecast.models import MLP, NHITS

    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    every: dict[str, Any] = {"h": HORIZON, "input_size": WINDOW, "max_steps": 30, "accelerator": "cpu", **quiet}
    normal = DistributionLoss("Normal", level=[90])
    models = [
        NHITS(loss=MQLoss(level=[80, 90]), scaler_type="robust", **every),
        MLP(loss=MAE(), scaler_type="robust", alias="Points", **every),
        MLP(loss=normal, scaler_type="robust", alias="Normal", **every),
    ]
    given = bars().rename(columns={"symbol": "unique_id", "timestamp": "ds", "close": "y"})
    given = given[["unique_id", "ds", "y"]].assign(ds=given["ds"].dt.tz_localize(None))
    forecaster = NeuralForecast(models, freq="B")
    validated = forecaster.cross_validation(given, n_windows=None, test_size=TESTED, step_size=1)
    validated.to_parquet(folder / "neuralforecast_cross_validation.parquet")
    forecaster.predict(given).to_parquet(folder / "neuralforecast_predict.parquet")


def of_darts(folder: Path = FOLDER) -> None:
    """`historical_forecasts` as `to_dataframe()` gives them: quantiles, sample paths, and points."""
    from darts import TimeSeries
    from darts.models import LinearRegressionModel
    from darts.utils.missing_values import fill_missing_values

    prices = bars()
    wide = prices.assign(timestamp=prices["timestamp"].dt.tz_localize(None))
    wide = wide.pivot(index="timestamp", columns="symbol", values="close").rename_axis(columns=None)
    series = fill_missing_values(TimeSeries.from_dataframe(wide, freq="B"))  # darts has no holidays
    every: dict[str, Any] = {"forecast_horizon": HORIZON, "retrain": False, "last_points_only": True, "start": -TESTED}
    every |= {"start_format": "position", "verbose": False}
    spread = LinearRegressionModel(WINDOW, output_chunk_length=HORIZON, likelihood="quantile", random_state=1)
    spread.fit(series[:-TESTED])
    points = LinearRegressionModel(WINDOW, output_chunk_length=HORIZON)
    points.fit(series[:-TESTED])
    made = {
        "quantiles": spread.historical_forecasts(series, predict_likelihood_parameters=True, **every),
        "samples": spread.historical_forecasts(series, num_samples=SAMPLES, **every),
        "points": points.historical_forecasts(series, **every),
    }
    for name, forecasts in made.items():
        forecasts.to_dataframe().to_parquet(folder / f"darts_{name}.parquet")


def of_qlib(folder: Path = FOLDER) -> None:
    """`LGBModel.predict` on an `Alpha158` handler, as `SignalRecord` keeps it: the scores of the test segment."""
    with tempfile.TemporaryDirectory() as place:
        _stored_for_qlib(Path(place))
        from qlib.contrib.data.handler import Alpha158
        from qlib.contrib.model.gbdt import LGBModel
        from qlib.data.dataset import DatasetH
        from qlib.workflow import R

        train, valid, test = QLIB_PARTS
        dates = {"start_time": train[0], "end_time": test[1], "fit_start_time": train[0], "fit_end_time": train[1]}
        dataset = DatasetH(Alpha158("all", **dates), {"train": train, "valid": valid, "test": test})
        model = LGBModel(num_leaves=8, learning_rate=0.05, num_threads=1, num_boost_round=20, seed=0)
        with R.start():  # a fit opens a record of its own, and would end it after its files are gone
            model.fit(dataset)
        model.predict(dataset).to_frame("score").to_parquet(folder / "qlib_scores.parquet")


def _stored_for_qlib(place: Path) -> None:
    """The bars as Qlib's own files, written by its storage; and Qlib, begun on them."""
    import qlib
    from qlib.data.storage.file_storage import FileFeatureStorage

    prices = bars()
    prices = prices.assign(timestamp=prices["timestamp"].dt.tz_localize(None), factor=1.0, vwap=prices["close"])
    days = pd.DatetimeIndex(sorted(prices["timestamp"].unique()))
    texts = days.strftime("%Y-%m-%d")
    for name, lines in (
        ("calendars/day.txt", list(texts)),
        ("instruments/all.txt", [f"{symbol}\t{texts[0]}\t{texts[-1]}" for symbol in SYMBOLS]),
    ):
        (place / name).parent.mkdir()
        (place / name).write_text("\n".join(lines) + "\n")
    record = {"uri": f"sqlite:///{place / 'mlflow.db'}", "default_exp_name": "frames"}
    manager = {"class": "MLflowExpManager", "module_path": "qlib.workflow.expm", "kwargs": record}
    qlib.init(provider_uri=str(place), region="us", kernels=1, exp_manager=manager)
    for symbol, table in prices.groupby("symbol"):
        (place / "features" / str(symbol).lower()).mkdir(parents=True)
        of_days = table.set_index("timestamp").reindex(days)
        for name in ("open", "high", "low", "close", "volume", "factor", "vwap"):
            FileFeatureStorage(symbol, name, "day").write(of_days[name].to_numpy("<f4"), 0)


def main() -> None:
    """Writes all frames, and says by which versions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write")
    folder: Path = parser.parse_args().folder
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    of_neuralforecast(folder)
    of_darts(folder)
    of_qlib(folder)
    print(", ".join(f"{name} {version(name)}" for name in ("neuralforecast", "darts", "pyqlib", "lightgbm", "pandas")))


if __name__ == "__main__":
    main()
