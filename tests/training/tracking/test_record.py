"""What MLflow holds of a real run: every parameter, point, file and state."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import mlflow.data
import pandas as pd
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from cnn_lstm import Predictor
from cnn_lstm.inference.pyfunc import EXAMPLE_ROWS
from cnn_lstm.training.loggers import AppendingCSVLogger, MLflowTracker, build_loggers
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.delivery import Delivery, tracking_uri
from cnn_lstm.training.tracking.events import LoggedModel, Start
from cnn_lstm.training.tracking.identity import parameters
from cnn_lstm.training.tracking.journal import Journal
from cnn_lstm.training.tracking.record import Record
from tests import experiments
from tests.markets import market
from tests.training.tracking.servers import assert_each_once, free_port, only_run, start_fit, uri_of, wait_for

SECRET = "correct-horse-battery"


def git(folder: Path, *argv: str) -> str:
    who = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *who, *argv], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


class Case:
    """A run with everything on, tested and predicted, in a repository with uncommitted changes."""

    def __init__(self, folder: Path, commit: str) -> None:
        self.folder, self.run, self.commit = folder, folder / "runs" / "one", commit
        self.uri = f"sqlite:///{folder / 'runs' / 'mlflow.db'}"
        self.client = MlflowClient(self.uri)

    @property
    def record(self) -> Run:
        return only_run(self.uri, "one")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("tracked")
    config = experiments.experiment(folder, market(140), history_plot={"enabled": True})
    git(folder, "init")
    git(folder, "remote", "add", "origin", f"https://me:{SECRET}@git.example.org/x.git")
    git(folder, "add", "experiment.yaml")
    git(folder, "commit", "-m", "first")
    with config.open("a") as file:
        file.write(f"# http://me:{SECRET}@mlflow.example.org\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        argv = ["--mlflow", "true", "--grad_norm.every_n_steps", 1, "--register_model", "returns"]
        run = experiments.fit(config, folder / "runs" / "one", *argv)
        for command in ("test", "predict"):
            assert experiments.run(command, "--config", run / "config.yaml", "--ckpt_path", "best") == 0
    return Case(folder, git(folder, "rev-parse", "HEAD"))


def test_mlflow_holds_every_parameter(case: Case) -> None:
    config = parameters((case.run / "config.yaml").read_text())
    assert case.record.data.params == config
    assert {"data.window", "model.network.init_args.lstm_hidden", "data.targets.0.init_args.horizon"} <= set(config)


def test_mlflow_holds_every_point_once_and_with_its_value(case: Case) -> None:
    record = assert_each_once(case.uri, case.run)
    table = pd.read_csv(case.run / "metrics.csv").dropna(subset=["val_loss"])
    history = case.client.get_metric_history(record.info.run_id, "val/loss")
    assert [(point.step, point.value) for point in sorted(history, key=lambda point: point.step)] == [
        (int(step), pytest.approx(value, rel=1e-6))
        for step, value in zip(table["step"], table["val_loss"], strict=True)
    ]
    assert {
        "test/rmse",
        "test/skill_return_2",
        "test/evidence_return_2",
        "time/epoch_s",
        "time/windows_per_s",
        "time/peak_memory_mib",
        "optimizer/grad_norm",
    } <= set(record.data.metrics)
    assert {"optimizer/lr-AdamW"} <= set(record.data.metrics)


def test_mlflow_holds_metrics_of_the_machine(case: Case) -> None:
    record = case.record
    names = {"cpu_utilization_percentage", "system_memory_usage_megabytes", "disk_usage_percentage"}
    assert {f"system/{name}" for name in names} <= set(record.data.metrics)
    history = case.client.get_metric_history(record.info.run_id, "system/cpu_utilization_percentage")
    assert [point.step for point in history] == list(range(len(history)))
    assert len(history) >= 2


def test_mlflow_holds_the_dataset_of_the_training(case: Case) -> None:
    record = case.record
    [dataset] = [entry.dataset for entry in record.inputs.dataset_inputs]
    profile = json.loads(dataset.profile)
    table = market(140)
    assert (profile["rows"], profile["symbols"]) == (len(table), sorted(table["symbol"].unique()))
    assert (profile["first"], profile["last"]) == (
        f"{table['timestamp'].min():%Y-%m-%d}",
        f"{table['timestamp'].max():%Y-%m-%d}",
    )
    fingerprint = Predictor.from_checkpoint(case.run / "checkpoints/best.ckpt").forecaster.contract.fingerprint
    assert profile["sha256"] == fingerprint == record.data.tags["data.sha256"]
    assert fingerprint.startswith(dataset.digest)
    assert json.loads(dataset.source)["class_path"].endswith("PriceFiles")
    source = mlflow.data.get_source(dataset)
    assert source._get_source_type() == "local"
    assert Path(source.load()).read_bytes() == (case.run.parents[1] / "prices.parquet").read_bytes()
    assert {"name": "close", "type": "double"} in json.loads(dataset.schema)["mlflow_colspec"]


def test_mlflow_holds_the_commit_and_what_differs_from_it(case: Case, tmp_path: Path) -> None:
    record = case.record
    assert record.data.tags["mlflow.source.git.commit"] == case.commit
    assert record.data.tags["mlflow.source.git.branch"] == "main"
    assert record.data.tags["git.dirty"] == "true"
    diff = Path(case.client.download_artifacts(record.info.run_id, "git.diff", str(tmp_path))).read_text()
    assert "+# http://mlflow.example.org" in diff
    status = Path(case.client.download_artifacts(record.info.run_id, "git_status.txt", str(tmp_path))).read_text()
    assert "?? prices.parquet" in status
    assert record.data.tags["version.cnn-lstm"]


def test_mlflow_holds_every_file_of_the_run(case: Case, tmp_path: Path) -> None:
    record = case.record
    names = {file.path for file in case.client.list_artifacts(record.info.run_id)}
    assert names == {
        "attention.png", "attention_test.png", "config.yaml", "forecasts.parquet", "forecasts.png", "git.diff",
        "git_status.txt",
        "history.png", "metrics.csv", "model_info.json", "predictions.parquet", "report.html", "report.json",
        "summary.json", "test.txt", "test_metrics.json",
    }  # fmt: skip
    for name in names:
        copy = Path(case.client.download_artifacts(record.info.run_id, name, str(tmp_path)))
        assert copy.read_bytes() == (case.run / name).read_bytes()


def test_a_run_that_ends_well_is_finished(case: Case) -> None:
    record = case.record
    assert record.info.status == "FINISHED"
    assert record.info.end_time > record.info.start_time
    assert len(case.client.search_runs([record.info.experiment_id])) == 1


def test_no_secret_is_anywhere(case: Case) -> None:
    folder = case.run.parent
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 20
    assert [file for file in files if SECRET.encode() in file.read_bytes()] == []


def test_the_best_model_forecasts_as_the_predictor_does(case: Case) -> None:
    import mlflow

    prices = market(140)
    expected = Predictor.from_checkpoint(case.run / "checkpoints/best.ckpt").predict(prices)
    [output] = case.record.outputs.model_outputs
    version = case.client.get_model_version_by_alias("returns", "challenger")
    assert version.source == f"models:/{output.model_id}"
    assert version.run_id == case.record.info.run_id
    mlflow.set_tracking_uri(case.uri)
    try:
        for uri in (f"models:/{output.model_id}", "models:/returns@challenger", str(case.run / "model")):
            model = mlflow.pyfunc.load_model(uri)
            pd.testing.assert_frame_equal(model.predict(prices), expected)
            assert len(model.input_example) == EXAMPLE_ROWS == 2
            assert model.predict(model.input_example).columns.equals(expected.columns)
            assert list(model.input_example)[:2] == ["symbol", "timestamp"]
            assert model.metadata.signature.inputs is None  # else MLflow refuses CSV, and whole numbers
            assert set(model.metadata.signature.outputs.input_names()) == set(expected.columns)
    finally:
        mlflow.set_tracking_uri(None)


def test_a_model_is_registered_once(case: Case) -> None:
    journal = Journal(case.run / "tracking")
    journal.append(next(event.content for event in journal.events() if isinstance(event.content, LoggedModel)))
    Delivery(case.run, journal, case.uri, default=True).deliver()
    assert len(case.client.search_model_versions("name = 'returns'")) == 1
    assert len(case.record.outputs.model_outputs) == 1


def test_the_model_holds_no_pickled_object(case: Case) -> None:
    files = {file.relative_to(case.run / "model") for file in (case.run / "model").rglob("*") if file.is_file()}
    known = {"", ".py", ".typed", ".md", ".json", ".yaml", ".txt", ".ckpt", ".jinja", ".css"}
    assert {file.suffix for file in files} <= known
    assert Path("data/best.ckpt") in files
    text = (case.run / "model" / "MLmodel").read_text()
    assert "cloudpickle" not in text
    assert yaml.safe_load(text)["flavors"]["python_function"]["loader_module"] == "cnn_lstm.inference.pyfunc"
    requirements = (case.run / "model" / "requirements.txt").read_text().splitlines()
    assert not [line for line in requirements if "+" in line or "==" not in line]


# -- how runs end ----------------------------------------------------------------------------------------------------


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """Long epochs, and no end."""
    return experiments.experiment(
        tmp_path,
        market(700),
        data={"batch_size": 4},
        trainer={"max_epochs": 100000},
        early_stopping={"patience": 100000},
    )


def last_of(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_is_killed(number: signal.Signals, code: int, endless: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start_fit(endless, run)
    wait_for(last_of(run).exists)
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert assert_each_once(uri_of(tmp_path), run).info.status == "KILLED"


def test_a_command_that_is_ended_while_it_reads_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(data: object, stage: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    config = experiments.experiment(tmp_path, market(140))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("cnn_lstm.data.datamodule.MarketDataModule.setup", ended)
    before = signal.getsignal(signal.SIGTERM)
    assert experiments.run("fit", "--config", config, "--run_dir", tmp_path / "run", "--mlflow", "true") == 143
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "mlflow.db").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_that_fails_is_failed(tmp_path: Path) -> None:
    config = experiments.experiment(tmp_path, market(140))
    lr = ["--model.optimizer", "SGD", "--model.optimizer.lr", "1e30", "--trainer.gradient_clip_val", "null"]
    process = start_fit(config, tmp_path / "run", *lr)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 5, output
    assert only_run(uri_of(tmp_path), "run").info.status == "FAILED"


@pytest.mark.slow
def test_a_run_killed_outright_goes_on_in_the_same_record(endless: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start_fit(endless, run)
    wait_for(lambda: last_of(run).exists() and (run / "tracking/sent.json").exists())
    lines = len((run / "tracking/journal.jsonl").read_text().splitlines())
    wait_for(lambda: len((run / "tracking/journal.jsonl").read_text().splitlines()) > lines + 50)  # into an epoch
    process.kill()
    process.communicate()
    assert only_run(uri_of(tmp_path), "run").info.status == "RUNNING"
    assert experiments.run("sync-tracking", run) == 0
    first = only_run(uri_of(tmp_path), "run")
    assert first.info.status == "KILLED"
    epoch = int(torch.load(last_of(run), weights_only=True)["epoch"])
    resumed = start_fit(endless, run, "--ckpt_path", "last", "--trainer.max_epochs", epoch + 3)
    output, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, output
    record = assert_each_once(uri_of(tmp_path), run)
    assert record.info.run_id == first.info.run_id
    assert record.info.status == "FINISHED"
    assert record.data.tags["resumed.trainer.max_epochs"] == f"100000 -> {epoch + 3}"
    assert record.data.params["trainer.max_epochs"] == "100000"


def test_a_new_fit_in_the_folder_of_one_that_was_killed_ends_that_ones_record(tmp_path: Path) -> None:
    """Killed before its first checkpoint: its folder may be used again, and nothing of it goes on."""
    config = experiments.experiment(tmp_path, market(140))
    (tmp_path / "run").mkdir()
    killed = Record(RunFolder(tmp_path / "run"), "fit", Delivery.of_run(tmp_path / "run", uri_of(tmp_path)))
    killed.journal.append(Start("lost", "run", "cnn_lstm", {}))
    killed.delivery.deliver()
    assert only_run(uri_of(tmp_path), "run").info.status == "RUNNING"
    experiments.fit(config, tmp_path / "run", "--mlflow", "true")
    client = MlflowClient(uri_of(tmp_path))
    experiment = client.get_experiment_by_name("cnn_lstm")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED"]
    finished = next(run for run in runs if run.info.status == "FINISHED")
    assert {"val/loss", "train/loss"} <= set(finished.data.metrics)


def test_a_later_test_on_other_data_is_written_too(tmp_path: Path) -> None:
    config = experiments.experiment(tmp_path, market(300))
    run = experiments.fit(config, tmp_path / "run", "--mlflow", "true")
    argv = ["test", "--config", run / "config.yaml", "--ckpt_path", "best"]
    last = f"{market(300)['timestamp'].max() - pd.Timedelta(days=20):%Y-%m-%d}"
    for more in ([], [], ["--data.end", last, "--data.split", json.dumps(split_of(run))]):
        assert experiments.run(*argv, *more) == 0
    client = MlflowClient(uri_of(tmp_path))
    history = client.get_metric_history(only_run(uri_of(tmp_path), "run").info.run_id, "test/rmse")
    assert len(history) == 2
    assert only_run(uri_of(tmp_path), "run").info.status == "FINISHED"


def split_of(run: Path) -> dict[str, object]:
    """The dates of a run's split, so that other data is cut at the same ones."""
    edges = Predictor.from_checkpoint(run / "checkpoints/best.ckpt").forecaster.contract.boundaries
    dates = {name: getattr(edges, name)[:10] for name in ("validation", "test")}
    return {"class_path": "cnn_lstm.data.splits.DateSplit", "init_args": dates}


