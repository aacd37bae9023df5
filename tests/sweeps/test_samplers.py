"""Samplers, pruners and objectives by name."""

from __future__ import annotations

import warnings
from typing import Any

import optuna
import pytest

from cnn_lstm.errors import ConfigError
from cnn_lstm.sweeps.definition import Definition
from cnn_lstm.sweeps.samplers import (
    PRUNERS,
    SAMPLERS,
    Objective,
    make_pruner,
    make_sampler,
    read_objectives,
    require_comparable,
)
from cnn_lstm.sweeps.space import Space

SPACE = Space.from_plain({"model.a": {"int": [0, 2]}, "model.b": {"float": [0.0, 1.0], "step": 0.5}})
LOSS = (Objective("val_loss", "minimize"),)
TWO = (*LOSS, Objective("latency_ms", "minimize"))


def proposals(sampler: optuna.samplers.BaseSampler, count: int) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: sum(SPACE.suggest(trial).values()), n_trials=count)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_of_each_name_is_seeded(name: str) -> None:
    if name == "cmaes":
        pytest.importorskip("cmaes")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, again, other = (make_sampler({"name": name}, SPACE, seed) for seed in (1, 1, 2))
    assert type(first).__name__ == SAMPLERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cmaes and scipy, about numbers that a test cannot help
        found = [proposals(sampler, 5) for sampler in (first, again, other)]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_the_grid_is_that_of_the_space() -> None:
    sampler = make_sampler({"name": "grid"}, SPACE, 0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: sum(SPACE.suggest(trial).values()))
    assert len(study.trials) == 9
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 9


def test_tpe_is_the_default_and_takes_its_own_arguments() -> None:
    assert isinstance(make_sampler(None, SPACE, 0), optuna.samplers.TPESampler)
    given = {"name": "tpe", "n_startup_trials": 3, "multivariate": True, "group": True}
    sampler = make_sampler(given, SPACE, 0)
    assert sampler._n_startup_trials == 3  # type: ignore[attr-defined]
    assert given["n_startup_trials"] == 3  # the caller's own is not emptied


@pytest.mark.parametrize("name", PRUNERS)
def test_a_pruner_of_each_name(name: str) -> None:
    more = {"percentile": 25.0} if name == "percentile" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruner = make_pruner({"name": name, **more}, LOSS)
    assert type(pruner).__name__ == PRUNERS[name]


def test_the_default_pruner_ends_what_is_worse_than_the_median_from_the_fourth_trial_and_the_seventh_epoch_on() -> None:
    study = optuna.create_study(pruner=make_pruner(None, LOSS))
    ended = []
    for value in (3, 5, 9, 6, 4, 1):
        trial = study.ask()
        for epoch in range(9):
            trial.report(float(value), epoch)
            if trial.should_prune():
                break
        ended.append(epoch)
        study.tell(trial, float(value))
    assert ended == [8, 8, 8, 6, 8, 8]


def test_several_objectives_are_not_pruned() -> None:
    assert isinstance(make_pruner(None, TWO), optuna.pruners.NopPruner)
    assert isinstance(make_pruner({"name": "none"}, TWO), optuna.pruners.NopPruner)
    for objectives in (TWO, (Objective("parameters", "minimize"),)):
        with pytest.raises(ConfigError, match=r"E253.*median cannot prune here"):
            make_pruner({"name": "median"}, objectives)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tpe", "no name"),
        ({"n_startup_trials": 3}, "no name"),
        ({"name": "tpee"}, "unknown name 'tpee' — f: sampler — did you mean tpe?"),
        ({"name": "tpe", "n_startup_trial": 3}, "unknown argument 'n_startup_trial' — f: sampler — did you mean n_st"),
        ({"name": "tpe", "gamma": "f"}, "unknown argument 'gamma'"),
        ({"name": "cmaes", "independent_sampler": "f"}, "unknown argument 'independent_sampler'"),
        ({"name": "tpe", "seed": 3}, "set seed_everything"),
        ({"name": "grid", "n": 3}, "it takes no arguments"),
        ({"name": "tpe", "group": True, "multivariate": False}, "f: sampler"),
    ],
)
def test_a_wrong_sampler_is_told_in_one_line(given: Any, message: str) -> None:
    with pytest.raises(ConfigError) as told:
        make_sampler(given, SPACE, 0, "f: sampler")
    assert told.value.code == 253
    assert message in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "medain"}, "did you mean median?"),
        ({"name": "median", "n_warmup": 3}, "did you mean n_warmup_steps?"),
        ({"name": "none", "n": 3}, "it takes no arguments"),
        ({"name": "percentile"}, "percentile is missing"),
        ({"name": "percentile", "percentile": 125.0}, "f: pruner — correct the value"),
        ({"name": "hyperband", "reduction_factor": "three"}, "reduction_factor='three' — f: pruner — give int"),
        ({"name": "median", "n_warmup_steps": True}, "n_warmup_steps=True"),
    ],
)
def test_a_wrong_pruner_is_told_in_one_line(given: Any, message: str) -> None:
    with pytest.raises(ConfigError) as told:
        make_pruner(given, LOSS, "f: pruner")
    assert told.value.code == 253
    assert message in str(told.value)
    assert "\n" not in str(told.value)


