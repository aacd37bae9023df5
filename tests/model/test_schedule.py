"""Warm-up and cosine: torch's own schedules give the same rates, and a resumed training follows its own plan."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from cnn_lstm.errors import CheckpointError, ConfigError
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.optimisation import WarmupCosine
from tests.fits import small_data, small_network, small_trainer


def optimizer(lr: float = 0.3) -> Optimizer:
    return SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def planned(total: int, **arguments: Any) -> WarmupCosine:
    schedule = WarmupCosine(optimizer(), **arguments)
    schedule.plan(total)
    return schedule


def rates(schedule: Any, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(float(schedule.optimizer.param_groups[0]["lr"]))
        schedule.optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(("total", "warm_up", "final"), [(40, 0.25, 0.0), (200, 0.05, 0.01), (30, 0.5, 0.5)])
def test_the_rates_are_those_of_torchs_own_schedules(total: int, warm_up: float, final: float) -> None:
    rising = round(warm_up * total)
    own = optimizer()
    parts = [
        LinearLR(own, start_factor=1 / rising, total_iters=rising - 1),
        CosineAnnealingLR(own, T_max=total - rising, eta_min=0.3 * final),
    ]
    oracle = rates(SequentialLR(own, parts, milestones=[rising]), total)
    assert rates(planned(total, warm_up=warm_up, final=final), total) == pytest.approx(oracle, rel=1e-9)


def test_the_rate_stays_at_its_end_where_torchs_would_rise_again() -> None:
    found = rates(planned(20, warm_up=0.1, final=0.1), 45)
    assert found[20:] == pytest.approx([0.03] * 25)
    assert max(found) == pytest.approx(0.3)


def test_without_a_warm_up_the_first_rate_is_the_highest() -> None:
    found = rates(planned(10, warm_up=0.0), 10)
    assert found[0] == 0.3
    assert found == sorted(found, reverse=True)


class Rates(Callback):
    """Keeps the learning rate of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self.rates.append(float(optimizer.param_groups[0]["lr"]))


def forecaster(**arguments: Any) -> Forecaster:
    return Forecaster(
        small_network(),
        optimizer=lambda parameters: AdamW(parameters, lr=0.01),
        scheduler=lambda o: WarmupCosine(o, **arguments),
    )


def fitted_rates(folder: Path, checkpoint: Path | None = None, **trainer: Any) -> list[float]:
    kept = Rates()
    fitting = small_trainer(callbacks=[kept], **trainer)
    fitting.fit(forecaster(warm_up=0.2), datamodule=small_data(folder), ckpt_path=checkpoint, weights_only=True)
    fitting.save_checkpoint(folder / "last.ckpt")
    return kept.rates


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_trainer_tells_the_number_of_steps(tmp_path: Path, accumulate: int) -> None:
    found = fitted_rates(tmp_path, max_epochs=4, accumulate_grad_batches=accumulate)
    total, steps = len(found), round(0.2 * len(found))
    assert found[:steps] == pytest.approx([0.01 * (k + 1) / steps for k in range(steps)])
    passed = (total - 1 - steps) / (total - steps)
    assert found[-1] == pytest.approx(0.01 * (0.01 + 0.99 * (1 + math.cos(math.pi * passed)) / 2))


def test_max_steps_is_the_end_where_it_comes_first(tmp_path: Path) -> None:
    found = fitted_rates(tmp_path, max_epochs=4, max_steps=7)
    assert len(found) == 7
    assert found[-1] < 0.1 * max(found)


def test_an_endless_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a last step"):
        fitted_rates(tmp_path, max_epochs=-1)


def test_a_resumed_training_follows_the_plan_of_the_whole(tmp_path: Path) -> None:
    whole = fitted_rates(tmp_path, max_epochs=4)
    steps = len(whole) // 4

    class Interrupted(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            trainer.should_stop = trainer.current_epoch == 1

    kept = Rates()
    trainer = small_trainer(callbacks=[kept, Interrupted()], max_epochs=4)
    trainer.fit(forecaster(warm_up=0.2), datamodule=small_data(tmp_path))
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    assert kept.rates == whole[: 2 * steps]
    assert fitted_rates(tmp_path, tmp_path / "half.ckpt", max_epochs=4) == whole[2 * steps :]


def test_more_epochs_stretch_the_schedule_and_the_user_is_warned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = fitted_rates(tmp_path, max_epochs=2)
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        longer = fitted_rates(tmp_path, tmp_path / "last.ckpt", max_epochs=4)
    assert f"model.scheduler.total_steps: {len(short)} -> {2 * len(short)}" in caplog.text
    whole = fitted_rates(tmp_path, max_epochs=4)
    assert longer == whole[len(short) :]


def test_the_state_of_another_scheduler_is_refused() -> None:
    other = CosineAnnealingLR(optimizer(), T_max=5).state_dict()
    with pytest.raises(CheckpointError, match="another scheduler"):
        planned(10).load_state_dict(other)


@pytest.mark.parametrize(("name", "value"), [("warm_up", 1.0), ("warm_up", -0.1), ("final", 1.5)])
def test_shares_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name}={value}"):
        WarmupCosine(optimizer(), **{name: value})
