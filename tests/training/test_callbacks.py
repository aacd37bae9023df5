"""What watches a fit, through real fits."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, StepLR

from cnn_lstm.errors import ConfigError, DivergedError
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.optimised import OptimisedModule
from cnn_lstm.model.training_data import Windows
from cnn_lstm.training.callbacks import FiniteGuard, GradientNorm, OptimizerSettings, RandomState, gradient_norms
from tests.fits import small_data, small_network, small_trainer

# -- FiniteGuard ---------------------------------------------------------------------------------------------------


class Exploding(Forecaster):
    """Loses its loss at one batch."""

    factor: float

    def training_step(self, batch: Windows, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * self.factor if self.global_step == 3 else loss


class Remembering(Callback):
    """Keeps the rows of the last batch and the weights before it."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.rows = batch.row
        self.state = {name: value.clone() for name, value in pl_module.named_parameters()}


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_divergence_is_an_error_before_the_weights_change(tmp_path: Path, factor: float) -> None:
    forecaster, data, remembering = Exploding(small_network()), small_data(tmp_path, batch_size=4), Remembering()
    forecaster.factor = factor
    with pytest.raises(DivergedError) as caught:
        small_trainer(callbacks=[remembering, FiniteGuard()]).fit(forecaster, datamodule=data)
    assert caught.value.exit_code == 5
    days = data.panel.time[remembering.rows.numpy()]
    symbols = sorted({data.panel.symbols[k] for k in data.panel.symbol[remembering.rows.numpy()]})
    assert caught.value.where == (
        f"epoch 0, step 3, batch of {', '.join(symbols)} @ {str(days.min())[:10]}..{str(days.max())[:10]}"
    )
    assert f"training loss is {factor}" in str(caught.value)
    for name, value in forecaster.named_parameters():
        assert torch.equal(value, remembering.state[name]), name


class Poisoning(Callback):
    """Spoils the forecasts of a validation."""

    def __init__(self, sanity: bool) -> None:
        self.sanity = sanity

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fill(pl_module, float("nan") if trainer.sanity_checking == self.sanity else 0.0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fill(pl_module, 0.0)

    def _fill(self, module: LightningModule, value: float) -> None:
        dict(module.named_parameters())["head.bias"].data.fill_(value)


def test_infinite_validation_loss_writes_no_checkpoint(tmp_path: Path) -> None:
    best = ModelCheckpoint(dirpath=tmp_path / "best", monitor="val_loss")
    trainer = small_trainer(enable_checkpointing=True, callbacks=[Poisoning(sanity=False), FiniteGuard(), best])
    with pytest.raises(DivergedError, match=r"validation loss is nan.*epoch 0"):
        trainer.fit(Forecaster(small_network()), datamodule=small_data(tmp_path))
    assert not list((tmp_path / "best").glob("*"))


def test_sanity_check_is_not_watched(tmp_path: Path) -> None:
    trainer = small_trainer(callbacks=[FiniteGuard(), Poisoning(sanity=True)])
    trainer.fit(Forecaster(small_network()), datamodule=small_data(tmp_path))
    assert bool(torch.isfinite(trainer.callback_metrics["val_loss"]))


# -- GradientNorm --------------------------------------------------------------------------------------------------


class Recording(DummyLogger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.lines.append((step, dict(metrics)))


class ByHand(Callback):
    """The norm before clipping, and after it."""

    def __init__(self) -> None:
        self.raw: list[float] = []
        self.clipped: list[float] = []

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.raw.append(_norm(pl_module))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.clipped.append(_norm(pl_module))


def _norm(module: LightningModule) -> float:
    return math.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in module.parameters() if p.grad is not None))


