"""`walk-forward`: real folds, killed and resumed; what is stitched of them; and its orderly ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from cnn_lstm import specs
from cnn_lstm.evaluation.report import evaluate
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.runs import processes
from tests.experiments import experiment, run, spec
from tests.markets import market

FOLDS = 5
EPOCHS = 12
REACH = 3  # delay 1, horizon 2
EMBARGO = 1
STITCHED = ("predictions.parquet", "embeddings.parquet")
FAILING = """
import sys
from pathlib import Path
argv = sys.argv[1:]
folder = Path(dict(zip(argv, argv[1:]))["--run_dir"])
folder.mkdir()
(folder / "argv").write_text(chr(10).join(argv))
print("error[E314]: price <= 0", file=sys.stderr)
sys.exit(3)
"""


def prices() -> pd.DataFrame:
    return market(260, ("AAA", "BBB"), gaps=False)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    targets = [
        spec("cnn_lstm.data.targets.ForwardReturn", horizon=2),
        spec("cnn_lstm.data.targets.RealizedVolatility", horizon=3),
    ]
    sections = {"trainer": {"max_epochs": EPOCHS}, "early_stopping": {"patience": EPOCHS}}
    return experiment(
        tmp_path_factory.mktemp("config"), prices(), {"targets": targets}, **sections, evaluation={"resamples": 100}
    )


def argv_of(config: Path, folder: Path) -> list[str]:
    return ["walk-forward", "--config", str(config), "--embargo", str(EMBARGO), "--folder", str(folder)]


def started(*argv: str) -> subprocess.Popen[str]:
    """The command line in a process and a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cnn_lstm", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "walk"
    process = started(*argv_of(config, folder), "--n_jobs", "2")
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert f"{(folder / 'test.txt').read_text()}\n{(folder / 'walk_forward.txt').read_text()}" in out
    return folder


def tables(finished: Path) -> list[pd.DataFrame]:
    return [pd.read_parquet(finished / f"fold_{fold}/predictions.parquet") for fold in range(FOLDS)]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


# -- what is stitched ------------------------------------------------------------------------------------------------


def test_the_forecasts_are_those_of_the_folds_side_by_side(finished: Path) -> None:
    stitched = pd.read_parquet(finished / "predictions.parquet")
    keys = ["target", "symbol", "as_of"]
    assert not stitched.duplicated(keys).any()
    assert stitched[keys].equals(stitched[keys].sort_values(keys, ignore_index=True))
    for fold, table in enumerate(tables(finished)):
        part = stitched[stitched["fold"] == fold].drop(columns="fold").reset_index(drop=True)
        pd.testing.assert_frame_equal(part, table)
    assert len(stitched) == sum(map(len, tables(finished)))
    assert {"variance_pred", "variance_har", "lower_90"} <= set(stitched)


def test_each_forecast_says_what_its_model_was_trained_on(finished: Path) -> None:
    stitched = pd.read_parquet(finished / "predictions.parquet")
    assert stitched.groupby("fold")[["train_first", "train_last", "data_sha256"]].nunique().eq(1).all(axis=None)
    days = np.unique(prices()["timestamp"])
    for _, part in stitched.groupby("fold"):
        first, last = part["train_first"].iloc[0], part["train_last"].iloc[0]
        assert first == stitched["train_first"].min()
        # the validation part, one block, lies between the training labels and the first forecast
        block = len(days) // (FOLDS + 2)
        position = [int(np.searchsorted(days, stamp)) for stamp in (last, part["as_of"].min())]
        assert position[1] - position[0] == block + REACH + EMBARGO + 1
    assert stitched.groupby("fold")["train_last"].first().is_monotonic_increasing


def test_no_validation_label_ends_in_the_embargo(finished: Path, config: Path) -> None:
    for fold in range(FOLDS):
        kept = yaml.safe_load((finished / f"fold_{fold}/config.yaml").read_text())["data"]["split"]
        assert kept["init_args"] == {"folds": FOLDS, "fold": fold, "sliding": False, "embargo": EMBARGO}


