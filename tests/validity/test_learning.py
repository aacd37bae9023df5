"""A planted signal is learnt, and noise is not: a test that can never say yes is worthless."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.experiments import experiment, fit, network, predict, spec
from tests.markets import autoregressive, market, optimal_r2, walk

EPOCHS = 6


def forecasts(folder: Path, table: pd.DataFrame, delay: int = 0, seed: int = 7) -> pd.DataFrame:
    """Forecasts of the test part by a small network, trained through the command line."""
    small = network(
        channels=[8], kernel_sizes=[3], norm="layer", conv_dropout=0.0, lstm_hidden=8, lstm_dropout=0.0,
        attention_heads=2, attention_dropout=0.0,
    )  # fmt: skip
    config = experiment(
        folder,
        table,
        {
            "features": ["log_return_1", "close_location"],
            "targets": [spec("cnn_lstm.data.targets.ForwardReturn", horizon=1, delay=delay)],
            "batch_size": 64,
        },
        model={"network": small, "optimizer": spec("torch.optim.Adam", lr=0.005)},
        trainer={"max_epochs": EPOCHS},
    )
    run_dir = fit(config, folder / "run", "--seed_everything", seed)
    return predict(run_dir).dropna(subset=["y_true"])


def r2(table: pd.DataFrame) -> float:
    """Against the training mean, which is known when the test part starts."""
    error = ((table["y_true"] - table["y_pred"]) ** 2).sum()
    return float(1 - error / ((table["y_true"] - table["y_mean"]) ** 2).sum())


def test_the_planted_signal_has_the_r2_that_it_promises() -> None:
    """The oracle of the tests below: the best linear forecast of an autoregressive market."""
    for phi, delay in ((0.7, 0), (0.8, 1)):
        returns = np.log(autoregressive(20_000, phi)["close"]).diff()
        pair = pd.DataFrame({"now": returns, "then": returns.shift(-1 - delay)}).dropna()
        error = ((pair["then"] - phi ** (delay + 1) * pair["now"]) ** 2).mean()
        assert 1 - error / pair["then"].var() == pytest.approx(optimal_r2(phi, delay), abs=0.03)


def test_a_planted_signal_is_learnt(tmp_path: Path) -> None:
    found = forecasts(tmp_path, autoregressive(2500, 0.7))
    assert 0.5 * optimal_r2(0.7, 0) < r2(found) < 1.25 * optimal_r2(0.7, 0)
    signal = 0.7 * found["y_last"]
    assert np.corrcoef(found["y_pred"], signal)[0, 1] > 0.9, "it is this signal that was learnt"


def test_noise_is_not_learnt(tmp_path: Path) -> None:
    found = forecasts(tmp_path, walk(2500, start="1990-01-01"))
    assert -0.2 < r2(found) < 0.02
    assert found["y_pred"].std() < 0.35 * found["y_true"].std()
    assert abs(found["y_pred"].mean() - found["y_mean"].iloc[0]) < 0.25 * found["y_true"].std()


@pytest.mark.slow
@pytest.mark.parametrize(("phi", "delay"), [(0.8, 1), (-0.7, 0), (0.5, 0)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_signals_of_either_sign_and_behind_a_delay_are_learnt(
    tmp_path: Path, phi: float, delay: int, seed: int
) -> None:
    found = forecasts(tmp_path, autoregressive(4000, phi, seed=seed), delay, seed)
    assert r2(found) > 0.5 * optimal_r2(phi, delay)


@pytest.mark.slow
def test_noise_of_several_symbols_shows_no_skill_on_average(tmp_path: Path) -> None:
    """Ten markets of random walks: the mean correlation of forecast and truth lies within two standard errors of 0."""
    correlations = []
    for seed in range(10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        found = forecasts(folder, market(900, seed=seed), seed=seed)
        correlations.append(float(found["y_pred"].corr(found["y_true"])))
        assert r2(found) < 0.03
    error = float(np.std(correlations, ddof=1)) / len(correlations) ** 0.5
    assert abs(float(np.mean(correlations))) < 2 * error + 0.02
