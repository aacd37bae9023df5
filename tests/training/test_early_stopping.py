"""Early stopping on a smoothed metric."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

from cnn_lstm.errors import ConfigError
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.training.early_stopping import SmoothedEarlyStopping
from cnn_lstm.training.history import read_history
from tests.experiments import experiment, fit, run
from tests.markets import market

# falls, but for one lucky value in its second epoch
LUCKY = [1.0, 0.5, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55]


def stops_after(stopping: EarlyStopping, losses: Sequence[float]) -> int | None:
    """Epoch of the stop; None if it goes on."""
    for epoch, loss in enumerate(losses):
        if stopping._evaluate_stopping_criteria(torch.tensor(loss))[0]:
            return epoch
    return None


def test_one_lucky_epoch_does_not_end_the_training() -> None:
    assert stops_after(EarlyStopping("val_loss", patience=4), LUCKY) == 5
    assert stops_after(SmoothedEarlyStopping("val_loss", patience=4, smoothing=0.7), LUCKY) is None


def test_without_smoothing_it_is_lightnings() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        losses = torch.rand(30, generator=generator).tolist()
        plain, ours = (cls("val_loss", patience=5) for cls in (EarlyStopping, SmoothedEarlyStopping))
        assert stops_after(ours, losses) == stops_after(plain, losses)


@pytest.mark.parametrize("smoothing", [0.3, 0.9])
def test_the_smoothed_metric_is_pandas_moving_average(smoothing: float) -> None:
    losses = torch.rand(20, generator=torch.Generator().manual_seed(1)).tolist()
    stopping = SmoothedEarlyStopping("val_loss", smoothing=smoothing)
    smoothed = [float(stopping.smooth(torch.tensor(loss))) for loss in losses]
    assert smoothed == pytest.approx(pd.Series(losses).ewm(alpha=1 - smoothing, adjust=False).mean().tolist(), rel=1e-6)


def test_higher_may_be_better() -> None:
    stopping = SmoothedEarlyStopping("val_f1", patience=4, mode="max", smoothing=0.7)
    assert stops_after(stopping, [1 - loss for loss in LUCKY]) is None


def test_a_metric_that_is_not_finite_stops_at_once() -> None:
    stopping = SmoothedEarlyStopping("val_loss", patience=9, smoothing=0.9)
    assert stops_after(stopping, [1.0, float("nan"), 0.5]) == 1


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_a_restored_state_decides_as_one_that_went_on(cut: int) -> None:
    losses = [*LUCKY, *[0.9] * 10]
    arguments: dict[str, Any] = {"monitor": "val_loss", "patience": 4, "smoothing": 0.6}
    whole, before, after = (SmoothedEarlyStopping(**arguments) for _ in range(3))
    expected = stops_after(whole, losses)
    assert expected is not None
    assert expected > cut
    assert stops_after(before, losses[:cut]) is None
    after.load_state_dict(before.state_dict())
    assert stops_after(after, losses[cut:]) == expected - cut


def test_the_state_of_an_older_checkpoint_is_found_and_read() -> None:
    older, ours = EarlyStopping("val_loss"), SmoothedEarlyStopping("val_loss", smoothing=0.5)
    assert ours.state_key == older.state_key
    stops_after(older, [1.0, 2.0])
    ours.load_state_dict(older.state_dict())
    assert (ours.wait_count, float(ours.best_score)) == (1, 1.0)
    assert float(ours.smooth(torch.tensor(3.0))) == 3.0


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_shares_out_of_range_are_refused(smoothing: float) -> None:
    with pytest.raises(ConfigError, match=f"smoothing={smoothing}"):
        SmoothedEarlyStopping("val_loss", smoothing=smoothing)


# -- through the command line ----------------------------------------------------------------------------------------


def test_a_resumed_run_stops_where_the_whole_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate that is too high makes the losses swing."""
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.05}}
    stopping = {"patience": 3, "smoothing": 0.5}
    config = experiment(tmp_path, market(110), model={"optimizer": adam, "scheduler": None}, early_stopping=stopping)
    argv = ["--trainer.max_epochs", 40]
    whole = fit(config, tmp_path / "whole", *argv)
    last = read_checkpoint(whole / "checkpoints" / "last.ckpt")
    assert 2 < last["epoch"] < 39
    assert read_history(whole).stopped

    begin = Forecaster.on_train_epoch_start

    def interrupt(self: Forecaster) -> None:
        if self.current_epoch == 2:
            raise KeyboardInterrupt
        begin(self)

    with monkeypatch.context() as patched:
        patched.setattr(Forecaster, "on_train_epoch_start", interrupt)
        assert run("fit", "--config", config, "--run_dir", tmp_path / "part", *argv) == 130
    assert run("fit", "--config", tmp_path / "part" / "config.yaml", "--ckpt_path", "last") == 0
    resumed = read_checkpoint(tmp_path / "part" / "checkpoints" / "last.ckpt")
    assert resumed["epoch"] == last["epoch"]
    key = SmoothedEarlyStopping("val_loss").state_key
    assert resumed["callbacks"][key] == last["callbacks"][key]
    # the best epoch goes on being that of the metric itself
    losses = pd.read_csv(whole / "metrics.csv")["val_loss"].dropna().to_numpy()
    assert read_checkpoint(whole / "checkpoints" / "best.ckpt")["epoch"] == losses.argmin()
