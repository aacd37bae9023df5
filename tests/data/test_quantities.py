"""What follows from the kind of a target, in one table."""

from __future__ import annotations

import numpy as np
import pytest

from cnn_lstm.data.predictions import TargetInfo
from cnn_lstm.data.quantities import QUANTITIES, quantity
from cnn_lstm.data.targets import Direction, ForwardReturn, ForwardValue, RealizedVolatility, Target

TARGETS: list[tuple[Target, str]] = [
    (ForwardReturn(), "return"),
    (Direction(), "class"),
    (RealizedVolatility(), "volatility"),
    (RealizedVolatility(log=True), "log_volatility"),
    (ForwardValue("rate"), "level"),
]


@pytest.mark.parametrize(("target", "kind"), TARGETS, ids=[kind for _, kind in TARGETS])
def test_a_target_and_its_table_mean_the_same_quantity(target: Target, kind: str) -> None:
    assert target.quantity is QUANTITIES[kind]
    assert TargetInfo.of(target).quantity is QUANTITIES[kind]


def test_each_kind_has_its_loss() -> None:
    losses = {kind: one.loss for kind, one in QUANTITIES.items()}
    assert losses == dict.fromkeys(["return", "level", "value"], "squared error") | {
        "class": "log loss",
        "volatility": "QLIKE",
        "log_volatility": "QLIKE",
    }


@pytest.mark.parametrize(
    ("property_", "kinds"),
    [
        ("traded", {"return", "class"}),
        ("sign_is_direction", {"return", "level"}),
        ("is_volatility", {"volatility", "log_volatility"}),
        ("is_positive", {"volatility"}),
        ("is_class", {"class"}),
    ],
)
def test_which_kinds_have_a_property(property_: str, kinds: set[str]) -> None:
    assert {kind for kind, one in QUANTITIES.items() if getattr(one, property_)} == kinds


def test_a_kind_of_the_users_is_a_plain_value() -> None:
    assert quantity("temperature") is QUANTITIES["value"]


@pytest.mark.parametrize("kind", ["volatility", "log_volatility"])
def test_volatilities_and_their_variances(kind: str) -> None:
    volatility = np.array([0.1, 0.25])
    values = quantity(kind).of_volatility(volatility)
    np.testing.assert_allclose(quantity(kind).volatility(values), volatility, rtol=1e-15)
    np.testing.assert_allclose(quantity(kind).variance(values), volatility**2, rtol=1e-15)


# -- in a predictions table --------------------------------------------------------------------------------------------


def test_what_is_said_of_a_target_survives_plain_values() -> None:
    about = TargetInfo("return", "return", 2, 1, 0, scores=[-1.0, 1.0], smearing={"y_pred": 1.0})
    assert TargetInfo.from_plain(about.to_plain()) == about
    assert list(TargetInfo.of(ForwardReturn(2)).to_plain()) == ["kind", "unit", "horizon", "delay", "classes"]


def test_a_table_of_another_version_may_say_less_or_more() -> None:
    assert TargetInfo.from_plain({"kind": "class", "classes": 3, "colour": "red"}) == TargetInfo("class", classes=3)
