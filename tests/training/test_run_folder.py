"""One run, one folder: its places, its checkpoints, new ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cnn_lstm.errors import CheckpointError, ConfigError, ResourceError
from cnn_lstm.training.run_folder import (
    ENVIRONMENT_KEY,
    OneWriter,
    RunFolder,
    keep_config_of_user,
    new_run,
    run_of_checkpoint,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_KEY, "")  # set, so that it is restored after `new_run` has written it
    monkeypatch.delenv("LOCAL_RANK", raising=False)


def made(explicit: Path | None, root: Path = Path("elsewhere")) -> RunFolder:
    """A new run, whose command has ended."""
    with OneWriter("fit") as writer:
        return new_run(None if explicit is None else str(explicit), str(root), "quick", writer)


def test_a_run_folder_names_its_files(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.config == tmp_path / "config.yaml"
    assert run.tracking == tmp_path / "tracking"
    assert run.model == tmp_path / "model"
    assert run.checkpoints == tmp_path / "checkpoints"


def test_alias_means_a_file(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    (run.checkpoints / "last.ckpt").touch()
    assert run.checkpoint("last") == run.checkpoints / "last.ckpt"
    with pytest.raises(CheckpointError, match=r"no best checkpoint.*candidates: .*last\.ckpt") as caught:
        run.checkpoint("best")
    assert caught.value.exit_code == 4


def test_a_checkpoint_belongs_to_the_run_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_of_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt").path == tmp_path / "run"
    assert run_of_checkpoint(tmp_path / "best.ckpt").path == tmp_path
    monkeypatch.chdir(tmp_path)
    assert run_of_checkpoint(Path("checkpoints/best.ckpt")).path == tmp_path


def test_new_run_is_named_by_name_and_time(tmp_path: Path) -> None:
    run = made(None, tmp_path)
    assert re.fullmatch(r"quick-\d{8}-\d{6}", run.path.name)
    assert run.path.parent == tmp_path
    assert list(run.path.iterdir()) == []


def test_runs_of_one_second_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda _: "now")
    names = [made(None, tmp_path).path.name for _ in range(3)]
    assert names == ["quick-now", "quick-now-2", "quick-now-3"]


def test_given_folder_is_taken_also_if_it_exists(tmp_path: Path) -> None:
    assert made(tmp_path / "a" / "b").path == tmp_path / "a" / "b"
    assert made(tmp_path / "a" / "b").path == tmp_path / "a" / "b"


@pytest.mark.parametrize(("written", "named"), [(["best"], "best"), (["best", "last"], "last"), (["mine"], "last")])
def test_a_fit_goes_on_from_what_was_written(written: list[str], named: str, tmp_path: Path) -> None:
    """A kill between the first best.ckpt and the first last.ckpt leaves the best one alone."""
    (tmp_path / "checkpoints").mkdir()
    for name in written:
        (tmp_path / "checkpoints" / f"{name}.ckpt").touch()
    with pytest.raises(ConfigError, match=rf"E206.*--ckpt_path {named}$"):
        made(tmp_path)


def test_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    kept = tmp_path / "checkpoints/last.ckpt"
    kept.parent.mkdir()
    kept.write_text("kept")
    with pytest.raises(ConfigError, match="holds a run already") as caught:
        made(tmp_path)
    assert caught.value.exit_code == 2
    assert kept.read_text() == "kept"


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_folder_that_cannot_be_made_is_an_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot write the run folder") as caught:
        made(tmp_path / place)
    assert caught.value.exit_code == 6


def test_process_of_a_strategy_shares_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(None, tmp_path)
    assert made(None, tmp_path) != first
    shared = made(None, tmp_path)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert made(None, tmp_path) == shared


SAVED = "# lightning.pytorch==2.6.6\nseed_everything: 42\n"


@pytest.mark.parametrize(
    ("before", "given", "refused"),
    [
        (None, False, False),
        (SAVED, False, False),  # what a fit that failed has left
        (SAVED + "quiet: true\n", False, False),
        (SAVED, True, False),  # nothing changes
        (SAVED + "quiet: true\n", True, True),
        ("seed_everything: 42  # mine\n", False, True),
        ("seed_everything: 42  # mine\n", True, True),
    ],
)
def test_the_configuration_of_a_user_is_not_replaced(
    before: str | None, given: bool, refused: bool, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path)
    if before is not None:
        run.config.write_text(before)
    files = [tmp_path / "absent.yaml", *([tmp_path / "." / "config.yaml"] if given else [])]
    if refused:
        with pytest.raises(ConfigError, match=r"E284.*choose another --run_dir"):
            keep_config_of_user(run, SAVED, files)
    else:
        keep_config_of_user(run, SAVED, files)


def test_the_configuration_of_a_run_that_goes_on_is_its_own(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.config.write_text(SAVED + "quiet: true\n")
    run.checkpoints.mkdir()
    (run.checkpoints / "last.ckpt").touch()
    keep_config_of_user(run, SAVED, [run.config])
