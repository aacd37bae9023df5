"""Use an installed package as a new user does, in an empty folder: python try_installed.py.

Writes the configurations, trains for one epoch, tests and predicts. Ends with an error where one of these fails, or
where the package is not the installed one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

SMALL = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "4", "--no_mlflow", "--quiet"]


def main() -> None:
    """Runs the journey in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        where = _call(folder, "-c", "import cnn_lstm; print(cnn_lstm.__file__)").strip()
        assert "site-packages" in where, f"not the installed package: {where}"
        for argv in (
            ["--version"],
            ["init", ".", "quickstart"],
            ["fit", "--config", "configs/quickstart.yaml", "--run_dir", "run", *SMALL],
            ["predict", "--config", "run/config.yaml", "--ckpt_path", "best"],
            ["test", "--config", "run/config.yaml", "--ckpt_path", "best"],
            ["init", "--list"],
        ):
            _call(folder, "-m", "cnn_lstm", *argv)
        made = {path.name for path in (Path(folder) / "run").iterdir()}
        missing = {"config.yaml", "forecasts.parquet", "report.html", "predictions.parquet"} - made
        assert not missing, f"the run lacks {sorted(missing)}"
    print("the installed package works: init, fit, predict, test")


def _call(folder: str, *argv: str) -> str:
    done = subprocess.run([sys.executable, *argv], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)} ended with {done.returncode}: {done.stderr}"
    return done.stdout


if __name__ == "__main__":
    main()
