"""The configurations that the package carries: their names at every door, and the folder that `init` writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cnn_lstm import cli, shipped
from tests import experiments

ROOT = Path(shipped.__file__).parents[1]
FILES = sorted(path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml"))


def test_every_configuration_has_a_name_and_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [file.with_suffix("").as_posix() for file in FILES]
    assert all(line.endswith((".", "?")) and len(line) < 250 for line in lines)


def test_init_writes_what_the_package_carries(tmp_path: Path) -> None:
    assert cli.main(["init", str(tmp_path / "mine")]) == 0
    for file in FILES:
        assert (tmp_path / "mine/configs" / file).read_bytes() == (ROOT / "configs" / file).read_bytes()


def test_init_writes_only_what_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", str(tmp_path), "rl/ppo", "volatility"]) == 0
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.yaml")}
    assert written == {"configs/rl/ppo.yaml", "configs/volatility.yaml"}
    assert "cnn-lstm fit --config configs/volatility.yaml" in capsys.readouterr().out


def test_init_overwrites_nothing_of_the_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "configs/quickstart.yaml"
    file.parent.mkdir()
    file.write_text("mine: true\n")
    assert cli.main(["init", str(tmp_path)]) == 2
    assert "E294" in capsys.readouterr().err
    assert file.read_text() == "mine: true\n"
    assert list(tmp_path.rglob("*.yaml")) == [file]


def test_init_again_leaves_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["init", str(tmp_path), "quickstart"])
    before = (tmp_path / "configs/quickstart.yaml").stat().st_mtime_ns
    assert cli.main(["init", str(tmp_path)]) == 0
    assert (tmp_path / "configs/quickstart.yaml").stat().st_mtime_ns == before
    assert f"{len(FILES) - 1} files" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["--list=maybe"], ["mine", "quikstart"]])
def test_init_refuses_in_one_line(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [str(tmp_path / word) if word == "mine" else word for word in argv]
    assert cli.main(["init", *argv]) == 2
    assert capsys.readouterr().err.startswith("error[E225]")
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("option", [["--config", "volatility"], ["--config=volatility"], ["-c", "volatility"]])
def test_a_name_stands_for_the_shipped_file(option: list[str]) -> None:
    found = shipped.with_shipped(["fit", *option, "--quiet"])
    path = found[1].partition("=")[2] if "=" in option[0] else found[2]
    assert Path(path).read_bytes() == (ROOT / "configs/volatility.yaml").read_bytes()
    assert found[-1] == "--quiet"


def test_a_file_of_the_users_goes_before_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quickstart").write_text("quiet: true\n")
    assert shipped.with_shipped(["fit", "--config", "quickstart"]) == ["fit", "--config", "quickstart"]


@pytest.mark.parametrize("value", ["no such", "{quiet: true}", "x" * 5000, "../quickstart", "sweep", "/etc/passwd", ""])
def test_nothing_else_is_a_shipped_name(value: str) -> None:
    assert shipped.config_path(value) is None


def test_a_misspelt_name_is_answered_with_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert experiments.run("fit", "--config", "quikstart") == 2
    assert "did you mean quickstart?" in capsys.readouterr().err


def test_a_space_is_found_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert experiments.run("sweep", "--config", "quickstart", "--space", "sweep/quick", "--n_trials", "0") == 2
    assert "n_trials" in capsys.readouterr().err


def test_the_wheel_carries_them_and_every_file_of_the_package(tmp_path: Path) -> None:
    kept = ["egg_info", "--egg-base", str(tmp_path)]
    build = ["build", "--build-base", str(tmp_path), "--build-lib", str(tmp_path / "lib")]
    subprocess.run([sys.executable, "setup.py", "-q", *kept, *build], cwd=ROOT, check=True)
    built = tmp_path / "lib/cnn_lstm"
    assert sorted(path.relative_to(built / "configs") for path in (built / "configs").rglob("*.yaml")) == FILES
    package = ROOT / "cnn_lstm"
    files = [path for path in package.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    assert [path for path in files if not (built / path.relative_to(package)).is_file()] == []
