"""Averaged weights: what they are, where they stand, and that a resumed training has the same ones."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cnn_lstm.errors import ConfigError
from cnn_lstm.inference.export import export
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.training.averaging import AVERAGING_KEY, WeightAveraging
from tests.experiments import experiment, fit, network, run
from tests.fits import price_file, small_data, small_network, small_trainer
from tests.markets import market

State = dict[str, Tensor]


def state_of(module: LightningModule) -> State:
    return {name: values.detach().clone() for name, values in module.state_dict().items()}


class Watching(Callback):
    """Keeps the model's state after each step, with its epoch, and at each validation."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, State]] = []
        self.validated: list[State] = []
        self._step = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step > self._step:
            self.steps.append((trainer.current_epoch, state_of(pl_module)))
            self._step = trainer.global_step

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated.append(state_of(pl_module))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Forecaster)
        self.forecasts = pl_module.forecasts["y_pred"]


def trained(
    folder: Path, averaging: WeightAveraging | None, epochs: int = 3, norm: str = "batch", **trainer: Any
) -> tuple[Forecaster, Watching, Trainer]:
    torch.manual_seed(0)
    forecaster, watching = Forecaster(small_network(norm=norm)), Watching()
    callbacks: list[Callback] = [watching, *([averaging] if averaging else [])]
    fitting = small_trainer(max_epochs=epochs, callbacks=callbacks, **trainer)
    fitting.fit(forecaster, datamodule=small_data(folder))
    return forecaster, watching, fitting


