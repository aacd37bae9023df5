"""What TensorBoard shows, read back from the event files of real fits."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from cnn_lstm.errors import ConfigError
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.training import plots, tensorboard
from cnn_lstm.training.plots import attention_plot, forecast_plot, rendered
from cnn_lstm.training.tensorboard import TensorBoardPlots
from tests.experiments import experiment, fit
from tests.fits import small_data, small_network, small_trainer
from tests.markets import market


def fitted(folder: Path, *callbacks: Any, network: dict[str, Any] | None = None, **trainer: Any) -> Trainer:
    """A fit that writes TensorBoard's events into the folder."""
    seed_everything(3, verbose=False)
    folder.mkdir(exist_ok=True)
    logger = TensorBoardLogger(folder, name="", version="", default_hp_metric=False)
    built = small_trainer(callbacks=list(callbacks), **{"logger": logger, **trainer})
    built.fit(Forecaster(small_network(**(network or {})), scheduler=None), datamodule=small_data(folder))
    return built


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "histograms": 0})
    return accumulator.Reload()


def epochs_of(folder: Path, tag: str) -> list[int]:
    """1-based epochs at whose end a plot was written."""
    steps = [event.step for event in events(folder).Scalars("val_loss")]
    return [steps.index(event.step) + 1 for event in events(folder).Images(tag)]


# -- plots ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "expected"), [(2, [2, 4, 5]), (5, [5])])
def test_plots_each_n_epochs_and_at_the_last(tmp_path: Path, every: int, expected: list[int]) -> None:
    fitted(tmp_path, TensorBoardPlots(every_n_epochs=every), max_epochs=5)
    assert epochs_of(tmp_path, "forecasts") == expected
    assert epochs_of(tmp_path, "attention") == expected
    encoded = events(tmp_path).Images("forecasts")[0].encoded_image_string
    pixels = np.asarray(Image.open(io.BytesIO(encoded)))
    assert pixels.shape[2] == 3
    assert len(np.unique(pixels)) > 20


def test_rare_validations_are_drawn_when_they_come(tmp_path: Path) -> None:
    fitted(tmp_path, TensorBoardPlots(every_n_epochs=2), max_epochs=8, check_val_every_n_epoch=3)
    assert epochs_of(tmp_path, "forecasts") == [1, 2]  # of the validations after epochs 3 and 6


@pytest.mark.parametrize(("network", "windows"), [({"attention_heads": 0}, 3), ({}, 0)])
def test_no_attention_map_and_no_word_of_it(
    tmp_path: Path, network: dict[str, Any], windows: int, caplog: pytest.LogCaptureFixture
) -> None:
    fitted(tmp_path, TensorBoardPlots(windows=windows), network=network)
    assert events(tmp_path).Tags()["images"] == ["forecasts"]
    assert "TensorBoard" not in caplog.text


def test_the_forecasts_drawn_are_those_of_the_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Any] = {}

    def spy(symbols: Any, dates: Any, y_true: Any, y_pred: Any, **titles: str) -> Any:
        drawn.update(symbols=symbols, dates=dates, y_true=y_true, y_pred=y_pred, **titles)
        return forecast_plot(symbols, dates, y_true, y_pred, **titles)

    monkeypatch.setattr(tensorboard, "forecast_plot", spy)
    data = fitted(tmp_path, TensorBoardPlots()).datamodule  # type: ignore[attr-defined]  # set by Lightning's connectors
    rows = np.sort(data.parts.validation)
    np.testing.assert_array_equal(drawn["dates"], data.panel.time[rows])
    np.testing.assert_array_equal(drawn["y_true"], data.panel.labels[rows, 0])
    assert drawn["symbols"] == [data.panel.symbols[code] for code in data.panel.symbol[rows]]
    assert drawn["name"] == data.targets[0].name
    assert drawn["title"] == "validation, epoch 0"
    mae = np.abs(drawn["y_true"] - drawn["y_pred"]).mean()
    assert events(tmp_path).Scalars("val_mae")[-1].value == pytest.approx(mae, rel=1e-5)


def test_forecast_plot_shows_few_symbols_and_late_dates() -> None:
    days = np.arange("2020-01-01", "2021-01-01", dtype="datetime64[D]")
    names = [name for name in "ABCDE" for _ in days]
    values = np.arange(len(names), dtype=np.float32)
    figure = forecast_plot(names, np.tile(days, 5), values, values + 1, name="y", unit="y", title="now")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["A", "B", "C", "D"]
    truth, forecast = figure.axes[1].lines
    np.testing.assert_array_equal(truth.get_ydata(), values[366:732][-250:])
    np.testing.assert_array_equal(forecast.get_ydata(), np.asarray(truth.get_ydata()) + 1)
    assert figure.get_suptitle() == "y: now"


