"""Settings and callbacks of a fit through the command line: refused before anything is written, or they work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import (
    EarlyStopping,
    LearningRateFinder,
    ModelSummary,
    RichModelSummary,
    RichProgressBar,
    TQDMProgressBar,
)
from torch import Tensor

from cnn_lstm.errors import ConfigError
from cnn_lstm.model.network import CNNLSTM
from cnn_lstm.runs.beginning import Beginning
from cnn_lstm.runs.forecast_cli import parsed
from cnn_lstm.runs.run_errors import run_errors_in_one_line
from cnn_lstm.runs.tracking import recorded_fit
from cnn_lstm.specs import _trusted, imported, trust
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.delivery import Delivery
from cnn_lstm.training.tracking.events import End, Start
from cnn_lstm.training.tracking.journal import Journal
from cnn_lstm.training.tracking.record import Record
from tests.experiments import experiment, run
from tests.markets import market

CALLBACKS = "lightning.pytorch.callbacks"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return experiment(tmp_path_factory.mktemp("settings"), market(120, gaps=False))


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert len(line) <= 400, line
    return line


ADAM = ["--model.optimizer", "Adam"]
STEP_LR = ["--model.scheduler", "StepLR", "--model.scheduler.step_size", 0]
ONE_CYCLE = ["--model.scheduler", "OneCycleLR", "--model.scheduler.max_lr", 0.01, "--model.scheduler_interval", "step"]


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--model.optimizer", "torch.optim.SparseAdam"], 281, "dense gradients"),
        (
            ["--model.optimizer", "Adam", "--model.optimizer.fused", "true", "--model.optimizer.foreach", "true"],
            224,
            "",
        ),
        (STEP_LR, 281, "StepLR"),
        ([*ONE_CYCLE, "--model.scheduler.total_steps", 3], 281, "total_steps=3"),
        (["--trainer.val_check_interval", 1000], 280, "val_check_interval=1000"),
        (["--trainer.accumulate_grad_batches", 1_000_000_000], 280, "accumulate_grad_batches=1000000000"),
        (["--early_stopping.patience", -1], 224, "patience=-1"),
        (["--early_stopping.monitor", "val_los"], 224, "did you mean val_loss?"),
        (["--trainer.enable_checkpointing", "false"], 280, "enable_checkpointing"),
        (["--trainer.barebones", "true"], 280, "barebones"),
        (["--trainer.callbacks", f"{CALLBACKS}.EMAWeightAveraging"], 280, "weight_averaging.kind"),
        (["--trainer.logger", "lightning.pytorch.loggers.WandbLogger"], 224, "wandb"),
        (["--data.start", "2031-01-01"], None, ""),
    ],
)
def test_a_command_that_fails_before_training_leaves_nothing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[Any], code: int | None, words: str
) -> None:
    folder = tmp_path / "runs" / "one"
    returned = run("fit", "--config", config, "--run_dir", folder, "--mlflow", "true", *argv)
    line = last_line(capsys)
    assert returned == (2 if code else 3), line
    assert line.startswith(f"error[E{code or 3}"), line
    assert words in line
    assert list(tmp_path.iterdir()) == []  # neither the folders of the run nor a database


def test_a_folder_of_the_users_own_stays(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    assert run("fit", "--config", config, "--run_dir", folder, *STEP_LR) == 2
    assert folder.is_dir()
    (folder / "notes.txt").touch()
    assert run("fit", "--config", config, "--run_dir", folder, "--data.start", "2031-01-01") == 3
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]


def test_a_resume_that_is_refused_leaves_the_run_as_it_was(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    one_cycle = [*ONE_CYCLE, "--model.scheduler.total_steps"]
    batches = parsed(["fit", "--config", str(config)]).build_data()
    batches.setup()
    epoch = len(batches.train_dataloader())
    assert run("fit", "--config", config, "--run_dir", folder, *one_cycle, 2 * epoch) == 0
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    resume = ["fit", "--config", folder / "config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", 4]
    assert run(*resume) == 2
    line = last_line(capsys)
    assert f"total_steps={2 * epoch}" in line
    assert f"{4 * epoch} steps" in line
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    # the length of the configuration counts, not that of the checkpoint
    assert run(*resume, "--model.scheduler.init_args.total_steps", 4 * epoch) == 0
    assert "model.scheduler.total_steps" in capsys.readouterr().err
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4 * epoch


@pytest.mark.parametrize(
    ("begun", "error", "status"),
    [
        (False, ValueError("bad"), None),
        (False, KeyboardInterrupt(), None),
        (False, None, "FINISHED"),  # of no epochs
        (True, ValueError("bad"), "FAILED"),
        (True, KeyboardInterrupt(), "KILLED"),
        (True, None, "FINISHED"),
    ],
)
def test_only_a_fit_that_has_begun_has_an_end(
    tmp_path: Path, begun: bool, error: BaseException | None, status: str | None
) -> None:
    folder = RunFolder(tmp_path)
    journal = Journal(folder.tracking)
    journal.append(Start("abc", "one", "trial", {}))
    journal.append(End("FINISHED"))
    assert journal.take("fit")  # so that nobody sends it
    beginning = Beginning(folder, Record(folder, "fit", Delivery.of_run(tmp_path, "http://127.0.0.1:9")), "a: 1", True)

    def fit() -> None:
        with recorded_fit(beginning, lambda: False):
            if begun:
                beginning.begin()
            if error is not None:
                raise error

    if error is None:
        fit()
    else:
        with pytest.raises(type(error)):
            fit()
    journal.give_back()
    ends = [event.content.status for event in journal.events() if isinstance(event.content, End)]
    assert ends == ["FINISHED", *([status] if status else [])]
    assert folder.config.exists() == (status is not None)


@pytest.mark.parametrize("name", ["RichProgressBar", "TQDMProgressBar"])
def test_a_progress_bar_of_the_users_choice_replaces_ours(config: Path, tmp_path: Path, name: str) -> None:
    argv = ["--config", config, "--run_dir", tmp_path / "run", "--trainer.callbacks", f"{CALLBACKS}.{name}"]
    made: list[Any] = []
    kind = {"RichProgressBar": RichProgressBar, "TQDMProgressBar": TQDMProgressBar}[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnn_lstm.runs.forecast_cli._is_terminal", lambda: True)
        patch.setattr(kind, "on_fit_end", lambda self, trainer, module: made.append(trainer.progress_bar_callback))
        assert run("fit", *argv, "--trainer.enable_progress_bar", "true") == 0
        assert [type(bar) for bar in made] == [kind]
        again = ["--config", tmp_path / "run" / "config.yaml", "--run_dir", tmp_path / "two"]
        assert run("fit", *again, "--quiet", "true") == 0  # no bar is wanted: theirs neither
    assert len(made) == 1


@pytest.mark.parametrize("of_user", [[], ["--trainer.callbacks", f"{CALLBACKS}.RichModelSummary"]])
def test_a_quiet_fit_has_no_summary_of_the_network(config: Path, tmp_path: Path, of_user: list[str]) -> None:
    shown: list[Any] = []
    argv = ["--config", config, "--trainer.enable_model_summary", "true", *of_user]
    with pytest.MonkeyPatch.context() as patch:
        for kind in (ModelSummary, RichModelSummary):
            patch.setattr(kind, "summarize", staticmethod(lambda *_, **__: shown.append(1)))
        assert run("fit", *argv, "--run_dir", tmp_path / "quiet", "--quiet", "true") == 0
        assert not shown
        assert run("fit", *argv, "--run_dir", tmp_path / "loud") == 0
    assert shown


def test_early_stopping_of_the_users_choice_replaces_ours(config: Path, tmp_path: Path) -> None:
    callback = ["--trainer.callbacks", f"{CALLBACKS}.EarlyStopping", "--trainer.callbacks.monitor", "val_loss"]
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EarlyStopping, "on_train_start", lambda self, *_: seen.append(type(self)), raising=False)
        assert run("fit", "--config", config, "--run_dir", tmp_path / "run", *callback) == 0
    assert seen == [EarlyStopping]


@pytest.mark.parametrize(
    "argv",
    [
        ["StochasticWeightAveraging", "--trainer.callbacks.swa_lrs", 0.01],
        ["ModelPruning", "--trainer.callbacks.pruning_fn", "l1_unstructured"],
        ["Timer", "--trainer.callbacks.duration", "00:01:00:00"],
        ["DeviceStatsMonitor"],
    ],
    ids=lambda argv: argv[0],
)
def test_the_saved_configuration_of_a_callback_reruns(config: Path, argv: list[Any]) -> None:
    words = ["fit", "--config", str(config), "--trainer.callbacks", f"{CALLBACKS}.{argv[0]}", *map(str, argv[1:])]
    cli = parsed(words)
    assert "Unable to serialize" not in cli.config_text
    callbacks = yaml.safe_load(cli.config_text)["trainer"]["callbacks"]
    file = config.with_name("again.yaml")
    file.write_text(cli.config_text)
    again = parsed(["fit", "--config", str(file)])
    assert again.config_text == cli.config_text
    assert yaml.safe_load(again.config_text)["trainer"]["callbacks"] == callbacks
    again.built()


def test_a_configuration_that_would_not_rerun_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnn_lstm.runs.saved_config._clean_text", lambda text: text.replace("10", "11", 1))
    assert run("fit", "--config", config, "--run_dir", tmp_path / "run", "--trainer.max_epochs", 10) == 2
    assert last_line(capsys).startswith("error[E283]: config.yaml would not rerun")
    assert not (tmp_path / "run").exists()


def test_the_learning_rate_finder_works_on_the_command_line(config: Path, tmp_path: Path) -> None:
    found: list[float] = []
    search = LearningRateFinder.lr_find

    def kept(self: LearningRateFinder, trainer: Any, module: Any) -> None:
        search(self, trainer, module)
        found.append(module.lr)

    argv = ["--trainer.callbacks", f"{CALLBACKS}.LearningRateFinder", "--trainer.callbacks.num_training_steps", 20]
    argv += ["--trainer.max_epochs", 8, "--model.scheduler", "null"]  # the search ends with the epochs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LearningRateFinder, "lr_find", kept)
        assert run("fit", "--config", config, "--run_dir", tmp_path / "run", *argv) == 0
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert found[0] != 1e-3
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(found[0])


# -- whose error it is -------------------------------------------------------------------------------------------------


class Fragile(CNNLSTM):
    """Fails in training, not when it is tried out."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise KeyError("hidden")
        return super().forward(x)


def test_an_error_of_a_class_of_the_users_own_names_it(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnn_lstm.specs._trusted", set(_trusted))
    trust("tests")
    argv = ["--model.network", "tests.runs.test_fit_settings.Fragile", "--run_dir", tmp_path / "run"]
    assert run("fit", "--config", config, *argv) == 2
    line = last_line(capsys)
    assert line.startswith("error[E282]: KeyError: 'hidden' — tests.runs.test_fit_settings, line ")


def test_an_error_of_our_own_stays_one() -> None:
    with pytest.raises(ModuleNotFoundError), run_errors_in_one_line():
        imported("not.there")


def test_an_error_of_an_optimiser_is_one_line() -> None:
    with pytest.raises(ConfigError) as caught, run_errors_in_one_line():
        torch.optim.SGD([], lr=0.1)
    assert (caught.value.code, caught.value.where) == (281, "model.optimizer")