def assert_close(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        torch.testing.assert_close(values, other[name])


def averaged_by_hand(states: list[State], weights: list[float]) -> State:
    """Weighted mean in float64; whole numbers are those of the last state."""
    shares = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    averaged = dict(states[-1])
    for name, last in averaged.items():
        if last.is_floating_point():
            values = torch.stack([state[name].double() for state in states])
            averaged[name] = torch.tensordot(shares, values, dims=1).to(last.dtype)
    return averaged


def ema_weights(steps: int, decay: float) -> list[float]:
    """Weight of each step in the moving average, from its definition."""
    weights = [1.0]
    for n in range(1, steps):
        kept = min(decay, (1 + n) / (10 + n))
        weights = [kept * w for w in weights] + [1 - kept]
    return weights


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_moving_average_is_what_its_definition_says(tmp_path: Path, accumulate: int) -> None:
    averaging = WeightAveraging("ema", decay=0.8)
    forecaster, watching, _ = trained(tmp_path, averaging, accumulate_grad_batches=accumulate)
    states = [state for _, state in watching.steps]
    assert len(states) > 8  # longer than the warm-up of the decay
    assert_close(state_of(forecaster), averaged_by_hand(states, ema_weights(len(states), 0.8)))


def test_the_tail_is_the_mean_of_all_steps_from_its_epoch_on(tmp_path: Path) -> None:
    forecaster, watching, _ = trained(tmp_path, WeightAveraging("tail", from_epoch=1))
    states = [state for epoch, state in watching.steps if epoch >= 1]
    assert 0 < len(states) < len(watching.steps)
    assert_close(state_of(forecaster), averaged_by_hand(states, [1.0] * len(states)))


@pytest.mark.parametrize("averaging", [WeightAveraging("ema"), WeightAveraging("tail", from_epoch=1)])
def test_the_training_goes_on_with_its_own_weights(tmp_path: Path, averaging: WeightAveraging) -> None:
    """Bit for bit those of a training without an average."""
    _, plain, _ = trained(tmp_path, None)
    _, watching, _ = trained(tmp_path, averaging)
    for (_, one), (_, other) in zip(plain.steps, watching.steps, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_each_validation_is_of_the_average_and_before_it_begins_of_the_model(tmp_path: Path) -> None:
    """Lightning's own callback validates its first copy until then, whose statistics are those of no data."""
    _, watching, trainer = trained(tmp_path, WeightAveraging("tail", from_epoch=1), num_sanity_val_steps=1)
    sanity, first, second, third = watching.validated
    data = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning's connectors
    for state in (sanity, first, second, third):
        assert torch.equal(state["network.standardize.scale"], data.statistics.x_scale)
    ends = dict(watching.steps)
    assert all(torch.equal(first[name], ends[0][name]) for name in first)
    of_epoch = [state for epoch, state in watching.steps if epoch == 1]
    assert_close(second, averaged_by_hand(of_epoch, [1.0] * len(of_epoch)))


def test_running_statistics_are_averaged_and_counters_copied(tmp_path: Path) -> None:
    forecaster, watching, _ = trained(tmp_path, WeightAveraging("ema", decay=0.9))
    name = next(name for name in forecaster.state_dict() if name.endswith("running_var"))
    last = watching.steps[-1][1]
    assert not torch.equal(forecaster.state_dict()[name], last[name])
    counter = name.replace("running_var", "num_batches_tracked")
    assert torch.equal(forecaster.state_dict()[counter], last[counter])


def test_a_validation_that_is_cut_off_leaves_the_weights_of_the_training(tmp_path: Path) -> None:
    class Cut(Callback):
        def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
            if trainer.current_epoch == 1:
                raise RuntimeError("cut")

    torch.manual_seed(0)
    forecaster, watching = Forecaster(small_network()), Watching()
    trainer = small_trainer(max_epochs=3, callbacks=[watching, Cut(), WeightAveraging("ema")])
    with pytest.raises(RuntimeError, match="cut"):
        trainer.fit(forecaster, datamodule=small_data(tmp_path))
    last = watching.steps[-1][1]
    assert all(torch.equal(values, last[name]) for name, values in forecaster.state_dict().items())


# -- checkpoints -----------------------------------------------------------------------------------------------------


def test_a_checkpoint_forecasts_with_the_average(tmp_path: Path) -> None:
    forecaster, watching, trainer = trained(tmp_path, WeightAveraging("ema", decay=0.9))
    trainer.save_checkpoint(tmp_path / "averaged.ckpt")
    checkpoint = read_checkpoint(tmp_path / "averaged.ckpt")
    assert_close(dict(checkpoint["state_dict"]), state_of(forecaster))
    trained_weights = checkpoint[AVERAGING_KEY]["trained"]
    assert all(torch.equal(values, watching.steps[-1][1][name]) for name, values in trained_weights.items())
    data = small_data(tmp_path)
    data.setup()
    predictor = Predictor.from_checkpoint(tmp_path / "averaged.ckpt")
    columns = predictor.forecast_rows(data.panel, data.parts.validation)
    torch.testing.assert_close(columns["y_pred"], watching.forecasts, atol=1e-6, rtol=1e-4)


def test_exports_and_streams_hold_the_average(tmp_path: Path) -> None:
    _, watching, trainer = trained(tmp_path, WeightAveraging("ema", decay=0.9))
    trainer.save_checkpoint(tmp_path / "averaged.ckpt")
    data = small_data(tmp_path)
    data.setup()
    ((x, _, rows),) = data.windows_of("validation", 10_000)
    module = torch.export.load(export(tmp_path / "averaged.ckpt", tmp_path / "model.pt2", "pt2").path).module()
    torch.testing.assert_close(module(x)["y_pred"], watching.forecasts, atol=1e-6, rtol=1e-4)
    prices = pd.read_csv(price_file(tmp_path)).rename(columns={"date": "timestamp"})
    prices["timestamp"] = pd.to_datetime(prices["timestamp"], utc=True)
    as_of = pd.Timestamp(data.panel.time[rows[-1]], tz="utc")  # of the second symbol
    stream = Predictor.from_checkpoint(tmp_path / "averaged.ckpt").stream(prices[prices["timestamp"] < as_of])
    bar = prices[prices["timestamp"] == as_of]
    forecast = stream.update(bar).set_index("symbol")["y_pred"]
    assert float(forecast["BBB"]) == pytest.approx(float(watching.forecasts[-1, 0]), rel=1e-4, abs=1e-6)


def test_a_training_that_ends_before_its_tail_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        forecaster, watching, trainer = trained(tmp_path, WeightAveraging("tail", from_epoch=9))
    assert "nothing was averaged, the training ended before epoch 9" in caplog.text
    assert all(torch.equal(values, watching.steps[-1][1][name]) for name, values in forecaster.state_dict().items())
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    assert AVERAGING_KEY not in read_checkpoint(tmp_path / "plain.ckpt")


EPOCHS = 4
KINDS: dict[str, dict[str, Any]] = {
    "ema": {"kind": "ema", "decay": 0.9},
    "tail": {"kind": "tail", "from_epoch": 2},
}
STATEFUL = network(
    channels=[6], kernel_sizes=[3], norm="batch", conv_dropout=0.2, lstm_hidden=4, lstm_dropout=0.3,
    attention_heads=2, attention_dropout=0.2,
)  # fmt: skip
COSINE = {"class_path": "cnn_lstm.model.optimisation.WarmupCosine", "init_args": {"warm_up": 0.2}}


def configuration(folder: Path, averaging: dict[str, Any]) -> Path:
    model = {"network": STATEFUL, "scheduler": COSINE}
    return experiment(folder, market(110), {"train_stride": 2}, model=model, weight_averaging=averaging)


def metrics(folder: Path) -> pd.DataFrame:
    """Metrics of each epoch; a run that is resumed writes them into rows of their own."""
    clock = ["epoch_s", "windows_per_s", "peak_memory_mib", "step"]
    table = pd.read_csv(folder / "metrics.csv").drop(columns=clock)
    return table[table["train_loss"].notna() | table["val_loss"].notna()].groupby("epoch").first()


def interrupted(monkeypatch: pytest.MonkeyPatch, config: Path, folder: Path, cut: int) -> Path:
    """A fit that is interrupted when so many epochs are over."""

    begin = Forecaster.on_train_epoch_start

    def interrupt(self: Forecaster) -> None:
        if self.current_epoch == cut:
            raise KeyboardInterrupt
        begin(self)

    with monkeypatch.context() as patched:
        patched.setattr(Forecaster, "on_train_epoch_start", interrupt)
        assert run("fit", "--config", config, "--run_dir", folder, "--trainer.max_epochs", EPOCHS) == 130
    return folder


def assert_same_checkpoint(one: Path, other: Path) -> None:
    files = [read_checkpoint(folder) for folder in (one, other)]
    assert files[0]["epoch"] == files[1]["epoch"]
    assert (AVERAGING_KEY in files[0]) == (AVERAGING_KEY in files[1])
    states = [{**file["state_dict"], **prefixed(file)} for file in files]
    assert states[0].keys() == states[1].keys()
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == []


def prefixed(checkpoint: dict[str, Any]) -> State:
    return {f"trained.{name}": values for name, values in checkpoint.get(AVERAGING_KEY, {}).get("trained", {}).items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_training_is_the_one_that_was_not_stopped(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With batch norm, dropout, a cosine over steps and a stride of rows: bit for bit, at each cut."""
    config = configuration(tmp_path, KINDS[kind])
    whole = fit(config, tmp_path / "whole", "--trainer.max_epochs", EPOCHS)
    for cut in range(1, EPOCHS):
        part = interrupted(monkeypatch, config, tmp_path / f"part{cut}", cut)
        assert run("fit", "--config", part / "config.yaml", "--ckpt_path", "last") == 0
        for alias in ("last.ckpt", "best.ckpt"):
            assert_same_checkpoint(whole / "checkpoints" / alias, part / "checkpoints" / alias)
        pd.testing.assert_frame_equal(metrics(part), metrics(whole), check_exact=True, check_like=True)


def test_other_settings_begin_the_average_again_and_keep_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path, KINDS["ema"])
    part = fit(config, tmp_path / "run", "--trainer.max_epochs", 2)
    before = read_checkpoint(part / "checkpoints" / "last.ckpt")
    argv = ["--ckpt_path", "last", "--trainer.max_epochs", 3, "--weight_averaging.kind"]
    assert run("fit", "--config", part / "config.yaml", *argv, "off", "--model.optimizer.init_args.lr", 1e-12) == 0
    assert "resume: weight_averaging.kind: ema -> off" in capsys.readouterr().err
    after = read_checkpoint(part / "checkpoints" / "last.ckpt")
    assert AVERAGING_KEY not in after
    for name, values in before[AVERAGING_KEY]["trained"].items():
        if "running" not in name:
            torch.testing.assert_close(after["state_dict"][name], values)
            moved = not torch.equal(before["state_dict"][name], values)
            assert moved, name  # the average was another one


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["off", "'off'", "false"])
def test_off_is_off_however_yaml_reads_it(tmp_path: Path, word: str) -> None:
    config = experiment(tmp_path, market(110), trainer={"max_epochs": 1})
    config.write_text(config.read_text() + f"weight_averaging:\n  kind: {word}\n")
    once = fit(config, tmp_path / "once")
    again = fit(once / "config.yaml", tmp_path / "again", "--weight_averaging.kind", "off")
    assert AVERAGING_KEY not in read_checkpoint(once / "checkpoints" / "last.ckpt")
    assert yaml.safe_load((again / "config.yaml").read_text())["weight_averaging"]["kind"] == "off"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "tail"}, "a tail that begins with the training"),
        ({"kind": "ema", "decay": 1.0}, "decay=1.0"),
        ({"kind": "ema", "from_epoch": -1}, "from_epoch=-1"),
    ],
)
def test_settings_that_average_nothing_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WeightAveraging(**arguments)


def test_bare_weights_are_not_saved_next_to_an_average(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(tmp_path, KINDS["ema"])
    argv = ["--config", config, "--run_dir", tmp_path / "run", "--checkpoint.save_weights_only", "true"]
    assert run("fit", *argv) == 2
    assert "save_weights_only saves weights that are not averaged" in capsys.readouterr().err
