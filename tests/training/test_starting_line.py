"""The starting line as a candidate for best.ckpt: what is compared, what is written, and that nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from cnn_lstm.model.calibration import Calibration
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import Contract
from tests.experiments import experiment, run, spec
from tests.markets import market

VOLATILITY = spec("cnn_lstm.data.targets.RealizedVolatility", horizon=2, log=True)
OBJECTIVES = {
    "point": spec("cnn_lstm.model.objectives.Point"),
    "qlike": spec("cnn_lstm.model.objectives.Qlike"),
    "gaussian": spec("cnn_lstm.model.objectives.Gaussian"),
    "quantiles": spec("cnn_lstm.model.objectives.Quantiles", levels=[0.1, 0.5, 0.9]),
}
HURTS = 3.0  # a learning rate with which no epoch is better than the start
STILL = 1e-12  # one that never leaves the start


def fit(
    folder: Path, rate: float, candidate: bool, objective: str = "point", epochs: int = 2, linear: str = "fixed"
) -> Path:
    """A run folder of a fit on a small market."""
    folder.mkdir(exist_ok=True)
    optimizer = spec("torch.optim.SGD" if rate < 1e-9 else "torch.optim.Adam", lr=rate)
    file = experiment(
        folder,
        market(300, ["AAA", "BBB"]),
        {"targets": [VOLATILITY]},
        starting_line={"candidate": candidate},
        trainer={"max_epochs": epochs},
        model={"optimizer": optimizer, "objective": OBJECTIVES[objective], "linear": linear},
    )
    assert run("fit", "--config", file, "--run_dir", folder / "run") == 0
    return folder / "run"


def best(run_dir: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_checkpoint(run_dir / "checkpoints" / "best.ckpt")["state_dict"]
    return state


def calibration(run_dir: Path) -> Calibration:
    found = Contract.of(read_checkpoint(run_dir / "checkpoints" / "best.ckpt")).calibration
    assert found is not None
    return found


def forecasts(run_dir: Path) -> pd.DataFrame:
    config, checkpoint = run_dir / "config.yaml", run_dir / "checkpoints" / "best.ckpt"
    assert run("test", "--config", config, "--ckpt_path", checkpoint, "--run_dir", run_dir) == 0
    return pd.read_parquet(run_dir / "predictions.parquet")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_network_that_only_hurts_leaves_the_line(
    objective: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rate = 0.3 if objective == "gaussian" else HURTS  # whose loss is infinite with more
    run_dir = fit(tmp_path, rate, candidate=True, objective=objective)
    assert "best.ckpt is the line alone" in capsys.readouterr().out
    summary = json.loads((run_dir / "summary.json").read_text())
    said = summary["starting_line"]
    assert said["kept"]
    assert said["start"] <= said["best"] == summary["best"]
    state = best(run_dir)
    assert not state["head.weight"].any()
    table = forecasts(run_dir)
    apart = table["y_pred"] - table["y_linear"]
    assert np.ptp(apart) < 1e-6  # one constant: the objective's own start, such as that of a mean variance
    if objective in ("point", "gaussian"):
        assert abs(apart).max() < 1e-6


def test_its_metric_is_that_of_a_validation_of_the_start(tmp_path: Path) -> None:
    """Without a step away from the start, each epoch has the start's metrics, scores and factors."""
    run_dir = fit(tmp_path, STILL, candidate=True)
    said = json.loads((run_dir / "summary.json").read_text())["starting_line"]
    assert said["kept"]
    assert said["start"] == pytest.approx(said["best"], rel=1e-6)
    plain = fit(tmp_path / "plain", STILL, candidate=False)
    ours, epoch = calibration(run_dir), calibration(plain)
    np.testing.assert_allclose(ours.scores, epoch.scores, atol=1e-5)
    assert ours.smearing == pytest.approx(epoch.smearing, rel=1e-4)


