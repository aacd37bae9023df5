"""Two processes with batches of b are one process with batches of 2 b: the same training, each row counted once.

Both are real commands in processes of their own, or in this one; nothing is mocked.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from cnn_lstm.data.batches import RowBatches
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import CNNLSTM
from cnn_lstm.model.training_data import Windows
from tests.experiments import FEATURES, experiment, fit, network, predict, run, spec
from tests.fits import small_data
from tests.joined_outputs import joined
from tests.markets import market

COMMAND = Path(sys.executable).with_name("cnn-lstm")
# batch norm and dropout depend on how rows are shared out; layer norm does not
CALM = network(
    channels=[6], kernel_sizes=[3], norm="layer", conv_dropout=0.0, lstm_hidden=4, lstm_dropout=0.0,
    attention_heads=2, attention_dropout=0.0,
)  # fmt: skip
# Lightning's own default for the sampler too, which must change nothing
TWO = ["--trainer.strategy", "ddp", "--trainer.devices", "2", "--data.batch_size", "16"]
TWO += ["--trainer.use_distributed_sampler", "true"]
ONE = ["--data.batch_size", "32"]
ROWS = 1001  # odd, so that the two processes have unequal shares


class Pair(NamedTuple):
    """The run of two processes and the run of one, of one configuration."""

    two: Path
    one: Path


def command(*argv: object) -> subprocess.CompletedProcess[str]:
    """Runs the console script in a process of its own."""
    # one run at a time asks for a free port, and leaves nothing of a distributed parent in the environment
    clean = {key: value for key, value in os.environ.items() if key not in ("LOCAL_RANK", "MASTER_PORT", "RANK")}
    done = subprocess.run(
        [COMMAND, *map(str, argv)], env=clean, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    # the sizes of the parts are odd, so that the two processes never get equal shares
    # and no Adam: it blows rounding errors of gradients that are 0, such as that of the key bias, up to steps
    model = {"network": CALM, "optimizer": spec("torch.optim.SGD", lr=0.05, momentum=0.9)}
    settling = {"kind": "ema", "decay": 0.8}
    config = experiment(
        folder, market(150, symbols=("AAA", "BBB")), {"train_stride": 2}, model=model, weight_averaging=settling
    )
    one = fit(config, folder / "one", *ONE)
    command("fit", "--config", config, "--run_dir", folder / "two", *TWO)
    return Pair(folder / "two", one)


def epochs(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "metrics.csv").groupby("epoch").first()
    return table[
        [name for name in table if str(name).startswith(("train_", "val_")) and not str(name).endswith("_step")]
    ]


def metrics_of(folder: Path, stage: str) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((folder / f"{stage}_metrics.json").read_text())
    return metrics


def test_two_processes_train_as_one_with_twice_the_batch(pair: Pair) -> None:
    two, one = epochs(pair.two), epochs(pair.one)
    assert {"train_loss", "val_loss", "val_r2"} <= set(two.columns)
    pd.testing.assert_frame_equal(two, one, rtol=1e-4, atol=1e-6, check_like=True)


def test_two_processes_end_with_the_weights_of_one(pair: Pair) -> None:
    states = [read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in pair]
    for name, values in states[0].items():
        torch.testing.assert_close(values, states[1][name], rtol=1e-4, atol=1e-6, msg=partial("{}: {}".format, name))


def test_two_processes_forecast_each_row_once_as_one_does(pair: Pair) -> None:
    alone = predict(pair.two, "--trainer.strategy", "auto", "--trainer.devices", 1)
    command("predict", "--config", pair.two / "config.yaml", "--ckpt_path", "best")
    both = pd.read_parquet(pair.two / "forecasts.parquet")
    assert not both.duplicated(["symbol", "as_of", "target"]).any()
    pd.testing.assert_frame_equal(both, alone, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["validate", "test"])
def test_two_processes_find_the_figures_of_one(pair: Pair, stage: str) -> None:
    argv = ["--config", pair.two / "config.yaml", "--ckpt_path", "best"]
    assert run(stage, *argv, "--trainer.strategy", "auto", "--trainer.devices", 1) == 0
    alone, printed = metrics_of(pair.two, stage), lines_of(pair.two / f"{stage}.txt")
    command(stage, *argv)
    both = metrics_of(pair.two, stage)
    assert both.keys() == alone.keys()
    for name, value in alone.items():
        assert both[name] == pytest.approx(value, rel=1e-5, abs=1e-7, nan_ok=True), name
    assert lines_of(pair.two / f"{stage}.txt") == printed


@pytest.mark.slow
def test_two_processes_share_a_panel_in_files(pair: Pair, tmp_path: Path) -> None:
    """One of them builds it and the other waits; what they learn and forecast is what they do from memory."""
    storage = ["--data.storage", "cnn_lstm.data.mapped.MappedPanel", "--data.storage.folder", tmp_path / "panel"]
    command("fit", "--config", pair.two / "config.yaml", "--run_dir", tmp_path / "run", *storage)
    (state,) = (tmp_path / "panel").rglob("panel.json")  # of one build
    built = state.stat().st_mtime_ns
    states = [read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (tmp_path / "run", pair.two)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(values, states[1][name]) for name, values in states[0].items())
    command("predict", "--config", pair.two / "config.yaml", "--ckpt_path", "best")
    command("predict", "--config", tmp_path / "run" / "config.yaml", "--ckpt_path", "best")
    assert state.stat().st_mtime_ns == built
    mapped, in_memory = (pd.read_parquet(run / "forecasts.parquet") for run in (tmp_path / "run", pair.two))
    pd.testing.assert_frame_equal(mapped, in_memory, check_exact=True)


def lines_of(file: Path) -> list[str]:
    """What a command printed, without how often the test rows were used."""
    return [line for line in file.read_text().splitlines() if "The test rows were used" not in line]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_processes_of_a_trainer_of_ones_own_see_each_row_once(tmp_path: Path, processes: int) -> None:
    script = Path(__file__).with_name("seen_rows.py")
    root = os.pathsep.join([str(script.parents[1]), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, script, tmp_path, str(processes)],
        env=os.environ | {"PYTHONPATH": root},
        timeout=240,
        check=True,
    )
    data = small_data(tmp_path)
    data.setup()
    parts = {"train": data.fit_rows, "validation": data.parts.validation, "test": data.parts.test}
    for stage, rows in (parts | {"predict": data.rows_to_predict()}).items():
        files = list(tmp_path.glob(f"{stage}_*.txt"))
        assert len(files) == processes, stage
        seen = [int(line) for file in files for line in file.read_text().split()]
        left_out = len(rows) % (data.batch_size * processes) if stage == "train" else 0  # an incomplete last batch
        assert len(seen) == len(set(seen)) == len(rows) - left_out, stage
        assert set(seen) <= set(rows.tolist()), stage


@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_spawn", "ddp_notebook"])
def test_the_command_line_refuses_processes_that_take_their_results_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], strategy: str
) -> None:
    config = experiment(tmp_path, market(150))
    argv = ["--trainer.strategy", strategy, "--trainer.devices", 2]
    assert run("fit", "--config", config, "--run_dir", tmp_path / "run", *argv) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error[E280]: ")
    assert "ddp" in message.rsplit(" — ", 1)[1]
    assert not (tmp_path / "run").exists()


# -- what each process does, without the processes -----------------------------------------------------------


def forecaster() -> Forecaster:
    torch.manual_seed(0)
    made = Forecaster(CNNLSTM(len(FEATURES), channels=[4], kernel_sizes=[3], lstm_hidden=4, attention_heads=2))
    return made.eval()


def test_a_process_without_rows_forecasts_nothing_and_fails_at_nothing() -> None:
    """Nine rows, one per batch, on two processes: the second one has no row left for the fifth step."""
    batches = list(RowBatches(np.arange(9), 1, shuffle=False, rank=1, world_size=2))
    assert [len(batch) for batch in batches] == [1, 1, 1, 1, 0]
    empty = torch.zeros(0, 8, len(FEATURES))
    model = forecaster()
    with torch.inference_mode():
        assert model.forecast(empty).columns["y_pred"].shape == (0, 1)
        for step in (model.validation_step, model.test_step, model.predict_step):
            step(Windows(empty, torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64)), 0)


def test_processes_join_large_forecasts_piece_by_piece(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(joined, [(rank, tmp_path, 2, ROWS) for rank in range(2)], chunksize=1)
    assert not list(kept.iterdir())  # nothing is left
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert torch.equal(found["row"], torch.arange(ROWS))
        assert torch.equal(found["y_pred"], torch.arange(ROWS)[:, None] / 7)


def test_the_gradient_of_two_half_batches_is_that_of_the_whole_one() -> None:
    model = forecaster()
    x, y = torch.randn(16, 8, len(FEATURES)), torch.randn(16, 1)

    def gradient(rows: slice) -> torch.Tensor:
        model.zero_grad()
        model.objective.loss(model.head(model.network(x[rows])).unflatten(1, (1, -1)), y[rows]).backward()
        return torch.cat([part.grad.flatten() for part in model.parameters() if part.grad is not None])

    halves = (gradient(slice(0, None, 2)) + gradient(slice(1, None, 2))) / 2
    torch.testing.assert_close(halves, gradient(slice(None)), rtol=1e-4, atol=1e-6)
