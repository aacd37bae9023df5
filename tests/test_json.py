"""`--json`: one document on the standard output, equal to what Python's objects give."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

import cnn_lstm as cl
from cnn_lstm.cli import main
from cnn_lstm.files import read_json
from cnn_lstm.runs import forecast_cli
from tests.experiments import experiment, fit, run
from tests.markets import market, walk

SPACE = """
sampler: {name: random}
objectives: [{metric: val_loss, direction: minimize}]
space: {model.optimizer.lr: {float: [0.001, 0.01], log: true}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("json")
    experiment(path, market(140), trainer={"max_epochs": 1})
    return path


def document(capfd: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capfd.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_data_are_described_as_they_are(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = str(folder / "experiment.yaml")
    assert main(["data", "describe", "--json", "--config", config]) == 0
    found, data = document(capfd), forecast_cli.parsed(["fit", "--config", config]).build_data()
    data.setup()
    assert {row["symbol"]: row["rows"] for row in found["symbols"]} == {
        symbol: len(data.panel.time[data.panel.rows_of(code)]) for code, symbol in enumerate(data.panel.symbols)
    }
    assert {row["part"]: row["windows"] for row in found["parts"]} == {
        name: len(rows) for name, rows in data.parts.by_name.items()
    }
    assert [row["feature"] for row in found["features"]] == list(data.recipe.features)
    assert (found["window"], found["purged"], found["sha256"]) == (8, data.parts.purged, data.fingerprint)
    assert [row["target"] for row in found["targets"]] == [target.name for target in data.targets]


def test_defects_are_listed_also_where_one_is_fatal(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = str(folder / "experiment.yaml")
    assert main(["--json", "data", "check", "--config", config]) == 0
    found = document(capfd)
    assert (found["rows"], found["symbols"]) == (366, 3)
    assert [(one["code"], one["fatal"]) for one in found["defects"]] == [("W320", False)]
    assert found["defects"][0]["where"].startswith("BBB @ 2010-05-19")
    broken = market(140)
    broken.loc[3, "close"] = -1.0
    (folder / "broken").mkdir()
    other = experiment(folder / "broken", broken)
    assert main(["data", "check", "--config", str(other), "--json"]) == 3
    text = capfd.readouterr()
    found = json.loads(text.out)
    assert found["rows"] is None
    assert [one["code"] for one in found["defects"] if one["fatal"]] == ["E314", "E316"]
    assert "error[E314]" in text.err


def test_a_test_is_its_report(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    home = fit(folder / "experiment.yaml", folder / "run")
    capfd.readouterr()
    of_run = ["--config", home / "config.yaml", "--ckpt_path", "best"]
    assert run("validate", "--json", *of_run) == 0
    metrics = json.loads((home / "validate_metrics.json").read_text())
    assert document(capfd) == {"metrics": metrics}
    assert run("test", *of_run, "--json") == 0
    text = capfd.readouterr()
    assert json.loads(text.out) == json.loads(json.dumps(cl.TestReport.from_run(home).report))
    assert "report:" in text.err


@pytest.mark.slow
def test_a_sweep_is_its_study(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its workers are processes, whose lines go to the errors too."""
    (folder / "space.yaml").write_text(SPACE)
    words = ["--space", folder / "space.yaml", "--n_trials", 2, "--folder", folder / "sweep", "--json"]
    assert run("sweep", "--config", folder / "experiment.yaml", *words) == 0
    text = capfd.readouterr()
    found = json.loads(text.out)
    assert "trial 0" in text.err
    (study,) = optuna.get_all_study_names(f"sqlite:///{folder / 'sweep' / 'study.db'}")
    known = optuna.load_study(study_name=study, storage=f"sqlite:///{folder / 'sweep' / 'study.db'}")
    assert found == json.loads((folder / "sweep" / "sweep.json").read_text())
    assert found["trials"] == {"COMPLETE": 2}
    best = known.best_trial
    assert found["best"] == {"trial": best.number, "values": {"val_loss": best.value}, "params": best.params}


@pytest.fixture(scope="module")
def home(folder: Path) -> Path:
    """A run that was tested."""
    path = fit(folder / "experiment.yaml", folder / "tested")
    assert run("test", "--quiet", "--config", path / "config.yaml", "--ckpt_path", "best") == 0
    return path


def test_an_audit_is_its_findings(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert run("audit", "--json", "--config", home / "config.yaml", "--ckpt_path", "best") == 0
    found = document(capfd)
    assert found == json.loads((home / "audit.json").read_text())
    assert found["passed"] is True
    words = ["--warnings_fail", "--output", home.parent / "strict.json"]
    assert run("audit", "--json", "--config", home / "config.yaml", "--data.features+=day_of_month", *words) in (0, 8)
    assert document(capfd) == json.loads((home.parent / "strict.json").read_text())


def test_a_judgement_is_its_report_and_a_comparison_its_file(
    home: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    table = home / "predictions.parquet"
    words = ["--config", home / "config.yaml", "--json", "--folder"]
    assert run("judge", table, *words, folder / "judged") == 0
    assert document(capfd) == json.loads((folder / "judged" / "report.json").read_text())
    pd.read_parquet(table).assign(y_pred=0.0).to_parquet(folder / "zero.parquet")
    assert run("judge", table, folder / "zero.parquet", *words, folder / "compared") == 0
    assert document(capfd) == json.loads((folder / "compared" / "comparison.json").read_text())


def test_an_update_says_what_has_changed(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    market(160).to_parquet(home.parent / "later.parquet")
    capfd.readouterr()
    assert run("update", home, "--prices", home.parent / "later.parquet", "--json") == 0
    found = document(capfd)
    live = pd.read_parquet(home / "live.parquet")
    assert (found["new"], found["rows"], found["file"]) == (len(live), len(live), str(home / "live.parquet"))
    assert (found["gone"], found["revised"]) == ([], "")


SEVERAL: dict[str, tuple[list[object], str]] = {
    "repeat": (["--seeds", 2], "repeat.json"),
    "walk-forward": (["--folds", 2], "walk_forward.json"),
    "cross-validate": (["--groups", 3, "--test_groups", 1], "cross_validation.json"),
    "roll": (["--every", "30bars", "--judge_on", "50bars"], "roll.json"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", SEVERAL)
def test_several_runs_are_their_file_and_quiet_ones_print_it_alone(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words, name = SEVERAL[command]
    place = tmp_path / command
    config = experiment(tmp_path, walk(400), trainer={"max_epochs": 1})
    argv = ["--config", config, "--folder", place, *words, "--data.targets.horizon", 1]
    assert run(command, *argv, "--quiet") == 0
    quiet = capfd.readouterr()
    assert quiet.err == ""
    assert not re.search(r"(?m)^(seed|fold|combination|step) \d+(: |, )", quiet.out)
    assert quiet.out.count(f"{place}\n") == 1  # at the end, as a result
    assert run(command, *argv, "--resume", "--json") == 0
    text = capfd.readouterr()
    found, kept = json.loads(text.out), read_json(place / name, "result")
    if command == "walk-forward":
        assert found == {**json.loads((place / "report.json").read_text()), "folds": kept}
    else:
        assert found == kept
    assert re.search(r"folder: ", text.err)


@pytest.mark.parametrize("argv", [["fit"], ["data", "build"], ["plot", "x"], ["predict"], ["--version"]])
def test_other_commands_have_none(argv: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*argv, "--json"]) == 2
    text = capfd.readouterr()
    assert text.out == ""
    assert "these have it: data describe, data check" in text.err


@pytest.mark.slow
def test_a_pipe_gets_nothing_else(folder: Path) -> None:
    argv = ["-m", "cnn_lstm", "data", "check", "--json", "--config", str(folder / "experiment.yaml")]
    done = subprocess.run([sys.executable, *argv], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["symbols"] == 3
