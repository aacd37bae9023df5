"""The command line as a user meets it: commands, run folder, bad input in one line, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback

from cnn_lstm.cli import COMMANDS, main
from cnn_lstm.errors import ResourceError
from cnn_lstm.model.forecaster import Forecaster
from tests import experiments
from tests.markets import market

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return experiments.experiment(tmp_path_factory.mktemp("config"), market(260, gaps=False))


@pytest.fixture(scope="module")
def trained(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return experiments.fit(config, tmp_path_factory.mktemp("runs") / "trained", "--tensorboard", "true")


def fails(capsys: pytest.CaptureFixture[str], code: int, *argv: object) -> str:
    """Runs a command that must fail with an exit code, and returns its only line on stderr."""
    capsys.readouterr()
    assert experiments.run(*argv) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error[")]
    assert len(lines) == 1, lines
    return lines[0]


# -- answering at once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_answers_without_torch(word: str) -> None:
    code = f"import sys; from cnn_lstm.cli import main; main(['{word}']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cnn-lstm" in done.stdout


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    output = capsys.readouterr().out
    assert all(f"  {name} " in output for name in COMMANDS)


def test_module_and_script_are_the_same() -> None:
    script = Path(sys.executable).with_name("cnn-lstm")
    outputs = [
        subprocess.run([*argv, "--version"], capture_output=True, text=True, check=True).stdout
        for argv in ([str(script)], [sys.executable, "-m", "cnn_lstm"])
    ]
    assert outputs[0] == outputs[1]


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out


# -- the run folder --------------------------------------------------------------------------------------------------


def test_one_run_is_one_folder(trained: Path) -> None:
    names = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    assert {"config.yaml", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= names
    assert any(name.startswith("tensorboard/events") for name in names)


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_the_saved_config_runs_under_every_command(command: str, trained: Path) -> None:
    argv = [command, "--config", trained / "config.yaml", "--ckpt_path", trained / "checkpoints/best.ckpt"]
    assert experiments.run(*argv) == 0


def test_the_saved_config_refits_to_the_same_weights(trained: Path, tmp_path: Path) -> None:
    again = experiments.fit(trained / "config.yaml", tmp_path / "again")
    first, second = (
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in (trained, again)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_fits_without_a_folder_get_one_each(config: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert experiments.run("fit", "--config", config, "--runs_dir", tmp_path, "--trainer.max_epochs", 1) == 0
    runs = sorted(tmp_path.iterdir())
    assert len(runs) == 2
    assert all(run.name.startswith("experiment-") for run in runs)


def test_best_and_last_in_a_new_process(trained: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.symlink_to(trained)
    for alias in ("best", "last"):
        argv = ["-m", "cnn_lstm", "test", "--config", str(moved / "config.yaml"), "--ckpt_path", alias]
        done = subprocess.run([sys.executable, *argv], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "training mean" in done.stdout


def test_predict_writes_csv_on_request(trained: Path) -> None:
    table = experiments.predict(trained, "--csv", "true")
    pd.testing.assert_series_equal(table["y_pred"], pd.read_csv(trained / "forecasts.csv")["y_pred"])


def test_the_table_of_test_holds_trivial_forecasts_too(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiments.run("test", "--config", trained / "config.yaml", "--ckpt_path", "best") == 0
    output = capsys.readouterr().out
    assert all(name in output for name in ("model", "zero", "training mean", "last value", str(trained)))
    metrics = json.loads((trained / "test_metrics.json").read_text())
    known = experiments.predict(trained).dropna(subset=["y_true"])
    assert metrics["test_rmse"] == pytest.approx(((known["y_pred"] - known["y_true"]) ** 2).mean() ** 0.5, rel=1e-5)


# -- callbacks of the user -------------------------------------------------------------------------------------------


class Witness(Callback):
    """Leaves a file behind, so that a test sees that it ran."""

    def __init__(self, file: str) -> None:
        self.file = file

    def on_fit_end(self, trainer: object, pl_module: object) -> None:
        Path(self.file).touch()


def test_callbacks_of_the_user_add_to_ours(config: Path, tmp_path: Path) -> None:
    callbacks = [{"class_path": "tests.test_cli.Witness", "init_args": {"file": str(tmp_path / "seen")}}]
    argv = ["--trust-imports", "tests", "fit", "--config", config, "--run_dir", tmp_path / "run"]
    assert experiments.run(*argv, "--trainer.callbacks", json.dumps(callbacks)) == 0
    assert (tmp_path / "seen").exists()
    assert (tmp_path / "run/checkpoints/best.ckpt").exists()


def test_our_callbacks_have_keys_of_their_own(config: Path, tmp_path: Path) -> None:
    argv = ["--early_stopping.patience", 1, "--early_stopping.min_delta", 10, "--trainer.max_epochs", 9]
    run = experiments.fit(config, tmp_path / "run", *argv, "--lr_monitor.logging_interval", "step")
    epochs = pd.read_csv(run / "metrics.csv")["epoch"].max()
    assert epochs == 1


def test_a_callback_with_a_choice_can_be_saved(config: Path, tmp_path: Path) -> None:
    timer = {"class_path": "lightning.pytorch.callbacks.Timer", "init_args": {"duration": "00:01:00:00"}}
    run = experiments.fit(config, tmp_path / "run", "--trainer.callbacks", json.dumps([timer]))
    assert experiments.run("fit", "--config", run / "config.yaml", "--run_dir", tmp_path / "again") == 0


def test_a_fit_without_any_logger_keeps_its_checkpoints(config: Path, tmp_path: Path) -> None:
    run = experiments.fit(config, tmp_path / "run", "--trainer.logger", "false")
    assert (run / "checkpoints/best.ckpt").exists()
    assert not (run / "metrics.csv").exists()


def test_bf16_with_the_default_optimiser_and_clipping(config: Path, tmp_path: Path) -> None:
    run = experiments.fit(config, tmp_path / "run", "--trainer.precision", "bf16-mixed")
    assert "AdamW" in (run / "config.yaml").read_text()


def test_a_fit_that_failed_does_not_block_its_folder(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["fit", "--config", config, "--run_dir", tmp_path / "run"]
    fails(capsys, 2, *argv, "--data.features", "[log_retrun_1]")
    assert experiments.run(*argv) == 0


# -- bad input -------------------------------------------------------------------------------------------------------

BAD_VALUES = {
    "data.window": "0",
    "data.batch_size": "-1",
    "model.network.conv_dropout": "1.0",
    "model.network.lstm_dropout": "-0.1",
    "model.network.lstm_hidden": "0",
    "model.optimizer.lr": "0",
    "model.optimizer.init_args.lr": ".nan",
    "model.optimizer.init_args.weight_decay": ".inf",
    "trainer.max_epochs": "-2",
    "grad_norm.every_n_steps": "0",
    "model.optimizer.weight_decay": "-1",
    "trainer.gradient_clip_val": "-1",
    "trainer.accumulate_grad_batches": "0",
    "trainer.log_every_n_steps": "0",
    "trainer.check_val_every_n_epoch": "0",
    "early_stopping.mode": "foo",
    "early_stopping.monitor": "val_los",
    "checkpoint.monitor": "val_r2",
    "checkpoint.mode": "foo",
    "seed_everything": "-3",
}


@pytest.mark.parametrize(("key", "value"), BAD_VALUES.items())
def test_a_number_out_of_range_is_refused_by_its_key(
    key: str, value: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, 2, "fit", "--config", config, "--run_dir", tmp_path / "run", f"--{key}={value}")
    assert line.startswith("error[E224]")
    assert key.rsplit(".", 1)[-1] in line or "monitor" in line or value in line


def test_a_horizon_of_zero_is_refused(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = json.dumps([experiments.spec("cnn_lstm.data.targets.ForwardReturn", horizon=0)])
    line = fails(capsys, 2, "fit", "--config", config, "--run_dir", tmp_path / "run", "--data.targets", target)
    assert "horizon=0" in line


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("modle: {}", "did you mean model?"),
        ("data: {windw: 3}", "did you mean data.window?"),
        ("model: {network: {lstm_hiden: 3}}", "did you mean lstm_hidden?"),
        ("model: {optimizer: {class_path: torch.optim.AdamW, init_args: {lrr: 1}}}", "did you mean lr?"),
        ("early_stoping: {patience: 3}", "did you mean early_stopping?"),
    ],
)
def test_an_unknown_key_names_the_nearest(
    text: str, near: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "typo.yaml").write_text(text)
    line = fails(capsys, 2, "fit", "--config", tmp_path / "typo.yaml", "--run_dir", tmp_path / "run")
    assert line.startswith("error[E225]")
    assert near in line
    assert not (tmp_path / "run").exists()


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean predict?" in fails(capsys, 2, "predikt")


def test_an_option_of_a_command_of_ours_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean --output?" in fails(capsys, 2, "plot", "run", "--ouput", "x.png")
    assert "see cnn-lstm plot --help" in fails(capsys, 2, "plot", "run", "--nothing-like-it")


def test_an_unknown_feature_names_the_nearest(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, 2, "fit", "--config", config, "--run_dir", tmp_path / "r", "--data.features", "[log_retrun_1]")
    assert "log_return_1" in line


def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "double.yaml").write_text("data:\n  window: 30\n  batch_size: 4\n  window: 60\n")
    line = fails(capsys, 2, "fit", "--config", tmp_path / "double.yaml")
    assert line.startswith("error[E226]")
    assert "'window' stands twice — line 2 and line 4" in line


def test_an_abbreviated_option_is_a_misspelt_one(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, 2, "fit", "--config", config, "--run_dir", tmp_path / "run", "--data.wind", 30)
    assert "did you mean data.window?" in line


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join(['*' + chr(97 + k)] * 10)}]\n" for k in range(8)
)


@pytest.mark.parametrize(
    "content",
    [
        b"data: !!python/object/apply:os.system ['touch pwned']\n",
        b"data: !!python/name:os.system\n",
        BOMB.encode(),
        b"\x00\x01\x02\xff\xfe",
        b"data:\n" + b"  # filling\n" * (1 << 20),
        b"- just\n- a list\n",
        b"data: " + b"[" * 5_000 + b"]" * 5_000,
    ],
    ids=["object", "name", "bomb", "binary", "large", "list", "deep"],
)
def test_yaml_that_is_not_plain_is_refused_and_runs_nothing(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.yaml").write_bytes(content)
    begun = time.monotonic()
    fails(capsys, 2, "fit", "--config", "evil.yaml", "--run_dir", "run")
    assert time.monotonic() - begun < 20
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "section",
    [
        {"trainer": {"callbacks": [{"class_path": "evil_module.Callback"}]}},
        {"trainer": {"callbacks": [{"class_path": "lightning.pytorch.callbacks.LambdaCallback"}]}},
        {"model": {"network": {"class_path": "evil_module.Network"}}},
        {"model": {"optimizer": {"class_path": "evil_module.Optimizer"}}},
        {"data": {"source": {"class_path": "evil_module.Source"}}},
        {"data": {"features": ["evil_module.feature"]}},
    ],
    ids=["callback", "lambda", "network", "optimizer", "source", "feature"],
)
def test_a_class_outside_the_allowed_packages_is_not_imported(
    section: dict[str, object], config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "evil_module.py").write_text("import pathlib; pathlib.Path('pwned').touch()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.yaml").write_text(yaml.safe_dump(section))
    argv = ["fit", "--config", config, "--config", tmp_path / "evil.yaml", "--run_dir", tmp_path / "run"]
    line = fails(capsys, 2, *argv)
    assert line.startswith("error[E228]")
    assert not (tmp_path / "pwned").exists()
    assert "evil_module" not in sys.modules


def test_a_checkpoint_of_other_features_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = json.dumps(["log_return_5", "log_return_1", "close_location", "volume_trend_5_20"])
    argv = ["test", "--config", trained / "config.yaml", "--ckpt_path", "best", "--data.features", features]
    line = fails(capsys, 4, *argv)
    assert "features: " in line


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--data.window", 9], "window: 8 -> 9"),
        (["--model.network.lstm_hidden", 8], "lstm_hidden: 4 -> 8"),
        (["--model.linear", "off"], "linear: fixed -> off"),
        (["--model.objective", "Gaussian"], "Point -> "),
        (["--data.scaling", "robust"], "data.scaling: standard -> robust"),
        (["--data.per_symbol", "auto"], "symbol_code"),
        (["--data.fit_on", "train_and_validation"], "data.fit_on: train -> train_and_validation"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(
    argv: list[object], named: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, 4, "test", "--config", trained / "config.yaml", "--ckpt_path", "best", *argv)
    assert named in line


def test_dates_that_the_checkpoint_has_seen_are_not_tested_on(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = ["--data.split.train", 0.4, "--data.split.validation", 0.2]
    assert experiments.run("test", "--config", trained / "config.yaml", "--ckpt_path", "best", *earlier) == 0
    assert "[W351]" in capsys.readouterr().err  # the checkpoint's dates decide
    dates = ["--data.split", "cnn_lstm.data.splits.DateSplit"]
    dates += ["--data.split.validation", "2010-05-03", "--data.split.test", "2010-07-01"]
    line = fails(capsys, 4, "test", "--config", trained / "config.yaml", "--ckpt_path", "best", *dates)
    assert "not untouched" in line
    line = fails(capsys, 4, "fit", "--config", trained / "config.yaml", "--ckpt_path", "last", *earlier)
    assert "data.split.test: " in line


def test_a_null_objective_is_the_default_one(config: Path, tmp_path: Path) -> None:
    run = experiments.fit(config, tmp_path / "run", "--model.objective", "null")
    assert experiments.run("test", "--config", run / "config.yaml", "--ckpt_path", "best") == 0


def test_a_long_folder_with_blanks_is_a_run_folder(config: Path, tmp_path: Path) -> None:
    run = experiments.fit(config, tmp_path / " ".join(["a rather long name of a folder"] * 5))
    assert experiments.run("test", "--config", run / "config.yaml", "--ckpt_path", "best") == 0


def test_one_callback_needs_no_list(config: Path, tmp_path: Path) -> None:
    experiments.fit(config, tmp_path / "run", "--trainer.callbacks", "lightning.pytorch.callbacks.Timer")


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_no_checkpoint_never_means_random_weights(
    command: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--ckpt_path" in fails(capsys, 4, command, "--config", trained / "config.yaml")


@pytest.mark.parametrize("given", ["best", "nowhere.ckpt", ".", "https://example.org/best.ckpt"])
def test_what_is_not_a_checkpoint_is_refused(given: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, 4, "test", "--config", config, "--ckpt_path", given)
    assert "checkpoint" in line or "URL" in line or "run" in line


def test_a_folder_lists_the_candidates(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, 4, "test", "--config", trained / "config.yaml", "--ckpt_path", trained)
    assert str(trained / "checkpoints/best.ckpt") in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--run_dir", tmp_path / "run", "--trainer.accelerator", "gpu"]
    assert fails(capsys, 2, "fit", "--config", config, *argv).startswith("error[E238]")


@pytest.mark.parametrize("devices", ["3x", "-7"])
def test_devices_that_are_not_a_number_are_refused(
    devices: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, 2, "fit", "--config", config, "--run_dir", tmp_path / "run", f"--trainer.devices={devices}")
    assert line.startswith("error[E238]")


def test_a_folder_as_configuration_names_the_file_in_it(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(trained / "config.yaml") in fails(capsys, 2, "test", "--config", trained, "--ckpt_path", "best")


def test_a_folder_that_holds_a_run_is_not_overwritten(
    config: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "checkpoints/best.ckpt").read_bytes()
    assert "holds a run" in fails(capsys, 2, "fit", "--config", config, "--run_dir", trained)
    assert (trained / "checkpoints/best.ckpt").read_bytes() == before


def test_a_run_folder_that_cannot_be_made_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert "run folder" in fails(capsys, 6, "fit", "--config", config, "--run_dir", tmp_path / "file/run")


def test_a_bug_of_ours_shows_its_traceback(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cnn_lstm.data.panel_of_prices.complete_windows", None)
    assert experiments.run("fit", "--config", config, "--run_dir", tmp_path / "run") == 1
    output = capsys.readouterr().err
    assert "Traceback" in output
    assert "please report" in output


def test_an_interruption_that_breaks_what_it_cuts_off_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A KeyboardInterrupt may come while a lock is made, a file is written, a trainer is built."""

    def run(argv: list[str]) -> None:
        try:
            try:
                raise KeyboardInterrupt
            finally:
                raise AttributeError("half built")
        finally:
            raise RuntimeError("cannot be taken apart")

    monkeypatch.setattr("cnn_lstm.commands.plot.run", run)
    assert main(["plot"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert main(["--debug", "plot"]) == 130
    assert "RuntimeError: cannot be taken apart" in capsys.readouterr().err


def test_an_interruption_that_looks_like_a_full_disk_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(argv: list[str], **_: Any) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise ResourceError("cannot write the checkpoint", fix="free disk space", code=604)

    monkeypatch.setattr("cnn_lstm.runs.forecast_cli.run", run)
    assert main(["fit"]) == 130
    assert capsys.readouterr().err == "interrupted: continue with --ckpt_path last\n"


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        ((), "no checkpoint was written, start again"),
        (("best",), "continue with --ckpt_path best"),
        (("best", "last"), "continue with --ckpt_path last"),
    ],
)
def test_an_interrupted_fit_names_the_checkpoint_that_is_there(
    files: tuple[str, ...],
    advice: str,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fit(*_: Any, **__: Any) -> None:
        (tmp_path / "new" / "checkpoints").mkdir(exist_ok=True)
        for name in files:
            (tmp_path / "new" / "checkpoints" / f"{name}.ckpt").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning.pytorch.loops.fit_loop._FitLoop.run", fit)
    assert experiments.run("fit", "--config", config, "--run_dir", tmp_path / "new") == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"interrupted: {advice}"


def test_debug_shows_where_an_error_came_from(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiments.run("--debug", "test", "--config", config) == 4
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_with_its_code_and_a_checkpoint(
    number: signal.Signals, code: int, config: Path, tmp_path: Path
) -> None:
    argv = ["-m", "cnn_lstm", "fit", "--config", str(config), "--run_dir", str(tmp_path / "run")]
    argv += ["--trainer.max_epochs", "100000", "--early_stopping.patience", "100000"]
    process = subprocess.Popen([sys.executable, *argv], stderr=subprocess.PIPE, text=True)
    last = tmp_path / "run/checkpoints/last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    os.kill(process.pid, number)
    _, output = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert "--ckpt_path last" in output
    assert torch.load(last, weights_only=True)["epoch"] >= 0


def test_sigterm_ends_predict_too(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's loop of predict does not look for it."""
    run = experiments.fit(config, tmp_path / "run")
    step = Forecaster.predict_step

    def terminated(self: Forecaster, *batch: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *batch)

    monkeypatch.setattr(Forecaster, "predict_step", terminated)
    assert experiments.run("predict", "--config", run / "config.yaml", "--ckpt_path", "best") == 143


# -- cnn-lstm data ---------------------------------------------------------------------------------------------------


def test_data_describe_prints_what_a_fit_would_see(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiments.run("data", "describe", "--config", config) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in ("AAA", "CCC", "train", "validation", "test", *experiments.FEATURES))
    assert "return_2" in output
    assert "purged rows: " in output


def test_data_check_reports_every_defect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = market(260, gaps=False)
    table.loc[10, "close"] = -1.0
    table.loc[300, "volume"] = float("inf")
    config = experiments.experiment(tmp_path, table)
    assert experiments.run("data", "check", "--config", config) == 3
    output = capsys.readouterr().err
    assert "error[E314]" in output
    assert "error[E313]" in output


def test_data_check_of_a_good_table_reports_no_defect(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiments.run("data", "check", "--config", config) == 0
    assert "no fatal defect" in capsys.readouterr().out


def test_data_with_an_unknown_verb_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert "describe, check" in fails(capsys, 2, "data", "show")


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("argv", [["--help"], ["data", "describe", "--config", "configs/quickstart.yaml"]])
def test_output_that_nobody_reads_is_not_a_bug(argv: list[str], buffered: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "cnn_lstm", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": buffered},
    ) as process:
        process.stdout.close()  # type: ignore[union-attr]
        assert process.stderr.read() == ""  # type: ignore[union-attr]
    assert process.returncode == 141
