"""Predictions tables of made-up markets, with forecasters whose worth is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.evaluation.settings import Evaluation

Floats = NDArray[np.float64]
Frame = pd.DataFrame
CALIBRATION = 250  # dates before the first one of the table, for intervals and training means
LEVELS = (50, 80, 90, 95)
SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF")


def predictions_table(
    kinds: Sequence[str] = ("return",),
    symbols: Sequence[str] = SYMBOLS,
    dates: int = 500,
    skill: float = 0.1,
    seed: int = 0,
    resamples: int = 200,
) -> Frame:
    """A table as `test` writes it.

    Args:
        kinds: A target each: "return" (next day), "log_volatility" (the next 5 days), "class" (direction of the next
            day in 3 classes).
        symbols: Symbols; they share half of their variance.
        dates: Business days from 2022-01-03 on.
        skill: Share of the variance that the model knows; 0 for a model that knows nothing.
        seed: Of the market and of the forecasts.
        resamples: Draws of the bootstrap.
    """
    market = _market(symbols, dates, skill, np.random.default_rng(seed))
    made = [MAKERS[kind](market, skill, np.random.default_rng([seed, 1])) for kind in kinds]
    table = pd.concat([rows for rows, _ in made], ignore_index=True)
    table = table.sort_values(["target", "symbol", "as_of"], ignore_index=True)
    table.attrs = {
        "targets": {str(rows["target"].iloc[0]): about for rows, about in made},
        "settings": Evaluation(resamples=resamples).to_plain(),
        "trials": 3,
        "failed_checks": [],
    }
    return table


def _market(symbols: Sequence[str], dates: int, skill: float, random: np.random.Generator) -> Frame:
    """Daily returns with volatility that comes in waves; `known` is what a forecaster could know of the next one."""
    days, count = CALIBRATION + dates + 7, len(symbols)
    later = pd.bdate_range("2022-01-03", periods=dates + 7, tz="UTC")
    before = pd.bdate_range(end=later[0] - pd.offsets.BDay(), periods=CALIBRATION, tz="UTC")
    time = pd.DatetimeIndex(before.append(later))
    log_size = np.zeros((days, count))
    for day in range(1, days):
        shock = random.normal(size=1) * 0.7 + random.normal(size=count) * 0.7
        log_size[day] = 0.97 * log_size[day - 1] + 0.1 * shock
    size = 0.01 * np.exp(log_size)
    known = (random.normal(size=(days, 1)) + random.normal(size=(days, count))) / np.sqrt(2)
    noise = (random.normal(size=(days, 1)) + random.normal(size=(days, count))) / np.sqrt(2)
    returns = size * (np.sqrt(skill) * known + np.sqrt(1 - skill) * noise) + 0.0003
    return pd.concat(
        [
            _one_symbol(symbol, time, returns[:, number], size[:, number], known[:, number])
            for number, symbol in enumerate(symbols)
        ],
        ignore_index=True,
    )


def _one_symbol(symbol: str, time: pd.DatetimeIndex, returns: Floats, size: Floats, known: Floats) -> Frame:
    frame = pd.DataFrame({"symbol": symbol, "as_of": time, "last": returns, "size": size})
    frame["next"], frame["known"] = np.roll(returns, -1), np.roll(known * size, -1)
    frame["volatility"] = np.sqrt((frame["last"] ** 2).ewm(halflife=20).mean())
    for days in (1, 5, 22):
        frame[f"log_{days}"] = np.log(np.sqrt((frame["last"] ** 2).rolling(days, min_periods=1).mean()) + 1e-4)
    frame["log_next_5"] = frame["log_5"].shift(-5)
    frame["log_size"] = np.log(frame["size"])
    return frame


def _return(market: Frame, skill: float, random: np.random.Generator) -> tuple[Frame, dict[str, Any]]:
    rows = market.assign(target="return_1", horizon=1, y_true=market["next"], scale=market["volatility"], y_zero=0.0)
    noise = random.normal(size=len(rows)) * rows["volatility"]
    rows["y_pred"] = np.sqrt(skill) * rows["known"] + 0.02 * noise
    rows["y_last"] = rows["last"]
    rows["y_seasonal"] = rows.groupby("symbol")["last"].shift(4).fillna(0.0)
    rows["y_ridge"] = 0.05 * rows["last"] + 0.0002
    rows["std"] = rows["volatility"]
    return _finished(rows, {"kind": "return", "unit": "return"}, spread=random)


def _log_volatility(market: Frame, skill: float, random: np.random.Generator) -> tuple[Frame, dict[str, Any]]:
    rows = market.assign(target="log_volatility_5", horizon=5, y_true=market["log_next_5"], scale=1.0)
    past = rows["y_true"].notna() & (rows["as_of"] < _first(rows))
    columns = np.column_stack([np.ones(len(rows)), rows[["log_1", "log_5", "log_22"]]])
    weights = np.linalg.lstsq(columns[past], rows.loc[past, "y_true"], rcond=None)[0]
    rows["y_log_har"] = columns @ weights
    rows["y_har"] = rows["y_log_har"] + 0.05 * random.normal(size=len(rows))
    share = min(1.0, 5 * skill)
    rows["y_pred"] = share * rows["log_size"] + (1 - share) * rows["y_har"] - 0.1 * share
    rows["y_last"] = rows["log_5"]
    rows["mc_std"] = 0.05 + 0.02 * random.random(len(rows))
    rows, about = _finished(rows, {"kind": "log_volatility", "unit": "log return volatility"})
    for name in ("pred", "log_har", "har", "last", "mean"):
        rows[f"variance_{name}"] = 1.15 * np.exp(2 * rows[f"y_{name}"])
    return rows, about


def _class(market: Frame, skill: float, random: np.random.Generator) -> tuple[Frame, dict[str, Any]]:
    rows = market.assign(target="direction_1", horizon=1, scale=1.0)
    rows["y_true"] = _direction(rows["next"], rows["volatility"])
    rows["y_last"] = _direction(rows["last"], rows["volatility"])
    lean = 2.0 * np.sqrt(skill) * rows["known"] / rows["volatility"] + 0.05 * random.normal(size=len(rows))
    rows = _with_probabilities(rows, "p", lean)
    rows = _with_probabilities(rows, "logistic_p", 0.05 * random.normal(size=len(rows)))
    rows["y_pred"] = rows[["p0", "p1", "p2"]].to_numpy().argmax(axis=1)
    rows["y_logistic"] = rows[["logistic_p0", "logistic_p1", "logistic_p2"]].to_numpy().argmax(axis=1)
    for number in range(3):
        rows[f"prior_p{number}"] = (rows["y_true"] == number).mean()
    for level in LEVELS:
        rows[f"set_{level}"] = _sets(rows[["p0", "p1", "p2"]].to_numpy(), level / 100)
    return _finished(rows, {"kind": "class", "unit": "class", "classes": 3})


def _direction(returns: pd.Series[float], volatility: pd.Series[float]) -> pd.Series[float]:
    return 1.0 + (returns > 0.4 * volatility) - (returns < -0.4 * volatility)


def _with_probabilities(rows: Frame, stem: str, lean: Any) -> Frame:
    scores = np.exp(np.outer(np.asarray(lean), [-1.0, 0.0, 1.0]))
    return rows.assign(**{f"{stem}{c}": scores[:, c] / scores.sum(axis=1) for c in range(3)})


def _sets(probabilities: Floats, level: float) -> list[str]:
    """The likeliest classes that together have the level."""
    order = np.argsort(-probabilities, axis=1)
    before = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
    size = (before < level).sum(axis=1) + 1
    return ["".join(sorted(map(str, row[:n]))) for row, n in zip(order, size, strict=True)]


def _first(rows: Frame) -> Any:
    return rows["as_of"].unique()[CALIBRATION]


def _finished(
    rows: Frame, about: dict[str, Any], spread: np.random.Generator | None = None
) -> tuple[Frame, dict[str, Any]]:
    """Training metrics, conformal intervals, dates and the columns that each table has."""
    horizon, step = int(rows["horizon"].iloc[0]), rows.groupby("symbol")["as_of"]
    rows = rows.assign(target_start=step.shift(-1), target_end=step.shift(-horizon), bar_return=np.expm1(rows["next"]))
    past = rows[(rows["as_of"] < _first(rows)) & rows["y_true"].notna()]
    about = {"horizon": horizon, "delay": 0, "classes": 0} | about
    numeric = about["kind"] != "class"
    rows["y_mean"] = past["y_true"].mean() if numeric else past["y_true"].mode()[0]
    naive = (past["y_true"] - past["y_last"]).abs().groupby(past["symbol"])
    rows["naive_mae"] = rows["symbol"].map(naive.mean())
    rows["naive_mse"] = rows["symbol"].map(naive.apply(lambda error: (error**2).mean()))
    if numeric:
        scores = np.sort(((past["y_true"] - past["y_pred"]) / past["scale"]).to_numpy())
        about["scores"] = scores[np.linspace(0, len(scores) - 1, min(len(scores), 1001)).astype(int)].tolist()
        for level in LEVELS:
            low, high = np.quantile(scores, [0.5 - level / 200, 0.5 + level / 200])
            rows[f"lower_{level}"] = rows["y_pred"] + low * rows["scale"]
            rows[f"upper_{level}"] = rows["y_pred"] + high * rows["scale"]
    if spread is not None:
        rows["ensemble_std"] = rows["scale"] * (0.1 + 0.05 * spread.random(len(rows)))
    rows = rows[(rows["as_of"] >= _first(rows)) & rows["target_end"].notna()]
    hidden = ["last", "size", "next", "known", "log_1", "log_5", "log_22", "log_next_5", "log_size"]
    return rows.drop(columns=hidden), about


MAKERS: dict[str, Callable[[Frame, float, np.random.Generator], tuple[Frame, dict[str, Any]]]] = {
    "return": _return,
    "log_volatility": _log_volatility,
    "class": _class,
}


def information(symbols: Sequence[str] = SYMBOLS) -> Any:
    """An information sheet as `model_info` gives it, with the use of the test rows."""
    kinds: tuple[str, ...] = ("L1.1 no separate test set", "L1.2 preprocessing on training and test data")
    kinds += ("L1.3 feature selection on training and test data", "L1.4 duplicates in the data")
    kinds += ("L2 features that are not legitimate", "L3.1 temporal leakage")
    kinds += ("L3.2 training and test samples that depend on each other",)
    kinds += ("L3.3 a test set that is not the population of interest",)
    return {
        "model": {
            "network": {
                "class_path": "cnn_lstm.model.network.CNNLSTM",
                "init_args": {"n_features": 12, "channels": [32, 32], "lstm_units": 64, "dropout": 0.2},
            },
            "objective": {"class_path": "cnn_lstm.model.objectives.Gaussian", "init_args": {}},
            "parameters": 48_322,
        },
        "data": {
            "source": "CsvSource",
            "sha256": "5f2b1c9e" * 8,
            "trained_on_sha256": "5f2b1c9e" * 8,
            "rows": 15_120,
            "symbols": list(symbols),
            "first": "2012-01-02",
            "last": "2023-12-29",
            "features": ["log_return", "range", "volume_zscore", "rsi_14", "macd", "day_of_week"],
            "targets": [{"name": "return_1", "horizon": 1}],
            "window": 60,
        },
        "split": {
            "purged_rows": 36,
            "train": {"forecasts": 9_840, "first": "2012-03-26", "last": "2019-12-30"},
            "validation": {"forecasts": 2_112, "first": "2020-01-02", "last": "2021-12-30"},
            "test": {"forecasts": 3_000, "first": "2022-01-03", "last": "2023-12-01"},
        },
        "leakage": [
            {
                "kind": kind,
                "test": "what was tested on the data of this run",
                "outcome": "note" if "population" in kind else "passed",
                "found": "nothing was found",
            }
            for kind in kinds
        ],
        "test_rows_used": {"times": 3, "models": 2},
    }
