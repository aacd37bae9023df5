"""`sweep`: real trials in worker processes, killed and resumed; its result; and its orderly ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import psutil
import pytest
import yaml
from mlflow import MlflowClient
from sqlalchemy import NullPool

from cnn_lstm.errors import CnnLstmError
from cnn_lstm.evaluation.overfitting import backtest_overfitting
from cnn_lstm.sweeps import sweep
from tests.experiments import experiment, fit, run
from tests.markets import market

SPACE: dict[str, Any] = {
    "pruner": {"name": "median", "n_startup_trials": 3, "n_warmup_steps": 0},
    "space": {
        "model.network.lstm_hidden": {"categorical": [4, 8]},
        "model.optimizer.init_args.lr": {"float": [1e-4, 1e-1], "log": True},
    },
}
FINISHED = ("COMPLETE", "PRUNED")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("config")
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    return experiment(folder, market(260, symbols=("AAA", "BBB")), trainer={"max_epochs": 4})


@pytest.fixture(scope="module")
def long_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trials of a few seconds, so that one can be killed in its middle."""
    folder = tmp_path_factory.mktemp("long")
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    return experiment(folder, market(300, symbols=("AAA", "BBB")), trainer={"max_epochs": 25})


def argv_of(config: Path, folder: Path, trials: int, jobs: int = 1) -> list[str]:
    space = config.with_name("space.yaml")
    argv = ["sweep", "--config", config, "--space", space, "--n_trials", trials, "--n_jobs", jobs, "--folder", folder]
    return [str(argument) for argument in argv]