@pytest.mark.parametrize("every", [1, 3])
def test_gradient_norm_is_that_before_clipping(tmp_path: Path, every: int) -> None:
    logger, by_hand = Recording(), ByHand()
    small_trainer(
        logger=logger, gradient_clip_val=0.01, callbacks=[GradientNorm(every_n_steps=every), by_hand], max_epochs=2
    ).fit(Forecaster(small_network()), datamodule=small_data(tmp_path))
    logged = {step: line["grad_norm"] for step, line in logger.lines if "grad_norm" in line}
    lasts = {len(by_hand.raw) // 2 - 1, len(by_hand.raw) - 1}  # the last step of each epoch is measured too
    steps = [step for step in range(len(by_hand.raw)) if (step + 1) % every == 0 or step in lasts]
    assert list(logged) == steps
    assert list(logged.values()) == pytest.approx([by_hand.raw[step] for step in steps], rel=1e-5)
    assert max(by_hand.clipped) <= 0.01001 < min(by_hand.raw)


class Batches(Callback):
    """The weights before each step, and its batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, Tensor], Any]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.seen.append(({name: value.clone() for name, value in pl_module.state_dict().items()}, batch))


# no dropout: the gradients can be computed again
STILL = {"conv_dropout": 0.0, "lstm_dropout": 0.0, "attention_dropout": 0.0}
SMALL_STEPS = partial(SGD, lr=1e-4)


def fit_still(folder: Path, clip: float | None, *callbacks: Callback, **options: Any) -> tuple[Forecaster, Recording]:
    torch.manual_seed(5)
    forecaster, logger = Forecaster(small_network(**STILL), optimizer=SMALL_STEPS, scheduler=None), Recording()
    trainer = small_trainer(logger=logger, gradient_clip_val=clip, callbacks=list(callbacks), **options)
    trainer.fit(forecaster, datamodule=small_data(folder))
    return forecaster, logger


def column(logger: Recording, name: str) -> list[float]:
    return [line[name] for _, line in logger.lines if name in line]


@pytest.mark.parametrize("clip", [0.01, None])
def test_gradient_norm_is_that_of_the_true_gradient(tmp_path: Path, clip: float | None) -> None:
    """Clipped or not, it is the gradient of the loss at the weights of that step."""
    batches = Batches()
    forecaster, logger = fit_still(tmp_path, clip, GradientNorm(every_n_steps=1), batches)
    true = []
    for state, batch in batches.seen:
        forecaster.load_state_dict(state)
        forecaster.train()
        target = (batch.y - forecaster._loc(batch.x)) / forecaster.y_scale
        line = forecaster.linear(forecaster.network.standardize(batch.x))
        raw = forecaster.head(forecaster.network(batch.x)).unflatten(1, (1, -1))
        loss = forecaster.objective.loss(raw + line, target)
        gradients = torch.autograd.grad(loss, list(forecaster.parameters()))
        true.append(float(torch.cat([gradient.flatten() for gradient in gradients]).double().norm()))
    assert column(logger, "grad_norm") == pytest.approx(true, rel=1e-4)


def test_first_gradient_norm_knows_nothing_of_clipping(tmp_path: Path) -> None:
    norms = [column(fit_still(tmp_path, clip, GradientNorm(1))[1], "grad_norm") for clip in (0.01, None)]
    assert norms[0][0] == norms[1][0]


@pytest.mark.parametrize("every", [1, 3])
def test_norms_of_the_parts_add_up_to_the_total(tmp_path: Path, every: int) -> None:
    by_hand = ByHand()
    _, logger = fit_still(tmp_path, 0.01, GradientNorm(every, per_module=True), by_hand)
    lines = [line for _, line in logger.lines if "grad_norm" in line]
    parts = {f"grad_norm/{part}" for part in ("network.convolutions", "network.lstm", "network.attention", "head")}
    assert lines
    for line in lines:
        assert {name for name in line if name.startswith("grad_norm/")} == parts
        assert sum(line[name] ** 2 for name in parts) ** 0.5 == pytest.approx(line["grad_norm"], rel=1e-5)
    assert [line["grad_norm"] for line in lines] == pytest.approx(by_hand.raw[every - 1 :: every], rel=1e-5)


def test_norm_of_a_part_is_that_of_its_gradients() -> None:
    gradients = {
        "network.lstm.weight": torch.tensor([[3.0], [0.0]]),
        "network.lstm.bias": torch.tensor([4.0]),
        "network.scale": torch.tensor([12.0]),  # a parameter of the network itself
        "head.weight": torch.tensor([84.0]),
    }
    norms = {part: float(norm) for part, norm in gradient_norms(gradients).items()}
    assert norms == {"": 85.0, "network.lstm": 5.0, "network": 12.0, "head": 84.0}


# -- share of clipped steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("clip", "share"), [(1e-6, 1.0), (1e6, 0.0)])
def test_all_steps_or_none_are_clipped(tmp_path: Path, clip: float, share: float) -> None:
    _, logger = fit_still(tmp_path, clip, max_epochs=2)
    assert column(logger, "clipped_share") == [share, share]


def test_clipped_share_is_that_of_a_hand_loop(tmp_path: Path) -> None:
    """All steps count, measured or not, each in its own epoch."""
    by_hand = ByHand()
    fit_still(tmp_path, None, by_hand)
    limit = sorted(by_hand.raw)[len(by_hand.raw) // 2] * 0.999
    by_hand = ByHand()
    _, logger = fit_still(tmp_path, limit, by_hand, GradientNorm(every_n_steps=50), max_epochs=2)
    steps = len(by_hand.raw) // 2
    clipped = [norm > limit for norm in by_hand.raw]
    expected = [sum(clipped[:steps]) / steps, sum(clipped[steps:]) / steps]
    assert column(logger, "clipped_share") == pytest.approx(expected)
    assert 0 < expected[0] < 1


@pytest.mark.parametrize("options", [{"clip": None}, {"clip": 0.01, "gradient_clip_algorithm": "value"}])
def test_no_share_unless_clipped_by_norm(tmp_path: Path, options: dict[str, Any]) -> None:
    by_hand = Largest()
    _, logger = fit_still(tmp_path, options.pop("clip"), by_hand, **options)
    assert column(logger, "train_loss")
    assert column(logger, "clipped_share") == []
    assert (by_hand.value <= 0.01) == bool(options)


class Largest(Callback):
    """The largest element of all gradients as the optimiser got them."""

    value = 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        elements = [float(p.grad.abs().max()) for p in pl_module.parameters() if p.grad is not None]
        self.value = max(self.value, *elements)


class Sharded(Precision):
    """Clips in a way of its own, as that of FSDP."""

    def clip_grad_by_norm(self, optimizer: Optimizer, clip_val: float) -> None:
        self.limit = clip_val


def test_clipping_of_another_kind_is_left_to_lightning(tmp_path: Path) -> None:
    precision = Sharded()
    _, logger = fit_still(tmp_path, 0.25, plugins=[precision])
    assert precision.limit == 0.25
    assert column(logger, "clipped_share") == []


def test_clipping_is_that_of_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = fit_still(tmp_path, 0.01)
    monkeypatch.delattr(OptimisedModule, "configure_gradient_clipping")
    theirs, _ = fit_still(tmp_path, 0.01)
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name


def test_gradient_norm_of_no_steps_is_refused() -> None:
    with pytest.raises(ConfigError, match="every_n_steps=0"):
        GradientNorm(0)


# -- resuming ------------------------------------------------------------------------------------------------------


class AtStart(Callback):
    """The optimiser's settings when training starts, and the learning rates of its steps."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        group = trainer.optimizers[0].param_groups[0]
        self.settings = {key: value for key, value in group.items() if key != "params"}
        self.state = dict(trainer.optimizers[0].state)
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


ADAM = partial(AdamW, lr=1e-3)


def fit_to(
    folder: Path,
    epochs: int,
    optimizer: Callable[..., Optimizer] = ADAM,
    scheduler: Callable[..., Any] | None = None,
    callbacks: tuple[Callback, ...] = (),
    interval: Literal["epoch", "step"] = "epoch",
) -> tuple[Forecaster, AtStart]:
    """Fits, resuming from `last.ckpt` of the folder if it is there."""
    torch.manual_seed(1)
    forecaster = Forecaster(
        small_network(conv_dropout=0.3), optimizer=optimizer, scheduler=scheduler, scheduler_interval=interval
    )
    start = AtStart()
    last = ModelCheckpoint(dirpath=folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    path = folder / "last.ckpt"
    small_trainer(
        max_epochs=epochs, enable_checkpointing=True, callbacks=[OptimizerSettings(), *callbacks, start, last]
    ).fit(
        forecaster,
        datamodule=small_data(folder),
        ckpt_path=path if path.exists() else None,
        weights_only=True,
    )
    return forecaster, start


def test_resumed_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, _ = fit_to(tmp_path / "a", 3, callbacks=(RandomState(),))
    fit_to(tmp_path / "b", 1, callbacks=(RandomState(),))
    torch.rand(5)
    resumed, _ = fit_to(tmp_path / "b", 3, callbacks=(RandomState(),))
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


def test_random_state_is_restored_once() -> None:
    torch.manual_seed(3)
    kept = RandomState().state_dict()
    expected = torch.rand(4)
    callback = RandomState()
    callback.load_state_dict(kept)
    torch.rand(9)
    callback.on_train_start(small_trainer(), Forecaster(small_network()))
    assert torch.equal(torch.rand(4), expected)
    callback.on_train_start(small_trainer(), Forecaster(small_network()))
    assert not torch.equal(torch.rand(4), expected)


def test_unchanged_rate_keeps_what_the_schedule_made_of_it(tmp_path: Path) -> None:
    schedule = partial(StepLR, step_size=1, gamma=0.1)
    fit_to(tmp_path, 1, scheduler=schedule)
    _, start = fit_to(tmp_path, 2, scheduler=schedule)
    assert start.settings["lr"] == pytest.approx(1e-4)


def test_changed_rate_wins_and_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    schedule = partial(StepLR, step_size=1, gamma=0.1)
    fit_to(tmp_path, 1, scheduler=schedule)
    _, start = fit_to(tmp_path, 2, partial(AdamW, lr=0.02), schedule)
    assert start.settings["lr"] == 0.02
    assert "optimizer.lr: 0.001 -> 0.02" in caplog.text
    assert start.state  # the moments of the weights stay


def test_other_setting_wins_and_the_lowered_rate_stays(tmp_path: Path) -> None:
    schedule = partial(StepLR, step_size=1, gamma=0.1)
    fit_to(tmp_path, 1, scheduler=schedule)
    _, start = fit_to(tmp_path, 2, partial(AdamW, lr=1e-3, weight_decay=0.5, betas=(0.5, 0.9)), schedule)
    assert start.settings["lr"] == pytest.approx(1e-4)
    assert start.settings["weight_decay"] == 0.5
    assert start.settings["betas"] == (0.5, 0.9)


@pytest.mark.parametrize("optimizer", [partial(AdamW, lr=0.02), partial(SGD, lr=0.02)])
def test_schedule_follows_the_changed_rate(tmp_path: Path, optimizer: Callable[..., Optimizer]) -> None:
    """Also with another optimiser: the schedule must not go back to the rate of the checkpoint."""
    schedule = partial(LambdaLR, lr_lambda=lambda epoch: 0.5**epoch)
    fit_to(tmp_path, 1, scheduler=schedule)
    _, start = fit_to(tmp_path, 3, optimizer, schedule)
    steps = len(start.rates) // 2
    assert start.rates[steps:] == pytest.approx([0.02 * 0.5**2] * steps)


def test_another_optimiser_starts_afresh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit_to(tmp_path, 1)
    _, start = fit_to(tmp_path, 2, partial(SGD, lr=0.5, momentum=0.9))
    assert (start.settings["lr"], start.settings["momentum"]) == (0.5, 0.9)
    assert not start.state
    assert "torch.optim.adamw.AdamW -> torch.optim.sgd.SGD" in caplog.text


def test_another_optimiser_under_a_schedule_that_lives_in_it(tmp_path: Path) -> None:
    """OneCycleLR keeps its bounds in the optimiser's groups."""
    schedule = partial(OneCycleLR, max_lr=0.1, total_steps=100)
    fit_to(tmp_path, 1, partial(AdamW, lr=1e-3), schedule, interval="step")
    _, start = fit_to(tmp_path, 2, partial(Adam, lr=1e-3), schedule, interval="step")
    assert len(set(start.rates)) == len(start.rates)


def test_resume_without_changes_is_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit_to(tmp_path, 1)
    fit_to(tmp_path, 2)
    assert "resume:" not in caplog.text
