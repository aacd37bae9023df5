"""Two runs with one seed are one run, and a run that was stopped and resumed is the run that was not."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import torch
from torch import Tensor

from cnn_lstm.model.checkpoints import read_checkpoint
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
    """The figures of each epoch, one row an epoch."""
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
    words = ["--trainer.max_epochs", 1, "--seed_everything"]
    one, other = (fit(case.config, tmp_path / str(seed), *words, seed) for seed in (7, 8))
    assert metrics(one)["train_loss"].iloc[0] != metrics(other)["train_loss"].iloc[0]


def test_the_rate_really_falls_around_the_cuts(case: Case) -> None:
    found = rates(case.whole)
    assert len(found) == EPOCHS
    assert all(later < earlier for earlier, later in pairwise(found[1:]))


@pytest.mark.parametrize("cut", CUTS)
def test_a_resumed_run_ends_as_the_one_that_was_not_stopped(case: Case, tmp_path: Path, cut: int) -> None:
    part = fit(case.config, tmp_path / "part", "--trainer.max_epochs", cut)
    words = ["--config", part / "config.yaml", "--trainer.max_epochs", EPOCHS, "--ckpt_path"]
    assert run("fit", *words, "last") == 0
    assert_same_weights(weights(case.whole), weights(part))
    one, other = metrics(case.whole).loc[EPOCHS - 1], metrics(part).loc[EPOCHS - 1]
    pd.testing.assert_series_equal(one, other, rtol=1e-6)


def test_a_checkpoint_may_be_named_by_its_path(case: Case, tmp_path: Path) -> None:
    part = fit(case.config, tmp_path / "part", "--trainer.max_epochs", 2)
    last = part / "checkpoints" / "last.ckpt"
    words = ["--trainer.max_epochs", EPOCHS, "--ckpt_path", last, "--run_dir", tmp_path / "part"]
    assert run("fit", "--config", case.config, *words) == 0
    assert_same_weights(weights(case.whole), weights(part))


def test_optimiser_scheduler_and_best_score_are_those_of_the_whole_run(case: Case, tmp_path: Path) -> None:
    part = fit(case.config, tmp_path / "part", "--trainer.max_epochs", 2)
    words = ["--trainer.max_epochs", EPOCHS, "--ckpt_path", "last"]
    assert run("fit", "--config", part / "config.yaml", *words) == 0
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
    words = ["--trainer.max_epochs", EPOCHS, "--ckpt_path", "last"]
    assert run("fit", "--config", part / "config.yaml", *words) == 0
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
    words = ["--trainer.max_epochs", 3, "--ckpt_path", "last"]
    assert run("fit", "--config", part / "config.yaml", *words) == 0
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
    words = ["--trainer.max_epochs", EPOCHS + 1, "--model.optimizer.init_args.lr", 10.0]
    assert run("fit", "--config", copied / "config.yaml", "--ckpt_path", "last", *words) == 0
    assert (copied / "checkpoints/best.ckpt").read_bytes() == before
    assert (case.whole / "checkpoints/last.ckpt").read_bytes() == untouched
