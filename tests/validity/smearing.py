"""What smearing factors are worth that rest on training rows, on validation rows, or on both, where it counts: later.

    python -m tests.validity.smearing

The baselines of the quickstart, whose inputs are those of volatility.yaml, are fitted on folds of the shipped bars: all
rows before the validation part, two years of validation, two years of test. Printed is the mean QLIKE over the test
parts with each factor, and with the best factor of each test part, which nobody can know. No network is trained; it
takes half a minute.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.sources import SampleBars
from cnn_lstm.data.splits import DateSplit
from cnn_lstm.data.targets import RealizedVolatility
from cnn_lstm.data.windows import Rows
from cnn_lstm.evaluation.baselines.baseline_inputs import BaselineInputs
from cnn_lstm.evaluation.baselines.fit import FittedBaselines, fit_baselines
from cnn_lstm.evaluation.formatting import aligned
from cnn_lstm.model.smearing import LogRatios, log_ratios, smearing
from tests.markets import TableSource

CONFIG = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
YEARS = range(2004, 2010)  # first year of the validation part
NAIVE = ("naive_mae", "naive_mse")
FACTORS = ("training", "validation", "both", "best")


def fold(year: int) -> pd.DataFrame:
    """QLIKE of each baseline on one fold's test part with each factor.

    Args:
        year: First year of the validation part.
    """
    given = yaml.safe_load(CONFIG.read_text())["data"]
    bars = SampleBars().load(None, None, None)
    begun = bars.groupby("symbol")["timestamp"].transform("min").dt.year < year - 1  # or there is nothing to train on
    data = MarketDataModule(
        TableSource(bars[begun].reset_index(drop=True)),
        targets=[RealizedVolatility(horizon=5, log=True)],
        window=given["window"],
        split=DateSplit(f"{year}-01-01", f"{year + 2}-01-01"),
        end=f"{year + 4}-01-01",
        features=given["features"],
    )
    data.setup()
    inputs = BaselineInputs.of(data)
    fitted = fit_baselines(inputs)
    train, validation, test = (
        errors(fitted, rows) for rows in (data.parts.train, data.parts.validation, data.parts.test)
    )
    lines = []
    for name, later in test.items():
        both = fitted.smearing[data.targets[0].name][name]
        factors = (smearing(train[name]), smearing(validation[name]), both, smearing(later))
        losses = {kind: qlike(later, factor) for kind, factor in zip(FACTORS, factors, strict=True)}
        lines.append({"year": year, "baseline": name.removeprefix("y_"), **losses})
    return pd.DataFrame(lines)


def errors(fitted: FittedBaselines, rows: Rows) -> dict[str, LogRatios]:
    """Errors of each baseline of the only target."""
    inputs = fitted.inputs
    (columns,) = fitted.forecast(rows).values()
    columns |= {"y_mean": np.full(len(rows), float(inputs.statistics.y_mean[0])), "y_last": inputs.present(rows, 0)}
    truth, date = torch.from_numpy(inputs.labels(rows, 0)), torch.from_numpy(inputs.panel.time[rows].astype(np.int64))
    return {
        name: log_ratios("log_volatility", truth, torch.from_numpy(values), date)
        for name, values in columns.items()
        if name not in NAIVE
    }


def qlike(later: LogRatios, factor: float) -> float:
    """Mean QLIKE with a factor."""
    ratio = later.values.exp() / factor
    return float((ratio - ratio.log() - 1).mean())


def main() -> None:
    """Prints the table."""
    folds = pd.concat([fold(year) for year in YEARS], ignore_index=True)
    means = folds.groupby("baseline", sort=False)[list(FACTORS)].mean()
    means.loc["mean of all"] = means.mean()
    print(f"mean QLIKE over {len(YEARS)} folds, by the rows that the factor rests on")
    lines = [[str(name), *(f"{value:.4f}" for value in line)] for name, line in means.iterrows()]
    print(aligned([["", *FACTORS], *lines], left=1))


if __name__ == "__main__":
    main()
