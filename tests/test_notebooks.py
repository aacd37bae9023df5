"""The notebooks of the guide: every cell of their short forms runs, and everything that makes them long is seen."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from cnn_lstm import specs

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "notebooks"
SHORT: dict[str, dict[str, Any]] = {  # what the tests give the first cell, in place of its own values
    "first_forecast": {"EPOCHS": 1, "SYMBOLS": ["IBM"], "SINCE": "2007-01-01"},
    "your_own_csv": {"EPOCHS": 1, "SINCE": "2009-01-01"},
    "is_it_real": {"EPOCHS": 1, "SYMBOLS": ["IBM"], "SINCE": "2007-01-01"},
    "volatility": {"EPOCHS": 1, "SEEDS": 1, "SYMBOLS": ["IBM"]},
    "every_evening": {"EPOCHS": 1, "EVENINGS": 6, "SYMBOLS": ["IBM"]},
    "agent": {"EPOCHS": 1, "STEPS": 512},
    "sweep": {"TRIALS": 1, "EPOCHS": 1, "SYMBOLS": ["IBM"]},
}
QUICK = ("first_forecast",)  # the others take more than 8 s each
NEEDED = {"agent": ("gymnasium", "stable_baselines3")}


def cells_of(notebook: str) -> list[tuple[int, str]]:
    """The code of a notebook, each cell with its first line."""
    text = (FOLDER / f"{notebook}.md").read_text(encoding="utf-8")
    found = re.finditer(r"^```\{code-cell\} python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start()].count("\n") + 1, match[1]) for match in found]


def names_set(code: str) -> set[str]:
    """Names that a cell gives values to."""
    return {
        ast.unparse(target) for node in ast.parse(code).body if isinstance(node, ast.Assign) for target in node.targets
    }


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; what a notebook trusts or imports from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(specs, "_trusted", set(specs.trusted_packages()))
    before = set(sys.modules)
    backend = matplotlib.get_backend()
    matplotlib.use("agg")
    yield tmp_path
    matplotlib.use(backend)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize(
    "notebook", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in SHORT]
)
def test_the_short_form_runs(notebook: str, workplace: Path) -> None:
    for package in NEEDED.get(notebook, ()):
        pytest.importorskip(package)
    (_, first), *others = cells_of(notebook)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(first, namespace)
    namespace.update(SHORT[notebook])
    for line, code in others:
        exec(compile("\n" * line + code, str(FOLDER / f"{notebook}.md"), "exec"), namespace)


def test_each_notebook_has_a_short_form() -> None:
    assert set(SHORT) == {file.stem for file in FOLDER.glob("*.md")}


@pytest.mark.parametrize("notebook", SHORT)
def test_the_first_cell_holds_all_parameters(notebook: str) -> None:
    (_, first), *others = cells_of(notebook)

    assert names_set(first) == set(SHORT[notebook])
    assert not any(names_set(code) & set(SHORT[notebook]) for _, code in others)


@pytest.mark.parametrize("notebook", SHORT)
def test_no_cell_is_hidden(notebook: str) -> None:
    text = (FOLDER / f"{notebook}.md").read_text(encoding="utf-8")

    assert len(cells_of(notebook)) == len(re.findall(r"^```\{code-cell\}", text, re.MULTILINE))
    assert not re.search(r"^:?tags:|hide-|remove-", text, re.MULTILINE)
