"""What a checkpoint says of its data: its plain form, what older versions left out, and which data it refuses."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cnn_lstm.errors import CheckpointError, CnnLstmError, DataError
from cnn_lstm.model.calibration import Calibration
from cnn_lstm.model.contract import (
    CHECKPOINT_KEY,
    Contract,
    digest_of,
    refuse_differences,
    refuse_other_data,
    require_intact,
    state_digest,
    with_digest,
)

PLAIN: dict[str, Any] = {
    "recipe": {"features": ["log_return_1"], "window": 6},
    "source": "PriceFiles",
    "symbols": ["AAA", "BBB"],
    "target_names": ["return_1"],
    "target_kinds": ["return"],
    "target_units": ["return"],
    "target_mean": [0.0],
    "boundaries": {"train": "2010-01-04", "validation": "2012-01-02", "test": "2013-01-02", "end": "2014-01-01"},
    "training": {"first": "2010-01-04", "last": "2011-12-20"},
    "fingerprint": "0f" * 32,
    "calibration": {"scores": [[-1.0, 1.0]], "typical_scale": [0.5], "smearing": [1.0]},
}
LATER = ("target_kinds", "training", "calibration")  # what the first versions did not write


# -- the plain form ----------------------------------------------------------------------------------------------------


def test_the_plain_form_is_kept_key_by_key() -> None:
    contract = Contract.from_plain(PLAIN)
    assert json.dumps(contract.to_plain()) == json.dumps(PLAIN)
    assert Contract.from_plain(contract.to_plain()) == contract
    assert (contract.boundaries.test, contract.training and contract.training.last) == ("2013-01-02", "2011-12-20")
    assert contract.calibration == Calibration([[-1.0, 1.0]], [0.5], [1.0])


@pytest.mark.parametrize("name", LATER)
@pytest.mark.parametrize("value", [None, "absent"])
def test_what_an_older_version_left_out_stays_out(name: str, value: str | None) -> None:
    old = {key: values for key, values in PLAIN.items() if key != name}
    contract = Contract.from_plain(old if value == "absent" else old | {name: None})
    assert not getattr(contract, name)
    assert json.dumps(contract.to_plain()) == json.dumps(old)


def test_a_calibration_without_smearing_stays_without() -> None:
    calibration = {"scores": [[-1.0, 1.0]], "typical_scale": [0.5]}
    contract = Contract.from_plain(PLAIN | {"calibration": calibration})
    assert contract.calibration == Calibration([[-1.0, 1.0]], [0.5])
    assert contract.to_plain()["calibration"] == calibration


def test_the_digests_of_the_members_are_kept() -> None:
    contract = replace(Contract.from_plain(PLAIN), members=("a", "b"))
    assert contract.to_plain()["members"] == ["a", "b"]
    assert Contract.from_plain(contract.to_plain()).members == ["a", "b"]


@pytest.mark.parametrize("name", ["recipe", "symbols", "target_names", "target_mean", "boundaries", "fingerprint"])
def test_a_contract_without_what_every_version_wrote_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"does not say its {name}") as caught:
        Contract.from_plain({key: values for key, values in PLAIN.items() if key != name})
    assert caught.value.code == 417


@pytest.mark.parametrize(
    "damage",
    [
        {"boundaries": {"train": "2010-01-04"}},
        {"boundaries": ["2010-01-04"]},
        {"training": {"first": "2010-01-04"}},
        {"calibration": {"scores": []}},
        {"calibration": {"scores": [[1.0]], "typical_scale": [1.0], "other": 1}},
    ],
    ids=["dates", "no mapping", "training", "no scale", "unknown key"],
)
def test_a_damaged_part_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="the checkpoint is damaged") as caught:
        Contract.from_plain(PLAIN | damage)
    assert caught.value.code == 414


def test_an_untrained_contract_is_empty() -> None:
    assert Contract() == Contract()
    assert Contract() != Contract.from_plain(PLAIN)
    assert not Contract().symbols


def test_weights_bring_their_dates_and_scores_to_new_data() -> None:
    saved = Contract.from_plain(PLAIN)
    data = replace(saved, boundaries=replace(saved.boundaries, test="2013-06-03"), fingerprint="1e", target_mean=[1.0])
    data = replace(data, symbols=["AAA"], training=None, calibration=None)
    assert data.with_weights_of(saved) == replace(saved, fingerprint="1e", symbols=["AAA"])


# -- which data it refuses ---------------------------------------------------------------------------------------------


def dated(**dates: Any) -> Contract:
    contract = Contract.from_plain(PLAIN)
    return replace(contract, boundaries=replace(contract.boundaries, **dates))


REFUSED: dict[str, tuple[Contract, bool, str]] = {
    "another recipe": (replace(dated(), recipe={"features": ["log_return_1"], "window": 7}), False, "window: 6 -> 7"),
    "a fit with other dates": (dated(test="2013-02-01"), True, "data.split.test: 2013-01-02 -> 2013-02-01"),
    "a test that starts earlier": (
        dated(test="2012-12-03"),
        False,
        "the test part is not untouched: it starts at 2012",
    ),
    "a validation that starts earlier": (dated(validation="2011-12-01"), False, "the validation part is not untouched"),
}


@pytest.mark.parametrize(("data", "fit", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_other_data_are_refused(data: Contract, fit: bool, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        refuse_other_data(Contract.from_plain(PLAIN), data, fit=fit, refuse_other_prices=False)
    assert message in str(caught.value)
    assert caught.value.code == 436


SCALES: dict[str, Any] = {"scaling": "standard", "per_symbol": "false"}


@pytest.mark.parametrize("fit", [False, True])
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"scaling": "robust"}, "data.scaling: standard -> robust"),
        ({"per_symbol": "auto"}, "data.per_symbol: false -> auto"),
        ({"fitted_on": "train_and_validation"}, "data.fit_on: train -> train_and_validation"),
    ],
)
def test_settings_that_the_weights_hold_are_refused(asked: dict[str, Any], message: str, fit: bool) -> None:
    saved = replace(dated(), **SCALES)
    refuse_other_data(saved, saved, fit=fit, refuse_other_prices=True)
    with pytest.raises(CheckpointError) as caught:
        refuse_other_data(saved, replace(saved, **asked), fit=fit, refuse_other_prices=False)
    assert message in str(caught.value)
    assert caught.value.code == 436


def test_a_checkpoint_that_does_not_say_its_scaling_is_taken_as_before() -> None:
    old, data = dated(), replace(dated(), **SCALES)
    refuse_other_data(old, data, fit=False, refuse_other_prices=True)
    assert not data.with_weights_of(old).scaling
    assert data.with_weights_of(replace(old, scaling="robust")).scaling == "robust"


@pytest.mark.parametrize(
    ("data", "fit"), [(dated(), True), (dated(end="2015-01-01"), True), (dated(test="2013-02-01"), False)]
)
def test_the_same_or_later_dates_are_taken(data: Contract, fit: bool) -> None:
    refuse_other_data(Contract.from_plain(PLAIN), data, fit=fit, refuse_other_prices=True)


def test_other_prices_are_a_warning_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    saved = Contract.from_plain(PLAIN)
    other = replace(saved, fingerprint="1e" * 32)
    with caplog.at_level(logging.WARNING, "cnn_lstm"):
        refuse_other_data(saved, other, fit=False, refuse_other_prices=False)
    assert "the prices are not those that the checkpoint was trained on" in caplog.text
    with pytest.raises(DataError, match="SHA-256 0f0f0f0f0f0f -> 1e1e1e1e1e1e") as caught:
        refuse_other_data(saved, other, fit=False, refuse_other_prices=True)
    assert caught.value.code == 337


# -- the form on disk --------------------------------------------------------------------------------------------------


def content() -> dict[str, Any]:
    state = {"weight": torch.ones(2)}
    return {"state_dict": state, "hyper_parameters": {}, CHECKPOINT_KEY: with_digest(Contract.from_plain(PLAIN), state)}


def test_a_signed_contract_is_read_back() -> None:
    checkpoint = content()
    require_intact(checkpoint)
    assert list(checkpoint[CHECKPOINT_KEY]) == ["format", "digest", *PLAIN]
    assert Contract.of(checkpoint) == Contract.from_plain(PLAIN)
    assert digest_of(checkpoint) == state_digest(checkpoint["state_dict"])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda c: c.pop(CHECKPOINT_KEY), 415),
        (lambda c: c.update({CHECKPOINT_KEY: 3}), 415),
        (lambda c: c[CHECKPOINT_KEY].update(format=2), 417),
        (lambda c: c[CHECKPOINT_KEY].pop("recipe"), 417),
        (lambda c: c.pop("hyper_parameters"), 417),
        (lambda c: c["state_dict"]["weight"].add_(1), 414),
    ],
    ids=["foreign", "no mapping", "format", "no recipe", "no network", "weights"],
)
def test_content_that_is_not_intact_is_refused(change: Any, code: int) -> None:
    checkpoint = content()
    change(checkpoint)
    with pytest.raises(CnnLstmError, match=r"some\.ckpt") as caught:
        require_intact(checkpoint, "some.ckpt")
    assert caught.value.code == code


def test_refuse_differences_names_each_key() -> None:
    refuse_differences({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1})
    with pytest.raises(CheckpointError) as caught:
        refuse_differences({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": 4})
    for part in ("b: 2 -> 5", "c: 3 -> None", "d: None -> 4"):
        assert part in str(caught.value)
    assert "a: 1" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_digest_notices_every_kind_of_change() -> None:
    state = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3), "c": torch.zeros(0), "d": torch.eye(3)[:, 1:]}
    changes: list[dict[str, Tensor]] = [
        {"a": torch.tensor([1.0, torch.nextafter(torch.tensor(2.0), torch.tensor(3.0))])},
        {"a": torch.tensor([[1.0, 2.0]])},
        {"a": torch.tensor([1.0, 2.0], dtype=torch.float64)},
        {"a": torch.tensor([2.0, 1.0])},
        {"b": torch.tensor(4)},
        {"e": torch.zeros(0)},
        {"d": torch.eye(3)[:, :2]},
    ]
    digests = {state_digest({**state, **change}) for change in changes}
    assert len(digests | {state_digest(state)}) == len(changes) + 1
    assert state_digest(dict(reversed(state.items()))) == state_digest(state)
    assert state_digest({**state, "d": state["d"].clone()}) == state_digest(state)