def test_embeddings_are_those_of_the_folds_own_checkpoints(finished: Path) -> None:
    embeddings = pd.read_parquet(finished / "embeddings.parquet")
    assert not embeddings.duplicated(["symbol", "as_of"]).any()
    forecasts = pd.read_parquet(finished / "predictions.parquet")
    one = forecasts[forecasts["target"] == "return_2"].reset_index(drop=True)
    assert embeddings[["symbol", "as_of", "fold"]].equals(one[["symbol", "as_of", "fold"]])
    for fold in (0, FOLDS - 1):
        predictor = Predictor.from_checkpoint(finished / f"fold_{fold}/checkpoints/best.ckpt")
        part = embeddings[embeddings["fold"] == fold].drop(columns="fold")
        wanted = part[["symbol", "as_of"]].merge(predictor.encode(prices()), on=["symbol", "as_of"], how="left")
        np.testing.assert_array_equal(part.filter(regex=r"^e\d"), wanted.filter(regex=r"^e\d"))
    assert not embeddings.filter(regex=r"^a\d").isna().any(axis=None)
    keys = ["symbol", "as_of", "train_first", "train_last"]
    assert embeddings[keys].equals(one[keys])


def test_the_report_follows_from_the_stitched_table(finished: Path) -> None:
    stitched = pd.read_parquet(finished / "predictions.parquet")
    assert evaluate(stitched) == read(finished / "report.json")
    assert list(stitched.attrs["targets"]["return_2"]["scores"]) == [str(fold) for fold in range(FOLDS)]
    page = (finished / "report.html").read_text()
    assert "By fold" in page
    assert f"{stitched['as_of'].min():%Y-%m-%d} to {stitched['as_of'].max():%Y-%m-%d}" in page
    script = Path(__file__).parents[2] / "docs" / "recompute_report.py"
    done = subprocess.run([sys.executable, str(script), str(finished)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert " 0 differ, 0 are not covered" in done.stdout


def test_the_lines_of_the_folds_are_their_own_reports(finished: Path) -> None:
    targets = read(finished / "walk_forward.json")
    assert list(targets) == ["return_2", "volatility_3"]
    for name, target in targets.items():
        for fold, line in enumerate(target["folds"][:-1]):
            report = read(finished / f"fold_{fold}/report.json")["targets"][name]
            assert line["loss_model"] == report["comparisons"][line["best_baseline"]]["loss_model"]
            assert (line["fold"], line["rows"], line["evidence"]) == (str(fold), report["rows"], report["evidence"])
        overall = read(finished / "report.json")["targets"][name]
        by_fold = [(line["name"], line["rows"], line["loss_model"]) for line in overall["breakdowns"]["fold"]]
        lines = [(line["fold"], line["rows"], pytest.approx(line["loss_model"])) for line in target["folds"][:-1]]
        assert by_fold == lines
        assert target["folds"][-1]["skill"] == overall["comparisons"][overall["best_baseline"]]["skill"]
        assert target["folds"][-1]["rows"] == sum(line["rows"] for line in target["folds"][:-1])


def test_the_information_sheet_covers_all_folds(finished: Path) -> None:
    sheet = read(finished / "model_info.json")
    assert len(sheet["folds"]) == FOLDS
    assert sheet["test_rows_used"] == {"times": 1, "models": 1}
    assert sheet["split"]["test"]["forecasts"] == len(pd.read_parquet(finished / "embeddings.parquet"))


# -- killed ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_in_fold_3_and_started_again_it_ends_with_the_same_files(
    finished: Path, config: Path, tmp_path: Path
) -> None:
    """Folds 0 to 2 are there; fold 3 is killed with -9 while it trains."""
    folder = tmp_path / "walk"
    names = (*STITCHED, "fold_3*", "fold_4*", "test_uses.jsonl", "report*", "test.txt", "model_info.json")
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("walk_forward.[jt]*"))
    for path in [path for name in names for path in folder.glob(name)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    kill_in_fold_3_and_go_on(config, folder)
    assert_same(folder, finished)


@pytest.mark.slow
def test_a_whole_walk_killed_in_fold_3_ends_with_the_same_files(finished: Path, config: Path, tmp_path: Path) -> None:
    kill_in_fold_3_and_go_on(config, tmp_path / "walk")
    assert_same(tmp_path / "walk", finished)


def kill_in_fold_3_and_go_on(config: Path, folder: Path) -> None:
    argv = argv_of(config, folder)
    process = started(*argv)
    wait_for(folder / "fold_3/checkpoints/last.ckpt", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / "fold_3/summary.json").exists()
    assert not (folder / "predictions.parquet").exists()
    assert run(*argv, "--resume") == 0


def assert_same(folder: Path, finished: Path) -> None:
    """Forecasts, embeddings and report are those of the walk that nothing stopped."""
    for name in STITCHED:
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name
    for name in ("report.json", "walk_forward.json", "walk_forward.txt", "test.txt"):
        assert (folder / name).read_text() == (finished / name).read_text(), name
    epochs = pd.read_csv(folder / "fold_3/metrics.csv").dropna(subset="val_loss")["epoch"]
    assert epochs.is_unique


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, file
        time.sleep(0.01)


def test_started_again_when_all_is_there_it_writes_the_same(
    finished: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PROGRAM", ["/no/such/program"])
    folder = tmp_path / "walk"
    shutil.copytree(finished, folder)
    for name in STITCHED:
        (folder / name).unlink()
    before = (finished / "parent_run.json").read_text()

    assert run(*argv_of(config, folder), "--resume") == 0

    for name in STITCHED:
        assert (folder / name).read_bytes() == (finished / name).read_bytes()
    assert (folder / "parent_run.json").read_text() == before


def test_other_prices_than_those_of_the_folds_are_refused(
    finished: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other = tmp_path / "walk", tmp_path / "experiment.yaml"
    shutil.copytree(finished, folder)
    prices().iloc[:-1].to_parquet(tmp_path / "prices.parquet")
    other.write_text(config.read_text().replace(str(config.parent / "prices"), str(tmp_path / "prices")))
    kept = folder / "walk_forward.yaml"
    kept.write_text(kept.read_text().replace(str(config.parent / "prices"), str(tmp_path / "prices")))
    assert run(*argv_of(other, folder), "--resume") == 4
    assert "error[E436]" in capsys.readouterr().err


# -- orderly ends ----------------------------------------------------------------------------------------------------


def test_a_failing_fold_leaves_nothing_stitched(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "PROGRAM", [sys.executable, "-c", FAILING])
    monkeypatch.setattr(specs, "_trusted", {"cnn_lstm"})  # what other tests trust does not belong to this command
    folder = tmp_path / "walk"
    argv = ["walk-forward", "--config", config, "--folds", 2, "--sliding", "--folder", folder]
    assert run(*argv, "--data.window", 9) == 3
    assert "fold 1 failed with exit code 3: error[E314]: price <= 0" in capsys.readouterr().err
    assert not (folder / "predictions.parquet").exists()
    given = (folder / "fold_1/argv").read_text().splitlines()
    wanted = spec("cnn_lstm.data.splits.WalkForward", folds=2, fold=1, sliding=True, embargo=0)
    assert given[0] == "fit"
    assert "--data.window" in given
    assert json.loads(next(word for word in given if word.startswith("--data.split=")).partition("=")[2]) == wanted


BAD: dict[str, tuple[list[str], int, str]] = {
    "no fold": (["--folds", "0"], 223, "folds=0"),
    "negative folds": (["--folds=-1"], 223, "folds=-1"),
    "negative embargo": (["--embargo=-1"], 223, "embargo=-1"),
    "folds no number": (["--folds", "few"], 225, "--folds"),
    "no job": (["--n_jobs", "0"], 224, "--n_jobs 0"),
    "split of fit": (["--data.split", "cnn_lstm.data.splits.FractionSplit"], 225, "--data.split"),
    "part of a split": (["--data.split.init_args.fold=1"], 225, "--data.split.init_args.fold"),
    "run_dir of fit": (["--run_dir=x"], 225, "--run_dir"),
    "ckpt_path of fit": (["--ckpt_path", "last"], 225, "--ckpt_path"),
    "nothing to go on with": (["--resume"], 246, "leave --resume out"),
    "unknown option": (["--data.windw", "3"], 225, "did you mean data.window?"),
}


@pytest.mark.parametrize(("argv", "code", "message"), BAD.values(), ids=BAD.keys())
def test_wrong_arguments_are_one_line_and_make_no_folder(
    argv: list[str], code: int, message: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "walk"
    assert run("walk-forward", "--config", config, "--folder", folder, *argv) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error[")]
    assert line.startswith(f"error[E{code}]")
    assert message in line
    assert not folder.exists()


def test_a_fold_without_windows_is_refused_before_any_is_trained(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "walk"
    assert run("walk-forward", "--config", config, "--folds", 20, "--folder", folder) == 3
    assert "error[E323]: the train part has no window" in capsys.readouterr().err
    assert not folder.exists()


def test_other_folds_in_the_same_folder_are_refused(
    finished: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*argv_of(config, finished), "--resume", "--folds", 4) == 2
    assert "data.split.init_args.folds: 5 -> 4" in capsys.readouterr().err