@pytest.mark.parametrize("objective", ["qlike", "point"])
def test_its_factor_makes_a_variance_of_its_own_forecast(objective: str, tmp_path: Path) -> None:
    """Qlike starts a constant above the line: its factor is lower by just that."""
    ours = fit(tmp_path / "ours", STILL, candidate=True, objective=objective)
    epoch = fit(tmp_path / "epoch", STILL, candidate=False, objective=objective)
    assert calibration(ours).smearing == pytest.approx(calibration(epoch).smearing, rel=1e-3)


@pytest.mark.parametrize(("min_gain", "kept"), [(0.001, False), (0.9, True)])
def test_a_network_that_helps_stays(min_gain: float, kept: bool, tmp_path: Path) -> None:
    """The volatility after a large move of either sign is beyond every line, but not nine tenths lower in loss."""
    run_dir = fit_on(tmp_path, planted(market(600, ["AAA", "BBB"])), min_gain)
    said = json.loads((run_dir / "summary.json").read_text())["starting_line"]
    assert said["kept"] == kept
    assert 0.9 * said["start"] > said["best"]
    assert best(run_dir)["head.weight"].any() != kept


def planted(table: pd.DataFrame) -> pd.DataFrame:
    """A volatility that is high after a large move of either sign, which no line through returns can say."""
    random, parts = np.random.default_rng(0), []
    for _, bars in table.groupby("symbol", sort=False):
        size, returns = np.full(len(bars), 0.004), np.zeros(len(bars))
        for row in range(1, len(bars)):
            size[row] = 0.004 if abs(returns[row - 1]) < 0.008 else 0.02
            returns[row] = size[row] * random.standard_normal()
        close = 100 * np.exp(np.cumsum(returns))
        columns = {"open": close, "high": close * 1.001, "low": close * 0.999, "close": close}
        parts.append(bars.assign(**columns))
    return pd.concat(parts, ignore_index=True)


def fit_on(folder: Path, table: pd.DataFrame, min_gain: float) -> Path:
    file = experiment(
        folder,
        table,
        {"targets": [spec("cnn_lstm.data.targets.RealizedVolatility", horizon=2)], "features": ["log_return_1"]},
        starting_line={"candidate": True, "min_gain": min_gain},
        trainer={"max_epochs": 8},
        model={"optimizer": spec("torch.optim.Adam", lr=0.01)},
    )
    assert run("fit", "--config", file, "--run_dir", folder / "run") == 0
    return folder / "run"


def test_the_training_is_the_same_with_and_without(tmp_path: Path) -> None:
    """Its validation draws no random number and leaves no trace: the newest weights are equal to the last bit."""
    states = []
    for candidate in (True, False):
        run_dir = fit(tmp_path / str(candidate), 0.01, candidate)
        states.append(read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["state_dict"])
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("linear", ["fixed", "fine_tuned"])
def test_a_resumed_fit_compares_with_the_start_of_the_first(linear: str, tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", HURTS, candidate=True, epochs=3, linear=linear)
    parts = fit(tmp_path / "parts", HURTS, candidate=True, epochs=1, linear=linear)
    more = ("--trainer.max_epochs", 3, "--ckpt_path", "last")
    assert run("fit", "--config", parts / "config.yaml", "--run_dir", parts, *more) == 0
    said = [json.loads((folder / "summary.json").read_text())["starting_line"] for folder in (whole, parts)]
    assert said[0] == said[1]
    assert said[0]["kept"]
    states = [best(whole), best(parts)]
    starts = [name for name in states[0] if name.startswith(("head.", "linear."))]
    assert starts
    assert all(torch.equal(states[0][name], states[1][name]) for name in starts)


def test_nothing_is_compared_without_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = fit(tmp_path, HURTS, candidate=True, linear="off")
    assert "starting line" not in capsys.readouterr().out
    assert "starting_line" not in json.loads((run_dir / "summary.json").read_text())
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["starting_line"]["candidate"]