# -- credentials and other loggers -----------------------------------------------------------------------------------


def test_credentials_of_an_address_are_written_nowhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the diff of this repository may hold this very file
    (tmp_path / "yaml").mkdir()
    uri = f"http://me:{SECRET}@127.0.0.1:{free_port()}"
    config = experiments.experiment(tmp_path / "yaml", market(140))
    argv = ["--config", config, "--mlflow", "true", "--tensorboard", "true", "--tracking_uri", uri]
    assert experiments.run("fit", *argv, "--run_dir", tmp_path / "runs/one") == 0
    assert experiments.run("fit", *argv, "--run_dir", tmp_path / "runs/two", "--tracking", "strict") == 7
    for run in ("one", "two"):
        assert experiments.run("sync-tracking", tmp_path / "runs" / run, "--tracking_uri", uri) == 7
    assert experiments.run("fit", *argv, "--print_config") == 0
    output = capfd.readouterr()
    assert SECRET not in output.out + output.err
    files = [file for file in (tmp_path / "runs").rglob("*") if file.is_file()]
    assert len(files) > 10
    assert [file for file in files if SECRET.encode() in file.read_bytes()] == []
    assert yaml.safe_load((tmp_path / "runs/one/config.yaml").read_text())["tracking_uri"] == uri.replace(
        f"me:{SECRET}@", ""
    )


