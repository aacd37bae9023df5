"""A worker of a sweep sets its data up once, however many trials it carries out: counted by a feature.

`test_worker.py` tests the same within one process, which takes seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml

from tests.experiments import FEATURES, experiment
from tests.markets import walk

WORKERS = 2
COUNTED = '''
from cnn_lstm.data.features import feature

@feature(inputs=("close",))
def close(bars):
    """The change of the close; notes that it is computed."""
    with open({notes!r}, "a") as file:
        file.write("computed\\n")
    return bars["close"].pct_change().where(bars["symbol"].eq(bars["symbol"].shift()))
'''


@pytest.mark.slow
@pytest.mark.parametrize(("symbols", "rows", "trials"), [(3, 160, 5), (500, 5000, 20)])
def test_each_worker_computes_its_features_once(symbols: int, rows: int, trials: int, tmp_path: Path) -> None:
    notes, space = tmp_path / "notes", tmp_path / "space.yaml"
    (tmp_path / "counted.py").write_text(COUNTED.format(notes=str(notes)))
    space.write_text(yaml.safe_dump({"space": {"model.optimizer.init_args.lr": {"float": [0.001, 0.01]}}}))
    # kept in files, the panel of one worker would serve the other
    table = pd.concat([walk(rows, f"S{number:03d}", number) for number in range(symbols)], ignore_index=True)
    table["timestamp"] -= pd.Timedelta(weeks=1000)  # 5,000 rows would end in the future
    config = experiment(tmp_path, table, {"features": [*FEATURES, "counted.close"], "cache": None})
    limits = [f"--trainer.limit_{part}_batches=2" for part in ("train", "val", "test")]
    argv = ["sweep", "--config", config, "--space", space, "--n_trials", trials, "--n_jobs", WORKERS, "--folder",
            tmp_path / "sweep", "--trust-imports", "counted", *limits]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "cnn_lstm", *map(str, argv)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path / 'sweep' / 'study.db'}")
    assert len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE])) == trials
    computed = notes.read_text().count("\n") / symbols  # the function is called for one symbol at a time
    # the process of the sweep does so at the beginning, and for the test of what was chosen
    assert WORKERS <= computed <= WORKERS + 2 < trials
