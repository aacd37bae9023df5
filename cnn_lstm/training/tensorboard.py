"""What TensorBoard, and in part MLflow, displays besides curves: graph, plots, histograms, the row of HPARAMS."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.errors import ConfigError
from cnn_lstm.files import replace_file
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.training.loggers import MLflowTracker
from cnn_lstm.training.plots import attention_windows_plot, forecast_plot, rendered, undisturbed
from cnn_lstm.training.tracking.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)


class Validated(NamedTuple):
    """A validation that is not drawn yet: 0-based epoch, step, forecasts by column."""

    epoch: int
    step: int
    forecasts: Mapping[str, Tensor]


class TensorBoardPlots(Callback):
    """Writes graph, plots, histograms and hyperparameters for TensorBoard, and the newest plots for MLflow.

    A drawing that fails is a warning. Neither random state nor weights are touched, so a fit ends the same with
    and without it.

    Args:
        every_n_epochs: Epochs between two plots; the last epoch is always drawn.
        windows: Validation windows whose attention is drawn; 0 for none.
        histograms: Whether to write histograms of weights and gradients at the same epochs.
        graph: Whether to write the graph of the network when training starts.

    Raises:
        ConfigError: If a number is out of its range.
    """

    def __init__(
        self, every_n_epochs: int = 10, windows: int = 3, histograms: bool = False, graph: bool = True
    ) -> None:
        for name, value, least in (("every_n_epochs", every_n_epochs, 1), ("windows", windows, 0)):
            if value < least:
                raise ConfigError(f"{name}={value}", "tensorboard_plots", f"give at least {least}", code=224)
        self.every_n_epochs, self.windows = every_n_epochs, windows
        self.histograms, self.graph = histograms, graph
        self._best = math.inf
        self._drawn = 0
        self._pending: Validated | None = None
        self._gradients: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """The best validation loss so far, for the row of a resumed run."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the best validation loss of the run that is resumed."""
        self._best = state_dict["best"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the graph; a resumed run has one already."""
        self._drawn, self._pending = trainer.current_epoch, None
        if self.graph and trainer.global_step == 0 and isinstance(pl_module, Forecaster):
            data = data_of(trainer)
            for logger in tensorboard_loggers(trainer):
                with never_fatal("the graph"):
                    _add_graph(logger, pl_module, data.recipe.window if data else 60)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keeps the gradients of the epoch's last batch, which Lightning clears before a validation."""
        if self.histograms and trainer.is_last_batch and tensorboard_loggers(trainer):
            named = pl_module.named_parameters()
            self._gradients = {name: p.grad.float().clone() for name, p in named if p.grad is not None}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps what was forecast, and draws it when it is time; the training epoch's end replaces it."""
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not fitting or not isinstance(pl_module, Forecaster):
            return
        loss = trainer.callback_metrics.get("val_loss")
        self._best = self._best if loss is None else min(self._best, float(loss))
        self._pending = Validated(trainer.current_epoch, last_step(trainer), pl_module.forecasts)
        if (trainer.current_epoch + 1) // self.every_n_epochs > self._drawn // self.every_n_epochs:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the last epoch and writes the row of the HPARAMS tab."""
        if not isinstance(pl_module, Forecaster):
            return
        epochs = self._drawn if self._pending is None else self._pending.epoch + 1
        self._draw(trainer, pl_module)
        for logger in tensorboard_loggers(trainer):
            with never_fatal("the hyperparameters"):
                metrics = {"final/best_val_loss": self._best, "final/epochs": epochs}
                last = trainer.callback_metrics.items()
                metrics |= {f"final/{name}": float(value) for name, value in last if name.startswith("val_")}
                known = {name: value for name, value in metrics.items() if math.isfinite(value)}
                logger.log_hyperparams(hyperparameters(pl_module, trainer), known, step=last_step(trainer))

    def _draw(self, trainer: Trainer, module: Forecaster) -> None:
        if self._pending is None:
            return
        validated, self._pending = self._pending, None
        self._drawn = validated.epoch + 1
        if tensorboard_loggers(trainer) or _records(trainer):
            with never_fatal("the forecast plot"):
                _add_plot(trainer, "forecasts", self._forecasts(trainer, module, validated), validated.step)
            with never_fatal("the attention map"):
                _add_plot(trainer, "attention", self._attention(trainer, module, validated), validated.step)
        if self.histograms:
            for logger in tensorboard_loggers(trainer):
                with never_fatal("the histograms"):
                    _add_histograms(logger, module, self._gradients, validated.step)

    def _forecasts(self, trainer: Trainer, module: Forecaster, validated: Validated) -> Figure | None:
        data = data_of(trainer)
        if data is None:
            return None
        rows = validated.forecasts["row"].numpy()
        return forecast_plot(
            [data.panel.symbols[code] for code in data.panel.symbol[rows]],
            data.panel.time[rows],
            validated.forecasts["y_true"][:, 0].float().numpy(),
            validated.forecasts["y_pred"][:, 0].float().numpy(),
            name=module.contract.target_names[0],
            unit=module.contract.target_units[0],
            title=f"validation, epoch {validated.epoch}",
        )

    def _attention(self, trainer: Trainer, module: Forecaster, validated: Validated) -> Figure | None:
        data = data_of(trainer)
        if data is None or not self.windows:
            return None
        rows = validated.forecasts["row"]
        return attention_windows_plot(module, data, rows, self.windows, f"attention, epoch {validated.epoch}")


def hyperparameters(module: Forecaster, trainer: Trainer) -> dict[str, int | float | str]:
    """The settings of a fit, as numbers and strings by dotted name.

    Args:
        module: The forecaster of a running fit.
        trainer: Its trainer.
    """
    optimizer = trainer.optimizers[0]
    values: dict[str, Any] = {"optimizer": type(optimizer).__name__}
    for name in ("lr", "weight_decay"):
        if name in optimizer.defaults:
            values[name] = float(optimizer.defaults[name])
    for name, part in (("network", module.network), ("objective", module.objective)):
        spec = part.spec()
        values[name] = spec["class_path"].rpartition(".")[2]
        values |= {f"{name}.{key}": value for key, value in spec["init_args"].items()}
    if (data := data_of(trainer)) is not None:
        values |= {
            "window": data.recipe.window,
            "batch_size": data.batch_size,
            "targets": [target.name for target in data.targets],
            "features": data.n_features,
            "symbols": len(data.panel.symbols),
        }
    return {name: _cell(value) for name, value in values.items()}


def _cell(value: Any) -> int | float | str:
    """A value as the HPARAMS tab can show it: by itself the tab turns true into 1 and leaves out None."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return ", ".join(str(_cell(item)) for item in value) or "none"
    return value if isinstance(value, int | float) else str(value)


def data_of(trainer: Trainer) -> MarketDataModule | None:
    """The data module of a trainer; None if it is not a `MarketDataModule`.

    Args:
        trainer: The trainer.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning's connectors
    return data if isinstance(data, MarketDataModule) else None


def last_step(trainer: Trainer) -> int:
    """Where Lightning puts the metrics of an epoch: at its last step, counted from 0.

    Args:
        trainer: The trainer.
    """
    return max(0, trainer.global_step - 1)


def tensorboard_loggers(trainer: Trainer) -> list[TensorBoardLogger]:
    """The TensorBoard loggers of a trainer; they exist in the first process only.

    Args:
        trainer: The trainer.
    """
    if not trainer.is_global_zero:
        return []
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _records(trainer: Trainer) -> list[Record]:
    """The MLflow records of the main process."""
    if not trainer.is_global_zero:
        return []
    return [logger.record for logger in trainer.loggers if isinstance(logger, MLflowTracker)]


def _add_plot(trainer: Trainer, name: str, figure: Figure | None, step: int) -> None:
    """Puts a plot into TensorBoard, and its newest state into the run folder and MLflow."""
    if figure is None:
        return
    for logger in tensorboard_loggers(trainer):
        logger.experiment.add_image(name, rendered(figure), step, dataformats="HWC")
    for record in _records(trainer):
        file = record.run.path / f"{name}.png"
        replace_file(file, lambda partial: figure.savefig(partial, format="png"))
        record.keep(file)


def _add_graph(logger: TensorBoardLogger, module: Forecaster, length: int) -> None:
    weight, network = module.head.weight, module.network
    model = nn.Sequential(OrderedDict(network=network, head=module.head))
    window = torch.zeros(1, length, network.n_features, device=weight.device, dtype=weight.dtype)
    # torch prints a failure and raises it, and warns of each shape that the graph fixes
    with undisturbed(model), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.experiment.add_graph(model, window)


def _add_histograms(logger: TensorBoardLogger, module: Forecaster, gradients: Mapping[str, Tensor], step: int) -> None:
    for name, parameter in module.named_parameters():
        logger.experiment.add_histogram(f"weights/{name}", parameter.detach().float(), step)
    for name, gradient in gradients.items():
        logger.experiment.add_histogram(f"gradients/{name}", gradient, step)


@contextmanager
def never_fatal(what: str) -> Iterator[None]:
    """Turns an error into a warning: hours of training are worth more than a plot.

    Args:
        what: What TensorBoard lacks then.
    """
    try:
        yield
    except Exception as error:
        log.warning("TensorBoard without %s: %s: %s", what, type(error).__name__, " ".join(str(error).split()))
