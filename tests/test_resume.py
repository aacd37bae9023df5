"""Two runs with one seed are one run, and a run that was stopped and resumed is the run that was not."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.training.loggers import AppendingCSVLogger
from cnn_lstm.training.metric_names import grouped
from tests.experiments import experiment, fit, network, run
from tests.markets import market

EPOCHS, CUTS = 4, [1, 2, 3]
# attention, dropout everywhere, and batch norm: all that has a state of its own
STATEFUL = network(
    channels=[6], kernel_sizes=[3], norm="batch", conv_dropout=0.2, lstm_hidden=4, lstm_dropout=0.3,
    attention_heads=2, attention_dropout=0.2,
)  # fmt: skip
PLATEAU = {
    "class_path": "lightning.pytorch.cli.ReduceLROnPlateau",
    # no epoch is better than the one before by 10: the rate falls after each epoch but the first
    "init_args": {"monitor": "val_loss", "factor": 0.5, "patience": 0, "threshold": 10.0, "threshold_mode": "abs"},
}
COSINE = {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR", "init_args": {"T_max": EPOCHS}}
ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.02}}


class Case(NamedTuple):
    """A configuration, and the run that was never stopped."""

    config: Path
    whole: Path


def metrics(folder: Path) -> pd.DataFrame:
    """The metrics of each epoch, one row per epoch."""
    table = pd.read_csv(folder / "metrics.csv")
    epochs = table[table["val_loss"].notna() | table["train_loss"].notna()]
    clock = ["step", "epoch_s", "windows_per_s", "peak_memory_mib"]
    return epochs.groupby("epoch").first().drop(columns=clock)


def rates(folder: Path) -> list[float]:
    table = pd.read_csv(folder / "metrics.csv")
    return [float(rate) for rate in table.filter(like="lr-").iloc[:, 0].dropna()]


def weights(folder: Path, alias: str = "last") -> dict[str, Tensor]:
    state: dict[str, Tensor] = read_checkpoint(folder / "checkpoints" / f"{alias}.ckpt")["state_dict"]
    return state


def assert_same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if one[name].numpy().tobytes() != other[name].numpy().tobytes()]
    assert different == []


@pytest.fixture(scope="module", params=[PLATEAU, COSINE], ids=["plateau", "cosine"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("runs")
    model: dict[str, Any] = {"network": STATEFUL, "optimizer": ADAM, "scheduler": request.param}
    config = experiment(folder, market(110), model=model)
    return Case(config, fit(config, folder / "whole", "--trainer.max_epochs", EPOCHS))


def test_two_runs_with_one_seed_are_equal_bit_for_bit(case: Case, tmp_path: Path) -> None:
    again = fit(case.config, tmp_path / "again", "--trainer.max_epochs", EPOCHS)
    for alias in ("last", "best"):
        assert_same_weights(weights(case.whole, alias), weights(again, alias))
    pd.testing.assert_frame_equal(metrics(again), metrics(case.whole), check_exact=True)


def test_another_seed_is_another_run(case: Case, tmp_path: Path) -> None:
    argv = ["--trainer.max_epochs", 1, "--seed_everything"]
    one, other = (fit(case.config, tmp_path / str(seed), *argv, seed) for seed in (7, 8))
    assert metrics(one)["train_loss"].iloc[0] != metrics(other)["train_loss"].iloc[0]


def test_the_rate_really_falls_around_the_cuts(case: Case) -> None:
    values = rates(case.whole)
    assert len(values) == EPOCHS
    assert all(later < earlier for earlier, later in pairwise(values[1:]))


@pytest.mark.parametrize("cut", CUTS)
def test_a_resumed_run_ends_as_the_one_that_was_not_stopped(case: Case, tmp_path: Path, cut: int) -> None:
    part = fit(case.config, tmp_path / "part", "--trainer.max_epochs", cut)
    argv = ["--config", part / "config.yaml", "--trainer.max_epochs", EPOCHS, "--ckpt_path"]
    assert run("fit", *argv, "last") == 0
    assert_same_weights(weights(case.whole), weights(part))
    one, other = (metrics(folder).loc[[EPOCHS - 1]] for folder in (case.whole, part))
    pd.testing.assert_frame_equal(one, other, rtol=1e-6)


def test_a_checkpoint_may_be_named_by_its_path(case: Case, tmp_path: Path) -> None:
    part = fit(case.config, tmp_path / "part", "--trainer.max_epochs", 2)
    last = part / "checkpoints" / "last.ckpt"
    argv = ["--trainer.max_epochs", EPOCHS, "--ckpt_path", last, "--run_dir", tmp_path / "part"]
    assert run("fit", "--config", case.config, *argv) == 0
    assert_same_weights(weights(case.whole), weights(part))


def test_optimiser_scheduler_and_best_score_are_those_of_the_whole_run(case: Case, tmp_path: Path) -> None:
    part = fit(case.config, tmp_path / "part", "--trainer.max_epochs", 2)
    argv = ["--trainer.max_epochs", EPOCHS, "--ckpt_path", "last"]
    assert run("fit", "--config", part / "config.yaml", *argv) == 0
    one, other = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (case.whole, part))
    for key in ("epoch", "global_step", "lr_schedulers"):
        assert one[key] == other[key], key
    for name, state in one["optimizer_states"][0]["state"].items():
        for key, value in state.items():
            assert torch.equal(value, other["optimizer_states"][0]["state"][name][key])
    assert_same_weights(weights(case.whole, "best"), weights(part, "best"))


def test_figures_of_the_epochs_before_the_cut_stay_in_the_file(case: Case, tmp_path: Path) -> None:
    part = fit(case.config, tmp_path / "part", "--trainer.max_epochs", 2)
    before = metrics(part)
    argv = ["--trainer.max_epochs", EPOCHS, "--ckpt_path", "last"]
    assert run("fit", "--config", part / "config.yaml", *argv) == 0
    after = metrics(part)
    assert after.index.tolist() == list(range(EPOCHS))
    pd.testing.assert_frame_equal(after.loc[:1, before.columns], before)


def test_a_resumed_run_sees_each_epochs_own_order(tmp_path: Path) -> None:
    """Without dropout the training loss of each step tells which rows it saw."""
    plain = network(
        channels=[4], kernel_sizes=[3], norm="none", conv_dropout=0.0, lstm_hidden=4, lstm_dropout=0.0,
        attention_heads=0,
    )  # fmt: skip
    still = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1e-12}}
    config = experiment(tmp_path, market(110), model={"network": plain, "optimizer": still, "scheduler": None})
    losses = step_losses(fit(config, tmp_path / "whole", "--trainer.max_epochs", 3))
    steps = len(losses) // 3
    assert losses[:steps] != pytest.approx(losses[steps : 2 * steps], rel=1e-4)
    part = fit(config, tmp_path / "part", "--trainer.max_epochs", 2)
    argv = ["--trainer.max_epochs", 3, "--ckpt_path", "last"]
    assert run("fit", "--config", part / "config.yaml", *argv) == 0
    assert step_losses(part)[-steps:] == losses[-steps:]


def step_losses(folder: Path) -> list[float]:
    losses = pd.read_csv(folder / "metrics.csv")["train_loss_step"].dropna()
    return [float(loss) for loss in losses]


def test_a_copied_run_goes_on_where_it_lies_and_keeps_its_best(case: Case, tmp_path: Path) -> None:
    """Lightning forgets the best score when the folder has changed, and overwrites best.ckpt with a worse model."""
    copied = tmp_path / "copied"
    shutil.copytree(case.whole, copied)
    before = (copied / "checkpoints/best.ckpt").read_bytes()
    untouched = (case.whole / "checkpoints/last.ckpt").read_bytes()
    argv = ["--trainer.max_epochs", EPOCHS + 1, "--model.optimizer.init_args.lr", 10.0]
    assert run("fit", "--config", copied / "config.yaml", "--ckpt_path", "last", *argv) == 0
    assert (copied / "checkpoints/best.ckpt").read_bytes() == before
    assert (case.whole / "checkpoints/last.ckpt").read_bytes() == untouched


# -- each point once -----------------------------------------------------------------------------------------------


def points(folder: Path) -> list[tuple[int, str]]:
    """Step and column of each value in metrics.csv, in their order, without those of `epoch`."""
    rows = pd.read_csv(folder / "metrics.csv")
    return [
        (step, str(name))
        for step, cells in zip(rows["step"], rows.drop(columns=["step", "epoch"]).to_dict("records"), strict=True)
        for name, value in cells.items()
        if pd.notna(value)
    ]


def tensorboard_points(folder: Path) -> list[tuple[int, str]]:
    accumulator = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in accumulator.Tags()["scalars"] if tag != "epoch"]
    return [(event.step, tag) for tag in tags for event in accumulator.Scalars(tag)]


def assert_each_point_once(folder: Path) -> None:
    in_file, in_tensorboard = points(folder), tensorboard_points(folder)
    assert len(in_file) == len(set(in_file))
    assert [step for step, _ in in_file] == sorted(step for step, _ in in_file)
    assert len(in_tensorboard) == len(set(in_tensorboard))
    assert {point for point in in_tensorboard if not point[1].startswith("final/")} == {
        (step, grouped(name)) for step, name in in_file
    }


def kill_in_mid_epoch(config: Path, folder: Path, *argv: object) -> int:
    """Fits in a process of its own, kills it well after its first checkpoint, and returns the checkpoint's step."""
    arguments = ["fit", "--config", config, "--run_dir", folder, *argv]
    process = subprocess.Popen(
        [sys.executable, "-m", "cnn_lstm", *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    last, steps, deadline = folder / "checkpoints" / "last.ckpt", [0], time.monotonic() + 300
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if last.is_file() and steps[-1] > read_checkpoint(last)["global_step"] + 3:
                break
            time.sleep(0.02)
            steps = whole_steps(folder / "metrics.csv") or [0]
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    return int(read_checkpoint(last)["global_step"])


def whole_steps(file: Path) -> list[int]:
    """Steps of the whole rows of a file that is being written."""
    if not file.is_file():
        return []
    with file.open(newline="") as lines:
        return [int(row["step"]) for row in csv.DictReader(lines) if None not in row.values()]


@pytest.fixture
def long_epochs(tmp_path: Path) -> Path:
    """Epochs of many steps, each logged, with norms in rows of their own."""
    config = experiment(tmp_path, market(200), data={"batch_size": 1}, grad_norm={"every_n_steps": 2})
    config.write_text(config.read_text().replace("tensorboard: false", "tensorboard: true"))
    return config


@pytest.mark.slow
def test_a_run_killed_in_mid_epoch_and_resumed_has_each_point_once(long_epochs: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    at = kill_in_mid_epoch(long_epochs, run_dir, "--trainer.max_epochs", 9)
    before = [point for point in points(run_dir) if point[0] < at]
    assert max(step for step, _ in points(run_dir)) > at
    epochs = read_epochs(run_dir) + 1
    argv = ["--config", run_dir / "config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", epochs]
    assert run("fit", *argv) == 0
    assert_each_point_once(run_dir)
    assert points(run_dir)[: len(before)] == before
    steps = {step for step, name in points(run_dir) if name == "train_loss_step"}
    assert steps == set(range(max(steps) + 1))


def read_epochs(folder: Path) -> int:
    return int(read_checkpoint(folder / "checkpoints" / "last.ckpt")["epoch"]) + 1


def test_a_run_that_goes_on_from_an_earlier_epoch_has_each_point_once(tmp_path: Path) -> None:
    config = experiment(tmp_path, market(110))
    part = fit(config, tmp_path / "part", "--trainer.max_epochs", 1, "--tensorboard", "true")
    earlier = part / "checkpoints" / "earlier.ckpt"
    shutil.copy(part / "checkpoints" / "best.ckpt", earlier)
    argv = ["--config", part / "config.yaml", "--trainer.max_epochs", 3, "--ckpt_path"]
    assert run("fit", *argv, "last") == 0
    whole = points(part)
    assert run("fit", *argv, earlier) == 0
    assert points(part) == whole
    assert_each_point_once(part)


def test_a_resume_that_is_refused_takes_nothing_back(tmp_path: Path) -> None:
    config = experiment(tmp_path, market(110))
    part = fit(config, tmp_path / "part", "--trainer.max_epochs", 1, "--tensorboard", "true")
    earlier = part / "checkpoints" / "earlier.ckpt"
    shutil.copy(part / "checkpoints" / "last.ckpt", earlier)
    more = ["--trainer.max_epochs", 3, "--ckpt_path", "last"]
    assert run("fit", "--config", part / "config.yaml", *more) == 0
    in_file, in_tensorboard = points(part), tensorboard_points(part)
    assert read_checkpoint(earlier)["global_step"] < in_file[-1][0]
    argv = ["--trainer.max_epochs", 4, "--data.window", 7, "--ckpt_path", earlier]
    assert run("fit", "--config", part / "config.yaml", *argv) == 4
    assert (points(part), tensorboard_points(part)) == (in_file, in_tensorboard)


def test_a_row_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    logger = AppendingCSVLogger(tmp_path, name="", version="")
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,step,x\n0,4,1.5\n0,5,2.5\n0,")
    logger.experiment.forget_from(5)
    assert file.read_text().split() == ["epoch,step,x", "0,4,1.5"]
    logger.log_metrics({"epoch": 0, "x": 3.5}, step=5)
    logger.save()
    assert file.read_text().split()[-1] == "0,5,3.5"
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("left", ["epoch,ste", "\0" * 9, "\0" * 9 + "\n0,1,2\n"])
def test_a_header_that_a_crash_has_cut_off_makes_no_column(tmp_path: Path, left: str) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text(left)
    logger = AppendingCSVLogger(tmp_path, name="", version="")
    logger.log_metrics({"epoch": 0, "x": 3.5}, step=5)
    logger.save()
    assert file.read_text().split()[0] == "epoch,step,x"
    assert file.read_text().split()[-1] == "0,5,3.5"


def test_a_kill_while_a_column_is_added_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = AppendingCSVLogger(tmp_path, name="", version="")
    logger.log_metrics({"x": 1.5}, step=0)
    logger.save()
    before = (tmp_path / "metrics.csv").read_bytes()
    logger.log_metrics({"x": 2.5, "y": 0.5}, step=1)
    monkeypatch.setattr("csv.DictWriter.writerows", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        logger.save()
    assert (tmp_path / "metrics.csv").read_bytes() == before
    monkeypatch.undo()
    logger.save()  # as the trainer does while it ends
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert table.to_dict("list") == {
        "step": [0, 1],
        "x": [1.5, 2.5],
        "y": pytest.approx([float("nan"), 0.5], nan_ok=True),
    }
