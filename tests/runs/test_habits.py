"""What users of Lightning are used to: each works, or is refused before the training in one line with the way out."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from lightning.pytorch.tuner.tuning import Tuner
from torch.utils.data import DataLoader, TensorDataset

import cnn_lstm
from cnn_lstm import Forecaster, Predictor
from cnn_lstm.errors import CheckpointError, ConfigError
from cnn_lstm.runs import forecast_cli
from cnn_lstm.runs.own_model import long_text, model_class, short_texts
from cnn_lstm.training import history_plot
from cnn_lstm.training.console import fitting
from cnn_lstm.training.history import read_history
from tests.environments import ROOT
from tests.experiments import experiment, fit, predict, run
from tests.fits import FEATURES, small_checkpoint, small_data, small_network, small_trainer
from tests.markets import market

OWN = """
from cnn_lstm import Forecaster


class Scaled(Forecaster):
    def __init__(self, network, extra: float = 0.5, **kwargs):
        super().__init__(network, **kwargs)
        self.extra = extra

    def training_step(self, batch, batch_idx):
        return self.extra * super().training_step(batch, batch_idx)

    def _decode(self, raw, line, x):
        columns = super()._decode(raw, line, x)
        return columns | {"y_pred": self.extra * columns["y_pred"]}


class Narrow(Forecaster):
    def __init__(self, network, extra):
        super().__init__(network)


