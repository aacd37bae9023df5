"""Classes of the user in a module of the current folder, named by a configuration that lies anywhere else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import experiments
from tests.experiments import spec
from tests.markets import market

MODULE = """
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger

from cnn_lstm.data.features import feature
from cnn_lstm.data.sources import PriceFiles
from cnn_lstm.data.splits import FractionSplit
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.model.network import CNNLSTM
from cnn_lstm.model.objectives import Point


class Network(CNNLSTM):
    pass


class Objective(Point):
    pass


class Source(PriceFiles):
    pass


class Target(ForwardReturn):
    pass


class Split(FractionSplit):
    pass


class Notes(Callback):
    pass


class Log(CSVLogger):
    pass


class Optimizer(torch.optim.SGD):
    pass


class Scheduler(torch.optim.lr_scheduler.ExponentialLR):
    pass


@feature(warmup=1, inputs=("close",))
def change(bars):
    return bars["close"].diff()
"""


def configuration(name: str, folder: Path) -> dict[str, Any]:
    """Every kind of class that a configuration can name, and a function, all of one module."""
    table = folder / "table"
    table.mkdir()
    config: dict[str, Any] = yaml.safe_load(experiments.experiment(table, market(260, gaps=False)).read_text())
    model, data = config["model"], config["data"]
    model["network"]["class_path"] = f"{name}.Network"
    model["objective"] = spec(f"{name}.Objective")
    model["optimizer"] = spec(f"{name}.Optimizer", lr=0.001)
    model["scheduler"] = spec(f"{name}.Scheduler", gamma=0.9)
    data["source"]["class_path"] = f"{name}.Source"
    data["targets"] = [spec(f"{name}.Target", horizon=2)]
    data["split"] = spec(f"{name}.Split")
    data["features"] += [f"{name}.change"]
    config["trainer"]["max_epochs"] = 1
    config["trainer"]["callbacks"] = [spec(f"{name}.Notes")]
    config["trainer"]["logger"] = spec(f"{name}.Log", save_dir=str(folder / "log"))
    return config


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; the path of imports is that of the console script, which does not name it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    monkeypatch.delitem(sys.modules, "own_parts", raising=False)
    (tmp_path / "own_parts.py").write_text(MODULE)
    return tmp_path


def test_every_kind_is_found_in_every_command(work: Path) -> None:
    file = work / "deep" / "er" / "experiment.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump(configuration("own_parts", work)))
    run = work / "runs" / "own"
    own = ["--trust-imports", "own_parts"]
    assert experiments.run(*own, "fit", "--config", file, "--run_dir", run) == 0
    saved = (run / "config.yaml").read_text()
    assert saved.count("own_parts.") == 10
    for command in ("validate", "test", "predict"):
        assert experiments.run(*own, command, "--config", run / "config.yaml", "--ckpt_path", "best") == 0
    assert experiments.run(*own, "data", "check", "--config", run / "config.yaml") == 0


def test_the_folder_is_put_on_the_path_once(work: Path) -> None:
    for _ in range(2):
        experiments.run("--trust-imports", "own_parts", "fit", "--trainer.max_epochs", "none")
    assert sys.path.count(str(work)) == 1
