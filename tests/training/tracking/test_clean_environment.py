"""The logged model in an environment that has its requirements and nothing of this project."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cnn_lstm import Predictor
from tests import experiments
from tests.markets import market

FORECAST = """
import sys, importlib.util
assert importlib.util.find_spec("cnn_lstm") is None, "the project is installed here"
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
table = pd.read_parquet(sys.argv[3])
mlflow.pyfunc.load_model(sys.argv[2]).predict(table).to_parquet(sys.argv[4])
"""


@pytest.mark.slow
def test_it_forecasts_as_the_predictor_does(tmp_path: Path) -> None:
    prices = market(300)
    run = experiments.fit(
        experiments.experiment(tmp_path, prices), tmp_path / "run", "--mlflow", "true", "--register_model", "clean"
    )
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    requirements = run / "model" / "requirements.txt"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
    outcome = tmp_path / "forecasts.parquet"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MLFLOW"))}
    argv = [f"sqlite:///{tmp_path / 'mlflow.db'}", "models:/clean@challenger", tmp_path / "prices.parquet", outcome]
    subprocess.run([python, "-c", FORECAST, *map(str, argv)], check=True, cwd=tmp_path, env=environment)
    expected = Predictor.from_checkpoint(run / "checkpoints/best.ckpt").predict(prices)
    pd.testing.assert_frame_equal(pd.read_parquet(outcome), expected)
