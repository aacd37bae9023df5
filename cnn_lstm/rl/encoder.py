"""A checkpoint as a plain module: windows in, features for an agent out.

Shapes: B batch, T window length, F features, D embedding, H targets, W width of the output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnn_lstm import specs
from cnn_lstm.errors import CheckpointError, ConfigError
from cnn_lstm.inference.ensemble import Ensemble, combine, model_from
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecast_model import ForecastModel
from cnn_lstm.model.network import Backbone
from cnn_lstm.model.objectives import Objective, Qlike
from cnn_lstm.model.scales import of_windows, take_rows
from cnn_lstm.model.target_scale import UNLEARNT
from cnn_lstm.rl.second_scaling import ScaleWatch
from cnn_lstm.rl.step_size import scale_steps


class EncoderPlan(TypedDict):
    """How to build the networks of an encoder without their weights: what a saved agent keeps, in plain values.

    Attributes:
        members: Arguments of each forecaster: `network` and `objective` as specs, and `n_targets`.
        features: Names of the features in their order.
        window: Rows of a window, T.
        categories: Position of each static column and the number of its categories; missing without any.
    """

    members: list[Mapping[str, Any]]
    features: list[str]
    window: int
    categories: NotRequired[list[tuple[int, int]]]


class Encoder(nn.Module):
    """Embeddings of windows, followed by forecasts and their uncertainty where these are wanted.

    It keeps what the checkpoint learnt: `train()` changes neither dropout, which stays off, nor the statistics of batch
    norm, and `apply()` initialises nothing. The weights of a frozen encoder are buffers, so that no optimiser and no
    Polyak average of a target network moves them.

    Args:
        plan: How the networks are built.
        forecasters: The trained forecasters. Without them the encoder has to get its weights from `load_state_dict`,
            and refuses to encode before.
        frozen: Whether the weights stay as they are.
        lr_factor: Share of the agent's learning rate that a fine-tuned encoder gets, see `scale_steps`.
        forecast: Appends the point forecast of each target, in standard deviations of the training targets; for
            classes the probability of each.
        uncertainty: Appends the uncertainty of each forecast, in the same unit: the standard deviation of a `Gaussian`
            or of the members of an ensemble, half the distance of the outer `Quantiles`; for classes 1 minus the
            greatest probability.

    Attributes:
        width: Width of the output, W.

    Raises:
        ConfigError: E263, if `lr_factor` is out of its range or has no effect; E262, if the checkpoint forecasts no
            uncertainty.

    Example:
        >>> encoder = Encoder.from_checkpoint("runs/quickstart/checkpoints/best.ckpt")  # doctest: +SKIP
        >>> encoder(torch.zeros(8, 60, 12)).shape  # doctest: +SKIP
        torch.Size([8, 64])
    """

    has_weights: Tensor

    def __init__(
        self,
        plan: EncoderPlan,
        forecasters: Sequence[ForecastModel] | None = None,
        frozen: bool = True,
        lr_factor: float = 1.0,
        forecast: bool = False,
        uncertainty: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < lr_factor < math.inf:
            fix = "give a number above 0, for example 0.1"
            raise ConfigError(f"lr_factor={lr_factor}", "the encoder", fix, code=263)
        if frozen and lr_factor != 1:
            raise ConfigError(f"lr_factor={lr_factor} of a frozen encoder", "the encoder", "add frozen=False", code=263)
        self.plan = plan
        self.frozen, self.lr_factor = frozen, lr_factor
        self.forecast, self.uncertainty = forecast, uncertainty
        with_head = forecast or uncertainty
        members = _untrained(plan) if forecasters is None else forecasters
        self.members = nn.ModuleList(_Member(member, with_head) for member in members)
        self.register_buffer("has_weights", torch.tensor(forecasters is not None))
        self._frozen = _make_buffers(self) if frozen else []
        self._watch: ScaleWatch | None = None
        if not frozen:
            for part in self.modules():
                if isinstance(part, nn.RNNBase):  # these cannot stay in evaluation mode, see `train`
                    part.dropout = 0.0
        self.eval()
        with torch.no_grad():
            self.width = self._features(torch.zeros(1, plan["window"], len(plan["features"]))).shape[1]

    @classmethod
    def from_checkpoint(cls, path: str | Path, pretrained: bool = True, **options: Any) -> Encoder:
        """The encoder of a checkpoint or of an ensemble, read without running any code in it.

        Args:
            path: File written by `fit` or `write_ensemble`.
            pretrained: False replaces the trained weights by random ones and keeps the scaling of the features; the
                difference shows what the training of the forecaster is worth.
            options: Further arguments of the class.

        Raises:
            CheckpointError: If the file is missing, damaged, unsafe or of another program.
            ConfigError: See the class.
        """
        checkpoint = read_checkpoint(path)
        model, parameters = model_from(checkpoint), checkpoint["hyper_parameters"]
        recipe = Contract.of(checkpoint).recipe
        plan: EncoderPlan = {
            "members": parameters.get("members", [parameters]),
            "features": list(recipe["features"]),
            "window": int(recipe["window"]),
        }
        first = model.forecasters[0] if isinstance(model, Ensemble) else model
        if first.categories.parts:
            plan["categories"] = [(part.position, len(part.codes)) for part in first.categories.parts]
        forecasters = model.forecasters if isinstance(model, Ensemble) else [model]
        if not pretrained:
            initial = _untrained(plan)
            for new, old in zip(initial, forecasters, strict=True):
                new.network.standardize.load_state_dict(old.network.standardize.state_dict())
                new.categories.take(old.categories.known)
            forecasters = initial
        return cls(plan, forecasters, **options)

    def forward(self, windows: Tensor) -> Tensor:
        """Features, (B, W), of windows of raw features, (B, T, F): embedding, forecasts, uncertainty.

        Raises:
            CheckpointError: E437, if the encoder has not got any weights yet.
        """
        if not self.has_weights:
            what = "the encoder has no weights, and no saved agent has brought any"
            fix = "load that agent, or make a new environment where the checkpoint is"
            raise CheckpointError(what, "the observation space was saved with an agent", fix, code=437)
        if self._watch is None:
            self._watch = ScaleWatch(self.plan["features"], self._parts[0].raw_scale())
        self._watch.see(windows)
        if self.frozen:
            with torch.no_grad(), _like_parameters(self._frozen):
                return _never_alone(self._features, windows)
        if self.lr_factor != 1:
            scale_steps(self.parameters(), self.lr_factor)  # each time: a copied parameter loses its mark
        return _never_alone(self._features, windows)

    def _features(self, windows: Tensor) -> Tensor:
        """Features, (B, W), of windows, (B, T, F)."""
        embeddings: list[Tensor] = [member(windows) for member in self._parts]
        if not (self.forecast or self.uncertainty):
            return torch.cat(embeddings, dim=1)
        # each column is (B, H)
        parts = [member.columns(values, windows) for member, values in zip(self._parts, embeddings, strict=True)]
        columns = combine(parts, self._parts[0].objective.classes) if len(parts) > 1 else parts[0]
        classes = [values for name, values in columns.items() if name.startswith("p")]
        forecast = (classes or [columns["y_pred"]]) if self.forecast else []
        uncertainty = [_uncertainty(columns, classes)] if self.uncertainty else []
        return torch.cat([*embeddings, *forecast, *uncertainty], dim=1)

    @property
    def _parts(self) -> list[_Member]:
        return cast("list[_Member]", list(self.members))

    def train(self, mode: bool = True) -> Encoder:
        """Leaves dropout off and batch norm as it is; only the recurrent layers of a tuned encoder follow the mode.

        cuDNN computes gradients of an LSTM only in training mode.
        """
        super().train(False)
        for part in self.modules():
            if isinstance(part, nn.RNNBase):
                part.train(mode and not self.frozen)
        return self

    def apply(self, fn: Any) -> Encoder:
        """Does nothing: agents initialise all their layers by `apply`, after the weights have been read."""
        return self


class _Member(nn.Module):
    """What an encoder needs of a forecaster; a whole forecaster holds functions that cannot be pickled."""

    def __init__(self, forecaster: ForecastModel, with_head: bool) -> None:
        super().__init__()
        self.network, self.n_targets = forecaster.network, forecaster.n_targets
        self.categories = forecaster.categories
        if with_head:
            self.head, self.objective = forecaster.head, forecaster.objective
            self.linear = forecaster.linear
        # what a volatility is standardised by decides where its forecast bends away from 0; others are linear in it
        self.bends = with_head and isinstance(forecaster.objective, Qlike)
        if self.bends:
            for name in UNLEARNT:
                self.register_buffer(name, forecaster.get_buffer(name).clone())

    def forward(self, windows: Tensor) -> Tensor:
        """Embeddings, (B, D), of windows, (B, T, F)."""
        embedding: Tensor = self.categories(self.network(windows), windows)
        return embedding

    def raw_scale(self) -> NDArray[np.float64]:
        """Scale of each raw feature in the training rows, (F,); NaN where it is muted, a code or taken relative."""
        standardize = self.network.standardize
        scale = standardize.scale.detach().double().cpu().reshape(-1, standardize.anchored.numel())[-1]
        scale = scale.where(torch.isfinite(scale) & (standardize.anchored.cpu() == 0), math.nan)
        if len(standardize.codes):
            scale[-1] = math.nan
        return scale.numpy()

    def columns(self, embedding: Tensor, windows: Tensor) -> dict[str, Tensor]:
        """Forecast columns in standardised units, each (B, H), of embeddings (B, D) of windows (B, T, F)."""
        raw = self.head(embedding).view(len(embedding), self.n_targets, self.objective.n_outputs)
        raw = self.objective.shifted(raw, self.linear(self.network.standardize(windows)))
        scale = embedding.new_ones(self.n_targets)
        if not self.bends:
            return self.objective.forecast(raw.float(), embedding.new_zeros(len(embedding), self.n_targets), scale)
        # a forecast of scale * z + loc is scale times one of z + loc / scale
        moved = self._location(windows)
        columns = self.objective.forecast(raw.float(), moved, scale)
        return columns | {"y_pred": columns["y_pred"] - moved}

    def _location(self, windows: Tensor) -> Tensor:
        """What is subtracted from the targets in units of their scale, (B, H), as `TargetScale` does it."""
        codes = self.network.standardize.codes
        loc, scale = (of_windows(self.get_buffer(name), codes, windows) for name in ("y_loc", "y_scale"))
        anchor = self.get_buffer("y_anchor")
        last = windows[:, -1].index_select(1, anchor.clamp(min=0))
        moved: Tensor = (loc + torch.where(anchor >= 0, last, 0.0)) / scale
        return moved.expand(len(windows), -1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """An agent of an earlier version has no such buffers, and learnt from forecasts without them."""
        if self.bends:
            for name, value in UNLEARNT.items():
                state_dict.setdefault(f"{prefix}{name}", torch.full_like(self.get_buffer(name), value))
            take_rows(self, state_dict, prefix, list(UNLEARNT))
        super()._load_from_state_dict(state_dict, prefix, *others)


def _untrained(plan: EncoderPlan) -> list[ForecastModel]:
    """The forecasters of a plan, with random weights."""
    models = [
        ForecastModel(
            network=specs.build(member["network"], Backbone),
            objective=specs.build(member["objective"], Objective),
            n_targets=member["n_targets"],
        )
        for member in plan["members"]
    ]
    for model in models:
        model.categories.shape(dict(plan.get("categories", [])))
    return models


def _make_buffers(module: nn.Module) -> list[tuple[nn.Module, str]]:
    """Turns parameters into buffers of the same names, since even a Polyak average of equal weights rounds them.

    Returns:
        The place of each: the module, and the name in it.
    """
    places = [(part, name) for part in module.modules() for name, _ in part.named_parameters(recurse=False)]
    for part, name in places:
        values = getattr(part, name).detach()
        delattr(part, name)
        part.register_buffer(name, values)
    return places


@contextmanager
def _like_parameters(places: Sequence[tuple[nn.Module, str]]) -> Iterator[None]:
    """Marks buffers as parameters: torch chooses its kernels, which round differently, by `requires_grad`."""
    weights: list[Tensor] = [getattr(part, name) for part, name in places]
    for values in weights:
        values.requires_grad_(True)
    try:
        yield
    finally:
        for values in weights:
            values.requires_grad_(False)


def _never_alone(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a function of windows, (B, T, F), to at least two of them.

    The product of a matrix and a single row uses another kernel, which rounds differently: by 4e-6 in an embedding,
    where larger batches on one machine agree to the bit.
    """
    return function(x) if len(x) != 1 else function(x.expand(2, *x.shape[1:]))[:1]


def _uncertainty(columns: Mapping[str, Tensor], classes: list[Tensor]) -> Tensor:
    """The uncertainty of each forecast, (B, H), by its columns and the probabilities of its classes, (B, H) each."""
    quantiles = [values for name, values in columns.items() if name.startswith("q")]
    if "std" in columns:
        return columns["std"]
    if quantiles:
        return (quantiles[-1] - quantiles[0]) / 2
    if classes:
        return 1 - torch.stack(classes).amax(dim=0)
    if "ensemble_std" in columns:
        return columns["ensemble_std"]
    fix = "train with an objective that forecasts a distribution, such as Gaussian, or Quantiles, or give an ensemble"
    raise ConfigError("the checkpoint forecasts no uncertainty", "uncertainty=True", fix, code=262)
