"""`tools/install_torch.py` brings the build for CPUs where it can, and always brings one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[1] / "tools/install_torch.py"
Run = Callable[..., list[str]]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("install_torch", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["install_torch.py", "--constraint", "constraints.txt"])
    monkeypatch.setattr(sys, "platform", "linux")
    return module


@pytest.fixture
def run(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the tool; returns what installed torch: `pip`, `uv`, or both where the first could not."""

    def calls(
        *options: str, driver: bool = False, uv_comes: bool = True, uv_works: bool = True, installed: str = ""
    ) -> list[str]:
        versions, by = ([installed] if installed else []), list[str]()

        def answer(argv: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
            if argv[-1] == "uv":
                return subprocess.CompletedProcess(argv, 0 if uv_comes else 1)
            by.append(argv[2])
            assert argv[-3:] == ["--constraint", "constraints.txt", "torch"]
            if argv[2] == "uv" and not uv_works:
                return subprocess.CompletedProcess(argv, 2)
            versions.append("2.13.0+cpu" if argv[2] == "uv" else "2.13.0")
            return subprocess.CompletedProcess(argv, 0)

        monkeypatch.setattr(sys, "argv", [*sys.argv[:3], *options])
        monkeypatch.setattr(tool, "has_driver", lambda: driver)
        monkeypatch.setattr(tool, "version", lambda: versions[-1] if versions else None)
        monkeypatch.setattr(tool.subprocess, "run", answer)
        tool.main()
        return by

    return calls


def test_without_a_driver_uv_takes_the_small_build(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == ["uv"]
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("pip is silent for some minutes")
    assert said[1:] == ["torch 2.13.0+cpu: the build for CPUs (no NVIDIA driver was found)"]


@pytest.mark.parametrize(("how", "by"), [({"uv_works": False}, ["uv", "pip"]), ({"uv_comes": False}, ["pip"])])
def test_without_uv_or_its_index_pip_takes_what_there_is(
    how: dict[str, bool], by: list[str], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(**how) == by
    assert "brings CUDA (no NVIDIA driver was found; docs/install.md" in capsys.readouterr().out


def test_with_a_driver_pip_takes_the_default_build(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(driver=True) == ["pip"]
    assert "brings CUDA (an NVIDIA driver was found)" in capsys.readouterr().out


def test_the_user_may_choose(run: Run) -> None:
    assert run("--build", "default") == ["pip"]  # as for an image that will run on another machine
    assert run("--build", "cpu", driver=True) == ["uv"]


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_have_one_build(platform: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert run() == ["pip"]


def test_what_is_installed_stays(run: Run) -> None:
    assert run(installed="2.12.0+cpu") == []


def test_a_failure_of_pip_ends_make(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(argv: list[str], check: bool, **_: Any) -> subprocess.CompletedProcess[bytes]:
        if check:
            raise subprocess.CalledProcessError(1, argv)
        return subprocess.CompletedProcess(argv, 1)

    monkeypatch.setattr(tool, "version", lambda: None)
    monkeypatch.setattr(tool.subprocess, "run", fails)
    with pytest.raises(subprocess.CalledProcessError):
        tool.main()