class Other:
    pass
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment, and of a module with classes of a user."""
    path = tmp_path_factory.mktemp("habits")
    experiment(path, market(140), trainer={"max_epochs": 1})
    (path / "own_forecasters.py").write_text(OWN)
    return path


@pytest.fixture
def own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, with its module at hand; trusted at each test's end no more."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr("cnn_lstm.specs._trusted", {"cnn_lstm"})
    monkeypatch.delitem(sys.modules, "own_forecasters", raising=False)
    return folder


# -- a class of one's own ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_forecaster_of_ones_own_is_trained_judged_and_used(own: Path, tmp_path: Path) -> None:
    trusted, config = ("--trust-imports", "own_forecasters"), own / "experiment.yaml"
    named = ("--model.class_path", "own_forecasters.Scaled", "--model.init_args.extra", "0.25")
    home = tmp_path / "own"
    assert run(*trusted, "fit", "--config", config, "--run_dir", home, *named) == 0
    section = yaml.safe_load((home / "config.yaml").read_text())["model"]
    assert section["class_path"] == "own_forecasters.Scaled"
    assert section["init_args"]["extra"] == 0.25
    assert section["init_args"]["network"]["init_args"]["channels"] == [6]
    of_run = ("--config", home / "config.yaml", "--ckpt_path", "best")
    for command in ("validate", "test"):
        assert run(*trusted, command, *of_run) == 0
    table = predict(home)
    predictor = Predictor.from_checkpoint(home / "checkpoints" / "best.ckpt")
    assert (type(predictor.forecaster).__name__, predictor.forecaster.extra) == ("Scaled", 0.25)
    again = predictor.predict(pd.read_parquet(own / "prices.parquet"))
    again = again[again["as_of"] >= table["as_of"].min()].reset_index(drop=True)
    assert table["y_pred"].tolist() == again["y_pred"].tolist()
    plain = fit(config, tmp_path / "plain")
    assert run("test", "--config", plain / "config.yaml", "--ckpt_path", home / "checkpoints" / "best.ckpt") == 4
    assert run(*trusted, "fit", "--config", home / "config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", 2) == 0


def test_its_checkpoint_runs_no_code_that_is_not_trusted(own: Path, tmp_path: Path) -> None:
    cnn_lstm.trust("own_forecasters")
    kind = model_class(["fit", "--model.class_path=own_forecasters.Scaled"])
    checkpoint = small_checkpoint(tmp_path, kind(small_network(), extra=2))  # type: ignore[call-arg]  # its own
    loaded = kind.load_from_checkpoint(checkpoint, weights_only=True)
    assert vars(loaded)["extra"] == 2
    assert loaded.network.n_features == len(FEATURES)
    other = kind.load_from_checkpoint(checkpoint, network=small_network(), extra=3, weights_only=True)
    assert vars(other)["extra"] == 3
    monkey: Any = cnn_lstm.specs
    monkey._trusted.discard("own_forecasters")
    with pytest.raises(CheckpointError, match=r"E416.*own_forecasters.Scaled.*--trust-imports own_forecasters"):
        Predictor.from_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("Other", 292, "not derived from Forecaster"),
        ("Narrow", 282, "takes no n_targets"),
        ("Missing", 228, "cannot import"),
        ("sys", 228, "cannot import"),
    ],
)
def test_other_classes_are_refused(own: Path, name: str, code: int, text: str) -> None:
    path = f"own_forecasters.{name}"
    with pytest.raises(ConfigError, match=r"E228.*--trust-imports own_forecasters"):
        model_class(["fit", "--config", f"{{model: {{class_path: {path}}}}}"])
    cnn_lstm.trust("own_forecasters")
    with pytest.raises(ConfigError, match=rf"E{code}.*{text}"):
        model_class(["fit", "--model.class_path", path])


def test_an_argument_that_no_checkpoint_holds_is_refused_before_training(own: Path, tmp_path: Path) -> None:
    cnn_lstm.trust("own_forecasters")
    kind = model_class(["fit", "--model={class_path: own_forecasters.Scaled}"])
    model = kind(small_network(), extra=torch.zeros(1))  # type: ignore[call-arg]  # its own
    with pytest.raises(ConfigError, match=r"E286.*Scaled has the argument extra, a Tensor"):
        small_trainer().fit(model, datamodule=small_data(tmp_path))


def test_the_last_name_counts_and_files_may_hold_the_section(own: Path, tmp_path: Path) -> None:
    cnn_lstm.trust("own_forecasters")
    (tmp_path / "model.yaml").write_text("class_path: own_forecasters.Scaled\ninit_args: {samples: 3}\n")
    (tmp_path / "whole.yaml").write_text("model: model.yaml\n")
    for words in (["--config", str(tmp_path / "whole.yaml")], ["--model", str(tmp_path / "model.yaml")]):
        assert model_class(["fit", *words]).__name__ == "Scaled"
        config = forecast_cli.parsed(["fit", "--config", str(own / "experiment.yaml"), *words]).command_config
        assert config.model.samples == 3
        assert model_class(["fit", *words, "--model.class_path=cnn_lstm.Forecaster"]) is Forecaster


def test_the_short_form_and_the_long_one_are_the_same() -> None:
    text = "seed: 1\nmodel:\n  network:\n    class_path: N\n  samples: 2\ndata:\n  window: 9\n"
    kind = type("Mine", (Forecaster,), {})
    longer = long_text(text, kind)
    assert yaml.safe_load(longer)["model"]["init_args"] == yaml.safe_load(text)["model"]
    assert yaml.safe_load(short_texts(["--config", longer])[1]) == {
        "seed": "1",
        "model": {"network": {"class_path": "N"}, "samples": "2"},
        "data": {"window": "9"},
    } or yaml.safe_load(short_texts(["--config", longer])[1]) == yaml.safe_load(text)
    assert long_text(text, Forecaster) == text


# -- the Trainer without our commands ----------------------------------------------------------------------------------


def test_predict_of_a_plain_trainer_returns_the_forecasts(tmp_path: Path) -> None:
    model, trainer, data = Forecaster(small_network()), small_trainer(), small_data(tmp_path)
    trainer.fit(model, datamodule=data)
    batches: Any = trainer.predict(model, datamodule=data)
    rows = torch.cat([batch["row"] for batch in batches])
    assert torch.equal(rows, model.forecasts["row"])
    assert torch.equal(torch.cat([batch["y_pred"] for batch in batches]), model.forecasts["y_pred"])
    table = Predictor(model).predict_rows(data.panel, rows.numpy())
    assert len(table) == len(rows)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_loaders_alone_are_refused_in_one_line(tmp_path: Path) -> None:
    model, data = Forecaster(small_network()), small_data(tmp_path)
    trainer = small_trainer()
    trainer.fit(model, datamodule=data)
    own = DataLoader(TensorDataset(torch.zeros(8, 6, 3), torch.zeros(8, 1)), batch_size=4)
    calls: dict[str, Callable[[Any], object]] = {
        "fit": lambda loader: small_trainer().fit(Forecaster(small_network()), loader),
        "validate": lambda loader: small_trainer().validate(model, loader),
        "test": lambda loader: small_trainer().test(model, loader),
        "predict": lambda loader: small_trainer().predict(model, loader),
    }
    for name, call in calls.items():
        for loader in (own, data.test_dataloader()):
            with pytest.raises(ConfigError, match=rf"E287.*loaders alone.*trainer\.{name}\(forecaster, datamodule="):
                call(loader)


@pytest.mark.filterwarnings("ignore:ReduceLROnPlateau conditioned on metric")
@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.filterwarnings("ignore:.*barebones.*")
def test_barebones_and_trials_of_a_plain_trainer_run(tmp_path: Path) -> None:
    bare = {"logger": None, "enable_checkpointing": None, "enable_progress_bar": None, "enable_model_summary": None}
    trainer = small_trainer(barebones=True, log_every_n_steps=None, **bare)
    trainer.fit(Forecaster(small_network()), datamodule=small_data(tmp_path))
    assert trainer.global_step > 3
    small_trainer(fast_dev_run=True).fit(Forecaster(small_network()), datamodule=small_data(tmp_path))
    trainer = small_trainer(max_epochs=-1, max_steps=3)
    trainer.fit(Forecaster(small_network()), datamodule=small_data(tmp_path))
    assert trainer.global_step == 3


def test_the_tuner_finds_rate_and_batch_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model, data = Forecaster(small_network()), small_data(tmp_path)
    before = model.lr
    found = Tuner(small_trainer(max_epochs=3)).lr_find(model, datamodule=data, num_training=20)
    assert found is not None
    assert model.lr == found.suggestion() != before
    size = Tuner(small_trainer(max_epochs=2)).scale_batch_size(model, datamodule=data, max_trials=2, steps_per_trial=1)
    assert data.batch_size == size


# -- settings of the command line --------------------------------------------------------------------------------------


def test_without_a_limit_early_stopping_ends_a_fit(folder: Path, tmp_path: Path) -> None:
    home = fit(folder / "experiment.yaml", tmp_path / "run", "--trainer.max_epochs", -1, "--early_stopping.patience", 1)
    assert 1 < len(pd.read_csv(home / "metrics.csv")["epoch"].unique()) < 50
    assert cnn_lstm.Model(home).history.table is not None
    assert "early stop" in history_plot._headline(read_history(home))


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--trainer.max_epochs", -1, "--trainer.limit_val_batches", 0], r"E280.*no end.*max_steps or max_time"),
        (["--trainer.max_epochs", -2], r"E224.*at least -1"),
        (["--trainer.enable_checkpointing", "false"], r"E280.*leave it out"),
        (["--trainer.barebones", "true"], r"E280.*leave it out"),
    ],
)
def test_what_a_run_cannot_have_is_refused_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[Any], text: str
) -> None:
    assert run("fit", "--config", folder / "experiment.yaml", "--run_dir", tmp_path / "run", *argv) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert re.search(text, line)
    assert not list(tmp_path.glob("run/checkpoints/*"))


def test_what_a_limit_has_left_out_is_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, home = folder / "experiment.yaml", tmp_path / "run"
    fit(config, home)
    for command, part in (("validate", "val"), ("test", "test")):
        for limit in ((), (f"--trainer.limit_{part}_batches", 1)):
            capsys.readouterr()
            assert run(command, "--config", home / "config.yaml", "--ckpt_path", "best", *limit) == 0
            said = re.search(r"\[W396\] only ([\d,]+) of ([\d,]+) rows.*limit_(\w+)_batches", capsys.readouterr().err)
            assert bool(said) == bool(limit), command
            if said:
                assert said[3] == part
                assert int(said[1].replace(",", "")) < int(said[2].replace(",", ""))


def test_a_trial_says_what_it_was(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, home = folder / "experiment.yaml", tmp_path / "run"
    trial = ("--trainer.fast_dev_run", "true")
    fit(config, home)
    files = sorted(path.name for path in home.rglob("*"))
    capsys.readouterr()
    of_run = ("--config", home / "config.yaml", "--ckpt_path", "best", *trial)
    fit(config, tmp_path / "trial", *trial)
    for command in ("validate", "test", "predict"):
        assert run(command, *of_run) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("fast_dev_run: 1 batch of ") for line in lines)
    assert all("a trial, not a result" in line for line in lines)
    assert sorted(path.name for path in home.rglob("*")) == files
    for command in ("repeat", "walk-forward", "sweep"):
        space = ("--space", ROOT / "configs" / "sweep" / "quick.yaml") if command == "sweep" else ()
        assert run(command, "--config", config, "--folder", tmp_path / command, *space, *trial) == 2
        assert "leave no model" in capsys.readouterr().err


@pytest.mark.parametrize(("columns", "shown"), [(40, 0), (60, 1), (80, 3), (110, 4), (150, 5)])
def test_a_bar_has_room_at_every_width(columns: int, shown: int) -> None:
    names = {"loss": "0.928", "val_loss": "0.864", "lr": "0.001", "grad_norm": "0.68", "windows/s": "1,390"}
    assert len(fitting(dict(names), columns - len("Epoch 1: 100%|| 4/4 00:00") - 16)) == shown


def test_variables_give_keys_by_the_switch_of_the_parser(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PL_FIT__DATA__WINDOW", "9")
    monkeypatch.setenv("PL_FIT__TRAINER__MAX_EPOCHS", "7")
    assert forecast_cli.parsed(["fit"]).command_config.data.window == 60
    monkeypatch.setenv("JSONARGPARSE_DEFAULT_ENV", "true")
    config = forecast_cli.parsed(["fit"]).command_config
    assert (config.data.window, config.trainer.max_epochs) == (9, 7)
    of_file = forecast_cli.parsed(["fit", "--config", str(folder / "experiment.yaml"), "--trainer.max_epochs", "3"])
    assert (of_file.command_config.data.window, of_file.command_config.trainer.max_epochs) == (8, 3)
    assert run("data", "describe") == 0
    assert "window 9" in capsys.readouterr().out
