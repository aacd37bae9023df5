"""history.png while a fit goes on: when it is drawn, and what a drawing that fails does to the fit."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cnn_lstm.errors import ConfigError
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.training import history_callback
from cnn_lstm.training.callbacks import GradientNorm
from cnn_lstm.training.history import read_history
from cnn_lstm.training.history_callback import HistoryPlot
from cnn_lstm.training.history_plot import draw_history
from cnn_lstm.training.interrupts import InterruptBetweenBatches
from cnn_lstm.training.loggers import AppendingCSVLogger
from tests.fits import small_data, small_network, small_trainer


class Clocked(HistoryPlot):
    """Lives by a clock of its own, on which an epoch takes 10 seconds."""

    seconds = 0.0

    def _now(self) -> float:
        return self.seconds

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds += 10
        super().on_train_epoch_start(trainer, pl_module)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder that the logger makes, next to the prices."""
    return tmp_path / "run"


def fit(
    run: Path, callback: HistoryPlot, epochs: int = 3, *callbacks: Callback, model: type[Forecaster] = Forecaster
) -> Trainer:
    torch.manual_seed(4)
    trainer = small_trainer(
        max_epochs=epochs,
        logger=AppendingCSVLogger(run, name="", version=""),
        callbacks=[GradientNorm(1), callback, *callbacks],
    )
    trainer.fit(model(small_network()), datamodule=small_data(run.parent))
    return trainer


def replaced_drawing(monkeypatch: pytest.MonkeyPatch, seconds: float, clock: Clocked) -> list[int]:
    """Replaces drawing by something that takes some seconds of a clock; returns the number of epochs in each plot."""
    epochs: list[int] = []

    def draw(runs: Sequence[Path], target: Path) -> None:
        epochs.append(len(read_history(runs[0]).epochs))
        target.write_bytes(b"plot")
        clock.seconds += seconds

    monkeypatch.setattr(history_callback, "draw_history", draw)
    return epochs


def failing(*_: Any) -> None:
    raise RuntimeError("no\nink")


# -- what is drawn ---------------------------------------------------------------------------------------------------


def assert_whole(run: Path, epochs: int) -> None:
    """history.png is a whole plot of all epochs in metrics.csv."""
    history = read_history(run)
    assert list(history.epochs) == list(range(epochs))
    losses = pd.read_csv(run / "metrics.csv")["train_loss"].dropna()
    assert list(history.metrics["train_loss"]) == list(losses)
    draw_history([run], run / "again.png")
    assert (run / "history.png").read_bytes() == (run / "again.png").read_bytes()
    assert imread(run / "history.png").shape[:2] == (700, 1200)
    assert list(run.glob(".history*")) == []


def test_the_plot_at_the_end_is_whole_and_has_all_epochs(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert fit(run, HistoryPlot()).current_epoch == 3
    assert_whole(run, 3)
    assert "history.png" not in caplog.text


def test_a_fit_that_fails_is_drawn_with_all_epochs_that_it_finished(run: Path) -> None:
    class Broken(Forecaster):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 2:
                raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fit(run, HistoryPlot(), model=Broken)
    assert_whole(run, 2)


def test_the_weights_are_the_same_with_and_without_drawing(run: Path) -> None:
    drawn = fit(run.with_name("drawn"), HistoryPlot()).lightning_module.state_dict()
    plain = fit(run.with_name("plain"), HistoryPlot(enabled=False)).lightning_module.state_dict()
    assert all(torch.equal(value, plain[name]) for name, value in drawn.items())


def test_a_disabled_callback_draws_nothing(run: Path) -> None:
    fit(run, HistoryPlot(enabled=False))
    assert not (run / "history.png").exists()


def test_without_a_metrics_file_nothing_is_drawn(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clocked()
    epochs = replaced_drawing(monkeypatch, 1, clock)
    small_trainer(callbacks=[clock]).fit(Forecaster(small_network()), datamodule=small_data(run.parent))
    assert epochs == []


# -- when it is drawn ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.25, [1, 2, 3, 4, 5, 6, 7, 8]),  # in time for every epoch but the first, which the last plot has too
        (1, [1, 3, 5, 7, 8]),
        (2, [1, 5, 8]),
        (60, [1, 8]),  # the epochs between are left out; the last plot has them all
    ],
)
def test_drawing_waits_twenty_times_as_long_as_the_last_one_took(
    run: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, expected: list[int]
) -> None:
    clock = Clocked()
    epochs = replaced_drawing(monkeypatch, seconds, clock)
    fit(run, clock, 8)
    assert epochs == expected


