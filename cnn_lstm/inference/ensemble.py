"""Several checkpoints as one file and one model: their average, and how far they are apart.

Shapes: M members, B windows, T window length, F features, H targets, D embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from cnn_lstm.errors import CheckpointError
from cnn_lstm.model.calibration import Calibration
from cnn_lstm.model.checkpoints import (
    forecaster_from,
    is_ensemble,
    plain_members,
    read_checkpoint,
    require_single,
    write_checkpoint,
)
from cnn_lstm.model.contract import CHECKPOINT_KEY, Contract, digest_of, warn_of_weighted_sets, with_digest
from cnn_lstm.model.forecast_model import Forecast, ForecastModel
from cnn_lstm.model.objectives.mixture import COMPONENT_COLUMNS, components_of, is_component

FEWEST = 2


class Ensemble(nn.Module):
    """The average of several forecasters of the same data, targets and objective.

    It offers what `Predictor` uses of a `ForecastModel`; an `EnsembleModule` is one for a trainer. The column
    `ensemble_std` is the spread of the members: how much the forecast owes to the seed. It is a sign of doubt, not an
    interval.

    Args:
        members: Trained forecasters.
        contract: That of a member, with the digests of all members' weights.

    Source:
        Lakshminarayanan, Pritzel and Blundell (2017), Simple and Scalable Predictive Uncertainty Estimation using
        Deep Ensembles.
    """

    def __init__(self, members: Sequence[ForecastModel], contract: Contract) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.contract = contract

    @property
    def device(self) -> torch.device:
        """Where the members compute."""
        return self.forecasters[0].device

    @property
    def forecasters(self) -> list[ForecastModel]:
        """The members."""
        return cast("list[ForecastModel]", list(self.members))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Combined columns in original units, each (B, H), of raw windows (B, T, F)."""
        return combine([member(x) for member in self.forecasters], self.forecasters[0].objective.classes)

    def forecast(self, x: Tensor, samples: int = 0, seed: int = 0) -> Forecast:
        """Combined columns, and the embeddings of `encode`, of raw windows (B, T, F); see `ForecastModel.forecast`.

        Args:
            x: Raw windows, (B, T, F).
            samples: Passes of Monte Carlo dropout of each member; 0 for none.
            seed: Gives other dropout masks, see `ForecastModel.forecast`.
        """
        first = seed * len(self.members)  # no two members share their masks
        parts = [member.forecast(x, samples, first + k) for k, member in enumerate(self.forecasters)]
        columns = combine([part.columns for part in parts], self.forecasters[0].objective.classes)
        return Forecast(columns, torch.cat([part.embedding for part in parts], dim=-1))

    def encode(self, x: Tensor) -> Tensor:
        """Embeddings of all members side by side, (B, M D), of raw windows (B, T, F).

        Each seed has axes of its own, so that an average of embeddings would mean nothing.
        """
        return torch.cat([member.encode(x) for member in self.forecasters], dim=-1)


def combine(parts: Sequence[Mapping[str, Tensor]], classes: int = 0) -> dict[str, Tensor]:
    """One forecast of several.

    Numbers, quantiles and probabilities are averaged. `std` is that of the mixture of the members' distributions: its
    variance is the mean of the variances plus the variance of the means. The components of mixtures stand next to each
    other, since the average of two mixtures is the mixture of all their components. Degrees of freedom `df` are
    averaged as inverses, which grow with the weight of the tails. The class is the most probable one of the averaged
    probabilities.

    Args:
        parts: Columns of each member, each (B, H).
        classes: Number of classes; 0 for numbers.

    Returns:
        The same columns, with the components of all members, and `ensemble_std`: the standard deviation of the
        members' point forecasts, for classes of their probabilities of the chosen class.

    Example:
        >>> parts = [{"y_pred": torch.tensor([[1.0]]), "std": torch.tensor([[s]])} for s in (3.0, 5.0)]
        >>> {name: round(float(values), 3) for name, values in combine(parts).items()}
        {'y_pred': 1.0, 'std': 4.123, 'ensemble_std': 0.0}
    """
    columns = {name: _mean([part[name] for part in parts]) for name in parts[0] if not is_component(name)}
    points = [part["y_pred"] for part in parts]
    if classes:
        chosen = torch.stack([columns[f"p{k}"] for k in range(classes)]).argmax(dim=0, keepdim=True)  # (1, B, H)
        columns["y_pred"] = chosen[0].to(points[0].dtype)
        points = [torch.stack([part[f"p{k}"] for k in range(classes)]).gather(0, chosen)[0] for part in parts]
    middle = _mean(points)
    spread = _mean([(point - middle) ** 2 for point in points])
    if "std" in columns:
        columns["std"] = (_mean([part["std"] ** 2 for part in parts]) + spread).sqrt()
    if "mc_std" in columns:
        columns["mc_std"] = _mean([part["mc_std"] ** 2 for part in parts]).sqrt()
    if "df" in columns:
        columns["df"] = 1 / _mean([1 / part["df"] for part in parts])
    return columns | _components(parts) | {"ensemble_std": spread.sqrt()}


