"""Samplers and pruners by name."""

from __future__ import annotations

import warnings
from typing import Any

import optuna
import pytest

from cnn_lstm.errors import ConfigError
from cnn_lstm.sweeps.definition import PRUNERS, SAMPLERS, Definition
from cnn_lstm.sweeps.objectives import Objective
from cnn_lstm.sweeps.space_reader import read_space

SPACE = read_space({"model.a": {"int": [0, 2]}, "model.b": {"float": [0.0, 1.0], "step": 0.5}})
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
        first, again, other = (Definition(SPACE, LOSS, {"name": name}).make_sampler(seed) for seed in (1, 1, 2))
    assert type(first).__name__ == SAMPLERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cmaes and scipy, about numbers that a test cannot help
        drawn = [proposals(sampler, 5) for sampler in (first, again, other)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_the_grid_is_that_of_the_space() -> None:
    sampler = Definition(SPACE, LOSS, {"name": "grid"}).make_sampler(0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: sum(SPACE.suggest(trial).values()))
    assert len(study.trials) == 9
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 9


def test_tpe_is_the_default_and_takes_its_own_arguments() -> None:
    assert isinstance(Definition(SPACE, LOSS).make_sampler(0), optuna.samplers.TPESampler)
    section = {"name": "tpe", "n_startup_trials": 3, "multivariate": True, "group": True}
    sampler = Definition(SPACE, LOSS, section).make_sampler(0)
    assert sampler._n_startup_trials == 3  # type: ignore[attr-defined]
    assert section["n_startup_trials"] == 3  # the caller's dictionary is not emptied


@pytest.mark.parametrize("name", PRUNERS)
def test_a_pruner_of_each_name(name: str) -> None:
    more = {"percentile": 25.0} if name == "percentile" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruner = Definition(SPACE, LOSS, pruner={"name": name, **more}).make_pruner()
    assert type(pruner).__name__ == PRUNERS[name]


def test_the_default_pruner_ends_what_is_worse_than_the_median_from_the_fourth_trial_and_the_seventh_epoch_on() -> None:
    study = optuna.create_study(pruner=Definition(SPACE, LOSS).make_pruner())
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
    assert isinstance(Definition(SPACE, TWO).make_pruner(), optuna.pruners.NopPruner)
    assert isinstance(Definition(SPACE, TWO, pruner={"name": "none"}).make_pruner(), optuna.pruners.NopPruner)
    for objectives in (TWO, (Objective("parameters", "minimize"),)):
        with pytest.raises(ConfigError, match=r"E253.*median cannot prune here"):
            Definition(SPACE, objectives, pruner={"name": "median"}).make_pruner()


@pytest.mark.parametrize(
    ("section", "message"),
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
def test_a_wrong_sampler_is_reported_in_one_line(section: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Definition(SPACE, LOSS, section, where="f").make_sampler(0)
    assert caught.value.code == 253
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "message"),
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
def test_a_wrong_pruner_is_reported_in_one_line(section: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Definition(SPACE, LOSS, pruner=section, where="f").make_pruner()
    assert caught.value.code == 253
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
