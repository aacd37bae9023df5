"""What a checkpoint says of its data, targets, split and versions, and with which data it may be used."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnn_lstm import specs
from cnn_lstm.errors import CheckpointError, DataError, Defect
from cnn_lstm.hints import first_names
from cnn_lstm.model.calibration import Calibration
from cnn_lstm.model.checkpoint_schema import require_contract, require_form, require_recipe
from cnn_lstm.plain_values import differences

log = logging.getLogger(__name__)
CHECKPOINT_KEY = "cnn_lstm"
CHECKPOINT_FORMAT = 1
REQUIRED = ("recipe", "symbols", "target_names", "target_mean", "boundaries", "fingerprint")


@dataclass(frozen=True)
class PartDates:
    """First decision time of each part and the end of the test part, ISO, UTC; as text they sort by time.

    `spans` has the stretches of each part where these are not in order, see `PartSpans.to_plain` in `data/spans.py`;
    then `validation` and `test` are both the first moment of which the fit knows nothing.
    """

    train: str
    validation: str
    test: str
    end: str
    spans: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TrainingRange:
    """First and last decision time of the training rows, ISO, UTC."""

    first: str
    last: str


@dataclass(frozen=True)
class Contract:
    """What a forecaster knows of the data that it was trained on; that of an untrained one is empty.

    Attributes:
        recipe: How prices become windows, in plain values; see `Recipe.from_plain` in `data/recipe.py`.
        source: Class name of the price source.
        symbols: Symbols of the training data, sorted.
        scaled_symbols: Those with a location and scale of their own; empty without scales per symbol.
        target_names: Names of the targets, H of them.
        target_kinds: Kind of each target; empty in the oldest checkpoints.
        target_units: Unit of each target.
        target_mean: Mean of each target over the training rows.
        boundaries: Dates of the parts.
        training: Dates of the training rows; None in checkpoints of older versions.
        fitted_on: `train_and_validation` of a final model, which has trained on all rows before the test part; else
            empty.
        fingerprint: SHA-256 of the prices.
        scaling: `data.scaling` of the fit; empty in checkpoints of older versions, as the next one.
        per_symbol: `data.per_symbol` of the fit: true, false or auto.
        members: Digests of the members' weights; empty unless the checkpoint is an ensemble.
        calibration: Scores of the validation forecasts; None where no fit has made them.
        static: Categories that the training symbols have, by static column; empty without static columns.
        expires: First decision time, ISO, UTC, that is not to be forecast without another look at the model; empty
            where it never expires.

    Example:
        >>> dates = {"train": "2010-01-04", "validation": "2012-01-02", "test": "2013-01-02", "end": "2014-01-01"}
        >>> plain = {"recipe": {"window": 60}, "symbols": ["A"], "target_names": ["return_1"], "target_mean": [0.0]}
        >>> contract = Contract.from_plain(plain | {"boundaries": dates, "fingerprint": "0f"})
        >>> contract.boundaries.test, contract.training
        ('2013-01-02', None)
    """

    recipe: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    symbols: Sequence[str] = ()
    scaled_symbols: Sequence[str] = ()
    target_names: Sequence[str] = ()
    target_kinds: Sequence[str] = ()
    target_units: Sequence[str] = ()
    target_mean: Sequence[float] = ()
    boundaries: PartDates = PartDates("", "", "", "")
    training: TrainingRange | None = None
    fitted_on: str = ""
    fingerprint: str = ""
    scaling: str = ""
    per_symbol: str = ""
    members: Sequence[str] = ()
    calibration: Calibration | None = None
    static: Mapping[str, Sequence[str]] = field(default_factory=dict)
    expires: str = ""

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> Contract:
        """That of a checkpoint, as `read_checkpoint` returns it."""
        return cls.from_plain(checkpoint[CHECKPOINT_KEY])

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Contract:
        """Reads what `to_plain` wrote, or an older version did.

        Raises:
            CheckpointError: If something is missing or damaged.
        """
        missing = [name for name in REQUIRED if values.get(name) is None]
        if missing:
            what = f"the checkpoint does not say its {', '.join(missing)}"
            raise CheckpointError(what, fix="use a checkpoint written by fit", code=417)
        require_contract(values)
        require_recipe(values["recipe"])
        known = {part.name: values[part.name] for part in fields(cls) if values.get(part.name) is not None}
        try:
            known["boundaries"] = PartDates(**known["boundaries"])
            known["training"] = TrainingRange(**known["training"]) if known.get("training") else None
            known["calibration"] = Calibration(**known["calibration"]) if known.get("calibration") else None
        except TypeError as error:
            what = "the checkpoint is damaged: its dates or its calibration scores"
            raise CheckpointError(what, str(error), "use another checkpoint of the run", code=414) from error
        return cls(**known)

    def to_plain(self) -> dict[str, Any]:
        """The form of a checkpoint, in plain values; what is empty or None is left out."""
        plain = specs.plain(asdict(self))
        calibration = plain["calibration"] or {}
        plain["calibration"] = {name: part for name, part in calibration.items() if part or "smearing" not in name}
        if plain["boundaries"]["spans"] is None:
            del plain["boundaries"]["spans"]
        return {name: value for name, value in plain.items() if value not in (None, [], {}, "")}

    @property
    def gap_limit(self) -> float | None:
        """Longest pause inside a window, in days, as the recipe says it."""
        days: float | None = self.recipe.get("checks", {}).get("max_gap_days")
        return days

    def with_weights_of(self, saved: Contract) -> Contract:
        """The contract of new data with what belongs to the weights of a checkpoint.

        A later test part changes nothing of when the intervals begin to adapt.

        Args:
            saved: The contract of the checkpoint.
        """
        kept = (
            "scaled_symbols",
            "target_mean",
            "boundaries",
            "training",
            "fitted_on",
            "members",
            "calibration",
            "static",
            "expires",
        )
        return replace(self, **{name: getattr(saved, name) for name in (*kept, "scaling", "per_symbol")})


# -- which checkpoint goes with which data -----------------------------------------------------------------------------


def refuse_other_data(saved: Contract, data: Contract, *, fit: bool, refuse_other_prices: bool) -> None:
    """Refuses a checkpoint that does not go with the data; warns of symbols that have no scale of their own in it.

    Args:
        saved: The contract of the checkpoint.
        data: The contract of the data.
        fit: Whether a fit is resumed, which keeps its dates; a test must not start before that of the checkpoint.
        refuse_other_prices: Whether prices other than those of the training are refused; else a warning is logged.

    Raises:
        CheckpointError: If the recipe or the dates are others; each difference is named.
        DataError: If the prices are others.
    """
    refuse_differences(saved.recipe, data.recipe)
    refuse_other_scales(saved, data.scaling, data.per_symbol)
    _refuse_other_categories(saved, data)
    dates, asked = asdict(saved.boundaries), asdict(data.boundaries)
    if fit:
        parts = ("train", "validation", "test", "spans")
        refuse_differences(*({f"data.split.{part}": edges[part] for part in parts} for edges in (dates, asked)))
        refuse_differences(*({"data.fit_on": contract.fitted_on or "train"} for contract in (saved, data)))
    elif data.fitted_on and not saved.fitted_on:  # its baselines would be fitted on rows that the model never saw
        refuse_differences({"data.fit_on": "train"}, {"data.fit_on": data.fitted_on})
    for edges, contract in ((dates, saved), (asked, data)):
        if contract.fitted_on:  # the model saw the validation part too
            edges["validation"] = edges["test"]
    if asked["spans"] is not None and asked["spans"] != dates["spans"]:
        what = "the test part is not untouched: the combination is not that of the checkpoint"
        fix = "use the split of the checkpoint's run, or later dates"
        raise CheckpointError(what, "data.split CPCV", fix, code=436)
    for part in () if fit else ("validation", "test"):
        if asked[part] < dates[part]:
            what = f"the {part} part is not untouched: it starts at {asked[part][:10]}"
            where = f"the checkpoint saw dates up to {dates[part][:10]} before its own {part} part"
            raise CheckpointError(what, where, "use the split of the checkpoint's run, or later dates", code=436)
    if saved.fingerprint != data.fingerprint:
        what = "the prices are not those that the checkpoint was trained on"
        if refuse_other_prices:
            where = f"data SHA-256 {saved.fingerprint[:12]} -> {data.fingerprint[:12]}"
            raise DataError(what, where, "give those of the training, or leave out --same_prices", code=337)
        log.warning("%s — data SHA-256 differs", what)
    warn_of_unscaled(data.symbols, saved)


def refuse_other_scales(saved: Contract, scaling: str, per_symbol: str | bool) -> None:
    """Refuses settings of how windows are scaled that a checkpoint was not trained with: its own scales would be used.

    Args:
        saved: The contract of the checkpoint; older ones do not say it.
        scaling: `data.scaling` of the configuration.
        per_symbol: `data.per_symbol` of the configuration.

    Raises:
        CheckpointError: Naming each difference.
    """
    if saved.scaling:
        asked = {"data.per_symbol": str(per_symbol).lower(), "data.scaling": scaling}
        refuse_differences({"data.per_symbol": saved.per_symbol, "data.scaling": saved.scaling}, asked)


def _refuse_other_categories(saved: Contract, data: Contract) -> None:
    """Refuses data whose static columns have a category that the checkpoint has not learnt.

    Raises:
        DataError: E378.
    """
    for column, categories in data.static.items():
        known = saved.static.get(column, ())
        if new := sorted({*categories} - {*known}):
            what, fix = f"the {column} {new[0]!r} was not in the training", "leave its symbols out, or train again"
            raise DataError(what, f"known: {first_names(sorted(known))}", fix, code=378)


def warn_of_weighted_sets(contract: Contract, weighted: bool) -> None:
    """Logs one line where the sets of classes were calibrated on probabilities that still had the class weights.

    Args:
        contract: What the checkpoint says; those of that time do not say their scaling.
        weighted: Whether its objective weighs the classes.
    """
    if weighted and contract.calibration is not None and not contract.scaling:
        what = "the sets of classes (set_90) were calibrated on weighted probabilities, and do not hold"
        fix = "train it again, or leave the sets alone"
        said = Defect(379, what, "a checkpoint of an earlier version", fix, fatal=False)
        log.warning("[W%d] %s — %s — %s", said.code, said.what, said.where, said.fix)


def warn_of_unscaled(symbols: Iterable[str], contract: Contract) -> None:
    """Logs one line that names the symbols without a scale of their own, where others have one.

    Args:
        symbols: Symbols whose windows are to be forecast.
        contract: What the checkpoint says of its data.
    """
    unknown = sorted(set(symbols) - set(contract.scaled_symbols)) if contract.scaled_symbols else []
    if unknown:
        what = f"no scale of its own for {first_names(unknown)}"
        fix = "it takes the scale of all symbols together: train again with its rows"
        log.warning("[W343] %s — the training had %d symbols — %s", what, len(contract.scaled_symbols), fix)


def refuse_expired(contract: Contract, last: np.datetime64 | None) -> None:
    """Refuses to forecast at or after the day on which a checkpoint expires.

    Args:
        contract: What the checkpoint says.
        last: Time of the last decision that is to be forecast, UTC; None where nothing is.

    Raises:
        CheckpointError: E430.

    Example:
        >>> refuse_expired(Contract(), np.datetime64("2030-01-01"))
    """
    if contract.expires and last is not None and last >= np.datetime64(contract.expires):
        where = f"forecasts up to {str(last)[:10]} are asked for"
        fix = "train again, or roll; --allow_expired, in Python allow_expired=True, forecasts in spite of it"
        raise CheckpointError(f"the checkpoint expired on {contract.expires[:10]}", where, fix, code=430)


def refuse_differences(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Compares two trees of plain values.

    Raises:
        CheckpointError: If they differ; each key is named, checkpoint -> configuration.

    Example:
        >>> refuse_differences({"window": 60}, {"window": 60})
    """
    if different := differences(saved, asked):
        raise CheckpointError(
            "the checkpoint does not fit the configuration",
            "; ".join(different),
            "use the config.yaml of the checkpoint's run, or train again",
            code=436,
        )