def _components(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The components of all members' mixtures, numbered on, with weights that add up to 1; empty without any."""
    each = {
        name: [part[f"{name}_{k}"] for part in parts for k in range(components_of(part))] for name in COMPONENT_COLUMNS
    }
    each["weight"] = [weight / len(parts) for weight in each["weight"]]
    return {f"{name}_{k}": column for name, values in each.items() for k, column in enumerate(values)}


def _mean(values: Sequence[Tensor]) -> Tensor:
    """Element by element, in the members' order: a reduction kernel may round by the shape."""
    return sum(values[1:], start=values[0]) / len(values)


# -- the file --------------------------------------------------------------------------------------------------------


def write_ensemble(checkpoints: Sequence[str | Path], path: str | Path, calibration: Calibration | None = None) -> None:
    """Writes the average of several checkpoints as one file that `Predictor.from_checkpoint` loads like one model.

    Args:
        checkpoints: Files written by `fit`, at least two, of the same data, split, targets and objective.
        path: The file to write; an old one is replaced in one step.
        calibration: Calibration of the averaged forecast; None by default, since that of a member does not hold for
            the average.

    Raises:
        CheckpointError: If a file is missing, damaged or unsafe, or the files do not belong together.
        ResourceError: If the file cannot be written.

    Example:
        >>> runs = ["seed_42", "seed_43"]
        >>> write_ensemble([f"{run}/checkpoints/best.ckpt" for run in runs], "ensemble.ckpt")  # doctest: +SKIP
    """
    write_checkpoint(joined(checkpoints, calibration), path)


def joined(checkpoints: Sequence[str | Path], calibration: Calibration | None = None) -> dict[str, Any]:
    """The content of an ensemble's file; see `write_ensemble`."""
    if len(checkpoints) < FEWEST:
        raise CheckpointError("an ensemble of fewer than two checkpoints", fix="name at least two", code=438)
    parts = []
    for path in checkpoints:
        parts.append(read_checkpoint(path))
        require_single(parts[-1], path)
    for part, path in zip(parts[1:], checkpoints[1:], strict=True):
        _require_same(parts[0], part, f"{checkpoints[0]} and {path}")
    states: list[Mapping[str, Tensor]] = [part["state_dict"] for part in parts]
    state = {f"members.{k}.{name}": values for k, part in enumerate(states) for name, values in part.items()}
    digests = [digest_of(part) for part in parts]
    return {
        "state_dict": state,
        "hyper_parameters": {"members": [part["hyper_parameters"] for part in parts]},
        CHECKPOINT_KEY: with_digest(replace(Contract.of(parts[0]), calibration=calibration, members=digests), state),
    }


def _require_same(one: Mapping[str, Any], other: Mapping[str, Any], where: str) -> None:
    """Refuses members that differ in anything but their network and their weights."""
    shared, others = (
        asdict(replace(Contract.of(part), calibration=None)) | {"objective": part["hyper_parameters"].get("objective")}
        for part in (one, other)
    )
    differing = [name for name in shared if shared[name] != others[name]]
    if differing:
        what = f"the checkpoints make no ensemble: they differ in {', '.join(differing)}"
        raise CheckpointError(what, where, "join runs of one configuration that differ in their seed", code=438)


def ensemble_from(checkpoint: Mapping[str, Any]) -> Ensemble:
    """The ensemble of a checkpoint, in evaluation mode, from plain values and weights alone.

    Args:
        checkpoint: As `read_checkpoint` returns it.

    Raises:
        CheckpointError: If a member's classes are not trusted or its weights do not fit them.
    """
    contract, state = Contract.of(checkpoint), checkpoint["state_dict"]
    plain, digests = plain_members(checkpoint), contract.members
    if len(plain) != len(digests):
        raise CheckpointError("the checkpoint does not say how to build its members", code=417)
    members = []
    for k, (parameters, digest) in enumerate(zip(plain, digests, strict=True)):
        prefix = f"members.{k}."
        part = {
            "hyper_parameters": parameters,
            "state_dict": {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)},
            CHECKPOINT_KEY: checkpoint[CHECKPOINT_KEY] | {"digest": digest},
        }
        members.append(forecaster_from(part))
    warn_of_weighted_sets(contract, members[0].objective.weighted)
    return Ensemble(members, contract).eval()


def model_from(checkpoint: Mapping[str, Any]) -> ForecastModel | Ensemble:
    """The forecaster or the ensemble of a checkpoint, in evaluation mode.

    Args:
        checkpoint: As `read_checkpoint` returns it.

    Raises:
        CheckpointError: If its classes are not trusted or its weights do not fit them.
    """
    return ensemble_from(checkpoint) if is_ensemble(checkpoint) else forecaster_from(checkpoint)
