"""SIGINT and SIGTERM in every phase of real processes: the exit code, one line, no process left, the record KILLED."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cnn_lstm.training.tracking.events import End
from cnn_lstm.training.tracking.journal import Journal
from tests import experiments
from tests.experiments import experiment, fit
from tests.markets import market

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
# sends itself a signal when a function is first called: argv is the signal, the function, and the command
PROGRAM = """
import importlib, os, sys
number, place, *argv = sys.argv[1:]
from cnn_lstm import cli
sys.argv[1:] = argv
module, _, name = place.partition(":")
if name:
    owner, (*path, last) = importlib.import_module(module), name.split(".")
    for part in path:
        owner = getattr(owner, part)
    wrapped = getattr(owner, last)
    def signalled(*args, **kwargs):
        setattr(owner, last, wrapped)
        os.kill(os.getpid(), int(number))
        return wrapped(*args, **kwargs)
    setattr(owner, last, signalled)
else:  # while the module is imported
    class Finder:
        def find_spec(self, name, *_):
            if name == place:
                sys.meta_path.remove(self)
                os.kill(os.getpid(), int(number))
    sys.meta_path.insert(0, Finder())
cli.script()
"""
PHASES = {
    "importing": "lightning.pytorch",
    "reading": "cnn_lstm.data.datamodule:MarketDataModule.setup",
    "training": "cnn_lstm.model.forecaster:Forecaster.training_step",
    "validating": "cnn_lstm.model.forecaster:Forecaster.validation_step",
    "writing": "cnn_lstm.training.durable:write_checkpoint",
    "delivering": "cnn_lstm.training.tracking.record:Sender.close",
    "concluding": "cnn_lstm.runs.outcome:Outcome.fit",
}
OTHERS = {
    "predict": "cnn_lstm.model.forecaster:Forecaster.predict_step",
    "test": "cnn_lstm.evaluation.judge:judge",
    "validate": "cnn_lstm.model.forecaster:Forecaster.validation_step",
    "export": "cnn_lstm.inference.export:write_whole",
    "encode": "cnn_lstm.inference.predictor:Predictor.from_checkpoint",
    "audit": "cnn_lstm.data.datamodule:MarketDataModule.setup",
    "plot": "matplotlib.figure:Figure.savefig",
    "data": "cnn_lstm.data.market_data:MarketData.setup",
    "rl": "cnn_lstm.rl.training:learn",
    "update": "cnn_lstm.service.update:write_live",
    "monitor": "cnn_lstm.service.monitor:look",
    "roll": "cnn_lstm.service.roll:train_all",
    "judge": "cnn_lstm.evaluation.foreign.judgement:place",
    "explain": "cnn_lstm.commands.explain:Predictor.from_checkpoint",
    "sync-tracking": "cnn_lstm.training.tracking.delivery:Delivery.deliver",
    "repeat": "cnn_lstm.runs.repeat:train_all",
    "walk-forward": "cnn_lstm.runs.on_splits:train_all",
    "cross-validate": "cnn_lstm.runs.on_splits:train_all",
    "sweep": "cnn_lstm.sweeps.search:join",
}
# command and phase
LATER = {
    "update forecasting": "cnn_lstm.inference.predictor:Predictor.predict_since",
    "update delivering": "cnn_lstm.service.record:send_rest",
    "monitor writing": "cnn_lstm.service.monitor:write_json_whole",
    "monitor delivering": "cnn_lstm.training.tracking.record:Sender.close",
    "roll reading": "cnn_lstm.data.datamodule:MarketDataModule.setup",
    "roll deciding": "cnn_lstm.service.roll:first_decision",
    "roll promoting": "cnn_lstm.service.roll:write_champion",
    "roll judging": "cnn_lstm.service.roll:write_walk",
    "cross-validate reading": "cnn_lstm.data.datamodule:MarketDataModule.setup",
    "cross-validate judging": "cnn_lstm.runs.cross_validation:write_report",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signals")
    config = experiment(folder, market(300, ("AAA", "BBB"), gaps=False), evaluation={"resamples": 100})
    argv = ["--mlflow", "true", "--tracking_uri", "http://127.0.0.1:9"]
    made = fit(config, folder / "run", "--trainer.max_epochs", 1, *argv)
    experiments.predict(made, "--csv", "true")
    return made


def argv_of(command: str, run: Path, folder: Path) -> list[str]:
    """The arguments of a command that works in a folder."""
    config, best = run.parent / "experiment.yaml", run / "checkpoints" / "best.ckpt"
    small = ["--agent.steps", "64", "--market.part", "validation", "--market.episode_length", "8"]
    of_run = ["--config", run / "config.yaml", "--ckpt_path", best, "--run_dir", folder / "run"]
    groups = ["--groups", "3", "--test_groups", "2", "--trainer.max_epochs", "1"]
    (folder / "space.yaml").write_text("space: {model.network.lstm_hidden: {categorical: [4, 8]}}\n")
    options: dict[str, list[object]] = {
        "fit": ["--config", config, "--run_dir", folder / "run", "--mlflow", "true"],
        "predict": [*of_run],
        "test": [*of_run],
        "validate": [*of_run],
        "export": ["--ckpt_path", best, "--format", "safetensors", "--output", folder / "x.safetensors"],
        "encode": ["--config", run / "config.yaml", "--ckpt_path", best, "--output", folder / "x.parquet"],
        "audit": ["--config", run / "config.yaml", "--ckpt_path", best],
        "plot": [run, "--output", folder / "x.png"],
        "data": ["check", "--config", config],
        "rl": ["train", "--ckpt_path", best, *small],
        "update": [run, "--since", "2011-02-01"],
        "monitor": [run, "--now", "2011-03-01", "--exit_zero"],
        "roll": ["--config", config, "--every", "60bars", "--judge_on", "100bars", "--folder", folder / "rolled"],
        "judge": [run / "forecasts.csv", "--config", config, "--folder", folder / "judged"],
        "explain": ["--config", run / "config.yaml", "--ckpt_path", best, "--output", folder / "x.html"],
        "sync-tracking": [run, "--tracking_uri", f"sqlite:///{folder}/x.db"],
        "repeat": ["--config", config, "--seeds", "2", "--folder", folder / "seeds"],
        "walk-forward": ["--config", config, "--folds", "2", "--folder", folder / "folds"],
        "cross-validate": ["--config", config, *groups, "--folder", folder / "crossed"],
        "sweep": ["--config", config, "--space", folder / "space.yaml", "--n_trials", "1", "--folder", folder / "t"],
    }
    return [command, *map(str, options[command])]


def started(*argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def assert_in_order(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """The end of a command that a signal ended: its code, one line, and nobody left."""
    _, errors = process.communicate(timeout=120)
    assert process.returncode == CODES[number], errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("interrupted" if number == signal.SIGINT else "terminated"), errors
    assert "Traceback" not in errors
    assert "error[" not in errors
    assert [other for other in psutil.pids() if other != process.pid and _session(other) == process.pid] == []


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES, ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_fit_ends_in_order_in_every_phase(phase: str, number: signal.Signals, run: Path, tmp_path: Path) -> None:
    process = started("-c", PROGRAM, str(int(number)), PHASES[phase], *argv_of("fit", run, tmp_path))
    assert_in_order(process, number)
    journal = Journal(tmp_path / "run" / "tracking")
    if phase in ("importing", "reading"):  # nothing has begun
        assert not (tmp_path / "run").exists()
        return
    ends = [event.content.status for event in journal.events() if isinstance(event.content, End)]
    assert ends[-1] == ("FINISHED" if phase == "delivering" else "KILLED"), ends


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES, ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("command", OTHERS)
def test_every_command_ends_in_order(command: str, number: signal.Signals, run: Path, tmp_path: Path) -> None:
    process = started("-c", PROGRAM, str(int(number)), OTHERS[command], *argv_of(command, run, tmp_path))
    assert_in_order(process, number)


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES, ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("phase", LATER)
def test_a_model_in_service_ends_in_order_in_every_phase(
    phase: str, number: signal.Signals, run: Path, tmp_path: Path
) -> None:
    """What comes after the signal goes on: the same command then ends well."""
    command = phase.partition(" ")[0]
    argv = argv_of(command, run, tmp_path)
    (run / "monitor.json").unlink(missing_ok=True)
    process = started("-c", PROGRAM, str(int(number)), LATER[phase], *argv)
    assert_in_order(process, number)
    started_runs = any((tmp_path / name).is_dir() for name in ("rolled", "crossed"))
    assert experiments.run(*argv, *(["--resume"] if started_runs else [])) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES, ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("command", ["fit", *OTHERS])
def test_every_command_ends_in_order_while_it_starts(
    command: str, number: signal.Signals, run: Path, tmp_path: Path
) -> None:
    process = started("-X", "importtime", "-m", "cnn_lstm", *argv_of(command, run, tmp_path))
    assert process.stderr is not None
    for line in process.stderr:  # `main` runs from here on: about 0.3 s after the start
        if line.endswith(" cnn_lstm.cli\n"):
            break
    time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == CODES[number]
    lines = [line for line in errors.splitlines() if not line.startswith("import time:")]
    assert lines[-1].startswith("interrupted" if number == signal.SIGINT else "terminated"), lines
    assert "Traceback" not in errors
