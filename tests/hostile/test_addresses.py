"""No file makes a command ask another machine, and no value is the name of a file that is read."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from cnn_lstm.cli import main
from cnn_lstm.errors import ConfigError
from cnn_lstm.rl.job import parse_config
from cnn_lstm.runs import forecast_cli
from cnn_lstm.runs.config_files import is_address, part_of, with_read_files
from tests.hostile.conftest import Server, Stranger
from tests.hostile.test_named_code import LIMIT, refused

SECRET = "hunter2"
CSV_LOGGER = "lightning.pytorch.loggers.CSVLogger"
CHECKPOINTS = "lightning.pytorch.callbacks.ModelCheckpoint"
URL = "URL"  # stands for the address of the server


def spec(path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": path, "init_args": arguments}


KEYS: dict[str, dict[str, Any]] = {
    "model": {"model": URL},
    "data": {"data": URL},
    "trainer": {"trainer": URL},
    "evaluation": {"evaluation": URL},
    "network": {"model": {"network": URL}},
    "objective": {"model": {"objective": URL}},
    "optimiser": {"model": {"optimizer": URL}},
    "source": {"data": {"source": URL}},
    "checks": {"data": {"checks": URL}},
    "targets": {"data": {"targets": URL}},
    "target": {"data": {"targets": [URL]}},
    "features": {"data": {"features": URL}},
    "feature": {"data": {"features": [URL]}},
    "split": {"data": {"split": URL}},
    "callbacks": {"trainer": {"callbacks": URL}},
    "callback": {"trainer": {"callbacks": [URL]}},
    "logger": {"trainer": {"logger": URL}},
    "accelerator": {"trainer": {"accelerator": URL}},
    "profiler": {"trainer": {"profiler": URL}},
    "plugins": {"trainer": {"plugins": URL}},
    "default_root_dir": {"trainer": {"default_root_dir": URL}},
    "folder of a logger": {"trainer": {"logger": spec(CSV_LOGGER, save_dir=URL)}},
    "folder of a callback": {"trainer": {"callbacks": [spec(CHECKPOINTS, dirpath=URL)]}},
    "prices": {"data": {"source": spec("PriceFiles", paths=URL)}},
    "one of the prices": {"data": {"source": spec("PriceFiles", paths=["a.csv", URL])}},
    "columns": {"data": {"source": spec("PriceFiles", paths="a.csv", columns=URL)}},
    "run_dir": {"run_dir": URL},
    "runs_dir": {"runs_dir": URL},
    "known facts": {"data": {"known_future": {"table": URL, "columns": ["auction"]}}},
    "known facts alone": {"data": {"known_future": URL}},
    "static columns": {"data": {"static": {"table": URL, "columns": ["sector"]}}},
    "static columns alone": {"data": {"static": URL}},
    "exchange": {"data": {"exchange": URL}},
    "cross-validation": {"data": {"split": {"class_path": "CPCV", "init_args": {"groups": URL}}}},
    "nested": {"data": {"source": {"class_path": "PriceFiles", "init_args": URL}}},
}
SCHEMES = [
    "s3://bucket/x.yaml",
    "github://a:b@c/x.yaml",
    "file:///etc/passwd",
    "simplecache::http://a/x.yaml",
    "ftp://a/x",
]


def with_address(tree: Any, address: str) -> Any:
    if isinstance(tree, dict):
        return {key: with_address(value, address) for key, value in tree.items()}
    if isinstance(tree, list):
        return [with_address(value, address) for value in tree]
    return address if tree == URL else tree


@pytest.mark.parametrize("key", KEYS)
def test_no_key_of_a_configuration_is_fetched(
    key: str, server: Server, stranger: Stranger, capsys: pytest.CaptureFixture[str]
) -> None:
    file = stranger.folder / "config.yaml"
    file.write_text(yaml.safe_dump(with_address(KEYS[key], server.address)))
    refused(capsys, "data", "check", "--config", file)
    assert server.requests == []


@pytest.mark.parametrize("address", SCHEMES)
@pytest.mark.parametrize("key", ["model", "network", "prices", "folder of a logger"])
def test_no_scheme_is_fetched(
    address: str, key: str, connections: list[Any], stranger: Stranger, capsys: pytest.CaptureFixture[str]
) -> None:
    file = stranger.folder / "config.yaml"
    file.write_text(yaml.safe_dump(with_address(KEYS[key], address)))
    refused(capsys, "data", "check", "--config", file)
    assert connections == []


@pytest.mark.parametrize(
    "argv",
    [
        ["fit", "--config", URL],
        ["fit", f"--config={URL}"],
        ["test", "-c", URL],
        ["data", "check", "--config", URL],
        ["audit", "--config", URL],
        ["repeat", "--config", URL],
        ["walk-forward", "--config", URL],
        ["sweep", "--config", URL, "--space", "space.yaml"],
        ["cross-validate", "--config", URL],
        ["roll", "--config", URL, "--every", "1y"],
        ["explain", "--config", URL],
        ["judge", "space.yaml", "--config", URL],
        ["judge", "space.yaml", "--prices", URL],
        ["sweep", "--space", URL],
        ["rl", "train", "--config", URL],
        ["fit", "--model", URL],
        ["fit", f"--data={URL}"],
        ["fit", "--model.network", URL],
        ["fit", "--data.source", URL],
        ["fit", "--trainer.callbacks", URL],
        ["fit", "--trainer.callbacks+", URL],
        ["rl", "train", "--market", URL],
        ["rl", "train", "--market.forecasts", URL],
    ],
    ids=" ".join,
)
def test_no_command_fetches_a_configuration(
    argv: list[str], server: Server, stranger: Stranger, capsys: pytest.CaptureFixture[str]
) -> None:
    (stranger.folder / "space.yaml").write_text("space: {data.window: {int: [5, 6]}}")
    refused(capsys, *(word.replace(URL, server.address) for word in argv))
    assert server.requests == []


def test_a_database_is_asked_for_rows_and_nothing_is_fetched(
    server: Server, stranger: Stranger, capsys: pytest.CaptureFixture[str]
) -> None:
    file = stranger.folder / "config.yaml"
    source = spec("cnn_lstm.data.sources.SqlBars", url=server.address, table="bars")
    file.write_text(yaml.safe_dump({"data": {"source": source}}))
    refused(capsys, "data", "check", "--config", file)
    assert server.requests == []
    source["init_args"]["url"] = f"sqlite:///{stranger.folder / 'no.db'}"
    file.write_text(yaml.safe_dump({"data": {"source": source}}))
    assert main(["data", "check", "--config", str(file)]) == 3
    assert "E301" in capsys.readouterr().err


def test_an_address_is_one_in_the_texts_of_a_user_too() -> None:
    """A value that does not name a file may be an address, and a class of the user takes what it wants."""
    config = {"tracking_uri": "http://127.0.0.1:1", "experiment": "see https://example.org"}
    assert forecast_cli.parsed(["fit", "--config", yaml.safe_dump(config)]).command_config.experiment.startswith("see")
    assert [is_address(text) for text in ("C:/prices", "a/b.csv", "12:30", "log_mean_5:rate", 3)] == [False] * 5


# -- values are not files --------------------------------------------------------------------------------------------

VALUES: dict[str, dict[str, Any]] = {
    "source": {"data": {"source": URL}},
    "network": {"model": {"network": URL}},
    "targets": {"data": {"targets": URL}},
    "target": {"data": {"targets": [URL]}},
    "split": {"data": {"split": URL}},
    "checks": {"data": {"checks": URL}},
    "window": {"data": {"window": URL}},
    "callbacks": {"trainer": {"callbacks": URL}},
    "callback": {"trainer": {"callbacks": [URL]}},
    "plugin": {"trainer": {"plugins": [URL]}},
    "epochs": {"trainer": {"max_epochs": URL}},
    "section": {"model": URL},
    "evaluation": {"evaluation": URL},
    "known facts": {"data": {"known_future": URL}},
    "static columns": {"data": {"static": URL}},
    "exchange": {"data": {"exchange": URL}},
    "part of a callback": {"early_stopping": {"patience": URL}},
}


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("key", VALUES)
def test_no_value_shows_the_content_of_a_file(
    key: str, absolute: bool, stranger: Stranger, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = stranger.folder / "secret.txt"
    secret.write_text(f"password: {SECRET}\n{SECRET}: 1\n")
    (stranger.folder / "config.yaml").write_text(
        yaml.safe_dump(with_address(VALUES[key], str(secret) if absolute else secret.name))
    )
    line = refused(capsys, "data", "check", "--config", "config.yaml")
    assert SECRET not in line


def test_a_stray_file_replaces_no_value(stranger: Stranger) -> None:
    for name in ("cpu", "auto", "PriceFiles", "CNNLSTM", "val_loss", "best", "32-true", "null", "true"):
        (stranger.folder / name).write_text(f"[{SECRET}]")
    config = {
        "trainer": {"accelerator": "cpu", "devices": "auto", "precision": "32-true", "logger": True},
        "data": {"source": spec("PriceFiles", paths="null")},
        "model": {"network": "CNNLSTM"},
        "checkpoint": {"monitor": "val_loss"},
    }
    text = yaml.safe_dump(config)
    (stranger.folder / "config.yaml").write_text(text)
    for argv in (["--config", "config.yaml"], ["--config", text], ["--trainer.accelerator", "cpu"]):
        cli = forecast_cli.parsed(["fit", *argv])
        assert cli.command_config.trainer.accelerator == "cpu"
        assert SECRET not in cli.config_text


def test_no_value_waits_for_the_standard_input(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{SECRET}: 1"))
    for tree in (
        {"trainer": {"callbacks": ["-"]}},
        {"model": {"network": "-"}},
        {"model": "-"},
        {"data": {"checks": "-"}},
    ):
        (stranger.folder / "config.yaml").write_text(yaml.safe_dump(tree))
        assert SECRET not in refused(capsys, "data", "check", "--config", "config.yaml")
    refused(capsys, "fit", "--config", "-")
    assert sys.stdin.read() == f"{SECRET}: 1"


# -- the parts of a configuration ------------------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with a configuration of two parts, next to what does not belong to it."""
    folder = tmp_path / "configs"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "data.yaml").write_text("window: 33\nsymbols: [ON, 000001]\nstart: 2020-01-01\n")
    (folder / "model.yml").write_text("samples: 7\n")
    (tmp_path / "outside.yaml").write_text("window: 34\n")
    return folder


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_parts_below_the_folder_are_read(command: str, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    (parts / "config.yaml").write_text("data: deep/data.yaml\nmodel: model.yml\nrun_dir: '1e-3'\n")
    config = forecast_cli.parsed([command, "--config", str(parts / "config.yaml")]).command_config
    assert (config.data.window, config.data.symbols, config.data.start) == (33, ["ON", "000001"], "2020-01-01")
    assert (config.model.samples, config.run_dir) == (7, "1e-3")


def test_a_part_on_the_command_line_may_lie_anywhere(parts: Path) -> None:
    outside = parts.parent / "outside.yaml"
    for argv in (["--data", str(outside)], [f"--data={outside}"]):
        assert forecast_cli.parsed(["fit", *argv]).command_config.data.window == 34


@pytest.mark.parametrize(
    "value", ["../outside.yaml", "deep/../../outside.yaml", "{folder}/../outside.yaml", "link.yaml"]
)
def test_parts_outside_of_the_folder_are_refused(value: str, parts: Path) -> None:
    (parts / "link.yaml").symlink_to(parts.parent / "outside.yaml")
    (parts / "config.yaml").write_text(yaml.safe_dump({"data": value.format(folder=parts)}))
    with pytest.raises(ConfigError, match="E290"):
        forecast_cli.parsed(["fit", "--config", str(parts / "config.yaml")])
    with pytest.raises(ConfigError, match="E290"):
        part_of(parts, "data", value.format(folder=parts), "x")


def test_a_part_has_no_parts(parts: Path) -> None:
    (parts / "deep" / "data.yaml").write_text("checks: more.yaml\n")
    (parts / "deep" / "more.yaml").write_text("on_short: skip\n")
    (parts / "more.yaml").write_text("on_short: skip\n")
    (parts / "config.yaml").write_text("data: deep/data.yaml\n")
    with pytest.raises(ConfigError):
        forecast_cli.parsed(["fit", "--config", str(parts / "config.yaml")])


def test_the_parts_of_agents_follow_the_same_rule(parts: Path) -> None:
    (parts / "deep" / "market.yaml").write_text("delay: 2\n")
    (parts / "config.yaml").write_text("market: deep/market.yaml\n")
    assert parse_config(["--config", str(parts / "config.yaml")]).market.delay == 2
    (parts / "config.yaml").write_text("market: ../outside.yaml\n")
    with pytest.raises(ConfigError, match="E290"):
        parse_config(["--config", str(parts / "config.yaml")])


@pytest.mark.parametrize("content", ["- a\n", f"{SECRET}\n", f"'{SECRET}'\n", "3\n"])
def test_what_holds_no_keys_is_not_shown(content: str, parts: Path) -> None:
    file = parts / "config.yaml"
    for text in (content, "data: deep/data.yaml\n"):
        file.write_text(text)
        (parts / "deep" / "data.yaml").write_text(content)
        with pytest.raises(ConfigError, match="E227") as caught:
            with_read_files(["--config", str(file)], ["data"])
        assert SECRET not in str(caught.value)


# -- in a process of its own -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_process_fetches_nothing_and_ends_in_time(server: Server, stranger: Stranger) -> None:
    """The settings of the parser are those of a process; here nothing else has set them."""
    (stranger.folder / "config.yaml").write_text(yaml.safe_dump({"model": {"network": server.address}}))
    program = [sys.executable, "-m", "cnn_lstm", "data", "check", "--config"]
    for config in ("config.yaml", server.address):
        begun = time.monotonic()
        done = subprocess.run([*program, config], capture_output=True, text=True, cwd=stranger.folder, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.strip().splitlines()) == 1
        assert time.monotonic() - begun < 3 * LIMIT  # most of it is the import of PyTorch
    assert server.requests == []
