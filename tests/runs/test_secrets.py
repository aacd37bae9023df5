"""A secret of a configuration is used, and written nowhere; who reruns it is asked for it again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cnn_lstm import specs
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.errors import ConfigError, TrackingError
from cnn_lstm.runs import forecast_cli
from cnn_lstm.runs.saved_config import options_of_secrets
from cnn_lstm.sweeps.result import SWEEP
from cnn_lstm.training.tracking.delivery import Delivery
from cnn_lstm.training.tracking.events import Start
from cnn_lstm.training.tracking.journal import Journal
from tests import experiments
from tests.markets import market

SECRET = "Xq7vR/Zw9kT"
PARTS = ("Xq7vR", "Zw9kT")


class Keyed(PriceFiles):
    """A source of a user's own that needs a key."""

    def __init__(self, paths: str, api_key: str) -> None:
        assert api_key == SECRET
        super().__init__(paths)


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(specs, "_trusted", {"cnn_lstm", "tests"})
    factory = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(factory)


def keyed(folder: Path) -> Path:
    config = experiments.experiment(folder, market(140))
    tree = yaml.safe_load(config.read_text())
    source = tree["data"]["source"]
    source["class_path"] = f"{__name__}.Keyed"
    source["init_args"]["api_key"] = SECRET
    config.write_text(yaml.safe_dump(tree))
    return config


def assert_in_no_file(folder: Path) -> None:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 5
    assert [file for file in files for part in PARTS if part.encode() in file.read_bytes()] == []


def test_a_key_of_an_own_source_is_used_and_written_nowhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "yaml").mkdir()
    config, run = keyed(tmp_path / "yaml"), tmp_path / "runs/one"
    argv = ["--mlflow", "true", "--tensorboard", "true", "--tracking_uri", f"http://127.0.0.1:9/?access_token={SECRET}"]
    monkeypatch.chdir(tmp_path)  # the diff of this repository may hold this very file
    assert experiments.run("fit", "--config", config, *argv, "--run_dir", run) == 0
    kept = yaml.safe_load((run / "config.yaml").read_text())
    assert kept["data"]["source"]["init_args"]["api_key"] == "***"
    assert kept["tracking_uri"] == "http://127.0.0.1:9/?access_token=***"
    again = ["--config", run / "config.yaml", "--ckpt_path", "last", "--mlflow", "false"]
    assert experiments.run("test", *again) == 2
    assert "error[E295]: data.source.init_args.api_key is ***" in capfd.readouterr().err
    assert experiments.run("test", *again, f"--data.source.init_args.api_key={SECRET}") == 0
    assert_in_no_file(tmp_path / "runs")
    said = capfd.readouterr()
    assert not any(part in said.out + said.err for part in PARTS)


def test_an_address_without_its_secret_is_not_called(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "tracking")
    journal.append(Start("1", "a", "b", {}))
    with pytest.raises(TrackingError, match=r"lacks a secret.*MLFLOW_TRACKING_URI"):
        Delivery.of_run(tmp_path, "https://host/?token=***").deliver()


def test_a_sweep_gives_its_trials_the_secrets_that_its_folder_does_not_hold(tmp_path: Path) -> None:
    config = keyed(tmp_path)
    cli = SWEEP.parsed(["--config", str(config), "--tracking_uri", "https://me:pass@host"])
    given = {"--tracking_uri=https://me:pass@host", f"--data.source.init_args.api_key={SECRET}"}
    assert set(options_of_secrets(cli.command_config)) == given
    assert SECRET not in cli.config_text


def test_a_study_of_another_configuration_names_the_database_without_its_password() -> None:
    error = ConfigError("the study a is of another", f"postgresql://me:{SECRET}@host/db", "give another", code=248)
    assert not any(part in str(error) for part in PARTS)


@pytest.mark.parametrize(
    "address", ["file:./mlr", "./mlr", "mlr", "sqlite:///mlflow.db", "http://127.0.0.1:9", "databricks"]
)
def test_an_address_without_secrets_is_saved_as_it_is(address: str) -> None:
    text = forecast_cli.parsed(["fit", "--tracking_uri", address]).config_text
    assert yaml.safe_load(text)["tracking_uri"] == address
