"""Several checkpoints as one file and one model: their average, and how far they are apart.

Shapes: M members, B windows, T window length, F features, H targets, D embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from cnn_lstm.errors import CheckpointError
from cnn_lstm.model.checkpoints import forecaster_from, is_ensemble, read_checkpoint, require_single, write_checkpoint
from cnn_lstm.model.forecaster import CHECKPOINT_FORMAT, CHECKPOINT_KEY, Forecaster, state_digest

FEWEST = 2
OF_THE_MEMBER = ("format", "digest", "calibration")


class Ensemble(nn.Module):
    """The average of several forecasters of the same data, targets and objective.

    It offers what `Predictor` uses of a `Forecaster`. The column `ensemble_std` is the spread of the members: how much
    the forecast owes to the seed. It is a sign of doubt, not an interval.

    Args:
        members: Trained forecasters.
        contract: What a forecaster's contract says of data and targets; `members` lists the digests of the weights.

    Source:
        Lakshminarayanan, Pritzel and Blundell (2017), Simple and Scalable Predictive Uncertainty Estimation using
        Deep Ensembles.
    """

    def __init__(self, members: Sequence[Forecaster], contract: dict[str, Any]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.contract = contract

    @property
    def forecasters(self) -> list[Forecaster]:
        """The members."""
        return cast("list[Forecaster]", list(self.members))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.forecasters[0].y_loc.device

    def forecast(self, x: Tensor) -> dict[str, Tensor]:
        """Combined forecast columns in original units, each (B, H), of raw windows (B, T, F).

        The bits of a row do not depend on the other rows, as those of `Forecaster.forecast`.
        """
        return combine([member.forecast(x) for member in self.forecasters], self._classes)

    def forecast_and_encode(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """`forecast` and `encode` by one pass of each member."""
        parts = [member.forecast_and_encode(x) for member in self.forecasters]
        return combine([columns for columns, _ in parts], self._classes), torch.cat([e for _, e in parts], dim=-1)

    def sample(self, x: Tensor, samples: int, seed: int = 0) -> dict[str, Tensor]:
        """Monte Carlo dropout of each member, combined; see `Forecaster.sample`.

        Args:
            x: Raw windows, (B, T, F).
            samples: Passes of each member.
            seed: Reproduces the dropout masks.
        """
        first = seed * len(self.members)  # no two members share their masks
        draws = [member.sample(x, samples, seed=first + k) for k, member in enumerate(self.forecasters)]
        return combine(draws, self._classes)

    def encode(self, x: Tensor) -> Tensor:
        """Embeddings of all members side by side, (B, M D), of raw windows (B, T, F).

        Each seed has axes of its own, so that an average of embeddings would mean nothing.
        """
        return torch.cat([member.encode(x) for member in self.forecasters], dim=-1)

    @property
    def _classes(self) -> int:
        return self.forecasters[0].objective.classes


def combine(parts: Sequence[Mapping[str, Tensor]], classes: int = 0) -> dict[str, Tensor]:
    """One forecast of several.

    Numbers, quantiles and probabilities are averaged. `std` is that of the mixture of the members' distributions: its
    variance is the mean of the variances plus the variance of the means. The class is the most probable one of the
    averaged probabilities.

    Args:
        parts: Columns of each member, each (B, H).
        classes: Number of classes; 0 for numbers.

    Returns:
        The same columns, and `ensemble_std`: the standard deviation of the members' point forecasts, for classes of
        their probabilities of the chosen class.

    Example:
        >>> parts = [{"y_pred": torch.tensor([[1.0]]), "std": torch.tensor([[s]])} for s in (3.0, 5.0)]
        >>> {name: round(float(values), 3) for name, values in combine(parts).items()}
        {'y_pred': 1.0, 'std': 4.123, 'ensemble_std': 0.0}
    """
    columns = {name: _mean([part[name] for part in parts]) for name in parts[0]}
    points = [part["y_pred"] for part in parts]
    if classes:
        chosen = torch.stack([columns[f"p{k}"] for k in range(classes)]).argmax(dim=0, keepdim=True)  # (1, B, H)
        columns["y_pred"] = chosen[0].to(points[0].dtype)
        points = [torch.stack([part[f"p{k}"] for k in range(classes)]).gather(0, chosen)[0] for part in parts]
    spread = _variance(points)
    if "std" in columns:
        columns["std"] = (_mean([part["std"] ** 2 for part in parts]) + spread).sqrt()
    if "mc_std" in columns:
        columns["mc_std"] = _mean([part["mc_std"] ** 2 for part in parts]).sqrt()
    return columns | {"ensemble_std": spread.sqrt()}


def _mean(values: Sequence[Tensor]) -> Tensor:
    """Element by element, in the members' order: a reduction kernel may round by the shape."""
    return sum(values[1:], start=values[0]) / len(values)


