"""A process whose forks begin at once: it has imported what commands need, and has forecast once."""

from __future__ import annotations

import importlib
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.crash_points.scenarios import RUN, configuration, fit_argv
from tests.crash_points.user import User
from tests.experiments import run

# what every command may import, so that forks have it
WARM = (
    "cnn_lstm.commands.fit",
    "cnn_lstm.runs.forecast_cli",
    "cnn_lstm.commands.repeat",
    "cnn_lstm.commands.sweep",
    "cnn_lstm.commands.walk_forward",
    "cnn_lstm.commands.sweep_worker",
    "cnn_lstm.commands.cross_validate",
    "cnn_lstm.commands.explain",
    "cnn_lstm.commands.judge",
    "cnn_lstm.commands.monitor",
    "cnn_lstm.commands.roll",
    "cnn_lstm.commands.update",
    "cnn_lstm.commands.export",
    "mlflow",
    "cnn_lstm.commands.sync_tracking",
    "cnn_lstm.training.tracking.store",
    "cnn_lstm.rl.training",
    "sklearn",
    "cnn_lstm.evaluation.judge",
    "cnn_lstm.rl.evaluation",
    "torch.utils.tensorboard",
    "matplotlib.pyplot",
)


def warm_up() -> None:
    """Imports, and forecasts once in this process, which fills the caches of the parsers."""
    for module in WARM:
        importlib.import_module(module)
    with TemporaryDirectory() as name:
        folder = Path(name)
        configuration(folder)
        User(folder, folder / "log").works(*fit_argv())  # a fork: once autograd has run here, forks could not train
        with chdir(folder), (folder / "log").open("a") as log, redirect_stdout(log), redirect_stderr(log):
            assert run("predict", "--config", f"{RUN}/config.yaml", "--ckpt_path", "best") == 0
