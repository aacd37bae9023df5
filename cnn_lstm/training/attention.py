"""What the network looks at in some windows, drawn without disturbing a fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.picks import evenly_spread
from cnn_lstm.data.windows import cut_windows
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import CNNLSTM
from cnn_lstm.training.plots import attention_plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def attention_windows_plot(
    module: Forecaster, data: MarketDataModule, rows: Tensor, windows: int, title: str
) -> Figure | None:
    """Draws what the network looks at in some windows, evenly spread; None where it has no attention.

    Args:
        module: The forecaster; its state stays as it is.
        data: A data module that has read its data.
        rows: Panel rows to choose from, (n,).
        windows: How many windows are drawn.
        title: What to write above all panels.
    """
    network = module.network
    if not isinstance(network, CNNLSTM) or network.attention is None:
        return None
    chosen = rows[torch.from_numpy(evenly_spread(len(rows), windows))]
    x = cut_windows(data.panel.values, chosen, data.recipe.window).to(module.head.weight)
    with undisturbed(network):
        weights = network.attention_weights(x).float().cpu().numpy()
    days, codes = data.panel.time[chosen.numpy()], data.panel.symbol[chosen.numpy()]
    names = [f"{data.panel.symbols[code]} {str(day)[:10]}" for code, day in zip(codes, days, strict=True)]
    return attention_plot(weights, names, title=title)


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Evaluates without gradients; afterwards the modes of the parts and the random states are as before.

    Args:
        module: The module that is evaluated.
    """
    modes = [(part, part.training) for part in module.modules()]
    devices = {parameter.device for parameter in module.parameters() if parameter.device.type == "cuda"}
    with torch.random.fork_rng(list(devices)), torch.no_grad():
        module.eval()
        try:
            yield
        finally:
            for part, training in modes:
                part.training = training
