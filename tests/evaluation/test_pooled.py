"""Several levels together: RSE and CORR as the program of LSTNet computes them, and which targets belong together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cnn_lstm.evaluation.metrics.errors import level_correlation, root_relative_error
from cnn_lstm.evaluation.pooled import pooled_levels

SERIES, ROWS = 8, 300


def series(seed: int = 0) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.float64]]]:
    """Truth and forecasts of eight levels of very different size, (n, 8) each."""
    random = np.random.default_rng(seed)
    size = 10.0 ** random.uniform(-2, 1, SERIES)
    truth = size * np.exp(random.normal(0, 0.01, (ROWS, SERIES)).cumsum(axis=0))
    return truth, truth * np.exp(random.normal(0, 0.02, (ROWS, SERIES)))


def table(reaches: dict[str, tuple[int, int]], kinds: dict[str, str] | None = None) -> pd.DataFrame:
    truth, forecast = series()
    parts, targets = [], {}
    days = pd.bdate_range("2020-01-01", periods=ROWS, tz="UTC")
    for k, (name, (horizon, delay)) in enumerate(reaches.items()):
        columns = {"y_true": truth[:, k], "y_pred": forecast[:, k], "y_last": truth[:, k] * 1.01, "y_mean": 1.0}
        parts.append(pd.DataFrame({"symbol": "ALL", "as_of": days, "target": name, **columns}))
        kind = (kinds or {}).get(name, "level")
        targets[name] = {"kind": kind, "unit": "", "horizon": horizon, "delay": delay, "classes": 0}
    joined = pd.concat(parts, ignore_index=True)
    joined.attrs["targets"] = targets
    return joined


def lstnet(truth: np.ndarray[Any, Any], forecast: np.ndarray[Any, Any]) -> tuple[float, float]:
    """`evaluate` of main.py and `normal_std` of utils.py of laiguokun/LSTNet (MIT), on values in their own unit."""
    y = torch.from_numpy(truth)
    deviation = y.std() * np.sqrt((len(y) - 1.0) / len(y))
    rse = float(np.sqrt(((truth - forecast) ** 2).sum() / truth.size) / deviation)
    sigma_p, sigma_g = forecast.std(axis=0), truth.std(axis=0)
    product = ((forecast - forecast.mean(axis=0)) * (truth - truth.mean(axis=0))).mean(axis=0)
    return rse, float((product / (sigma_p * sigma_g))[sigma_g != 0].mean())


def test_the_metrics_of_a_pool_are_those_of_lstnet() -> None:
    names = {f"s{k}": (3, 0) for k in range(SERIES)}
    pooled = pooled_levels(table(names))["3"]
    truth, forecast = series()
    rse, corr = lstnet(truth, forecast)
    model = pooled["forecasts"]["model"]
    assert model["rse"] == pytest.approx(rse, rel=2.0 / ROWS)  # its deviation has two corrections of a sample
    assert model["corr"] == pytest.approx(corr, rel=1e-9)
    assert (pooled["targets"], pooled["rows"]) == (SERIES, SERIES * ROWS)
    assert np.isnan(pooled["forecasts"]["training mean"]["corr"])


def test_only_levels_of_one_distance_belong_together() -> None:
    names = {"a": (3, 0), "b": (2, 1), "c": (5, 0), "d": (3, 0)}
    pooled = pooled_levels(table(names, {"d": "value"}))
    assert {reach: group["targets"] for reach, group in pooled.items()} == {"3": 2}
    assert pooled_levels(table({"a": (3, 0), "c": (5, 0)})) == {}


def test_a_forecaster_that_one_target_lacks_is_left_out() -> None:
    given = table({"a": (3, 0), "b": (3, 0)})
    attrs = given.attrs
    given["y_ridge"] = given["y_true"].where(given["target"] == "a")
    given.attrs = attrs
    assert list(pooled_levels(given)["3"]["forecasts"]) == ["model", "training mean", "last value"]


def test_metrics_without_a_value_are_nan() -> None:
    assert np.isnan(root_relative_error([1.0, 1.0], [1.0, 2.0]))
    assert np.isnan(level_correlation([1.0, 2.0], [3.0, 3.0], ["a", "a"]))
    assert level_correlation([1.0, 2.0, 1.0, 1.0], [1.0, 2.0, 1.0, 3.0], ["a", "a", "b", "b"]) == pytest.approx(1.0)
