"""The plan of a sweep, and who may join its study."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from cnn_lstm.errors import CheckpointError, ConfigError, ResourceError
from cnn_lstm.sweeps import study as module
from cnn_lstm.sweeps.definition import experimental
from cnn_lstm.sweeps.study import LITE, Plan, SilentTrials, best_first, join, keep_checksum, require_study, sampler_of

DESCRIBED = {"space": {"model.optimizer.lr": {"float": [1e-4, 1e-1], "log": True}}}


def plan(folder: Path, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "folder": folder,
        "argv": ["--config", "x.yaml"],
        "described": DESCRIBED,
        "fingerprint": "abc",
        "n_trials": 3,
        "storage": f"sqlite:///{folder / 'study.db'}",
        "study_name": "tested",
        "seed": 7,
        "keep": 1,
        "first": {},
    }
    return Plan(**values | changes)


def test_a_plan_comes_through_the_pipe_as_it_was(tmp_path: Path) -> None:
    assert Plan.from_text(plan(tmp_path).to_text()) == plan(tmp_path)
    assert "\n" not in plan(tmp_path).to_text()


def test_the_objectives_of_a_study_have_their_names(tmp_path: Path) -> None:
    objectives = [{"metric": "val_rmse", "direction": "minimize"}, {"metric": "parameters", "direction": "minimize"}]
    described = DESCRIBED | {"objectives": objectives}
    for _ in range(2):
        study = join(plan(tmp_path, described=described))
        assert study.metric_names == ["val_rmse", "parameters"]


def test_a_study_of_another_fingerprint_is_refused(tmp_path: Path) -> None:
    join(plan(tmp_path))
    assert join(plan(tmp_path)).study_name == "tested"
    with pytest.raises(ConfigError, match="E248"):
        join(plan(tmp_path, fingerprint="def"))


def test_the_first_trial_is_the_given_configuration_whoever_joins(tmp_path: Path) -> None:
    first = {"model.optimizer.lr": 0.003}
    for _ in range(2):
        study = join(plan(tmp_path, first=first))
    (waiting,) = study.trials
    assert waiting.state.name == "WAITING"
    assert waiting.system_attrs["fixed_params"] == first


def test_a_kill_while_the_tables_are_made_leaves_no_half_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "study.db"
    database.touch()  # what an earlier version left
    database.with_name("study.db-journal").write_bytes(b"of another file")
    with monkeypatch.context() as kill:
        kill.setattr(Path, "replace", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            join(plan(tmp_path))
    assert database.stat().st_size == 0
    for _ in range(2):
        assert join(plan(tmp_path)).study_name == "tested"
    with closing(sqlite3.connect(database)) as tables:
        assert tables.execute("SELECT count(*) FROM sqlite_master WHERE name = 'ix_studies_study_name'").fetchone() == (
            1,
        )
        assert tables.execute("SELECT count(*) FROM studies").fetchone() == (1,)


@pytest.mark.parametrize("kind", ["two of one name", "not a database", "torn"])
def test_a_damaged_database_is_one_line(tmp_path: Path, kind: str) -> None:
    database = tmp_path / "study.db"
    join(plan(tmp_path))
    if kind == "two of one name":  # as a kill left it when the tables were not yet made whole
        with closing(sqlite3.connect(database)) as tables:
            tables.execute("DROP INDEX ix_studies_study_name")
            tables.execute("INSERT INTO studies (study_name) VALUES ('tested')")
            tables.commit()
    else:
        content = database.read_bytes()
        database.write_bytes(b"x" * 5000 if kind == "not a database" else content[:4096] + b"\1" * len(content[4096:]))
    with pytest.raises(CheckpointError, match=r"E447.*choose a new --folder"):
        join(plan(tmp_path))


def finished(folder: Path) -> Path:
    """A database with a completed trial and a pruned one."""
    study = join(plan(folder))
    for number in range(2):
        with pytest.warns(UserWarning, match="Heartbeat"):
            trial = study.ask()
        trial.suggest_float("model.optimizer.lr", 1e-4, 1e-1, log=True)
        trial.suggest_categorical("model.network.pooling", ["mean", "last"])
        trial.report(0.25 + number, 3)
        trial.set_user_attr("best_epoch", 3)
        keep_checksum(study, trial, None if number else [0.5])
        study.tell(trial, None if number else 0.5, TrialState.PRUNED if number else TrialState.COMPLETE)
    assert [trial.state.name for trial in join(plan(folder)).trials] == ["COMPLETE", "PRUNED"]
    return folder / "study.db"


def goes_on(resumed: Plan) -> None:
    """As a sweep that is resumed."""
    require_study(resumed)
    join(resumed)


CHANGES = {
    "objective": ("UPDATE trial_values SET value = 0.25 WHERE trial_id = 1", "trial 0 does not have its checksum"),
    "parameter": ("UPDATE trial_params SET param_value = 0.002 WHERE trial_id = 2", "trial 1 does not have"),
    "choice": ("UPDATE trial_params SET param_value = 1 - param_value WHERE param_value IN (0, 1)", "does not have"),
    "attribute": ("UPDATE trial_user_attributes SET value_json = '7' WHERE trial_id = 1", "trial 0 does not have"),
    "curve": (
        "UPDATE trial_intermediate_values SET intermediate_value = 9 WHERE trial_id = 2",
        "trial 1 does not have",
    ),
    "state": ("UPDATE trials SET state = 'COMPLETF'", "LookupError"),
    "distribution": ("UPDATE trial_params SET distribution_json = '{'", "JSONDecodeError"),
    "bytes that are not text": ("UPDATE studies SET study_name = CAST(x'ff' AS TEXT)", ""),
    "version": ("UPDATE alembic_version SET version_num = 'v9.9.9'", "RuntimeError"),
    "direction": ("UPDATE study_directions SET direction = 'MINIMIZF'", "LookupError"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_value_in_a_database_is_one_line(change: str, tmp_path: Path) -> None:
    database = finished(tmp_path)
    query, said = CHANGES[change]
    with closing(sqlite3.connect(database)) as tables:
        tables.execute(query)
        tables.commit()
    with pytest.raises((CheckpointError, ResourceError), match=rf"E447.*{said}" if said else "E447|E609"):
        goes_on(plan(tmp_path))


def test_a_study_of_an_earlier_version_has_no_checksums(tmp_path: Path) -> None:
    with closing(sqlite3.connect(finished(tmp_path))) as tables:
        tables.execute("DELETE FROM trial_system_attributes WHERE key = 'cnn_lstm:crc32'")
        tables.commit()
    assert len(join(plan(tmp_path)).trials) == 2


def test_a_database_that_lost_the_study_of_a_sweep_is_refused(tmp_path: Path) -> None:
    finished(tmp_path)
    require_study(plan(tmp_path))
    with pytest.raises(CheckpointError, match=r"E447.*it holds no study elsewhere"):
        require_study(plan(tmp_path, study_name="elsewhere"))


def test_a_kill_before_the_fingerprint_neither_loses_nor_doubles_the_first_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {"model.optimizer.lr": 0.003}
    with monkeypatch.context() as kill:
        kill.setattr(optuna.Study, "set_user_attr", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            join(plan(tmp_path, first=first))
    assert [trial.system_attrs["fixed_params"] for trial in join(plan(tmp_path, first=first)).trials] == [first]


def test_a_trial_whose_worker_died_before_its_first_sign_of_life_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", 1)
    study, silent = join(plan(tmp_path)), SilentTrials(plan(tmp_path).storage)
    with pytest.warns(UserWarning, match="Heartbeat"):
        study.ask()
    silent.give_sign(study)
    with experimental():
        optuna.storages.fail_stale_trials(study)
        assert [trial.state.name for trial in study.trials] == ["RUNNING"]
        monkeypatch.setattr(module, "HEARTBEAT", 0)
        silent.give_sign(study)
        time.sleep(2.1)  # the database counts whole seconds
        silent.give_sign(study)  # does not take a sign for that of a live worker
        optuna.storages.fail_stale_trials(study)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]


def test_draws_depend_on_seed_and_number_only(tmp_path: Path) -> None:
    def drawn(number: int, seed: int = 7) -> float:
        study = optuna.create_study(sampler=sampler_of(plan(tmp_path, seed=seed), number))
        return study.ask().suggest_float("x", 0, 1)

    assert drawn(0) == drawn(0)
    assert len({drawn(0), drawn(1), drawn(2), drawn(0, seed=8)}) == 4


def test_a_locked_database_is_a_resource_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LITE, "connect_args", {"timeout": 0.1})
    join(plan(tmp_path))
    with closing(sqlite3.connect(tmp_path / "study.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ResourceError, match=r"E609.*locked.*--resume"):
            join(plan(tmp_path))


def test_the_best_trials_come_first_and_of_several_objectives_only_those_that_no_other_beats() -> None:
    single = optuna.create_study(direction="maximize")
    several = optuna.create_study(directions=["maximize", "minimize"])
    for value in (1.0, 3.0, 2.0, 3.0):
        single.add_trial(optuna.trial.create_trial(value=value))
    for values in ([1.0, 1.0], [3.0, 3.0], [2.0, 4.0]):
        several.add_trial(optuna.trial.create_trial(values=values))
    assert [trial.number for trial in best_first(single)] == [1, 3, 2, 0]
    assert [trial.number for trial in best_first(several)] == [1, 0]
