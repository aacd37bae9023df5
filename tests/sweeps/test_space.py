"""The search space: what is read, what is drawn, and how a wrong one is reported."""

from __future__ import annotations

import copy
import json
import math
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import RDBStorage

from cnn_lstm.errors import ConfigError
from cnn_lstm.sweeps.space import Space, options_of
from cnn_lstm.sweeps.space_reader import read_space

TREE: dict[str, Any] = {
    "architecture": {
        "choose": {
            "16-32/3-3": {"model.network.channels": [16, 32], "model.network.kernel_sizes": [3, 3]},
            "none": {"model.network.channels": [], "model.network.kernel_sizes": []},
        }
    },
    "model.network.conv_dropout": {"float": [0.0, 0.5], "if": {"architecture": "16-32/3-3"}},
    "model.network.lstm_hidden": {"int": [32, 256], "log": True},
    "model.network.lstm_layers": {"int": [1, 3]},
    "model.network.lstm_dropout": {"float": [0.0, 0.4], "step": 0.1, "if": {"model.network.lstm_layers": [2, 3]}},
    "model.optimizer.lr": {"float": [1e-5, 1e-2], "log": True},
    "data.window": {"int": [20, 60], "step": 20},
    "data.scaling": {"categorical": ["standard", "robust"]},
    "data.features": {"categorical": [["log_return_1"], ["log_return_1", "rsi_14"], None]},
    "model.network.bidirectional": {"categorical": [False, True]},
}


def study_of(seed: int, **arguments: Any) -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed), **arguments)