def _variance(values: Sequence[Tensor]) -> Tensor:
    mean = _mean(values)
    return _mean([(value - mean) ** 2 for value in values])


# -- the file --------------------------------------------------------------------------------------------------------


def write_ensemble(
    checkpoints: Sequence[str | Path], path: str | Path, calibration: Mapping[str, Any] | None = None
) -> None:
    """Writes the average of several checkpoints as one file that `Predictor.from_checkpoint` loads like one model.

    Args:
        checkpoints: Files written by `fit`, at least two, of the same data, split, targets and objective.
        path: The file to write; an old one is replaced in one step.
        calibration: Conformal calibration of the averaged forecast, in plain values; none by default, since that of a
            member does not hold for the average.

    Raises:
        CheckpointError: If a file is missing, damaged or unsafe, or the files do not belong together.
        ResourceError: If the file cannot be written.

    Example:
        >>> runs = ["seed_42", "seed_43"]
        >>> write_ensemble([f"{run}/checkpoints/best.ckpt" for run in runs], "ensemble.ckpt")  # doctest: +SKIP
    """
    content = joined(checkpoints)
    if calibration is not None:
        content[CHECKPOINT_KEY]["calibration"] = dict(calibration)
    write_checkpoint(content, path)


def joined(checkpoints: Sequence[str | Path]) -> dict[str, Any]:
    """The content of an ensemble's file; see `write_ensemble`."""
    if len(checkpoints) < FEWEST:
        raise CheckpointError("an ensemble of fewer than two checkpoints", fix="name at least two", code=438)
    parts = [_member(path) for path in checkpoints]
    for part, path in zip(parts[1:], checkpoints[1:], strict=True):
        _require_same(_shared(parts[0]), _shared(part), f"{checkpoints[0]} and {path}")
    state = {f"members.{k}.{name}": values for k, part in enumerate(parts) for name, values in _state(part)}
    return {
        "state_dict": state,
        "hyper_parameters": {"members": [part["hyper_parameters"] for part in parts]},
        CHECKPOINT_KEY: {
            "format": CHECKPOINT_FORMAT,
            "digest": state_digest(state),
            **_contract(parts[0]),
            "members": [part[CHECKPOINT_KEY]["digest"] for part in parts],
        },
    }


def _member(path: str | Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(path)
    require_single(checkpoint, path)
    return checkpoint


def _state(checkpoint: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    return list(checkpoint["state_dict"].items())


def _contract(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in checkpoint[CHECKPOINT_KEY].items() if key not in OF_THE_MEMBER}


def _shared(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What all members must have in common; their networks may differ."""
    return _contract(checkpoint) | {"objective": checkpoint["hyper_parameters"].get("objective")}


def _require_same(one: dict[str, Any], other: dict[str, Any], where: str) -> None:
    differing = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    if differing:
        raise CheckpointError(
            f"the checkpoints make no ensemble: they differ in {', '.join(differing)}",
            where,
            "join runs of one configuration that differ in their seed",
            code=438,
        )


def ensemble_from(checkpoint: Mapping[str, Any]) -> Ensemble:
    """The ensemble of a checkpoint, in evaluation mode, from plain values and weights alone.

    Args:
        checkpoint: As `read_checkpoint` returns it.

    Raises:
        CheckpointError: If a member's classes are not trusted or its weights do not fit them.
    """
    contract = {key: value for key, value in checkpoint[CHECKPOINT_KEY].items() if key not in ("format", "digest")}
    state, plain = checkpoint["state_dict"], checkpoint["hyper_parameters"]["members"]
    digests = contract.get("members")
    if not isinstance(plain, list) or not isinstance(digests, list) or not len(plain) == len(digests) > 0:
        raise CheckpointError("the checkpoint does not say how to build its members", code=417)
    members = []
    for k, (parameters, digest) in enumerate(zip(plain, digests, strict=True)):
        prefix = f"members.{k}."
        part = {
            "hyper_parameters": parameters,
            "state_dict": {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)},
            CHECKPOINT_KEY: contract | {"digest": digest},
        }
        members.append(forecaster_from(part))
    return Ensemble(members, contract).eval()


def model_from(checkpoint: Mapping[str, Any]) -> Forecaster | Ensemble:
    """The forecaster or the ensemble of a checkpoint, in evaluation mode.

    Args:
        checkpoint: As `read_checkpoint` returns it.

    Raises:
        CheckpointError: If its classes are not trusted or its weights do not fit them.
    """
    return ensemble_from(checkpoint) if is_ensemble(checkpoint) else forecaster_from(checkpoint)
