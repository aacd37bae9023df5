"""How long a bar, an evening and Monte Carlo dropout take: python -m tests.benchmarks.stream [--bars N] [--symbols N].

Prints medians of processor time next to their goals, with the default features, window and network (untrained: the time
is the same), one thread, on random walks, and exits with 1 where a goal is missed:

- a bar of one symbol, and of each of many symbols of one moment, with `Stream.update`;
- an evening of one new day with `Predictor.predict`, beyond the features of the table;
- 50 passes with dropout of a single window.

It also exits with 1 where a streamed forecast has other bits than that of the whole table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.features import compute_features
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.calibration import calibrate
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import CNNLSTM
from tests.markets import TableSource, walk

ROWS, TESTED = 3200, 2560  # rows of a symbol, and where the test part of the checkpoint begins
EVENINGS, SAMPLES = 20, 50


@dataclass(frozen=True)
class Timing:
    """What took how long.

    Attributes:
        what: Name of it.
        times: Milliseconds, of one call each.
        goal: Milliseconds that the median may take; None for what is printed for comparison.
    """

    what: str
    times: list[float]
    goal: float | None = None

    @property
    def median(self) -> float:
        """The median, in milliseconds."""
        return float(np.median(self.times))

    @property
    def missed(self) -> bool:
        """Whether it takes longer than it may."""
        return self.goal is not None and self.median > self.goal

    def __str__(self) -> str:
        goal = "" if self.goal is None else f"   goal {self.goal:5.2f} ms, {'MISSED' if self.missed else 'met'}"
        return f"{self.what:<46} p50 {self.median:6.2f} ms, p95 {np.quantile(self.times, 0.95):6.2f} ms{goal}"


def main() -> None:
    """Times all, and says which goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bars", type=int, default=200)
    parser.add_argument("--symbols", type=int, default=500)
    given = parser.parse_args()
    torch.set_num_threads(1)
    predictor = predictor_of(walk(ROWS, "S000", 0), TESTED)
    one, equal = streamed(predictor, 1, given.bars)
    many, all_equal = streamed(predictor, given.symbols, 10)
    timings = [
        Timing("a bar of one symbol", one, 4.0),
        Timing(f"a bar of each of {given.symbols} symbols, a symbol", [ms / given.symbols for ms in many], 1.0),
        Timing("an evening of one day, beyond the features", evenings(predictor), 10.0),
        *passes(predictor),
    ]
    for timing in timings:
        print(timing)
    print(f"a bar takes {timings[0].median / timings[3].median:.1f} forward passes of one window")
    print(f"streamed forecasts have the bits of the table: {equal and all_equal}")
    if any(timing.missed for timing in timings) or not (equal and all_equal):
        raise SystemExit(1)


def streamed(predictor: Predictor, symbols: int, bars: int) -> tuple[list[float], bool]:
    """Milliseconds of each moment, and whether its last forecasts are those of the whole table."""
    rows = TESTED + 20 + bars
    table = pd.concat([walk(rows, f"S{number:03}", number) for number in range(symbols)], ignore_index=True)
    moments = [moment for _, moment in table.groupby("timestamp")]
    stream = predictor.stream(pd.concat(moments[:-bars], ignore_index=True))
    times, last = [], pd.DataFrame()
    for moment in moments[-bars:]:
        started = time.process_time()
        last = stream.update(moment)
        times.append(1e3 * (time.process_time() - started))
    now = last["as_of"].max()
    whole = predictor.predict(table, start=str(now.date()))
    return times, bool((whole["y_pred"].to_numpy() == last["y_pred"].to_numpy()).all())


def evenings(predictor: Predictor) -> list[float]:
    """Milliseconds of a predictor that is asked for the new day each evening, without those of the features."""
    table, times = walk(TESTED + 500, "S000", 0), []
    features = predictor.recipe.bind_to(table, predictor.targets).features
    for last in range(len(table) - EVENINGS - 1, len(table)):
        until = table[: last + 1]
        day = str(until["timestamp"].iloc[-1].date())
        computed = milliseconds(lambda until=until: compute_features(until, features))  # type: ignore[misc]
        took = milliseconds(lambda until=until, day=day: predictor.predict(until, start=day))  # type: ignore[misc]
        times.append(took - computed)
    return times[1:]  # on the first one everything is new


def passes(predictor: Predictor) -> list[Timing]:
    """Of one window: a plain pass, one that is equal bit for bit to that of a table, and many with dropout."""
    window = torch.randn(1, predictor.recipe.window, len(predictor.recipe.features))
    model, times = predictor.forecaster, {name: list[float]() for name in ("plain", "equal", "many")}
    with torch.inference_mode():
        for _ in range(100):
            times["plain"].append(milliseconds(lambda: model(window)))
            times["equal"].append(milliseconds(lambda: model.forecast(window)))
        for _ in range(100):  # by themselves: they leave the caches empty
            times["many"].append(milliseconds(lambda: model.forecast(window, SAMPLES)))
    return [
        Timing("forward pass of one window", times["plain"]),
        Timing("forward pass with the bits of a table", times["equal"]),
        Timing(f"{SAMPLES} passes with dropout of one window", times["many"], 10.0),
    ]


def predictor_of(history: pd.DataFrame, tested: int) -> Predictor:
    """An untrained network with the statistics of the history, and calibration scores.

    Args:
        history: Bars of one symbol.
        tested: Row at which the test part of the checkpoint begins.
    """
    data = MarketDataModule(TableSource(history), targets=[ForwardReturn()])
    data.setup()
    model = Forecaster(CNNLSTM(data.n_features)).eval()
    contract = Contract.from_plain(data.contract())
    model.learn_statistics(data.statistics)
    rows = torch.from_numpy(data.parts.validation)
    labels = data.panel.labels[rows]
    forecasts = {"y_true": labels, "y_pred": labels * 0.1}
    scores = calibrate(forecasts, data.surprise_scale(rows), kinds=["return"])
    boundaries = replace(contract.boundaries, test=str(history["timestamp"].iloc[tested].date()))
    model.contract = replace(contract, calibration=scores, boundaries=boundaries)
    return Predictor(model)


def milliseconds(action: Callable[[], object]) -> float:
    """Processor time of one call, which other programs at work do not lengthen by making it wait."""
    started = time.process_time()
    action()
    return 1e3 * (time.process_time() - started)


if __name__ == "__main__":
    main()