def drawn(space: Space, seed: int, count: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Params and settings of trials of the random sampler."""
    study = study_of(seed)
    drawn_values = []
    for _ in range(count):
        trial = study.ask()
        values = space.suggest(trial)
        drawn_values.append((trial.params, values))
        study.tell(trial, 0.0)
    return drawn_values


# -- what is drawn ---------------------------------------------------------------------------------------------------


def test_every_kind_lies_where_it_should() -> None:
    for _, values in drawn(read_space(TREE), 0, 300):
        assert len(values["model.network.channels"]) == len(values["model.network.kernel_sizes"])
        assert ("model.network.conv_dropout" in values) == bool(values["model.network.channels"])
        assert 0 <= values.get("model.network.conv_dropout", 0.0) <= 0.5
        assert 32 <= values["model.network.lstm_hidden"] <= 256
        assert type(values["model.network.lstm_hidden"]) is int
        assert ("model.network.lstm_dropout" in values) == (values["model.network.lstm_layers"] > 1)
        assert round(10 * values.get("model.network.lstm_dropout", 0.0), 9) in range(5)
        assert 1e-5 <= values["model.optimizer.lr"] <= 1e-2
        assert values["data.window"] in (20, 40, 60)
        assert values["data.scaling"] in ("standard", "robust")
        assert values["data.features"] in (["log_return_1"], ["log_return_1", "rsi_14"], None)
        assert type(values["model.network.bidirectional"]) is bool


def test_every_value_is_reached() -> None:
    drawn_values = [values for _, values in drawn(read_space(TREE), 1, 200)]
    for key, count in (("data.window", 3), ("data.features", 3), ("model.network.channels", 2), ("data.scaling", 2)):
        assert len({json.dumps(values[key]) for values in drawn_values}) == count
    rates = [values["model.optimizer.lr"] for values in drawn_values]
    assert 0.3 < sum(rate < 10**-3.5 for rate in rates) / len(rates) < 0.7  # the middle of the logarithms
    hidden = [values["model.network.lstm_hidden"] for values in drawn_values]
    assert 0.3 < sum(units < math.sqrt(32 * 256) for units in hidden) / len(hidden) < 0.7


numbers = st.integers(-50, 50)
scalars = st.one_of(st.booleans(), numbers, st.floats(-5, 5), st.text(max_size=4), st.none())
choices = st.lists(st.one_of(scalars, st.lists(numbers, max_size=3)), min_size=1, max_size=4)


@st.composite
def domains(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["int", "float", "log", "step", "categorical"]))
    low = draw(numbers)
    width, step = draw(st.integers(0, 40)), draw(st.integers(1, 5))
    if kind == "int":
        return {"int": [low, low + width]}
    if kind == "float":
        return {"float": [low / 7, low / 7 + width / 3]}
    if kind == "log":
        return {draw(st.sampled_from(["int", "float"])): [abs(low) + 1, abs(low) + 1 + width], "log": True}
    if kind == "step":
        return {"int": [low, low + width * step], "step": step}
    unique = {repr(json.dumps(value)) if isinstance(value, list) else value: value for value in draw(choices)}
    return {"categorical": list(unique.values())}


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    """Spaces of random domains, each with a condition on an earlier one or without one."""
    tree: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 6))):
        domain = draw(domains())
        earlier = [name for name, other in tree.items() if "categorical" in other]
        if bool(earlier) and draw(st.booleans()):
            name = draw(st.sampled_from(earlier))
            domain["if"] = {name: draw(st.sampled_from(tree[name]["categorical"]))}
        tree[f"model.k{number}"] = domain
    return tree


def fits(domain: dict[str, Any], value: Any) -> bool:
    if "categorical" in domain:
        return any(value == choice and type(value) is type(choice) for choice in domain["categorical"])
    kind = "int" if "int" in domain else "float"
    low, high = domain[kind]
    on_step = "step" not in domain or (value - low) % domain["step"] == 0
    return type(value).__name__ == kind and low <= value <= high and on_step


@settings(deadline=None, max_examples=60)
@given(tree=trees(), seed=st.integers(0, 1000))
def test_values_of_any_space_lie_in_it_and_follow_its_conditions(tree: dict[str, Any], seed: int) -> None:
    space = read_space(tree)
    for params, values in drawn(space, seed, 4):
        assert set(params) == set(values)
        for name, domain in tree.items():
            condition = domain.get("if", {})
            met = all(name in values and values[name] == wanted for name, wanted in condition.items())
            assert (name in values) == met
            assert not met or fits(domain, values[name])
        assert space.settings(params) == values


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration that has these values, those of a class within `init_args`."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        at = tree
        *sections, last = key.split(".")
        for section in sections:
            at = at.setdefault(section, {"class_path": "x", "init_args": {}})["init_args"]
        at[last] = value
    return tree


@settings(deadline=None, max_examples=60)
@given(tree=trees(), seed=st.integers(0, 1000))
def test_what_a_configuration_says_is_a_draw_of_any_space(tree: dict[str, Any], seed: int) -> None:
    space = read_space(tree)
    for params, values in drawn(space, seed, 2):
        drawn_values = space.drawn(nested(values))
        assert drawn_values == params
        study = study_of(0)
        study.enqueue_trial(drawn_values)
        assert space.suggest(study.ask()) == values


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({}, set()),
        ({"model.network.channels": [16]}, {"architecture", "model.network.conv_dropout"}),
        ({"model.network.lstm_hidden": 300}, {"model.network.lstm_hidden"}),
        ({"model.network.lstm_hidden": 64.5}, {"model.network.lstm_hidden"}),
        ({"model.network.lstm_hidden": None}, {"model.network.lstm_hidden"}),
        ({"model.network.lstm_dropout": 0.25}, {"model.network.lstm_dropout"}),
        ({"data.window": 50}, {"data.window"}),
        ({"data.scaling": "none"}, {"data.scaling"}),
    ],
    ids=["none", "choice", "range", "fraction", "none value", "step", "window", "category"],
)
def test_what_the_space_does_not_hold_is_left_to_the_sampler(changed: dict[str, Any], missing: set[str]) -> None:
    space = read_space(TREE)
    values = space.settings(
        {
            "architecture": "16-32/3-3",
            "model.network.conv_dropout": 0.1,
            "model.network.lstm_hidden": 64,
            "model.network.lstm_layers": 2,
            "model.network.lstm_dropout": 0.2,
            "model.optimizer.lr": 1e-3,
            "data.window": 40,
            "data.scaling": "robust",
            "data.features": '["log_return_1"]',
            "model.network.bidirectional": False,
        }
    )
    drawn_values = space.drawn(nested({**values, **changed}))
    assert set(TREE) - set(drawn_values) == missing
    assert space.settings(drawn_values).items() <= values.items()


@settings(deadline=None, max_examples=60)
@given(tree=trees())
def test_the_examples_hold_every_choice_and_bound(tree: dict[str, Any]) -> None:
    examples = read_space(tree).examples()
    for name, domain in tree.items():
        given_values = [values[name] for values in examples if name in values]
        for wanted in domain.get("categorical") or [*domain.get("int", []), *domain.get("float", [])]:
            assert wanted in given_values
    for values in examples:
        for name in values:
            assert all(values[other] == wanted for other, wanted in tree[name].get("if", {}).items())


def test_the_examples_are_few() -> None:
    assert len(read_space(TREE).examples()) == 4


def test_equal_seeds_draw_equal_values_and_others_do_not() -> None:
    space = read_space(TREE)
    assert drawn(space, 5, 5) == drawn(read_space(copy.deepcopy(TREE)), 5, 5)
    assert drawn(space, 5, 5) != drawn(space, 6, 5)


def test_a_database_gives_back_what_was_drawn_without_a_warning(tmp_path: Path) -> None:
    url, space = f"sqlite:///{tmp_path / 'study.db'}", read_space(TREE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        storage = RDBStorage(url)
        study = study_of(3, storage=storage, study_name="s")
        settings = []
        for _ in range(20):
            trial = study.ask()
            settings.append(space.suggest(trial))
            study.tell(trial, 0.0)
        again = RDBStorage(url)
        loaded = optuna.load_study(study_name="s", storage=again)
        assert [space.settings(trial.params) for trial in loaded.trials] == settings
        loaded.enqueue_trial(loaded.trials[0].params)  # as a retried trial is
        assert space.suggest(loaded.ask()) == settings[0]
    for store in (storage, again):
        store.engine.dispose()


def test_what_is_fixed_is_not_drawn() -> None:
    params = {"architecture": "none", "model.network.lstm_layers": 1, "data.scaling": "robust"}
    tree = {name: TREE[name] for name in (*params, "model.network.conv_dropout")}
    trial = optuna.trial.FixedTrial(params)
    assert read_space(tree).suggest(trial) == {
        "model.network.channels": [],
        "model.network.kernel_sizes": [],
        "model.network.lstm_layers": 1,
        "data.scaling": "robust",
    }


# -- conditions ------------------------------------------------------------------------------------------------------


def test_a_condition_may_stand_before_what_it_names_and_upon_another_one() -> None:
    tree = {
        "model.c": {"int": [0, 1], "if": {"model.b": 1}},
        "model.b": {"int": [0, 1], "if": {"model.a": [1, 2]}},
        "model.a": {"int": [0, 2]},
    }
    space = read_space(tree)
    assert [parameter.name for parameter in space.parameters] == ["model.a", "model.b", "model.c"]
    for _, values in drawn(space, 0, 60):
        assert ("model.b" in values) == (values["model.a"] > 0)
        assert ("model.c" in values) == (values.get("model.b") == 1)


def test_a_condition_may_name_several_parameters_and_a_choice_that_is_a_list() -> None:
    tree = {
        "model.a": {"categorical": [[1, 2], [3]]},
        "model.b": {"categorical": [True, False]},
        "model.c": {"int": [0, 5], "if": {"model.a": [1, 2], "model.b": True}},
        "model.d": {"int": [0, 5], "if": {"model.a": [[1, 2], [3]]}},
    }
    for _, values in drawn(read_space(tree), 0, 60):
        assert ("model.c" in values) == (values["model.a"] == [1, 2] and values["model.b"])
        assert "model.d" in values


def test_a_draw_whose_condition_fails_sets_nothing() -> None:
    space = read_space(TREE)
    assert "model.network.conv_dropout" not in space.settings(
        {"architecture": "none", "model.network.conv_dropout": 0.3}
    )


# -- options and fingerprint -------------------------------------------------------------------------------------------


def test_settings_become_options_of_fit_sections_before_their_parts() -> None:
    values = {"model.objective.levels": [0.1], "model.objective": "own.Loss", "a.b": None, "c": 1e-05, "d": True}
    assert options_of(values) == [
        *("--c=1e-05", "--d=true", "--model.objective=own.Loss", "--a.b=null", "--model.objective.levels=[0.1]"),
    ]


def test_the_fingerprint_knows_what_matters_only() -> None:
    space = read_space(TREE)
    turned = dict(reversed(TREE.items()))
    assert read_space(turned).fingerprint == space.fingerprint
    assert len(space.fingerprint) == 64
    seen = {space.fingerprint}
    for change in (
        {"data.window": {"int": [20, 80], "step": 20}},
        {"data.window": {"int": [20, 60], "step": 10}},
        {"data.window": {"int": [20, 60]}},
        {"model.optimizer.lr": {"float": [1e-5, 1e-2]}},
        {"data.scaling": {"categorical": ["robust", "standard"]}},
        {"model.network.conv_dropout": {"float": [0.0, 0.5]}},
        {"architecture": {"choose": {**TREE["architecture"]["choose"], "none": {"model.network.channels": []}}}},
    ):
        seen.add(read_space(TREE | change).fingerprint)
    assert len(seen) == 8


def test_the_keys_are_those_of_the_configuration() -> None:
    assert read_space(TREE).keys == (set(TREE) - {"architecture"}) | {
        "model.network.channels",
        "model.network.kernel_sizes",
    }


def test_the_grid_counts_every_value() -> None:
    tree = {
        "model.a": {"int": [1, 7], "step": 3},
        "model.b": {"float": [0.0, 0.3], "step": 0.1},
        "model.c": {"categorical": [[1], "x"]},
    }
    assert read_space(tree).grid() == {
        "model.a": [1, 4, 7],
        "model.b": [0.0, 0.1, 0.2, 0.3],
        "model.c": ["[1]", "x"],
    }
    with pytest.raises(ConfigError, match=r"E253.*model.network.conv_dropout has no grid"):
        read_space(TREE).grid()


# -- what is refused -------------------------------------------------------------------------------------------------

A = {"int": [1, 3]}


@pytest.mark.parametrize(
    ("tree", "code", "message"),
    [
        (None, 250, "no search space"),
        ({}, 250, "no search space"),
        ({"a.b": 3}, 250, "no domain — x.yaml: space.a.b"),
        ({"a.b": {"integer": [1, 3]}}, 250, "unknown key 'integer' — x.yaml: space.a.b — did you mean int?"),
        ({"a.b": {"int": [1, 3], "stp": 1}}, 250, "did you mean step?"),
        ({"a.b": {"categorical": [1], "log": True}}, 250, "unknown key 'log'"),
        ({"a.b": {"int": [1, 3], "float": [1, 3]}}, 250, "2 domains"),
        ({"a.b": {"if": {}}}, 250, "0 domains"),
        ({"a.b": {"int": [1.5, 3]}}, 251, "give two whole numbers"),
        ({"a.b": {"int": [False, True]}}, 251, "are not bounds"),
        ({"a.b": {"int": [1, 2, 3]}}, 251, "are not bounds"),
        ({"a.b": {"float": [0, float("nan")]}}, 251, "give two finite numbers"),
        ({"a.b": {"float": ["1e-5", 1]}}, 251, "are not bounds"),
        ({"a.b": {"int": [3, 1]}}, 251, "from 3 to 1"),
        ({"a.b": {"float": [0, 1], "log": True}}, 251, "from 0.0 on the logarithmic scale"),
        ({"a.b": {"float": [1, 2], "log": "yes"}}, 251, "log='yes'"),
        ({"a.b": {"int": [1, 2], "log": True, "step": 1}}, 251, "log and step"),
        ({"a.b": {"int": [1, 8], "step": 3}}, 251, "steps of 3 from 1 do not end at 8 — x.yaml: space.a.b — end at 7"),
        ({"a.b": {"float": [0, 1], "step": 0.3}}, 251, "end at 0.9"),
        ({"a.b": {"int": [1, 8], "step": 0}}, 251, "above 0"),
        ({"a.b": {"int": [1, 8], "step": 0.5}}, 251, "whole number"),
        ({"a.b": {"categorical": []}}, 251, "no choices"),
        ({"a.b": {"categorical": "abc"}}, 251, "no choices"),
        ({"a.b": {"categorical": [1, True]}}, 251, "is listed twice"),
        ({"a.b": {"categorical": [[1, 2], "[1, 2]"]}}, 251, "is listed twice"),
        ({"a.b": {"categorical": [float("inf")]}}, 251, "give finite numbers"),
        ({"a.b": {"categorical": [object()]}}, 251, "not plain"),
        ({"a b": {"int": [1, 3]}}, 251, "'a b' is not a key"),
        ({"--a": {"int": [1, 3]}}, 251, "is not a key"),
        ({"n": {"choose": {"x": {"a b": 1}}}}, 251, "x.yaml: space.n.choose.x"),
        ({"n": {"choose": {}}}, 251, "no options"),
        ({"n": {"choose": {"x": 1}}}, 251, "the option sets nothing — x.yaml: space.n.choose.x"),
        ({"n": {"choose": {"x": {"a.b": 1}}}, "a.b": A}, 251, "a.b is set twice"),
        ({"a.b": A, "c": {"int": [1, 2], "if": 3}}, 252, "no condition"),
        ({"a.b": A, "c": {"int": [1, 2], "if": {"a.c": 1}}}, 252, "a.c is not a parameter of the space"),
        ({"a.b": A, "c": {"int": [1, 2], "if": {"a.c": 1}}}, 252, "did you mean a.b?"),
        ({"a.b": A, "c": {"int": [1, 2], "if": {"a.b": 4}}}, 252, "a.b is never 4"),
        ({"a.b": A, "c": {"int": [1, 2], "if": {"a.b": []}}}, 252, "one of no values"),
        ({"a.b": {"int": [0, 4], "step": 2}, "c": {"int": [1, 2], "if": {"a.b": [2, 3]}}}, 252, "never 3"),
        ({"a.b": {"float": [0, 1]}, "c": {"int": [1, 2], "if": {"a.b": 1}}}, 252, "drawn from a range"),
        ({"a": A | {"if": {"b": 1}}, "b": A | {"if": {"a": 1}}}, 252, "go in a circle"),
        ({"a": A | {"if": {"a": 1}}}, 252, "go in a circle"),
        ({"seed_everything": A}, 254, "luckiest seed"),
        ({"data.split.validation": {"categorical": ["2009-01-01"]}}, 254, "cannot be compared"),
        ({"data": {"categorical": [{"split": 1}]}}, 254, "data cannot be searched"),
        ({"n": {"choose": {"x": {"data.targets": []}}}}, 254, "data.targets cannot be searched"),
        ({"run_dir": {"categorical": ["a"]}}, 254, "each trial gets its own"),
    ],
)
def test_a_wrong_space_is_reported_in_one_line(tree: Any, code: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_space(tree, "x.yaml: space")
    assert caught.value.code == code
    assert message in str(caught.value)
    assert "x.yaml: space" in str(caught.value)
    assert "\n" not in str(caught.value)
