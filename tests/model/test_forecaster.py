"""The forecaster between windows, statistics, metrics and forecasts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue
from cnn_lstm.errors import ConfigError
from cnn_lstm.model.dropout import dropout_samples
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.objectives import (
    Classes,
    Gaussian,
    Mixture,
    Objective,
    Point,
    Qlike,
    Quantiles,
    SkewStudentT,
    StudentT,
)
from cnn_lstm.model.training_data import Windows
from tests.fits import small_data, small_network, small_trainer


def windows(batch: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(batch, 6, 3, generator=torch.Generator().manual_seed(seed))


def statistics(targets: int = 1, classes: int = 0, **changes: Any) -> Any:
    values = {
        "x_loc": torch.tensor([1.0, 2.0, 3.0]),
        "x_scale": torch.tensor([4.0, 5.0, 6.0]),
        "x_anchored": torch.tensor([0.0, 1.0, 0.0]),
        "y_loc": torch.linspace(0.5, 1.0, targets),
        "y_scale": torch.linspace(2.0, 3.0, targets),
        "y_anchor": torch.tensor([1, -1, 0][:targets]),
        "codes": torch.zeros(0),
        "class_counts": torch.tensor([[10.0, 20.0, 70.0]])[:, :classes].expand(targets, -1),
    }
    return SimpleNamespace(**{**values, **changes})


# -- statistics ----------------------------------------------------------------------------------------------------


def test_learn_statistics_fills_every_buffer() -> None:
    forecaster, known = Forecaster(small_network(), n_targets=3), statistics(3)
    forecaster.learn_statistics(known)
    for name in ("loc", "scale", "anchored"):
        assert torch.equal(forecaster.network.standardize.get_buffer(name), getattr(known, f"x_{name}"))
    for name in ("y_loc", "y_scale", "y_anchor"):
        assert torch.equal(forecaster.get_buffer(name), getattr(known, name))


def test_learn_statistics_weighs_the_classes() -> None:
    forecaster = Forecaster(small_network(), Classes(3, weighted=True))
    forecaster.learn_statistics(statistics(classes=3))
    torch.testing.assert_close(
        forecaster.objective.get_buffer("weights"), torch.tensor([[100 / 30, 100 / 60, 100 / 210]])
    )


@pytest.mark.parametrize(("objective", "classes"), [(Point(), 2), (Classes(2), 3), (Classes(2), 0)])
def test_another_number_of_classes_is_refused(objective: Objective, classes: int) -> None:
    with pytest.raises(ConfigError, match=r"model\.objective") as caught:
        Forecaster(small_network(), objective).learn_statistics(statistics(classes=classes))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("have", [1, 2])
def test_another_number_of_targets_is_refused(have: int) -> None:
    """A single statistic would be spread over all targets without a word."""
    with pytest.raises(ConfigError, match="targets"):
        Forecaster(small_network(), n_targets=3 - have).learn_statistics(statistics(have))


def test_another_number_of_features_is_refused() -> None:
    one: dict[str, Any] = {name: torch.ones(1) for name in ("x_loc", "x_scale", "x_anchored")}
    with pytest.raises(ConfigError, match="features"):
        Forecaster(small_network()).learn_statistics(statistics(**one))


# -- anchors and units ---------------------------------------------------------------------------------------------


def test_anchored_target_adds_the_last_value_back() -> None:
    forecaster = Forecaster(small_network(), n_targets=3).eval()
    forecaster.learn_statistics(statistics(3))
    x = windows()
    raw = forecaster.head(forecaster.network(x))
    last = torch.stack([x[:, -1, 1], torch.zeros(6), x[:, -1, 0]], dim=1)
    torch.testing.assert_close(forecaster(x)["y_pred"], raw * forecaster.y_scale + forecaster.y_loc + last)


def test_level_moves_the_anchored_forecast_and_nothing_else() -> None:
    forecaster = Forecaster(small_network()).eval()
    forecaster.learn_statistics(statistics())
    x = windows()
    moved = x + torch.tensor([0.0, 100.0, 0.0])
    torch.testing.assert_close(forecaster(moved)["y_pred"], forecaster(x)["y_pred"] + 100, atol=1e-3, rtol=0)


def test_loss_is_that_of_the_standardised_target() -> None:
    forecaster = Forecaster(small_network(), n_targets=2).eval()
    forecaster.learn_statistics(statistics(2))
    torch.nn.init.zeros_(forecaster.head.weight)
    x, y = windows(), torch.randn(6, 2)
    forecaster.validation_step(Windows(x, y, torch.arange(6)), 0)
    z = torch.stack([(y[:, 0] - x[:, -1, 1] - 0.5) / 2, (y[:, 1] - 1.0) / 3], dim=1)
    kept = forecaster.outputs.gather()
    torch.testing.assert_close(kept["loss"], (z**2).mean().expand(6))
    torch.testing.assert_close(kept["y_pred"], forecaster(x)["y_pred"].detach())
    assert torch.equal(kept["y_true"], y)


def test_embeddings_are_those_of_the_network() -> None:
    forecaster = Forecaster(small_network()).eval()
    assert torch.equal(forecaster.encode(windows()), forecaster.network(windows()))
    torch.testing.assert_close(forecaster.forecast(windows()).embedding, forecaster.encode(windows()))


@pytest.mark.parametrize(
    ("objective", "columns"),
    [
        (Point(), ["y_pred"]),
        (Gaussian(), ["y_pred", "std"]),
        (Quantiles((0.1, 0.5, 0.9)), ["y_pred", "q10", "q50", "q90"]),
        (Classes(2), ["y_pred", "p0", "p1"]),
        (Qlike(), ["y_pred"]),
        (StudentT(), ["y_pred", "std", "df"]),
        (SkewStudentT(), ["y_pred", "std", "df", "skew"]),
        (Mixture(2), ["y_pred", "std", "weight_0", "weight_1", "mean_0", "mean_1", "std_0", "std_1"]),
    ],
)
def test_columns_of_the_forecast(objective: Objective, columns: list[str]) -> None:
    forecast = Forecaster(small_network(), objective, n_targets=2).eval()(windows())
    assert list(forecast) == columns
    assert {tuple(values.shape) for values in forecast.values()} == {(6, 2)}


def test_bits_of_a_forecast_do_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    forecaster = Forecaster(small_network(channels=[32, 64], kernel_sizes=[3, 3], lstm_hidden=64, attention_heads=4))
    forecaster.eval()
    x = windows(70)
    whole = forecaster.forecast(x).columns["y_pred"]
    for size in (1, 7, 32, 33):
        parts = [forecaster.forecast(part).columns["y_pred"] for part in x.split(size)]
        assert torch.equal(torch.cat(parts), whole), size
    order = torch.randperm(70)
    assert torch.equal(forecaster.forecast(x[order]).columns["y_pred"], whole[order])


def test_forecast_is_the_forward_pass() -> None:
    forecaster = Forecaster(small_network(), Gaussian()).eval()
    for name, values in forecaster.forecast(windows(40)).columns.items():
        torch.testing.assert_close(values, forecaster(windows(40))[name])


# -- Monte Carlo dropout -------------------------------------------------------------------------------------------


def test_negative_samples_are_refused() -> None:
    with pytest.raises(ConfigError, match="samples=-1") as caught:
        Forecaster(small_network(), samples=-1)
    assert caught.value.exit_code == 2


def test_samples_give_mean_and_spread_of_the_passes() -> None:
    forecaster, x = Forecaster(small_network(), Gaussian()).eval(), windows()
    columns = forecaster.forecast(x, 20, seed=4).columns
    draws = dropout_samples(lambda batch: forecaster(batch)["y_pred"], forecaster, x, 20, 4)
    torch.testing.assert_close(columns["y_pred"], draws.mean(dim=0))
    torch.testing.assert_close(columns["mc_std"], ((draws - draws.mean(dim=0)) ** 2).mean(dim=0).sqrt())
    assert bool((columns["mc_std"] > 0).all())
    assert torch.equal(columns["std"], forecaster.forecast(x).columns["std"])


@pytest.mark.parametrize("samples", [1, 3, 7, 20])
def test_passes_of_a_row_owe_nothing_to_the_others(samples: int) -> None:
    """Also the mean over the passes: a reduction rounds by the shape of what it reduces."""
    forecaster, x = Forecaster(small_network()).eval(), windows(33)
    whole = forecaster.forecast(x, samples).columns
    for size in (1, 2, 5, 32):
        parts = [forecaster.forecast(part, samples).columns for part in x.split(size)]
        for name, values in whole.items():
            assert torch.equal(torch.cat([part[name] for part in parts]), values), (name, size)
    assert forecaster.forecast(x[:0], samples).columns["mc_std"].shape == (0, 1)


def test_one_pass_has_no_spread() -> None:
    assert torch.equal(Forecaster(small_network()).forecast(windows(), 1).columns["mc_std"], torch.zeros(6, 1))


def test_samples_keep_the_class() -> None:
    forecaster, x = Forecaster(small_network(), Classes(3)).eval(), windows()
    columns, plain = forecaster.forecast(x, 10).columns, forecaster.forecast(x).columns
    assert torch.equal(columns["y_pred"], plain["y_pred"])
    assert torch.equal(columns["p1"], plain["p1"])
    assert columns["mc_std"].shape == (6, 1)


# -- configuration of the optimiser --------------------------------------------------------------------------------


def test_default_schedule_watches_the_validation_loss() -> None:
    found = Forecaster(small_network()).configure_optimizers()
    assert isinstance(found["optimizer"], torch.optim.AdamW)
    assert found["lr_scheduler"]["monitor"] == "val_loss"
    assert found["lr_scheduler"]["interval"] == "epoch"


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_other_schedules_step_as_asked(interval: Any) -> None:
    forecaster = Forecaster(
        small_network(),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.25),
        scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 3),
        scheduler_interval=interval,
    )
    found = forecaster.configure_optimizers()
    assert found["optimizer"].defaults["lr"] == 0.25
    assert found["lr_scheduler"]["interval"] == interval
    assert "monitor" not in found["lr_scheduler"]


def test_no_schedule() -> None:
    assert isinstance(Forecaster(small_network(), scheduler=None).configure_optimizers(), torch.optim.AdamW)


# -- through the trainer -------------------------------------------------------------------------------------------


def test_validation_metrics_are_those_of_the_kept_forecasts(tmp_path: Path) -> None:
    forecaster, data = Forecaster(small_network()), small_data(tmp_path)
    trainer = small_trainer()
    trainer.fit(forecaster, datamodule=data)
    trainer.validate(forecaster, datamodule=data, verbose=False)
    kept = forecaster.forecasts
    assert np.array_equal(kept["row"].numpy(), np.sort(data.parts.validation))
    assert torch.equal(kept["y_true"], data.panel.labels[kept["row"]])
    error = (kept["y_pred"] - kept["y_true"]).double()
    assert float(trainer.callback_metrics["val_mae"]) == pytest.approx(float(error.abs().mean()), rel=1e-5)
    z = error / forecaster.y_scale.double()
    assert float(trainer.callback_metrics["val_loss"]) == pytest.approx(float((z**2).mean()), rel=1e-4)


def test_validation_inside_an_epoch_leaves_the_training_metrics_alone(tmp_path: Path) -> None:
    class Counting(Forecaster):
        seen: list[int]

        def on_train_epoch_end(self) -> None:
            super().on_train_epoch_end()
            self.seen.append(len(self.forecasts["row"]))

    forecaster, data = Counting(small_network()), small_data(tmp_path)
    forecaster.seen = []
    small_trainer(max_epochs=2, val_check_interval=0.5).fit(forecaster, datamodule=data)
    steps = len(data.parts.train) // 16
    assert forecaster.seen == [steps * 16] * 2


def test_test_part_is_forecast_in_one_shape(tmp_path: Path) -> None:
    forecaster, data, trainer = Forecaster(small_network()), small_data(tmp_path), small_trainer()
    trainer.fit(forecaster, datamodule=data)
    trainer.test(forecaster, datamodule=data, verbose=False)
    small = forecaster.forecasts["y_pred"]
    data.batch_size = 5
    small_trainer().test(forecaster, datamodule=data, verbose=False)
    assert torch.equal(forecaster.forecasts["y_pred"], small)
    assert np.array_equal(forecaster.forecasts["row"].numpy(), np.sort(data.parts.test))


@pytest.mark.parametrize("samples", [0, 5])
def test_predict_keeps_every_row_also_without_label(tmp_path: Path, samples: int) -> None:
    forecaster, data = Forecaster(small_network(), samples=samples), small_data(tmp_path)
    small_trainer().predict(forecaster, datamodule=data, return_predictions=False)
    kept = forecaster.forecasts
    assert np.array_equal(kept["row"].numpy(), np.sort(data.rows_to_predict()))
    assert int(kept["y_true"].isnan().sum()) == 2 * 2  # two symbols, and labels that reach two rows ahead
    assert ("mc_std" in kept) == (samples > 0)


@pytest.mark.parametrize(
    ("objective", "targets", "anchor"),
    [
        (Classes(2, weighted=True), [Direction()], None),
        (Gaussian(), [ForwardReturn(1), ForwardReturn(5)], None),
        (Quantiles(), [ForwardValue("close")], ["close"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_objective_fits(tmp_path: Path, objective: Objective, targets: Any, anchor: Any) -> None:
    data = small_data(tmp_path, targets=targets, anchor=anchor, features=["log_return_1", "close_location", "close"])
    forecaster = Forecaster(small_network(), objective, n_targets=len(targets))
    trainer = small_trainer()
    trainer.fit(forecaster, datamodule=data)
    assert bool(torch.isfinite(trainer.callback_metrics["val_loss"]))
    if anchor:
        assert forecaster.y_anchor.tolist() == [2]
        trainer.test(forecaster, datamodule=data, verbose=False)
        error = (forecaster.forecasts["y_pred"] - forecaster.forecasts["y_true"]).abs().mean()
        assert float(error) < 10  # the level is near 100


def test_anchors_come_with_a_checkpoint_and_go_with_another() -> None:
    """Whether there are any is remembered, so that a step without them costs less."""
    anchored, plain = (Forecaster(small_network(), n_targets=2).eval() for _ in range(2))
    x = windows()
    anchored.load_state_dict(plain.state_dict())
    without = plain(x)["y_pred"]
    anchored.learn_scales(statistics(2))
    expected = anchored(x)["y_pred"]
    assert not torch.equal(expected, without)
    loaded = Forecaster(small_network(), n_targets=2).eval()
    loaded.load_state_dict(anchored.state_dict())
    assert torch.equal(loaded(x)["y_pred"], expected)
    loaded.load_state_dict(plain.state_dict())
    assert torch.equal(loaded(x)["y_pred"], without)
    last = x[:, -1].index_select(1, torch.tensor([1, 0]))
    location = anchored.y_loc + torch.where(torch.tensor([True, False]), last, 0.0)
    assert torch.equal(anchored._loc(x), location)
    anchored.learn_scales(statistics(2, y_anchor=torch.tensor([-1, -1]), x_anchored=torch.zeros(3)))
    assert torch.equal(anchored._loc(x), anchored.y_loc.expand(len(x), -1))
    assert torch.equal(anchored.network.standardize(x), (x - torch.tensor([1.0, 2, 3])) / torch.tensor([4.0, 5, 6]))
