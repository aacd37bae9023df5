"""A checkpoint as a plain module: windows in, features for an agent out.

Shapes: B windows, T window length, F features, D embedding, H targets, C classes, W width of the output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from cnn_lstm import specs
from cnn_lstm.errors import CheckpointError, ConfigError
from cnn_lstm.inference.ensemble import Ensemble, combine, model_from
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import Backbone
from cnn_lstm.model.objectives import Objective
from cnn_lstm.rl.step_size import scale_steps


class Encoder(nn.Module):
    """Embeddings of windows, and forecasts and their uncertainty beside them.

    It keeps what the checkpoint learnt: dropout stays off and batch norm keeps its statistics, whatever `train()`
    says, and `apply()` initialises nothing. The weights of a frozen encoder are buffers: no optimiser and no Polyak
    average of a target network moves them.

    Args:
        plan: How the networks are built, see `plan_of`.
        forecasters: The trained ones; without them the encoder waits for `load_state_dict`, and refuses to encode
            before.
        frozen: Whether the weights stay as they are.
        lr_factor: Share of the agent's learning rate that a fine-tuned encoder gets, see `scale_steps`.
        forecast: Appends the point forecast of each target, in standard deviations of the training targets; for
            classes the probability of each.
        uncertainty: Appends for each target how unsure its forecast is, in the same unit: the standard deviation of a
            `Gaussian` or of the members of an ensemble, half the distance of the outer `Quantiles`; for classes 1
            minus the greatest probability.

    Raises:
        ConfigError: If `lr_factor` is out of its range or of no use, or the checkpoint forecasts no uncertainty.

    Example:
        >>> encoder = Encoder.from_checkpoint("runs/quickstart/checkpoints/best.ckpt")  # doctest: +SKIP
        >>> encoder(torch.zeros(8, 60, 12)).shape  # doctest: +SKIP
        torch.Size([8, 64])
    """

    has_weights: Tensor

    def __init__(
        self,
        plan: Mapping[str, Any],
        forecasters: Sequence[Forecaster] | None = None,
        frozen: bool = True,
        lr_factor: float = 1.0,
        forecast: bool = False,
        uncertainty: bool = False,
    ) -> None:
        super().__init__()
        _check_factor(lr_factor, frozen)
        self.plan = plan
        self.frozen, self.lr_factor = frozen, lr_factor
        self.forecast, self.uncertainty = forecast, uncertainty
        with_head = forecast or uncertainty
        members = _untrained(plan) if forecasters is None else forecasters
        self.members = nn.ModuleList(_Member(member, with_head) for member in members)
        self.register_buffer("has_weights", torch.tensor(forecasters is not None))
        self._frozen = _make_buffers(self) if frozen else []
        if not frozen:
            _drop_nothing(self)
        self.eval()
        with torch.no_grad():
            self.width = self._features(torch.zeros(1, plan["window"], len(plan["features"]))).shape[1]

    @classmethod
    def from_checkpoint(cls, path: str | Path, pretrained: bool = True, **options: Any) -> Encoder:
        """The encoder of a checkpoint or of an ensemble, read without running any code in it.

        Args:
            path: File written by `fit` or `write_ensemble`.
            pretrained: False draws the weights anew and keeps the scaling of the features: what the training of the
                forecaster is worth, shows in the difference.
            options: As for the class.

        Raises:
            CheckpointError: If the file is missing, damaged, unsafe or not ours.
            ConfigError: As for the class.
        """
        checkpoint = read_checkpoint(path)
        plan, model = plan_of(checkpoint), model_from(checkpoint)
        forecasters = model.forecasters if isinstance(model, Ensemble) else [model]
        if not pretrained:
            fresh = _untrained(plan)
            for new, old in zip(fresh, forecasters, strict=True):
                new.network.standardize.load_state_dict(old.network.standardize.state_dict())
            forecasters = fresh
        return cls(plan, forecasters, **options)

    def forward(self, windows: Tensor) -> Tensor:
        """Features, (B, W), of windows of raw features, (B, T, F): embedding, forecasts, uncertainty.

        Raises:
            CheckpointError: If the weights were never given.
        """
        if not self.has_weights:
            raise CheckpointError(
                "the encoder has no weights, and no saved agent has brought any",
                "the observation space was saved with an agent",
                "load that agent, or make the environment anew where the checkpoint is",
                code=437,
            )
        if self.frozen:
            with torch.no_grad(), _like_parameters(self._frozen):
                return _never_alone(self._features, windows)
        if self.lr_factor != 1:
            scale_steps(self.parameters(), self.lr_factor)  # each time: a copied parameter loses its mark
        return _never_alone(self._features, windows)

    def _features(self, windows: Tensor) -> Tensor:
        embeddings: list[Tensor] = [member(windows) for member in self._parts]
        if not (self.forecast or self.uncertainty):
            return torch.cat(embeddings, dim=1)
        columns = self._columns(embeddings)
        forecast = _forecast(columns) if self.forecast else []
        uncertainty = [_uncertainty(columns)] if self.uncertainty else []
        return torch.cat([*embeddings, *forecast, *uncertainty], dim=1)

    def _columns(self, embeddings: Sequence[Tensor]) -> dict[str, Tensor]:
        """Forecast columns in standardised units, each (B, H)."""
        parts = [member.columns(values) for member, values in zip(self._parts, embeddings, strict=True)]
        return combine(parts, self._parts[0].objective.classes) if len(parts) > 1 else parts[0]

    @property
    def _parts(self) -> list[_Member]:
        return cast("list[_Member]", list(self.members))

    def train(self, mode: bool = True) -> Encoder:
        """Leaves dropout off and batch norm as it is; cuDNN computes gradients of an LSTM only in this mode."""
        super().train(False)
        for part in self.modules():
            if isinstance(part, nn.RNNBase):
                part.train(mode and not self.frozen)
        return self

    def apply(self, fn: Any) -> Encoder:
        """Does nothing: agents initialise all their layers by it, after the weights have been read."""
        return self


class _Member(nn.Module):
    """What an encoder needs of a forecaster, which itself holds functions that cannot be pickled."""

    def __init__(self, forecaster: Forecaster, with_head: bool) -> None:
        super().__init__()
        self.network, self.n_targets = forecaster.network, forecaster.n_targets
        if with_head:
            self.head, self.objective = forecaster.head, forecaster.objective

    def forward(self, windows: Tensor) -> Tensor:
        """Embeddings, (B, D)."""
        embedding: Tensor = self.network(windows)
        return embedding

    def columns(self, embedding: Tensor) -> dict[str, Tensor]:
        """Forecast columns in standardised units, each (B, H), of embeddings (B, D)."""
        raw = self.head(embedding).view(len(embedding), self.n_targets, self.objective.n_outputs)
        loc, scale = embedding.new_zeros(len(embedding), self.n_targets), embedding.new_ones(self.n_targets)
        return self.objective.forecast(raw.float(), loc, scale)


def plan_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """How to build an encoder of a checkpoint, without its weights, in plain values.

    Args:
        checkpoint: As `read_checkpoint` returns it.

    Returns:
        members: arguments of each forecaster; features: their names in order; window: rows of a window.
    """
    parameters, recipe = checkpoint["hyper_parameters"], Contract.of(checkpoint).recipe
    return {
        "members": parameters.get("members", [parameters]),
        "features": list(recipe["features"]),
        "window": int(recipe["window"]),
    }


def _untrained(plan: Mapping[str, Any]) -> list[Forecaster]:
    return [
        Forecaster(
            network=specs.build(member["network"], Backbone),
            objective=specs.build(member["objective"], Objective),
            n_targets=member["n_targets"],
        )
        for member in plan["members"]
    ]


def _check_factor(lr_factor: float, frozen: bool) -> None:
    if not 0 < lr_factor < math.inf:
        raise ConfigError(f"lr_factor={lr_factor}", "the encoder", "give a number above 0, for example 0.1", code=263)
    if frozen and lr_factor != 1:
        raise ConfigError(f"lr_factor={lr_factor} of a frozen encoder", "", "add frozen=False", code=263)


def _make_buffers(module: nn.Module) -> list[tuple[nn.Module, str]]:
    """Turns parameters into buffers of the same names: a Polyak average of equal weights would still round them.

    Returns:
        Where they are: the part and the name in it.
    """
    places = [(part, name) for part in module.modules() for name, _ in part.named_parameters(recurse=False)]
    for part, name in places:
        values = getattr(part, name).detach()
        delattr(part, name)
        part.register_buffer(name, values)
    return places


@contextmanager
def _like_parameters(places: Sequence[tuple[nn.Module, str]]) -> Iterator[None]:
    """Marks buffers as what they were: torch chooses kernels, which round differently, by `requires_grad`."""
    weights: list[Tensor] = [getattr(part, name) for part, name in places]
    for values in weights:
        values.requires_grad_(True)
    try:
        yield
    finally:
        for values in weights:
            values.requires_grad_(False)


def _never_alone(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a function of rows to at least two of them.

    A product of a matrix and a single row has a kernel of its own, which rounds differently: by 4e-6 in an embedding,
    where larger batches of one machine agree to the bit.
    """
    return function(x) if len(x) != 1 else function(x.expand(2, *x.shape[1:]))[:1]


def _drop_nothing(module: nn.Module) -> None:
    """Takes the dropout out of recurrent layers, which cannot stay in evaluation mode; see `Encoder.train`."""
    for part in module.modules():
        if isinstance(part, nn.RNNBase):
            part.dropout = 0.0


def _forecast(columns: Mapping[str, Tensor]) -> list[Tensor]:
    """The point forecast (B, H); for classes (B, H) for each of them."""
    classes = [values for name, values in columns.items() if name.startswith("p")]
    return classes or [columns["y_pred"]]


def _uncertainty(columns: Mapping[str, Tensor]) -> Tensor:
    """How unsure each forecast is, (B, H)."""
    quantiles = [values for name, values in columns.items() if name.startswith("q")]
    classes = [values for name, values in columns.items() if name.startswith("p")]
    if "std" in columns:
        return columns["std"]
    if quantiles:
        return (quantiles[-1] - quantiles[0]) / 2
    if classes:
        return 1 - torch.stack(classes).amax(dim=0)
    if "ensemble_std" in columns:
        return columns["ensemble_std"]
    raise ConfigError(
        "the checkpoint forecasts no uncertainty",
        "uncertainty=True",
        "train with the objective Gaussian or Quantiles, or give an ensemble",
        code=262,
    )
