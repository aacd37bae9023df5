"""The package where something that it uses is not there: modules of Unix, or most of the libraries.

A child process gets a `sitecustomize` that refuses imports before anything else runs; its own children inherit it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).parents[2]
HIDES = """
import sys


class Hides:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}, it is hidden", name=name)


sys.meta_path.insert(0, Hides())
for name in [name for name in sys.modules if name.partition(".")[0] in {names}]:
    del sys.modules[name]
"""


def python(
    folder: Path, hidden: Collection[str], *argv: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python in a folder where imports of some modules fail; returns how it ended.

    Args:
        folder: The folder, which also gets the code that refuses.
        hidden: Names of the modules.
        argv: Arguments of Python.
        environment: Variables to set.
    """
    hook = folder / ".hides"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(HIDES.format(names=set(hidden)), encoding="utf-8")
    path = os.pathsep.join([str(hook), str(ROOT)])
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment}
    words = [sys.executable, *map(str, argv)]
    return subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, timeout=900, check=False)