def started(*argv: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cnn_lstm", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    out, _ = process.communicate(timeout=900)
    assert process.returncode == code, out
    assert "Traceback" not in out
    return out


def study_in(folder: Path, storage: str | None = None) -> optuna.Study:
    name = json.loads((folder / "study.json").read_text())["study_name"]
    database = optuna.storages.RDBStorage(
        storage or f"sqlite:///{folder / 'study.db'}", engine_kwargs={"poolclass": NullPool}
    )  # no connection stays open
    return optuna.load_study(study_name=name, storage=database)


def states(study: optuna.Study) -> list[str]:
    assert [trial.number for trial in study.trials] == list(range(len(study.trials)))
    return [trial.state.name for trial in study.trials]


def wait_until(true: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    deadline = time.monotonic() + 180
    while not (value := true()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def in_mid_trial(folder: Path) -> bool:
    return any(not (log.with_suffix("") / "summary.json").exists() for log in folder.glob("trial_*.log"))


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """New processes of that name, or forks of the one that starts them."""
    workers = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.Error):  # it has just ended
            if "sweep-worker" in child.cmdline():
                workers.append(child)
            elif "fork-server" in child.cmdline():
                workers += child.children()
    return workers


# -- a whole sweep ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "sweep"
    out = ended(started(*argv_of(config, folder, trials=8, jobs=2), "--keep", 2))
    assert out.count("\ntrial ") == 8, out
    assert f"best config: {folder / 'best.yaml'}" in out
    return folder


def test_it_ends_with_as_many_finished_trials_as_asked(finished: Path) -> None:
    ended = states(study_in(finished))
    assert len(ended) == 8
    assert set(ended) <= set(FINISHED)
    assert (finished / "trials.csv").read_text().count("\n") == 9


def test_the_first_trial_is_the_given_configuration(finished: Path, config: Path, tmp_path: Path) -> None:
    first = study_in(finished).trials[0]
    assert first.params == {"model.network.lstm_hidden": 4, "model.optimizer.init_args.lr": 1e-3}
    again = fit(config, tmp_path / "run")
    assert json.loads((again / "summary.json").read_text())["best"] == first.value


def test_the_best_config_fits_to_the_recorded_value(finished: Path, tmp_path: Path) -> None:
    best = study_in(finished).best_trial
    kept = yaml.safe_load((finished / "best.yaml").read_text())
    assert kept["evaluation"]["trials"] == 8
    assert kept["model"]["network"]["init_args"]["lstm_hidden"] == best.params["model.network.lstm_hidden"]
    assert "run_dir" not in kept
    again = fit(finished / "best.yaml", tmp_path / "run")
    assert json.loads((again / "summary.json").read_text())["best"] == best.value


def test_the_choice_is_tested_on_the_validation_rows_of_all_trials(finished: Path) -> None:
    summary = json.loads((finished / "sweep.json").read_text())
    best = study_in(finished).best_trial
    assert summary["best"] == {"trial": best.number, "values": {"val_loss": best.value}, "params": best.params}
    (target, judged), *_ = summary["validation"].items()
    assert judged["trials"] == 8
    rows = pd.read_parquet(finished / f"trial_{best.number:04d}" / "validation.parquet")
    assert judged["loss_best_trial"] == pytest.approx(((rows["y_true"] - rows["y_pred"]) ** 2).mean())
    assert judged["loss_baseline"] > 0
    assert 0 <= judged["spa_p"] <= 1
    kept = yaml.safe_load((finished / "best.yaml").read_text())
    assert kept["evaluation"]["spa"] == {target: judged["spa_p"]}
    assert kept["evaluation"]["pbo"] == {target: judged["pbo"]}
    assert kept["evaluation"]["effective_trials"] == {target: judged["effective_trials"]}
    tables = [pd.read_parquet(finished / f"trial_{number:04d}" / "validation.parquet") for number in range(8)]
    losses = [((table["y_true"] - table["y_pred"]) ** 2).groupby(table["as_of"]).mean() for table in tables]
    overfitting = backtest_overfitting(-np.stack(losses, axis=1))  # what all gains are compared with drops out
    assert overfitting is not None
    assert judged["pbo"] == pytest.approx(overfitting.pbo)
    assert 1 <= judged["effective_trials"] <= 8
    assert judged["blocks"] % 2 == 0
    assert f"PBO {judged['pbo']:.2f}" in (finished / "sweep.html").read_text()
    assert "(SPA p " in (finished / "sweep.html").read_text()


def test_only_the_best_keep_their_checkpoints(finished: Path) -> None:
    complete = [trial for trial in study_in(finished).trials if trial.state.name == "COMPLETE"]
    best = sorted(complete, key=lambda trial: trial.value or 0.0)[:2]
    kept = {path.parent.name for path in finished.glob("trial_*/checkpoints")}
    assert kept == {f"trial_{trial.number:04d}" for trial in best}


def test_no_trial_opens_the_test_part(finished: Path) -> None:
    assert not list(finished.glob("trial_*/*report*"))
    assert not list(finished.glob("trial_*/test*"))
    assert not list(finished.glob("trial_*/predictions*"))


def test_a_trial_records_its_seed_its_epochs_and_where_it_ran(finished: Path) -> None:
    for trial in study_in(finished).trials:
        assert trial.user_attrs["seed"] == 7
        assert trial.user_attrs["epochs"] == len(trial.intermediate_values)
        assert {"host", "threads", "seconds"} <= set(trial.user_attrs)


def test_a_folder_that_holds_a_sweep_needs_resume(
    finished: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*argv_of(config, finished, trials=9)) == 2
    assert "error[E245]" in capsys.readouterr().err


@pytest.mark.slow
def test_it_goes_on_to_more_trials(finished: Path) -> None:
    before = [trial.params for trial in study_in(finished).trials]
    ended(started("sweep", "--resume", "--folder", finished, "--n_trials", 10, "--quiet", "true"))
    study = study_in(finished)
    assert len(states(study)) == 10
    assert [trial.params for trial in study.trials[:8]] == before
    assert len({str(trial.params) for trial in study.trials}) == 10


# -- killed ----------------------------------------------------------------------------------------------------------


def kill_worker_then_parent(config: Path, folder: Path, trials: int) -> optuna.Study:
    process = started(*argv_of(config, folder, trials, jobs=2))
    wait_until(lambda: in_mid_trial(folder) and len(list(folder.glob("trial_*"))) > 1, process)
    victim = workers_of(process)[0]
    os.kill(victim.pid, signal.SIGKILL)
    wait_until(lambda: len(workers_of(process)) == 2 and victim not in workers_of(process), process)
    wait_until(lambda: len(list(folder.glob("trial_*.log"))) > 3, process)
    workers = workers_of(process)
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(workers, timeout=10)[1], "workers outlive their parent"
    ended(started("sweep", "--resume", "--folder", folder))
    return study_in(folder)


def require_whole(study: optuna.Study, trials: int) -> None:
    ended = states(study)
    assert sum(state in FINISHED for state in ended) == trials
    assert set(ended) <= {*FINISHED, "FAIL"}
    failed = {trial.number for trial in study.trials if trial.state.name == "FAIL"}
    retried = {number for trial in study.trials for number in trial.system_attrs.get("retry_history", [])}
    assert failed
    assert failed == retried


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_parent_lose_nothing(long_config: Path, tmp_path: Path) -> None:
    require_whole(kill_worker_then_parent(long_config, tmp_path / "sweep", 6), 6)


@pytest.mark.slow
def test_thirty_trials_survive_kills(long_config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    study = kill_worker_then_parent(long_config, folder, 30)
    require_whole(study, 30)
    assert "PRUNED" in states(study)
    again = fit(folder / "best.yaml", tmp_path / "run")
    assert json.loads((again / "summary.json").read_text())["best"] == study.best_value


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
    ids=["ctrl-c", "term"],
)
def test_an_interruption_hands_back_the_best_so_far(
    number: signal.Signals, code: int, config: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    process = started(*argv_of(config, folder, trials=500))
    wait_until(lambda: len(list(folder.glob("trial_*/summary.json"))) > 2, process)
    process.send_signal(number)
    out = ended(process, code)
    assert "cnn-lstm sweep --resume" in out
    assert (folder / "best.yaml").is_file()
    assert "RUNNING" not in states(study_in(folder))


@pytest.mark.slow
def test_a_grid_ends_with_its_last_combination(config: Path, tmp_path: Path) -> None:
    space = tmp_path / "grid.yaml"
    grid = {"data.window": {"categorical": [6, 8]}, "model.network.lstm_hidden": {"int": [4, 5]}}
    space.write_text(yaml.safe_dump({"space": grid, "sampler": {"name": "grid"}}))
    folder = tmp_path / "sweep"
    assert run(*argv_of(config, folder, trials=50), "--space", space) == 0
    study = study_in(folder)
    assert sorted(tuple(trial.params.values()) for trial in study.trials) == [(6, 4), (6, 5), (8, 4), (8, 5)]
    assert sorted(states(study)) == ["COMPLETE"] * 2 + ["FAIL"] * 2  # 5 units cannot have two heads
    ended(started("sweep", "--resume", "--folder", folder, "--n_jobs", 2))
    assert len(study_in(folder).trials) == 4


@pytest.mark.slow
def test_a_ctrl_c_that_ends_the_reader_too_hands_back(config: Path, tmp_path: Path) -> None:
    """As in `cnn-lstm sweep ... 2>&1 | tee log`."""
    folder = tmp_path / "sweep"
    process = started(*argv_of(config, folder, trials=500))
    wait_until(lambda: len(list(folder.glob("trial_*/summary.json"))) > 1, process)
    process.stdout.close()  # type: ignore[union-attr]  # optional to Popen, given by `started`
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert (folder / "best.yaml").is_file()
    assert "RUNNING" not in states(study_in(folder))


@pytest.mark.slow
def test_a_timeout_hands_back_the_best_so_far(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    out = ended(started(*argv_of(config, folder, trials=500), "--timeout", 15))
    assert "RUNNING" not in states(study_in(folder))
    assert "best config:" in out


# -- shared ----------------------------------------------------------------------------------------------------------


def share(config: Path, folder: Path, storage: str, trials: int = 4) -> optuna.Study:
    """Two sweeps that are started together on a fresh storage."""
    folder.mkdir()
    both = [
        started(*argv_of(config, folder / name, trials), "--storage", storage, "--study_name", "shared")
        for name in ("one", "two")
    ]
    for process in both:
        ended(process)
    study = study_in(folder / "one", storage)
    assert len(states(study)) == trials
    assert set(states(study)) <= set(FINISHED)
    one, two = (yaml.safe_load((folder / name / "best.yaml").read_text()) for name in ("one", "two"))
    for kept in (one, two):
        for name in ("spa", "pbo", "effective_trials"):  # each judges the choice by the forecasts in its own folder
            kept["evaluation"].pop(name, None)
    assert one == two
    return study


@pytest.mark.slow
def test_two_sweeps_share_a_fresh_storage_ten_times(config: Path, tmp_path: Path) -> None:
    for number in range(10):
        share(config, tmp_path / str(number), f"sqlite:///{tmp_path / f'{number}.db'}")


def test_a_study_of_another_space_is_refused(
    finished: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = json.loads((finished / "study.json").read_text())
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(SPACE | {"space": {"data.window": {"int": [8, 12]}}}))
    shared = ["--storage", f"sqlite:///{finished / 'study.db'}", "--study_name", known["study_name"]]
    assert run(*argv_of(config, tmp_path / "sweep", 1), *shared, "--space", other) == 2
    assert "error[E248]" in capsys.readouterr().err


# -- orderly ends ----------------------------------------------------------------------------------------------------


BAD: dict[str, tuple[list[str], int, str]] = {
    "no trials": (["--n_trials", "0"], 224, "--n_trials 0"),
    "no job": (["--n_jobs", "0"], 224, "--n_jobs 0"),
    "no time": (["--timeout", "0"], 224, "--timeout 0"),
    "nothing to resume": (["--resume"], 246, "no sweep to go on with"),
    "storage in memory": (["--storage", "sqlite://"], 249, "in memory"),
    "storage no address": (["--storage", "nowhere"], 249, "nowhere"),
    "run_dir of fit": (["--run_dir=x"], 225, "--run_dir"),
    "unknown option": (["--data.windw", "3"], 225, "did you mean data.window?"),
    "random seed": (["--seed_everything=true"], 224, "seed_everything"),
}


@pytest.mark.parametrize(("options", "code", "message"), BAD.values(), ids=BAD.keys())
def test_wrong_options_are_reported_in_one_line(
    options: list[str], code: int, message: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*argv_of(config, tmp_path / "sweep", 2), *options) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error[")]
    assert line.startswith(f"error[E{code}]")
    assert message in line


@pytest.mark.slow
def test_a_trial_is_one_member_and_the_best_config_asks_for_all(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    ended(started(*argv_of(config, folder, trials=1), "--ensemble", 3))
    (trial,) = folder.glob("trial_*/config.yaml")
    assert yaml.safe_load(trial.read_text())["ensemble"] == 1
    assert not list(folder.glob("trial_*/members"))
    assert yaml.safe_load((folder / "best.yaml").read_text())["ensemble"] == 3


def test_the_number_of_members_cannot_be_searched(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump({"space": {"ensemble": {"categorical": [1, 3]}}}))
    assert run("sweep", "--config", config, "--space", space, "--folder", tmp_path / "sweep") == 2
    assert "error[E250]: ensemble cannot be searched" in capsys.readouterr().err


def test_a_misspelt_key_of_the_space_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "space.yaml"
    other.write_text(yaml.safe_dump({"space": {"data.windw": {"int": [8, 12]}}}))
    assert run(*argv_of(config, tmp_path / "sweep", 2), "--space", other) == 2
    assert "did you mean data.window?" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


def test_a_metric_that_is_never_logged_is_an_error(config: Path, tmp_path: Path) -> None:
    other = tmp_path / "space.yaml"
    other.write_text(yaml.safe_dump(SPACE | {"objectives": [{"metric": "val_los", "direction": "minimize"}]}))
    out = ended(started(*argv_of(config, tmp_path / "sweep", 30), "--space", other), 2)
    assert "val_los" in out
    assert "fail alike" in out


def test_bad_data_leave_no_folder(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*argv_of(config, tmp_path / "deep" / "sweep", 2), "--data.window", 10_000) == 3
    assert "error[E3" in capsys.readouterr().err
    assert not (tmp_path / "deep").exists()


def test_trials_that_fail_before_their_training_leave_no_folder(config: Path, tmp_path: Path) -> None:
    space = spaced(tmp_path, space={"data.window": {"int": [10_000, 20_000]}})
    out = ended(started(*argv_of(config, tmp_path / "sweep", 9), *space), 2)
    assert "fail alike" in out
    assert "error[E3" in out
    assert not (tmp_path / "sweep").exists()


# -- MLflow, several processes a trial, several objectives, Python ---------------------------------------------------


def spaced(folder: Path, **sections: Any) -> list[str]:
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump(SPACE | sections))
    return ["--space", str(file)]


EAGER_PRUNER = {"name": "percentile", "percentile": 1.0, "n_startup_trials": 1, "n_warmup_steps": 0}


@pytest.mark.slow
def test_mlflow_shows_the_trials_and_their_states_under_one_run(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    ended(started(*argv_of(config, folder, 4), *spaced(tmp_path, pruner=EAGER_PRUNER), "--mlflow", "true"))
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("cnn_lstm").experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.data.tags["optuna.trial"]: run for run in runs if run is not parent}
    study = study_in(folder)
    assert {number: run.data.tags["optuna.state"] for number, run in children.items()} == {
        str(trial.number): trial.state.name for trial in study.trials
    }
    assert "PRUNED" in states(study)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert parent.data.metrics["best_val_loss"] == study.best_value
    assert {"best.yaml", "trials.csv"} <= {file.path for file in client.list_artifacts(parent.info.run_id)}


@pytest.mark.slow
def test_trials_in_two_processes_are_pruned_without_a_hang(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    two = ["--trainer.strategy", "ddp", "--trainer.devices", "2", "--data.batch_size", "16"]
    ended(started(*argv_of(config, folder, 4), *spaced(tmp_path, pruner=EAGER_PRUNER), *two))
    study = study_in(folder)
    assert set(states(study)) == set(FINISHED)
    for trial in study.trials:
        assert trial.user_attrs["epochs"] == len(trial.intermediate_values)
        assert (len(trial.intermediate_values) < 4) == (trial.state.name == "PRUNED")


@pytest.mark.slow
def test_each_of_several_objectives_has_a_value_per_trial(config: Path, tmp_path: Path) -> None:
    objectives = [{"metric": name, "direction": "minimize"} for name in ("val_mae", "parameters", "latency_ms")]
    folder = tmp_path / "sweep"
    ended(started(*argv_of(config, folder, 3), *spaced(tmp_path, pruner={"name": "none"}, objectives=objectives)))
    study = study_in(folder)
    assert states(study) == ["COMPLETE"] * 3
    sizes = {trial.params["model.network.lstm_hidden"]: trial.values[1] for trial in study.trials}
    assert all(size == int(size) > 0 for size in sizes.values())
    assert all(trial.values[2] > 0 for trial in study.trials)
    kept = yaml.safe_load((folder / "best.yaml").read_text())
    assert kept["checkpoint"]["monitor"] == "val_mae"


@pytest.mark.slow
def test_sweep_in_python_returns_the_study(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sweep"
    study = sweep(config, config.with_name("space.yaml"), n_trials=2, folder=folder)
    assert study.best_value == study_in(folder).best_value
    assert "best config:" in capsys.readouterr().out
    with pytest.raises(CnnLstmError, match="pass --resume"):
        sweep(config, config.with_name("space.yaml"), n_trials=2, folder=folder)


@pytest.mark.slow
def test_refit_trains_and_tests_the_best_with_several_seeds(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    out = ended(started(*argv_of(config, folder, 2), "--refit", 2))
    assert "seed 43" in out
    assert len(list((folder / "refit").glob("seed_*/report.json"))) == 2
