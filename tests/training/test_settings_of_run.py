"""Loggers that the user names get what the MLflow record gets: every parameter, every metric."""

from __future__ import annotations

import importlib
import json
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from lightning.pytorch.loggers import Logger
from mlflow import MlflowClient

from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.training.metric_names import grouped
from cnn_lstm.training.settings_of_run import SettingsOfRun
from cnn_lstm.training.tracking.identity import hyperparameters, parameters
from tests import experiments
from tests.fits import small_data, small_network, small_trainer
from tests.markets import market
from tests.training.tracking.servers import only_run, uri_of, wait_for

CUT = 250  # letters of a value, in Lightning's MLFlowLogger


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit with our record, and with two loggers of the user."""
    folder = tmp_path_factory.mktemp("loggers")
    csv = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(folder / "csv")}}
    theirs = {"tracking_uri": f"sqlite:///{folder / 'theirs.db'}", "experiment_name": "theirs", "run_name": "one"}
    mlflow = {"class_path": "lightning.pytorch.loggers.MLFlowLogger", "init_args": theirs}
    config = experiments.experiment(folder, market(140), trainer={"logger": [csv, mlflow]})
    experiments.fit(config, folder / "run", "--mlflow", "true", "--grad_norm.every_n_steps", 1)
    return folder


@pytest.fixture(scope="module")
def kept(folder: Path) -> dict[str, str]:
    """The parameters of our record."""
    params: dict[str, str] = only_run(uri_of(folder), "run").data.params
    assert len(params) > 100
    return params


def theirs(folder: Path) -> tuple[MlflowClient, Any]:
    client = MlflowClient(f"sqlite:///{folder / 'theirs.db'}")
    experiment: Any = client.get_experiment_by_name("theirs")
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def test_csv_logger_has_the_parameters_and_metrics_of_the_record(folder: Path, kept: dict[str, str]) -> None:
    settings = yaml.safe_load(next((folder / "csv").rglob("hparams.yaml")).read_text())
    assert {name: str(value) for name, value in settings.items()} == kept
    assert settings["data.window"] == 8  # a number, by which runs can be sorted
    table = pd.read_csv(next((folder / "csv").rglob("metrics.csv")))
    ours = pd.read_csv(folder / "run" / "metrics.csv")
    assert set(table.columns) == set(ours.columns)
    for name in set(ours.columns) - {"epoch", "step"}:
        assert table[name].dropna().tolist() == ours[name].dropna().tolist()


def test_mlflow_logger_has_the_parameters_and_metrics_of_the_record(folder: Path, kept: dict[str, str]) -> None:
    client, run = theirs(folder)
    assert run.data.params == {name: value[:CUT] for name, value in kept.items()}
    ours, record = MlflowClient(uri_of(folder)), only_run(uri_of(folder), "run")
    for name in set(run.data.metrics) - {"epoch"}:
        points = [
            sorted((point.step, point.value) for point in each.get_metric_history(run_id, key))
            for each, run_id, key in ((client, run.info.run_id, name), (ours, record.info.run_id, grouped(name)))
        ]
        assert points[0] == points[1], name


class Own(Logger):
    """A logger of the user."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error, self.calls = error, list[dict[str, Any]]()

    @property
    def name(self) -> str:
        return "own"

    @property
    def version(self) -> str:
        return "0"

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keeps none."""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append(dict(params) if isinstance(params, dict) else vars(params))


def test_settings_come_once_and_a_logger_that_refuses_them_ends_no_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "data: {window: 6}\ncsv: true\nseeds: [1, 2]\n"
    taking, refusing = Own(), Own(ValueError("a value\nis too long"))
    trainer = small_trainer(max_epochs=2, logger=[refusing, taking], callbacks=[SettingsOfRun(text)])
    trainer.fit(Forecaster(small_network()), datamodule=small_data(tmp_path))
    mine = [call for call in taking.calls if "data.window" in call]
    assert mine == [{"data.window": 6, "csv": "true", "seeds": "[1, 2]"}]
    assert "Own without the settings of the run: ValueError: a value is too long" in caplog.text


@pytest.mark.parametrize(
    "text", ["a: 1.5e-07", "a: .nan", "a: null", "a: true", "a: '7'", "a: [1, x]", "a: 2012-01-01"]
)
def test_the_text_of_a_parameter_is_that_of_the_record(text: str) -> None:
    value = yaml.safe_load(text)["a"]
    wanted = value if isinstance(value, str) else json.dumps(value, default=str)
    assert parameters(text) == {"a": wanted}
    assert {name: str(value) for name, value in hyperparameters(text).items()} == {"a": wanted}


def contents(data: bytes) -> Iterator[bytes]:
    """The records of W&B's offline file, which has LevelDB's form: blocks of 32 KiB, a record may lie in several."""
    at, content = 7, b""  # after the file's own header
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        content += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield content
            content = b""


def values_of(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def test_wandb_has_the_parameters_and_metrics_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    proto = importlib.import_module("wandb.proto.wandb_internal_pb2")

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    arguments = {"project": "forecasts", "offline": True, "save_dir": str(tmp_path / "wandb")}
    logger = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": arguments}
    (tmp_path / "wandb").mkdir()
    config = experiments.experiment(tmp_path, market(140), trainer={"logger": [logger]})
    run = experiments.fit(config, tmp_path / "run")
    wandb.finish()
    settings, history = dict[str, Any](), list[dict[str, Any]]()
    file = next((tmp_path / "wandb").rglob("*.wandb"))

    def records() -> list[Any]:
        return [proto.Record.FromString(content) for content in contents(file.read_bytes())]

    wait_for(lambda: any(record.WhichOneof("record_type") == "exit" for record in records()))  # another process writes
    for record in records():
        for config_record in (record.config, record.run.config):
            settings |= values_of(config_record.update)
        if record.WhichOneof("record_type") == "history":
            history.append(values_of(record.history.item))
    wanted = parameters((run / "config.yaml").read_text())
    assert {name: str(value) for name, value in settings.items() if name != "_wandb"} == wanted
    table = pd.read_csv(run / "metrics.csv")
    for name in ("val_loss", "train_loss"):
        assert [row[name] for row in history if name in row] == pytest.approx(table[name].dropna().tolist())
