"""How long `test` takes beyond the forward of the model: python -m tests.benchmarks.report [--forecasts N].

Baselines, intervals, metrics, information sheet and page of one target's forecasts, on random walks with the default
features and window. One run, no comparison: the goal is 30 s for 100,000 forecasts on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.predictions import predictions_table
from cnn_lstm.data.splits import FractionSplit
from cnn_lstm.data.targets import ForwardReturn, RealizedVolatility
from cnn_lstm.evaluation.json_types import JudgedModelInfo
from cnn_lstm.evaluation.judge import with_baselines, write_report
from cnn_lstm.evaluation.model_info import model_info
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.inference.intervals import add_intervals
from cnn_lstm.model.calibration import calibrate
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import CNNLSTM
from tests.markets import TableSource, walk

TARGETS = {"return": ForwardReturn(), "volatility": RealizedVolatility(log=True)}


def main() -> None:
    """Times each stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forecasts", type=int, default=100_000)
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--target", choices=TARGETS, default="return")
    given = parser.parse_args()
    rows = 100 + 3 * given.forecasts // given.symbols
    names = [f"S{number:03}" for number in range(given.symbols)]
    table = pd.concat([walk(rows, name, seed) for seed, name in enumerate(names)], ignore_index=True)
    target = TARGETS[given.target]
    data = MarketDataModule(TableSource(table), targets=[target], split=FractionSplit(0.5, 1 / 6))
    data.setup()
    model = Forecaster(CNNLSTM(data.n_features)).eval()
    model.contract = Contract.from_plain(data.contract())
    model.learn_statistics(data.statistics)
    test, validation = data.parts.test[: given.forecasts], data.parts.validation
    print(f"{len(test):,} forecasts of {given.symbols} symbols, {len(data.parts.train):,} training rows")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        with timed("calibration and intervals"):
            labels = data.panel.labels[torch.from_numpy(validation)]
            noisy = {"y_true": labels, "y_pred": labels * 0.1}
            scale = data.surprise_scale(torch.from_numpy(validation))
            scores = calibrate(noisy, scale, kinds=[target.kind])
            model.contract = replace(model.contract, calibration=scores)
            forecast = data.panel.labels[torch.from_numpy(data.parts.test)] * 0.01 + data.statistics.y_mean
            table = predictions_table(data.panel, data.targets, data.parts.test, {"y_pred": forecast}, [0.0])
            table = add_intervals(table, scores, str(data.parts.boundaries.test))
        with timed("information sheet"):
            info: JudgedModelInfo = {
                **model_info(data, model, model.contract),
                "test_rows_used": {"times": 1, "models": 1},
            }
        with timed("baselines"):
            table = with_baselines(table, data, model.contract, Evaluation())
        with timed("metrics, page, files"):
            write_report(Path(folder), table, info, Evaluation())
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    print(f"{'together':<26} {time.perf_counter() - started:6.1f} s, {size / 1e6:.1f} MB of files")


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Prints the seconds of a stage."""
    before = time.perf_counter()
    yield
    print(f"{name:<26} {time.perf_counter() - before:6.1f} s", flush=True)


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
