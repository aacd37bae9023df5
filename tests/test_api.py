"""The public API is what `cnn_lstm/__init__.py` names: typed, documented, and nothing of it broke unnoticed."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cnn_lstm

ROOT = Path(__file__).parents[1]
BEFORE = ["fit", "fit(data) required", "fit(epochs) 3", "Model", "Model.test"]


@pytest.fixture(scope="module")
def api() -> ModuleType:
    pytest.importorskip("griffe")
    spec = importlib.util.spec_from_file_location("api", ROOT / "tools" / "api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_broke_since_the_last_release(api: ModuleType) -> None:
    before = api.FILE.read_text(encoding="utf-8").splitlines()
    broken = api.breaks(before, api.lines(api.loaded()))
    assert broken == [], "an intended break belongs in CHANGELOG.md; then: python tools/api.py --write"


@pytest.mark.parametrize(
    ("after", "broken"),
    [
        (BEFORE, []),
        ([*BEFORE, "fit(seed) 1", "Model.plot", "Model.plot(kind) required", "sweep"], []),
        ([line for line in BEFORE if line != "Model.test"], ["Model.test is gone"]),
        ([line for line in BEFORE if "epochs" not in line], ["fit(epochs) is gone"]),
        ([line.replace("epochs) 3", "epochs) 5") for line in BEFORE], ["fit(epochs) was 3 by default, and is 5"]),
        ([*BEFORE, "fit(seed) required"], ["fit(seed) is new, and has to be given"]),
    ],
)
def test_a_break_is_what_stops_a_program_that_ran(api: ModuleType, after: list[str], broken: list[str]) -> None:
    assert api.breaks(BEFORE, after) == broken


def public() -> list[tuple[str, Any]]:
    """Every public function, and every method of a public class that is ours."""
    found: list[tuple[str, Any]] = []
    for name in cnn_lstm.__all__:
        thing = getattr(cnn_lstm, name)
        if inspect.isclass(thing):
            found.append((name, thing))
            for method, code in vars(thing).items():
                if inspect.isfunction(code) and not method.startswith("_"):
                    found.append((f"{name}.{method}", code))
        elif callable(thing):
            found.append((name, thing))
    return found


@pytest.mark.parametrize(("name", "thing"), [pytest.param(*one, id=one[0]) for one in public()])
def test_every_public_name_is_typed_and_documented(name: str, thing: Any) -> None:
    assert inspect.getdoc(thing), name
    code = thing.__init__ if inspect.isclass(thing) else thing
    signature = inspect.signature(code)
    untyped = [one for one in list(signature.parameters.values()) if one.name != "self" and one.annotation is one.empty]
    assert untyped == []
    if not inspect.isclass(thing):
        assert signature.return_annotation is not inspect.Signature.empty
        arguments = [one for one in signature.parameters if one not in ("self", "cls", "args", "kwargs")]
        if "." not in name and arguments:
            assert "Args:" in (inspect.getdoc(thing) or ""), name


def test_modules_of_classes_name_what_they_export() -> None:
    for name in cnn_lstm._MODULES:
        module = getattr(cnn_lstm, name)
        assert inspect.ismodule(module)
        assert module.__doc__


def test_one_version_everywhere() -> None:
    version = cnn_lstm.__version__
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{version}] - 20" in (ROOT / "CHANGELOG.md").read_text()