def test_attention_plot_counts_bars_back_from_the_decision() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(5), (2, 9, 5)).astype(np.float32)
    figure = attention_plot(weights, ["A", "B"], title="attention")
    first = figure.axes[0]
    drawn = first.images[0].get_array()
    assert drawn is not None
    np.testing.assert_allclose(drawn[:, :5], weights[0].mean(axis=0))
    np.testing.assert_allclose(drawn[:, 6:11], weights[0, 0])
    assert drawn.shape == (5, 9 * 6 - 1)  # the mean and eight heads
    assert [label.get_text() for label in first.get_yticklabels()] == ["4", "2", "0"]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()][:6] == ["4", "2", "0", "4", "2", "0"]
    assert "first 8 of 9 heads" in figure.get_suptitle()
    assert rendered(figure).dtype == np.uint8


# -- graph, histograms, scalars ------------------------------------------------------------------------------------


def test_the_graph_holds_network_and_head(tmp_path: Path) -> None:
    fitted(tmp_path, TensorBoardPlots())
    nodes = {node.name for node in events(tmp_path).Graph().node}
    assert any("LSTM[lstm]" in name for name in nodes)
    assert any("Linear[head]" in name for name in nodes)


def test_graph_only_where_it_is_wanted(tmp_path: Path) -> None:
    fitted(tmp_path, TensorBoardPlots(graph=False))
    assert not events(tmp_path).Tags()["graph"]


def test_histograms_are_written_on_request(tmp_path: Path) -> None:
    fitted(tmp_path / "without", TensorBoardPlots(every_n_epochs=2), max_epochs=3)
    assert events(tmp_path / "without").Tags()["histograms"] == []
    module = fitted(
        tmp_path / "with", TensorBoardPlots(every_n_epochs=2, histograms=True), max_epochs=3
    ).lightning_module
    accumulator = events(tmp_path / "with")
    names = {name for name, _ in module.named_parameters()}
    tags = set(accumulator.Tags()["histograms"])
    assert {tag for tag in tags if tag.startswith("weights/")} == {f"weights/{name}" for name in names}
    assert {tag for tag in tags if tag.startswith("gradients/")} == {f"gradients/{name}" for name in names}
    assert len(accumulator.Histograms("weights/head.weight")) == 2
    last = accumulator.Histograms("weights/head.weight")[-1].histogram_value
    assert last.max == pytest.approx(float(dict(module.named_parameters())["head.weight"].detach().max()))


def test_a_real_run_has_all_curves_and_plots(tmp_path: Path) -> None:
    file = experiment(tmp_path, market(200), grad_norm={"every_n_steps": 1})
    run = fit(file, tmp_path / "run", "--tensorboard", "true")
    scalars = events(run / "tensorboard").Tags()["scalars"]
    metrics = ("loss", "mae", "rmse", "r2", "explained_variance", "correlation")
    wanted = {f"{part}/{name}" for part in ("train", "val") for name in metrics}
    wanted |= {"optimizer/lr-AdamW", "optimizer/grad_norm"}
    assert wanted <= set(scalars)
    assert events(run / "tensorboard").Tags()["images"] == ["forecasts", "attention"]


# -- HPARAMS -------------------------------------------------------------------------------------------------------


def plugin(folder: Path, tag: str) -> HParamsPluginData:
    metadata = events(folder).SummaryMetadata(f"_hparams_/{tag}")
    return HParamsPluginData.FromString(metadata.plugin_data.content)


def test_hparams_row_has_settings_and_final_metrics(tmp_path: Path) -> None:
    fitted(tmp_path, TensorBoardPlots(), max_epochs=3)
    assert len(list(tmp_path.rglob("events.out.*"))) == 1  # the tab would show a run in a folder of its own twice
    values = plugin(tmp_path, "session_start_info").session_start_info.hparams
    row = {name: value.string_value or value.number_value for name, value in values.items()}
    assert row["network"] == "CNNLSTM"
    assert row["network.lstm_hidden"] == 4
    assert row["network.channels"] == "4"
    assert row["network.bidirectional"] == "false"
    assert row["network.dilations"] == "null"
    assert row["objective"] == "Point"
    assert row["optimizer"] == "AdamW"
    assert (row["lr"], row["weight_decay"]) == (1e-3, 1e-5)
    assert (row["window"], row["batch_size"], row["features"], row["symbols"]) == (6, 16, 3, 2)
    assert row["targets"] == "return_1"
    metrics = [info.name.tag for info in plugin(tmp_path, "experiment").experiment.metric_infos]
    accumulator = events(tmp_path)
    final = {name: accumulator.Scalars(name)[-1].value for name in metrics}
    losses = [event.value for event in accumulator.Scalars("val_loss")]
    assert final["final/best_val_loss"] == pytest.approx(min(losses))
    assert final["final/epochs"] == 3
    assert final["final/val_loss"] == pytest.approx(losses[-1])
    for name in ("mae", "rmse", "r2", "correlation"):
        assert final[f"final/val_{name}"] == accumulator.Scalars(f"val_{name}")[-1].value