# -- the form on disk --------------------------------------------------------------------------------------------------


def with_digest(contract: Contract, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a checkpoint holds under `CHECKPOINT_KEY`: the contract, and the digest of the weights.

    Args:
        contract: What the weights were trained on.
        state: The weights, by name.
    """
    return {"format": CHECKPOINT_FORMAT, "digest": state_digest(state), **contract.to_plain()}


def digest_of(checkpoint: Mapping[str, Any]) -> str:
    """Digest of a checkpoint's weights, as the checkpoint says it."""
    return str(checkpoint[CHECKPOINT_KEY]["digest"])


def require_intact(checkpoint: object, where: str = "", instead: str = "") -> None:
    """Refuses the content of a file that is not a checkpoint of ours, or whose weights were changed.

    Args:
        checkpoint: The content.
        where: The file, for the message.
        instead: What can be used instead of a damaged file, for the message.

    Raises:
        CheckpointError: Naming what is wrong.
    """
    ours = checkpoint.get(CHECKPOINT_KEY) if isinstance(checkpoint, Mapping) else None
    if not isinstance(checkpoint, Mapping) or not isinstance(ours, Mapping):
        raise CheckpointError("the checkpoint was not written by cnn_lstm", where, "train one with fit", code=415)
    if ours.get("format") != CHECKPOINT_FORMAT:
        what = f"checkpoint format {ours.get('format')}, this version reads {CHECKPOINT_FORMAT}"
        raise CheckpointError(what, where, "use the version of cnn_lstm that wrote it", code=417)
    if not all(isinstance(part, Mapping) for part in (ours.get("recipe"), checkpoint.get("hyper_parameters"))):
        raise CheckpointError("the checkpoint does not say how to build its model", where, code=417)
    require_form(checkpoint, where)
    if ours.get("digest") != state_digest(checkpoint.get("state_dict", {})):
        what = "the checkpoint is damaged: its weights do not match their digest"
        raise CheckpointError(what, where, instead, code=414)


def state_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and bytes of all tensors: neither zip nor safetensors notices a flipped bit."""
    digest = hashlib.sha256()
    for name, values in sorted(state.items()):
        digest.update(f"{name} {values.dtype} {tuple(values.shape)} ".encode())
        digest.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
