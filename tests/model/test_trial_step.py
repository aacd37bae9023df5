"""What fails at the first steps of optimiser or scheduler is refused before a training, for a script too."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.tuner.tuning import Tuner
from torch import nn, optim
from torch.optim import lr_scheduler

from cnn_lstm.errors import ConfigError
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.optimisation import WarmupCosine
from cnn_lstm.model.trial_step import try_out
from tests.fits import small_data, small_network, small_trainer

Factory = Callable[..., Any]


def weights() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(2)), nn.Parameter(torch.zeros(0))]


class Unfinished(optim.SGD):
    """An optimiser whose author forgot an attribute."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # as torch calls it
        self.not_there  # type: ignore[attr-defined]  # noqa: B018 - the fault itself


@pytest.mark.parametrize(
    ("optimizer", "scheduler", "where", "reason"),
    [
        (optim.SparseAdam, None, "model.optimizer", "dense gradients"),
        (lambda p: optim.Adam(p, differentiable=True), None, "model.optimizer", "in-place"),
        (Unfinished, None, "model.optimizer", "not_there"),
        (optim.SGD, lambda o: lr_scheduler.StepLR(o, step_size=0), "model.scheduler", "zero"),
        (optim.SGD, lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=0), "model.scheduler", "zero"),
        (optim.SGD, lambda o: lr_scheduler.ExponentialLR(o, gamma=-1.0), "model.scheduler", "learning rate of -0.001"),
        (optim.SGD, lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / step if step else 1.0), "", ""),
        (optim.SGD, lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 - step)), "model.scheduler", "zero"),
    ],
)  # fmt: skip
def test_a_first_step_that_fails_is_refused_in_one_line(
    optimizer: Factory, scheduler: Factory | None, where: str, reason: str
) -> None:
    if not where:
        return try_out(optimizer, scheduler, weights())
    with pytest.raises(ConfigError) as caught:
        try_out(optimizer, scheduler, weights())
    assert (caught.value.code, caught.value.exit_code, caught.value.where) == (281, 2, where)
    assert reason in caught.value.what
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 400
    return None


DENSE = [optim.Adadelta, optim.Adafactor, optim.Adagrad, optim.Adam, optim.AdamW, optim.Adamax, optim.ASGD]
DENSE += [optim.LBFGS, optim.NAdam, optim.RAdam, optim.RMSprop, optim.Rprop, optim.SGD]


@pytest.mark.parametrize("optimizer", DENSE)
def test_every_dense_optimiser_passes_and_nothing_is_changed(optimizer: Factory) -> None:
    parameters = weights()
    before, state = copy.deepcopy(parameters), torch.get_rng_state()
    try_out(optimizer, lambda o: lr_scheduler.ReduceLROnPlateau(o), parameters)
    assert all(torch.equal(a, b) for a, b in zip(parameters, before, strict=True))
    assert all(parameter.grad is None for parameter in parameters)
    assert torch.equal(torch.get_rng_state(), state)


def one_cycle(total: int) -> Factory:
    return lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.01, total_steps=total)


def in_a_chain(total: int) -> Factory:
    return lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.OneCycleLR(o, max_lr=0.01, total_steps=total)], [1]
    )


# small_data has 9 training batches
@pytest.mark.parametrize(
    ("scheduler", "interval", "trainer", "needed"),
    [
        (one_cycle(17), "step", {"max_epochs": 2}, "18 steps"),
        (one_cycle(18), "step", {"max_epochs": 2}, None),
        (one_cycle(9), "step", {"max_epochs": 2, "accumulate_grad_batches": 2}, "10 steps"),
        (one_cycle(4), "step", {"max_epochs": 2, "max_steps": 5}, "5 steps"),
        (one_cycle(2), "epoch", {"max_epochs": 3}, "3 epochs"),
        (in_a_chain(17), "step", {"max_epochs": 2}, "18 steps"),
    ],
)
def test_a_schedule_that_ends_before_the_training_is_refused(
    tmp_path: Path, scheduler: Factory, interval: Any, trainer: dict[str, Any], needed: str | None
) -> None:
    forecaster = Forecaster(small_network(), scheduler=scheduler, scheduler_interval=interval)
    fit = small_trainer(**trainer)
    if needed is None:
        return fit.fit(forecaster, datamodule=small_data(tmp_path))
    with pytest.raises(ConfigError, match=f"total_steps.*{needed}") as caught:
        fit.fit(forecaster, datamodule=small_data(tmp_path))
    assert caught.value.code == 281
    assert fit.global_step == 0
    return None


def test_the_plateau_of_torch_waits_for_the_validation_loss(tmp_path: Path) -> None:
    forecaster = Forecaster(
        small_network(), scheduler=lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, threshold=1e9)
    )
    small_trainer(max_epochs=3).fit(forecaster, datamodule=small_data(tmp_path))
    assert forecaster.optimizers().param_groups[0]["lr"] == pytest.approx(1e-6)  # type: ignore[union-attr]  # one optimiser


# -- the learning rate as an attribute -----------------------------------------------------------------------------


def test_the_rate_is_that_of_the_optimiser_until_it_is_set(tmp_path: Path) -> None:
    forecaster = Forecaster(small_network(), optimizer=lambda p: optim.SGD(p, lr=0.3), scheduler=None)
    assert forecaster.lr == 0.3
    forecaster.lr = 0.05
    assert forecaster.lr == 0.05
    assert forecaster.configure_optimizers().param_groups[0]["lr"] == 0.05
    small_trainer().fit(forecaster, datamodule=small_data(tmp_path))
    optimizer = forecaster.optimizers()
    assert isinstance(optimizer, optim.Optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.05


def rates_of(finder: bool, folder: Path) -> tuple[Forecaster, list[float]]:
    """A fit after a search for the rate, and the rates of its two epochs' first steps."""
    forecaster = Forecaster(small_network(), scheduler=lambda o: WarmupCosine(o, warm_up=0.0, final=1.0))
    callback = [LearningRateFinder(num_training_steps=20)] if finder else []
    trainer = small_trainer(default_root_dir=folder, callbacks=callback, max_epochs=2)
    if not finder:
        Tuner(trainer).lr_find(forecaster, datamodule=small_data(folder), num_training=20)
    trainer.fit(forecaster, datamodule=small_data(folder))
    optimizer = forecaster.optimizers()
    assert isinstance(optimizer, optim.Optimizer)
    return forecaster, [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("finder", [True, False])
def test_lightnings_finders_turn_the_rate_that_the_fit_uses(tmp_path: Path, finder: bool) -> None:
    torch.manual_seed(0)
    forecaster, rates = rates_of(finder, tmp_path)
    assert 1e-8 < forecaster.lr != 1e-3
    assert rates == pytest.approx([forecaster.lr])  # `final=1` keeps the rate of the optimiser
