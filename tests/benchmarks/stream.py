"""How long a bar takes: python -m tests.benchmarks.stream [--bars N] [--symbols N].

Prints the median time of `Stream.update` per moment and per bar, next to that of the network on one window, with
the default features, window and network (untrained: the time is the same). One thread, on random walks.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.calibration import calibrate
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import CNNLSTM
from tests.markets import TableSource, walk


def main() -> None:
    """Times single bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bars", type=int, default=200)
    parser.add_argument("--symbols", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = 2500 + given.bars
    table = pd.concat([walk(rows, f"S{number:03}", number) for number in range(given.symbols)], ignore_index=True)
    moments = [bars for _, bars in table.groupby("timestamp")]
    history = pd.concat(moments[: -given.bars], ignore_index=True)
    predictor = predictor_of(history)
    stream = predictor.stream(history)
    times = [seconds(lambda bars=bars: stream.update(bars)) for bars in moments[-given.bars :]]  # type: ignore[misc]
    window = torch.randn(1, predictor.recipe.window, len(predictor.recipe.features))
    with torch.inference_mode():
        eager = [seconds(lambda: predictor.forecaster(window)) for _ in range(given.bars)]
        fixed = [seconds(lambda: predictor.forecaster.forecast(window)) for _ in range(given.bars)]
    p50, p95 = (1e3 * float(np.quantile(times, level)) for level in (0.5, 0.95))
    print(
        f"{given.symbols} symbols, {len(predictor.recipe.features)} features, at most {stream.rows} rows kept a symbol"
    )
    print(f"update:             p50 {p50:6.2f} ms, p95 {p95:6.2f} ms; {p50 / given.symbols:.2f} ms a bar")
    print(f"forward, 1 window:  p50 {1e3 * float(np.median(eager)):6.2f} ms")
    print(f"forward, bit-equal: p50 {1e3 * float(np.median(fixed)):6.2f} ms (a batch of fixed shape)")


def predictor_of(history: pd.DataFrame) -> Predictor:
    """An untrained network with the statistics of the history, and calibration scores."""
    data = MarketDataModule(TableSource(history), targets=[ForwardReturn()])
    data.setup()
    model = Forecaster(CNNLSTM(data.n_features)).eval()
    model.contract = Contract.from_plain(data.contract())
    model.learn_statistics(data.statistics)
    rows = torch.from_numpy(data.parts.validation)
    labels = data.panel.labels[rows]
    forecasts = {"y_true": labels, "y_pred": labels * 0.1}
    scores = calibrate(forecasts, data.surprise_scale(rows), kinds=["return"])
    model.contract = replace(model.contract, calibration=scores)
    return Predictor(model)


def seconds(action: Callable[[], object]) -> float:
    """Processor time of one call, which other programs at work do not lengthen by making it wait."""
    started = time.process_time()
    action()
    return time.process_time() - started


if __name__ == "__main__":
    main()
