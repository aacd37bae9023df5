"""The YAML file of a sweep as a whole: its defaults, its errors, its fingerprint."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from cnn_lstm.errors import ConfigError
from cnn_lstm.sweeps.definition import Definition
from cnn_lstm.sweeps.objectives import Objective

TREE: dict[str, Any] = {"space": {"data.window": {"int": [20, 60]}}}


def test_a_file_of_a_space_alone_has_the_defaults() -> None:
    definition = Definition.from_plain(TREE)
    assert definition.objectives == (Objective("val_loss", "minimize"),)
    assert definition.directions == ["minimize"]
    assert isinstance(definition.make_sampler(0), optuna.samplers.TPESampler)
    assert isinstance(definition.make_pruner(), optuna.pruners.MedianPruner)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([], "the file does not describe a sweep — x.yaml"),
        ({}, "no search space — x.yaml: space"),
        (TREE | {"prunner": {}}, "unknown key 'prunner' — x.yaml — did you mean pruner?"),
        (TREE | {"pruner": {"name": "medain"}}, "x.yaml: pruner"),
        (TREE | {"sampler": {"name": "tpee"}}, "x.yaml: sampler"),
        (TREE | {"objectives": [1]}, "x.yaml: objectives[0]"),
        ({"space": {"data.window": {"intt": [1, 2]}}}, "x.yaml: space.data.window"),
        ({"space": {"model.b": {"float": [0.0, 1.0]}}, "sampler": {"name": "grid"}}, "model.b has no grid"),
        ({"space": {"data.scaling": {"categorical": ["robust"]}}}, "x.yaml: objectives"),
    ],
)
def test_a_wrong_file_is_refused_when_it_is_read(tree: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Definition.from_plain(tree, "x.yaml")
    assert message in str(caught.value)


def test_the_fingerprint_is_that_of_space_and_objectives() -> None:
    mine = Definition.from_plain(TREE).fingerprint
    assert Definition.from_plain(TREE | {"sampler": {"name": "random"}}).fingerprint == mine
    assert Definition.from_plain({"space": {"data.window": {"int": [20, 61]}}}).fingerprint != mine
    other = [{"metric": "val_mae", "direction": "minimize"}]
    assert Definition.from_plain(TREE | {"objectives": other}).fingerprint != mine