# -- objectives ------------------------------------------------------------------------------------------------------


def test_the_loss_of_the_validation_is_the_default() -> None:
    assert read_objectives(None) == LOSS


def test_objectives_are_read_in_their_order() -> None:
    given = [{"metric": "val_accuracy", "direction": "maximize"}, {"metric": "parameters", "direction": "minimize"}]
    assert read_objectives(given) == (Objective("val_accuracy", "maximize"), Objective("parameters", "minimize"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no list of objectives"),
        ({"metric": "val_loss", "direction": "minimize"}, "no list of objectives"),
        ([{"metric": "val_loss"}], "metric and direction"),
        ([{"metric": "val_loss", "direction": "down"}], "one of minimize, maximize"),
        ([{"metric": "val_loss", "direction": "minimise"}], "did you mean minimize?"),
        ([{"metric": "test_loss", "direction": "minimize"}], "The test part is not for choosing."),
        ([{"metric": "paramters", "direction": "minimize"}], "did you mean parameters?"),
        ([{"metric": "val_loss", "direction": "minimize"}] * 2, "one metric twice"),
        ([{"metric": "val_loss", "direction": "maximize"}], "direction maximize of val_loss"),
        ([{"metric": "val_r2_return_1", "direction": "minimize"}], "maximize it"),
        ([{"metric": "latency_ms", "direction": "maximize"}], "minimize it"),
    ],
)
def test_wrong_objectives_are_told_in_one_line(given: Any, message: str) -> None:
    with pytest.raises(ConfigError) as told:
        read_objectives(given)
    assert told.value.code == 254
    assert message in str(told.value)


@pytest.mark.parametrize("key", ["data.scaling", "model.objective", "model.objective.levels"])
def test_losses_of_different_units_are_not_compared(key: str) -> None:
    space = Space.from_plain({key: {"categorical": ["a", "b"]}})
    with pytest.raises(ConfigError, match=r"E254.*val_loss has another unit"):
        require_comparable(space, TWO)
    require_comparable(space, [Objective("val_rmse", "minimize")])
    require_comparable(Space.from_plain({"data.window": {"int": [1, 2]}}), LOSS)


# -- the whole file --------------------------------------------------------------------------------------------------

TREE: dict[str, Any] = {"space": {"data.window": {"int": [20, 60]}}}


def test_a_file_of_a_space_alone_has_the_defaults() -> None:
    definition = Definition.from_plain(TREE)
    assert definition.objectives == LOSS
    assert definition.directions == ["minimize"]
    assert isinstance(definition.make_sampler(0), optuna.samplers.TPESampler)
    assert isinstance(definition.make_pruner(), optuna.pruners.MedianPruner)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([], "no description of a sweep — x.yaml"),
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
def test_a_wrong_file_is_told_at_once(tree: Any, message: str) -> None:
    with pytest.raises(ConfigError) as told:
        Definition.from_plain(tree, "x.yaml")
    assert message in str(told.value)


def test_the_fingerprint_is_that_of_space_and_objectives() -> None:
    mine = Definition.from_plain(TREE).fingerprint
    assert Definition.from_plain(TREE | {"sampler": {"name": "random"}}).fingerprint == mine
    assert Definition.from_plain({"space": {"data.window": {"int": [20, 61]}}}).fingerprint != mine
    other = [{"metric": "val_mae", "direction": "minimize"}]
    assert Definition.from_plain(TREE | {"objectives": other}).fingerprint != mine