@pytest.mark.parametrize(
    ("environment", "configured", "used"),
    [
        (None, None, "sqlite:////home/mlflow.db"),
        ("http://a", None, "http://a"),
        ("http://a", "http://b", "http://b"),
        ("http://me:pass@a", "http://a", "http://me:pass@a"),
        (None, "http://a", "http://a"),
    ],
)
def test_configuration_then_environment_then_database_name_the_server(
    environment: str | None, configured: str | None, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if environment is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    assert tracking_uri(Path("/home"), configured) == used


@pytest.mark.parametrize("argv", [["--trainer.fast_dev_run", "true"], ["--trainer.logger", "false"]])
def test_without_loggers_there_is_no_record(argv: list[str], tmp_path: Path) -> None:
    config = experiments.experiment(tmp_path, market(140))
    run = experiments.fit(config, tmp_path / "run", "--mlflow", "true", *argv)
    assert not (run / "tracking").exists()


@pytest.mark.parametrize("ours", [True, False])
def test_loggers_of_the_user_work_with_ours_or_without(ours: bool, tmp_path: Path) -> None:
    other = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(tmp_path / "other")}}
    options = {"tensorboard": ours, "mlflow": ours}
    config = experiments.experiment(tmp_path, market(140), trainer={"logger": [other]})
    argv = [word for name, on in options.items() for word in (f"--{name}", str(on).lower())]
    run = experiments.fit(config, tmp_path / "run", *argv)
    table = pd.read_csv(next((tmp_path / "other").rglob("metrics.csv")))
    assert {"val_loss", "train_loss", "windows_per_s", "lr-AdamW"} <= set(table.columns)
    assert (run / "tensorboard").exists() == ours
    assert (run / "tracking").exists() == ours


def test_the_record_is_written_before_the_file(tmp_path: Path) -> None:
    """A Ctrl-C can come between two loggers: metrics.csv then holds nothing that MLflow never got."""
    run = RunFolder(tmp_path)
    record = Record(run, "fit", Delivery(tmp_path, Journal(run.tracking), "sqlite:///none.db"))
    *_, before, last = build_loggers(run, "fit", tensorboard=True, record=record)
    assert isinstance(before, MLflowTracker)
    assert before.record is record
    assert isinstance(last, AppendingCSVLogger)


# -- who pays for it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import cnn_lstm", {"mlflow", "tensorboard", "matplotlib", "optuna", "yfinance", "torch", "lightning"}),
        ("import cnn_lstm.cli", {"mlflow", "tensorboard", "matplotlib", "optuna", "yfinance", "torch", "lightning"}),
        ("from cnn_lstm import Forecaster, MarketDataModule, Predictor", {"mlflow", "optuna", "yfinance"}),
        ("import cnn_lstm.runs.forecast_cli", {"mlflow", "optuna", "yfinance"}),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(statement: str, absent: set[str]) -> None:
    script = f"import sys; {statement}; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert absent & set(output.split()) == set()
