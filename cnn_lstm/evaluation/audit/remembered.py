"""A model that computes each window once: most windows of a table with another future are those of the table as it is.

A forecast is a function of its window, bit for bit, whatever stands next to it. Two checks of the audit see to that,
and they ask the model itself.

Shapes: B windows, T window length, F features.
"""

from __future__ import annotations

import hashlib
from typing import Any, cast

import torch
from torch import Tensor

from cnn_lstm.inference.ensemble import Ensemble
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecast_model import Forecast, ForecastModel


class Remembered:
    """A model with a memory for windows; in everything else it is the model.

    Args:
        model: The trained model.

    Example:
        >>> from cnn_lstm.model.network import CNNLSTM
        >>> model = Remembered(ForecastModel(CNNLSTM(n_features=3)).eval())
        >>> windows = torch.randn(40, 20, 3)
        >>> one, other = (model.forecast(x).columns["y_pred"] for x in (windows, windows[8:24]))
        >>> torch.equal(one[8:24], other), model.computed
        (True, 40)
    """

    def __init__(self, model: ForecastModel | Ensemble) -> None:
        self._model = model
        self._rows: dict[bytes, int] = {}
        self._known: Forecast | None = None
        self.computed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def eval(self) -> Remembered:
        """Takes the model to evaluation mode."""
        self._model.eval()
        return self

    @torch.inference_mode()
    def forecast(self, x: Tensor, samples: int = 0, seed: int = 0) -> Forecast:
        """As the model's own, of which windows that were there before are not asked again.

        Args:
            x: Raw windows, (B, T, F).
            samples: Passes of Monte Carlo dropout; with them nothing is remembered.
            seed: Seed of the dropout masks.
        """
        if samples or not len(x):
            return self._model.forecast(x, samples, seed)
        digests = _digests(x)
        fresh = [k for k, digest in enumerate(digests) if digest not in self._rows]
        if fresh:
            self._learn([digests[k] for k in fresh], self._model.forecast(x[fresh]))
        assert self._known is not None
        rows = torch.tensor([self._rows[digest] for digest in digests], device=x.device)
        columns = {name: values[rows] for name, values in self._known.columns.items()}
        return Forecast(columns, self._known.embedding[rows])

    def _learn(self, digests: list[bytes], new: Forecast) -> None:
        self._rows |= {digest: self.computed + k for k, digest in enumerate(digests)}
        self.computed += len(digests)
        if self._known is None:
            self._known = new
            return
        columns = {name: torch.cat([values, new.columns[name]]) for name, values in self._known.columns.items()}
        self._known = Forecast(columns, torch.cat([self._known.embedding, new.embedding]))


def _digests(x: Tensor) -> list[bytes]:
    windows = x.cpu().contiguous().numpy()
    return [hashlib.sha256(window.data).digest() for window in windows]


def remembering(predictor: Predictor) -> Predictor:
    """The same predictor, which computes each window once."""
    return Predictor(cast("ForecastModel", Remembered(predictor.forecaster)))
