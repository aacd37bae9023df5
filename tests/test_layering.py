"""Who may import whom: downwards only, never sideways between arms, never the package root, never late."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

import cnn_lstm

ROOT = Path(cnn_lstm.__file__).parent
BASE = {
    *("bounded", "credentials", "documents", "errors", "files", "hints", "locks", "pages", "plain_values", "shipped"),
    "specs",
}
# room -> what it may import besides itself and BASE; a room without an entry is refused
MAY_IMPORT: dict[str, set[str]] = {
    "bounded": set(),
    "credentials": set(),
    "documents": set(),
    "errors": set(),
    "files": set(),
    "hints": set(),
    "locks": set(),
    "pages": set(),
    "plain_values": set(),
    "shipped": set(),
    "specs": set(),
    "data": set(),
    "model": set(),
    "training": {"data", "model"},
    "inference": {"data", "model"},
    "evaluation": {"data", "model", "inference"},
    "runs": {"data", "model", "training", "inference", "evaluation"},
    "sweeps": {"data", "model", "training", "inference", "evaluation", "runs"},
    "rl": {"data", "model", "training", "inference", "evaluation", "runs"},
    # above both arms: trials of sweeps that are agents of rl
    "agent_sweeps": {"data", "model", "training", "inference", "evaluation", "runs", "sweeps", "rl"},
    "service": {"data", "model", "training", "inference", "evaluation", "runs"},
    "commands": {
        *("data", "model", "training", "inference", "evaluation", "runs", "service", "sweeps", "rl", "agent_sweeps"),
    },
    "cli": {"commands"},
    "__main__": {"cli"},
    "notebook": {"data", "model", "training", "inference", "evaluation", "runs", "service", "sweeps"},
    "__init__": {"data", "model", "inference", "evaluation", "notebook"},  # by name, on first use
}
# (file, module) -> why it is imported inside a function
LATE: dict[tuple[str, str], str] = {
    ("bounded.py", "yaml"): "what forecasts from a table of prices needs none",
    ("data/several_cores.py", "joblib"): "needed for large tables only, and takes a tenth of a second",
    ("training/history_plot.py", "matplotlib"): "slow, and only for drawing",
    ("training/history_plot.py", "matplotlib.figure"): "as matplotlib",
    ("training/history_plot.py", "matplotlib.ticker"): "as matplotlib",
    ("data/sources/yahoo.py", "yfinance"): "slow, and only for this source",
    ("data/sources/yahoo.py", "yfinance.exceptions"): "as yfinance",
    ("data/sources/sql.py", "cnn_lstm.data.sources.database"): "imports sqlalchemy, slow, and only for this source",
    (
        "training/tracking/delivery.py",
        "cnn_lstm.training.tracking.store",
    ): "imports mlflow, in the sending thread",
    ("training/tracking/record.py", "cnn_lstm.training.tracking.machine"): "as cnn_lstm.training.tracking.store",
    ("runs/outcome.py", "cnn_lstm.evaluation.judge"): "imports the statistics libraries; only for test",
    (
        "runs/data_config.py",
        "cnn_lstm.runs.forecast_cli",
    ): "imports Lightning; only for a configuration that its parser has to look at",
    ("model/linear.py", "cnn_lstm.model.logistic"): "imports scikit-learn, and only for classes",
    ("model/ridge.py", "scipy.special"): "a tenth of a second, and only for a fit",
    ("inference/pyfunc.py", "mlflow.pyfunc"): "slow, and only to write a model",
    ("inference/pyfunc.py", "mlflow.models"): "as mlflow.pyfunc",
    ("inference/pyfunc.py", "mlflow.types.schema"): "as mlflow.pyfunc",
    ("inference/export.py", "onnx"): "an optional extra",
    ("inference/export.py", "onnxruntime"): "as onnx",
    ("inference/export.py", "onnxscript"): "as onnx",
    ("inference/export.py", "safetensors.torch"): "as onnx",
    ("evaluation/baselines/boosting.py", "lightgbm"): "an optional extra",
    ("evaluation/explanation/attribution.py", "captum.attr"): "an optional extra",
    ("data/exchange.py", "exchange_calendars"): "an optional extra",
    ("data/sources/packages.py", "skfolio"): "an optional package, and it takes seconds",
    ("runs/cluster.py", "ray"): "an optional extra",
    ("commands/encode.py", "cnn_lstm.runs.data_config"): "imports jsonargparse, only for a configuration",
    ("commands/predict.py", "cnn_lstm.commands"): "imports Lightning, which a checkpoint alone does not need",
    ("commands/predict.py", "cnn_lstm.runs.data_config"): "as of commands/encode.py",
    ("commands/rl.py", "cnn_lstm.rl.job"): "an optional extra; the command says how to install it",
    ("commands/rl.py", "cnn_lstm.rl.training"): "as cnn_lstm.rl.job",
    ("commands/rl.py", "cnn_lstm.rl.evaluation"): "as cnn_lstm.rl.job",
    ("commands/rl.py", "cnn_lstm.agent_sweeps.search"): "as cnn_lstm.rl.job",
    ("commands/rl.py", "cnn_lstm.sweeps.search"): "imports Lightning; only for a sweep",
    ("rl/plots.py", "matplotlib.figure"): "slow, and only for drawing",
    ("rl/plots.py", "matplotlib.backends.backend_agg"): "as matplotlib.figure",
    ("training/launchers.py", "psutil"): "only under torchrun; it imports modules that a system may not have",
    ("training/peak_memory.py", "psutil"): "only where the standard library has no such counter",
    ("training/plots.py", "matplotlib.figure"): "slow, and only for a plot that is drawn",
    ("training/plots.py", "matplotlib.backends.backend_agg"): "as matplotlib.figure",
}


def files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """Module and names of each import; `import a` has no names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module or "", [alias.name for alias in node.names]


