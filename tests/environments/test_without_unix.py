"""The package as on Windows: modules that only Unix has are hidden, and nothing is forked.

What this cannot show is Windows itself; docs/install.md says what was never run there.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import torch

import cnn_lstm
from cnn_lstm.training import peak_memory
from cnn_lstm.training.console import totals_line
from tests.environments import python
from tests.experiments import experiment
from tests.markets import market

UNIX = ("fcntl", "resource", "pwd", "grp", "termios", "pty", "tty", "syslog", "posix_ipc", "spwd", "nis")
EVERY_MODULE = """
import importlib, pkgutil, warnings
warnings.simplefilter("error", EncodingWarning)
import cnn_lstm
names = [module.name for module in pkgutil.walk_packages(cnn_lstm.__path__, "cnn_lstm.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""
CORE = """
import sys, warnings
warnings.filterwarnings("error", category=EncodingWarning, module="cnn_lstm")
from cnn_lstm.cli import main
from cnn_lstm.runs import fork_server
fork_server.AVAILABLE = False
for words in COMMANDS:
    print("::", words[0], flush=True)
    if code := main(words):
        sys.exit(code)

from pathlib import Path
import pandas as pd
from cnn_lstm import Predictor
from cnn_lstm.locks import LOCK, take_file, take_folder
prices = pd.read_parquet("prices.parquet")
predictor = Predictor.from_checkpoint("run/checkpoints/best.ckpt")
last = prices["timestamp"].max()
stream = predictor.stream(prices[prices["timestamp"] < last])
assert len(stream.update(prices[prices["timestamp"] == last]))
with take_folder(Path("locked"), "fit", "run") as lock, take_file(Path("locked/state"), "stream", "state"):
    print("locked", lock.path.name == LOCK)
assert not list(Path("locked").iterdir())
"""
SPACE = """
sampler: {name: random}
objectives: [{metric: val_loss, direction: minimize}]
space: {model.optimizer.lr: {float: [0.001, 0.01], log: true}}
"""


def test_modules_of_unix_are_imported_where_they_may_fail() -> None:
    bare = []
    for path in sorted(Path(cnn_lstm.__file__).parent.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:  # not within a try
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            bare += [f"{path.name}: {name}" for name in names if name.split(".")[0] in UNIX]
    assert bare == []


@pytest.mark.slow
def test_every_module_can_be_imported_without_those_of_unix(tmp_path: Path) -> None:
    done = python(tmp_path, UNIX, "-W", "ignore", "-c", EVERY_MODULE)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 200


@pytest.mark.slow
def test_the_core_works_without_them(tmp_path: Path) -> None:
    config = experiment(tmp_path, market(140))
    (tmp_path / "space.yaml").write_text(SPACE)
    of_run = ["--config", "run/config.yaml", "--ckpt_path", "best"]
    commands = [
        ["fit", "--config", config.name, "--run_dir", "run", "--trainer.max_epochs", "1"],
        ["test", *of_run],
        ["predict", *of_run],
        ["fit", "--config", "run/config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", "2"],
        ["sweep", "--config", config.name, "--space", "space.yaml", "--n_trials", "2", "--folder", "sweep"],
        ["audit", *of_run[2:], "--config", "run/config.yaml"],
    ]
    code = CORE.replace("COMMANDS", repr(commands))
    done = python(tmp_path, UNIX, "-W", "ignore", "-c", code, PYTHONWARNDEFAULTENCODING="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "locked True" in done.stdout
    assert (tmp_path / "run" / "predictions.parquet").exists()
    assert (tmp_path / "sweep" / "best.yaml").exists()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == 2


def test_a_system_that_does_not_say_its_memory_has_no_such_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak_memory, "resource", None)
    assert peak_memory.peak_memory_mib(torch.device("cpu")) is None
    line = totals_line({"epochs": 1, "seconds": 1.0, "windows_per_s": 10.0})
    assert line == "1 epoch took 1.0 s of training, 10 windows/s"


def test_files_of_text_name_their_encoding() -> None:
    """Where Windows is set to a code page of its own, `open` would read and write in that."""
    nameless = []
    for path in sorted(Path(cnn_lstm.__file__).parent.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and _opens_text(call):
                nameless.append(f"{path.name}:{call.lineno}")
    assert nameless == []


def _opens_text(call: ast.Call) -> bool:
    """Whether it opens a file of text without a word about its encoding; functions of ours have such names too."""
    name = getattr(call.func, "attr", "")
    modes = [str(word.value) for word in call.args[:2] if isinstance(word, ast.Constant)]
    text = name in ("read_text", "write_text") or (
        name == "open" and bool(modes) and all(set(mode) <= set("rwxa+t") for mode in modes)
    )
    return text and "encoding" not in {word.arg for word in call.keywords}