def test_a_short_fit_is_drawn_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = replaced_drawing(monkeypatch, 1, Clocked())
    fit(run, HistoryPlot(), 3)
    assert epochs == [3]


def test_epochs_between_two_plots_are_at_least_those_asked_for(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clocked(every_n_epochs=3)
    epochs = replaced_drawing(monkeypatch, 0, clock)
    fit(run, clock, 8)
    assert epochs == [3, 6, 8]
    with pytest.raises(ConfigError, match="every_n_epochs=0"):
        HistoryPlot(every_n_epochs=0)


# -- what goes wrong -------------------------------------------------------------------------------------------------


def test_drawings_that_fail_are_one_warning(
    run: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_callback, "draw_history", failing)
    assert fit(run, Clocked(), 4).current_epoch == 4
    assert caplog.text.count("history.png was not drawn: RuntimeError: no ink") == 1


def test_the_next_fit_warns_again(run: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_callback, "draw_history", failing)
    callback = HistoryPlot()
    fit(run.with_name("one"), callback, 1)
    fit(run.with_name("two"), callback, 1)
    assert caplog.text.count("history.png was not drawn") == 2


def test_a_place_that_cannot_be_written_is_one_warning(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    (run / "history.png").mkdir(parents=True)
    assert fit(run, HistoryPlot(), 2).current_epoch == 2
    assert caplog.text.count("history.png was not drawn: error[E606]: cannot write the plot") == 1


def test_a_missing_library_is_one_warning(
    run: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert fit(run, HistoryPlot(), 2).current_epoch == 2
    assert caplog.text.count("history.png was not drawn: ") == 1


def test_a_fit_that_fails_before_it_trains_says_why(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_callback, "draw_history", failing)
    with pytest.raises(RuntimeError, match="no data"):
        fit(run, HistoryPlot(), 1, Unready())


class Unready(Callback):
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        raise RuntimeError("no data")


# -- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_during_a_drawing_ends_the_fit_and_its_plot_is_whole(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, presses: int
) -> None:
    """The first one waits for the end of the drawing, the second one does not; the plot at the end has all epochs."""
    calls: list[Path] = []

    def draw(runs: Sequence[Path], target: Path) -> None:
        calls.append(target)
        if len(calls) == 1:
            for _ in range(presses):
                os.kill(os.getpid(), signal.SIGINT)
        draw_history(runs, target)

    monkeypatch.setattr(history_callback, "draw_history", draw)
    with pytest.raises(SystemExit):
        fit(run, Clocked(), 8, InterruptBetweenBatches())
    assert len(calls) == 2
    assert_whole(run, 1)
    assert "history.png" not in caplog.text


# -- TensorBoard -----------------------------------------------------------------------------------------------------


def images(folder: Path) -> list[tuple[int, bytes]]:
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    if "history" not in events.Tags()["images"]:
        return []
    return [(event.step, event.encoded_image_string) for event in events.Images("history")]


def fit_with_tensorboard(run: Path, callback: HistoryPlot, epochs: int = 2) -> int:
    loggers = [
        AppendingCSVLogger(run, name="", version=""),
        TensorBoardLogger(run, name="", version="", sub_dir="tensorboard"),
    ]
    trainer = small_trainer(max_epochs=epochs, logger=loggers, callbacks=[callback])
    trainer.fit(Forecaster(small_network()), datamodule=small_data(run.parent))
    return trainer.global_step


def test_tensorboard_shows_the_last_plot(run: Path) -> None:
    steps = fit_with_tensorboard(run, HistoryPlot())
    assert images(run / "tensorboard") == [(steps - 1, (run / "history.png").read_bytes())]


def test_tensorboard_does_not_show_an_old_plot_for_one_that_failed(
    run: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.mkdir()
    (run / "history.png").write_bytes(b"old")
    monkeypatch.setattr(history_callback, "draw_history", failing)
    fit_with_tensorboard(run, HistoryPlot())
    assert images(run / "tensorboard") == []
    assert "no ink" in caplog.text


def test_a_plot_that_tensorboard_cannot_take_is_a_warning(
    run: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced_drawing(monkeypatch, 0, Clocked())
    fit_with_tensorboard(run, HistoryPlot())
    assert images(run / "tensorboard") == []
    assert "TensorBoard without the plot history.png" in caplog.text