def test_a_fit_without_validation_has_a_row_without_metrics(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fitted(tmp_path, TensorBoardPlots(), limit_val_batches=0)
    assert [info.name.tag for info in plugin(tmp_path, "experiment").experiment.metric_infos] == ["final/epochs"]
    assert "TensorBoard" not in caplog.text


def test_a_resumed_run_keeps_its_best_loss_and_draws_no_second_graph(tmp_path: Path) -> None:
    trainer = fitted(tmp_path, TensorBoardPlots(), max_epochs=2)
    callback = next(c for c in trainer.callbacks if isinstance(c, TensorBoardPlots))  # type: ignore[attr-defined]  # Lightning's
    callback._best = 0.001  # a loss that no epoch reaches
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    logger = TensorBoardLogger(tmp_path / "resumed", name="", version="", default_hp_metric=False)
    again = small_trainer(callbacks=[TensorBoardPlots()], logger=logger, max_epochs=3)
    again.fit(
        Forecaster(small_network()),
        datamodule=small_data(tmp_path),
        ckpt_path=tmp_path / "last.ckpt",
        weights_only=True,
    )
    accumulator = events(tmp_path / "resumed")
    assert not accumulator.Tags()["graph"]
    assert accumulator.Scalars("final/best_val_loss")[-1].value == pytest.approx(0.001)
    assert accumulator.Scalars("final/epochs")[-1].value == 3


# -- harmless ------------------------------------------------------------------------------------------------------


def test_a_fit_ends_the_same_with_and_without(tmp_path: Path) -> None:
    states = []
    for name, callbacks in (("with", [TensorBoardPlots(every_n_epochs=1, histograms=True)]), ("without", [])):
        module = fitted(tmp_path / name, *callbacks, max_epochs=3).lightning_module
        state = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002 - the global one is what others could disturb
        states.append((module.state_dict(), torch.get_rng_state(), state, random.getstate()))
    (one, torch_one, numpy_one, python_one), (two, torch_two, numpy_two, python_two) = states
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(torch_one, torch_two)
    assert (numpy_one == numpy_two).all()
    assert python_one == python_two


def failing(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("no ink")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("forecast_plot", "the forecast plot"),
        ("attention_plot", "the attention map"),
        ("_add_graph", "the graph"),
        ("_add_histograms", "the histograms"),
        ("hyperparameters", "the hyperparameters"),
    ],
)
def test_a_failure_is_a_warning(
    tmp_path: Path, name: str, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plots if name == "attention_plot" else tensorboard, name, failing)
    assert fitted(tmp_path, TensorBoardPlots(histograms=True)).state.finished
    assert f"TensorBoard without {what}: RuntimeError: no ink" in caplog.text


def test_a_network_that_cannot_be_traced_costs_one_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.jit, "trace", failing)
    trainer = fitted(tmp_path, TensorBoardPlots())
    assert caplog.text.count("TensorBoard without the graph") == 1
    assert capsys.readouterr().out == ""
    assert not dict(trainer.lightning_module.named_parameters())["head.weight"].isnan().any()


def no_logger(folder: Path) -> Any:
    return False


def csv_only(folder: Path) -> Any:
    return CSVLogger(folder)


@pytest.mark.parametrize("logger", [no_logger, csv_only])
def test_without_tensorboard_nothing_is_drawn(
    tmp_path: Path, logger: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("forecast_plot", "attention_plot", "_add_graph", "hyperparameters"):
        monkeypatch.setattr(plots if name == "attention_plot" else tensorboard, name, failing)
    fitted(tmp_path, TensorBoardPlots(every_n_epochs=1, histograms=True), logger=logger(tmp_path))
    assert "TensorBoard" not in caplog.text
    assert list(tmp_path.rglob("events.out.*")) == []


@pytest.mark.parametrize(("name", "value"), [("every_n_epochs", 0), ("windows", -1)])
def test_numbers_out_of_range_are_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{name}={value}") as caught:
        TensorBoardPlots(**cast("dict[str, Any]", {name: value}))
    assert caught.value.code == 224