def texts(tree: ast.Module) -> Iterator[str]:
    """Strings of code, parts of formatted ones among them; docstrings are prose."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def named_modules(text: str, known: set[str]) -> Iterator[str]:
    """Modules of ours that a string names, such as a `class_path`, an entry of a table, or a program does."""
    if re.search(r"(?:from|import)\s+cnn_lstm\b(?!\.)", text):
        yield "cnn_lstm"
    for name in re.findall(r"\bcnn_lstm(?:\.\w+)+", text):
        parts = name.split(".")
        prefixes = [".".join(parts[:count]) for count in range(len(parts), 1, -1)]
        yield from [prefix for prefix in prefixes if prefix in known][:1]


def own_modules(path: Path) -> set[str]:
    """Modules of ours that a file imports or names in a string; `from package import module` counts as the module."""
    known = {module_name(file) for file in files()}
    tree = ast.parse(path.read_text())
    modules = {module for text in texts(tree) for module in named_modules(text, known)} - {module_name(path)}
    for module, names in imports(tree):
        if module.split(".")[0] == "cnn_lstm":
            submodules = {f"{module}.{name}" for name in names} & known
            modules |= submodules if len(submodules) == len(names) and names else submodules | {module}
    return modules


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("cnn_lstm.model.network.CNNLSTM", ["cnn_lstm.model.network"]),
        ("import os\nfrom cnn_lstm.cli import script", ["cnn_lstm.cli"]),
        ("from cnn_lstm import cli", ["cnn_lstm"]),
        ("cnn_lstm.rl.market:MarketEnv", ["cnn_lstm.rl.market"]),
        ("call cnn_lstm.trust, or see configs/sweep/cnn_lstm.yaml", []),
        ("cnn_lstm", []),
    ],
)
def test_imports_in_strings_are_found(text: str, modules: list[str]) -> None:
    assert list(named_modules(text, {module_name(file) for file in files()})) == modules


def test_our_program_is_started_in_one_place() -> None:
    """Everywhere else `PROGRAM` of runs/processes.py is: the command line is not a module that may be imported."""
    starting = []
    for path in files():
        tree = ast.parse(path.read_text())
        lists = [node.elts for node in ast.walk(tree) if isinstance(node, ast.List | ast.Tuple)]
        pairs = [pair for items in lists for pair in pairwise(map(ast.unparse, items))]
        if ("'-m'", "'cnn_lstm'") in pairs or any("-m cnn_lstm" in text for text in texts(tree)):
            starting.append(path.relative_to(ROOT).as_posix())
    assert starting == ["runs/processes.py"]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path: Path) -> None:
    allowed = MAY_IMPORT[room(path)] | BASE | {room(path)}
    if room(path) in ("bounded", "credentials"):
        allowed = set()
    elif room(path) == "errors":
        allowed = {"credentials"}
    elif room(path) == "specs":
        allowed = {"errors"}
    for module in own_modules(path):
        assert module != "cnn_lstm", "the package root is for users only"
        assert module.split(".")[1] in allowed, f"{room(path)} must not import {module}"


def test_there_is_no_import_cycle() -> None:
    graph = {module_name(path): own_modules(path) for path in files()}
    assert graph["cnn_lstm.model.checkpoints"] >= {"cnn_lstm.model.contract", "cnn_lstm.model.forecast_model"}
    TopologicalSorter(graph).prepare()  # raises CycleError, naming the cycle


def late_imports() -> set[tuple[str, str]]:
    modules: set[tuple[str, str]] = set()
    for path in files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                modules |= {(path.relative_to(ROOT).as_posix(), module) for module, _ in imports(node)}
    return modules


def test_imports_inside_functions_have_a_reason() -> None:
    assert late_imports() == set(LATE)


def test_model_knows_no_pandas_and_data_no_network() -> None:
    for path in files():
        outside = {module.split(".")[0] for module, _ in imports(ast.parse(path.read_text()))}
        if room(path) == "model":
            assert not outside & {"pandas", "talib", "pyarrow", "yfinance"}, path
        if room(path) == "data":
            assert "torchmetrics" not in outside, path
