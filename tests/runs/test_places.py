"""Where a command reads and writes: what `best` means in a new folder, and files of the user that stay as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import experiments
from tests.markets import market


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return experiments.experiment(tmp_path_factory.mktemp("places"), market(260, gaps=False))


@pytest.fixture(scope="module")
def trained(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return experiments.fit(config, tmp_path_factory.mktemp("runs") / "trained", "--trainer.max_epochs", 1)


@pytest.mark.parametrize("alias", ["best", "last"])
def test_results_may_go_to_a_new_folder(alias: str, trained: Path, tmp_path: Path) -> None:
    argv = ["predict", "--config", trained / "config.yaml", "--ckpt_path", alias, "--run_dir", tmp_path / "new"]
    assert experiments.run(*argv) == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["forecasts.parquet"]


def test_a_new_folder_may_be_named_from_here(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Lightning forgets the best score where the folder is written in another way; a warning says so."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "old")
    argv = ["--config", "old/config.yaml", "--ckpt_path"]
    assert experiments.run("predict", *argv, "best", "--run_dir", "evening") == 0
    before = Path("old/checkpoints/best.ckpt").read_bytes()
    assert experiments.run("fit", *argv, "last", "--run_dir", "new", "--trainer.max_epochs", 2) == 0
    assert Path("new/checkpoints/best.ckpt").read_bytes() == before
    assert not [warning for warning in recwarn if "dirpath" in str(warning.message)]


@pytest.mark.parametrize("lost", [False, True])
def test_a_fit_that_goes_on_in_a_new_folder_has_a_best_there(lost: bool, trained: Path, tmp_path: Path) -> None:
    """The second epoch is worse than the first here, so that nothing new is written as the best."""
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(trained, old)
    before = (old / "checkpoints/best.ckpt").read_bytes()
    if lost:
        (old / "checkpoints/best.ckpt").unlink()
    argv = ["--config", old / "config.yaml", "--ckpt_path", "last", "--run_dir", new]
    assert experiments.run("fit", *argv, "--trainer.max_epochs", 2) == 0
    best = (new / "checkpoints/best.ckpt").read_bytes()
    assert (new / "checkpoints/last.ckpt").is_file()
    assert (best == before) != lost
    assert (old / "checkpoints/best.ckpt").exists() != lost


def test_the_given_folder_counts_where_it_holds_checkpoints(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    (moved / "checkpoints").mkdir(parents=True)
    shutil.copy(trained / "checkpoints/last.ckpt", moved / "checkpoints")
    argv = ["predict", "--config", trained / "config.yaml", "--run_dir", moved, "--ckpt_path"]
    assert experiments.run(*argv, "last") == 0
    assert (moved / "forecasts.parquet").is_file()
    assert experiments.run(*argv, "best") == 4
    assert str(moved / "checkpoints/last.ckpt") in capsys.readouterr().err


def test_a_folder_without_a_run_is_no_place_to_look(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["predict", "--config", config, "--run_dir", tmp_path / "new", "--ckpt_path", "best"]
    assert experiments.run(*argv) == 4
    assert str(tmp_path / "new/checkpoints/best.ckpt") in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--ensemble", "2"]])
def test_a_fit_never_replaces_the_configuration_that_it_was_given(
    more: list[str], config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "config.yaml"
    mine.write_text(f"# mine\n{config.read_text()}")
    before = mine.read_bytes()
    assert experiments.run("fit", "--config", mine, "--run_dir", tmp_path, *more) == 2
    assert "error[E284]" in capsys.readouterr().err
    assert mine.read_bytes() == before


def test_an_output_never_replaces_an_input(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = tmp_path / "prices.parquet"
    prices.write_text("prices")
    argv = ["--ckpt_path", trained / "checkpoints/best.ckpt", "--output", prices]
    assert experiments.run("encode", *argv, "--data", prices) == 2
    argv = ["--config", trained / "config.yaml", "--output", trained / "config.yaml"]
    assert experiments.run("audit", *argv) == 2
    assert capsys.readouterr().err.count("error[E284]") == 2
