"""Configurations with random faults: each key of the whole configuration may hold anything that YAML can write."""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cnn_lstm.runs.forecast_cli import parsed
from tests import experiments
from tests.fuzz.judged import Outcome, judged, shortened
from tests.markets import days, market

LONG = "x" * 300
VALUES: list[Any] = [
    *(None, "", " ", 0, -1, 1, 2, 7, 0.5, 1.5, -0.5, True, False),
    *(1e30, -1e30, 10**30, 2**31, 2**63, 2**64, float("inf"), float("nan"), 1e-30),
    *("x", LONG, "3x", "1e-3", "None", "é ñ 中", "a.b.C", "os.system", "torch.nn.Linear", "auto", "a: b", "{", "--x"),
    *([], [None], [1, 2], ["x"], [[1]], [1e30], {}, {"a": 1}, {"class_path": "x"}, {"class_path": None}),
    *({"class_path": "torch.nn.ReLU"}, {"init_args": {}}, {"class_path": LONG, "init_args": 3}, {"help": 1}),
]
# several processes, devices and machines start this script again, or wait for each other
ALONE = ("trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.accelerator", "trainer.plugins")
CPCV = {"class_path": "cnn_lstm.data.splits.CPCV", "init_args": {"groups": 4, "test_groups": 2, "number": 3}}
NEWER: dict[str, list[Any]] = {
    "split": [CPCV, {"class_path": "CPCV"}, {"class_path": "CPCV", "init_args": {"groups": 10**6, "test_groups": 3}}],
    "exchange": ["XNYS", "xnys", "24/7", "nowhere", {"AAA": "XNYS"}],
    "known_future": [None, {"table": "nowhere.csv", "columns": ["x"]}, {"columns": []}],
    "static": [None, {"table": "nowhere.csv", "columns": ["x"]}, {"columns": ["sector", "sector"]}],
}
HARMLESS: list[Any] = [None, "", "3x", -7, 0, [], {}, 1e30, LONG, [None], {"a": 1}, "foo", float("nan")]
TEXTS = ["{", "[", "}", "\t", ": ", "- ", "&a *a", "!!python/object:os.system", "%", "\x07", "'", '"', "|", "? ", "<<"]


def base(folder: Path) -> dict[str, Any]:
    """The whole configuration of a small fit, each default written out."""
    table = market(140, gaps=False)
    facts = pd.DataFrame({"date": days(150).strftime("%Y-%m-%d"), "auction": [k % 7 == 0 for k in range(150)]})
    facts.astype({"auction": int}).to_csv(folder / "events.csv", index=False)
    pd.DataFrame({"symbol": ["AAA", "BBB", "CCC"], "sector": ["x", "y", "x"]}).to_csv(
        folder / "sectors.csv", index=False
    )
    data = {
        "known_future": {"table": str(folder / "events.csv"), "columns": ["auction"], "aggregate": "max"},
        "static": {"columns": ["sector"], "table": str(folder / "sectors.csv")},
    }
    file = experiments.experiment(folder, table, data, trainer={"max_epochs": 1})
    tree: dict[str, Any] = yaml.safe_load(parsed(["fit", "--config", str(file)]).config_text)
    return tree


def paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each section, list and value."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in children:
        yield (*path, key)
        yield from paths(value, (*path, key))


def mutated(tree: dict[str, Any], chance: random.Random) -> tuple[Any, str]:
    """A copy with one to three faults, and what they are."""
    tree, notes = copy.deepcopy(tree), []
    for name, values in NEWER.items():
        if name in tree.get("data", {}) and chance.random() < 0.1:
            tree["data"][name] = copy.deepcopy(chance.choice(values))
            notes.append(f"data.{name}: {shortened(tree['data'][name])}")
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        ways = list(paths(tree))
        if not ways:
            break
        notes.append(_changed(tree, chance.choice(ways), chance))
    return tree, "; ".join(notes)


def _changed(tree: dict[str, Any], way: tuple[Any, ...], chance: random.Random) -> str:
    parent: Any = tree
    for key in way[:-1]:
        parent = parent[key]
    key, name = way[-1], ".".join(map(str, way))
    kind = chance.random()
    alone = name.startswith(ALONE)
    if isinstance(parent, dict) and kind < 0.08:
        del parent[key]
        return f"without {name}"
    if isinstance(parent, dict) and kind < 0.16:
        text = str(key)
        other = _misspelt(text, chance)
        parent[other] = parent.pop(key)
        return f"{name} is called {other}"
    if isinstance(parent, dict) and kind < 0.22:
        other = chance.choice(("help", "lr", "window", "x y", "", "class_path", "init_args", LONG, "n_features"))
        parent[other] = chance.choice(HARMLESS if alone else VALUES)
        return f"{name} has a neighbour {other[:20]!r}: {shortened(parent[other])}"
    if kind < 0.28 and not alone:
        parent[key] = [parent[key]]
        return f"{name} in a list"
    parent[key] = copy.deepcopy(chance.choice(HARMLESS if alone else VALUES))
    return f"{name}: {shortened(parent[key])}"


def _misspelt(text: str, chance: random.Random) -> str:
    place = chance.randrange(max(1, len(text)))
    return chance.choice(
        (text[:place] + text[place + 1 :], text[:place] + "x" + text[place:], text.upper(), text + "+")
    )


def text_of(tree: Any, chance: random.Random) -> tuple[str, str]:
    """The YAML text, now and then with a fault of its own."""
    text = yaml.safe_dump(tree, allow_unicode=True, width=10_000)
    kind = chance.random()
    if kind > 0.1:
        return text, ""
    place, part = chance.randrange(len(text)), chance.choice(TEXTS)
    if kind < 0.05:
        return text[:place] + part + text[place:], f"; {part!r} at letter {place}"
    return text[:place], f"; cut at letter {place}"


def case(number: int, seed: int, tree: dict[str, Any], folder: Path) -> tuple[Outcome, str]:
    """Runs the configuration of a number.

    Args:
        number: Its number.
        seed: Seed of all.
        tree: As `base` returns it.
        folder: A folder for its files, which is removed.
    """
    chance = random.Random(f"{seed} configuration {number}")
    changed, notes = mutated(tree, chance)
    text, more = text_of(changed, chance)
    place = folder / f"case{number}"
    place.mkdir(parents=True)
    file = place / "case.yaml"
    file.write_text(text, encoding="utf-8")
    command = chance.choice(("fit", "fit", "fit", "data check", "fit --print_config")).split()
    where = ["--run_dir", place / "run"] if command == ["fit"] else []
    try:
        return judged(*command, "--config", file, *where), f"{' '.join(command)}: {notes}{more}"
    finally:
        shutil.rmtree(place, ignore_errors=True)
