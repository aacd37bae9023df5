"""Crafted checkpoints with a right digest: each is refused in one line, exit code 4, or works as if it were real."""

from __future__ import annotations

import copy
import io
import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from cnn_lstm.errors import CheckpointError, CnnLstmError
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import CHECKPOINT_KEY, state_digest
from cnn_lstm.model.forecaster import Forecaster
from tests.fits import price_file, small_checkpoint, small_network

Content = dict[str, Any]
DEEP: list[Any] = []
for _ in range(200):
    DEEP = [DEEP]
ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
MANY: list[Any] = [0]
for _ in range(40):
    MANY = [MANY, MANY]
# what may stand in the place of any value
VALUES: dict[str, Any] = {
    "none": None,
    "text": "x",
    "number": 3,
    "huge": 10**18,
    "beyond": 10**40,
    "negative": -1,
    "nan": math.nan,
    "list": [1, "a", None],
    "empty": [],
    "mapping": {"a": 1},
    "deep": DEEP,
    "endless": ENDLESS,
    "many": MANY,
    "bytes": b"a",
    "tensor": torch.zeros(2),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fit")


@pytest.fixture(scope="module")
def content(folder: Path) -> Content:
    torch.manual_seed(0)
    made: Content = torch.load(small_checkpoint(folder, Forecaster(small_network())), weights_only=True)
    scores = {"scores": [[-1.0, 0.0, 1.0]], "typical_scale": [1.0], "smearing": [1.0]}
    made[CHECKPOINT_KEY] |= {"calibration": scores}
    return made


@pytest.fixture(scope="module")
def prices(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(price_file(folder))
    return table.rename(columns={"date": "timestamp"}).assign(timestamp=lambda one: pd.to_datetime(one["timestamp"]))


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Each key and position of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def with_value(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(tree)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return changed


def outcome(content: Content, prices: pd.DataFrame, file: Path) -> str:
    """The error's number, or `works`; anything else is a bug."""
    torch.save(content, file)
    try:
        predictor = Predictor.from_checkpoint(file)
        table = predictor.predict(prices)
    except CnnLstmError as error:
        # an unknown feature is a fault of the configuration, an unknown column one of the table
        one_line = "\n" not in str(error) and len(str(error)) <= 400
        expected = isinstance(error, CheckpointError) or error.code in (225, 303)
        return f"E{error.code}" if one_line and expected else f"bug: {error}"
    assert table["y_pred"].notna().all()
    return "works"


def test_the_real_one_works(content: Content, prices: pd.DataFrame, tmp_path: Path) -> None:
    assert outcome(content, prices, tmp_path / "a.ckpt") == "works"


CERTAIN = ("deep", "endless", "many", "bytes", "tensor", "beyond")  # no value of ours may be one of these


def crafted(content: Content, kinds: Callable[[int], list[str]]) -> Iterator[tuple[str, tuple[Any, ...], Content]]:
    """The content with other values: of the place of each number, those of some kinds."""
    for section in (CHECKPOINT_KEY, "hyper_parameters"):
        for number, path in enumerate(places(content[section])):
            for name in kinds(number):
                value = ... if name == "missing" else VALUES[name]
                if path != ("digest",):
                    yield name, path, content | {section: with_value(content[section], path, value)}


def assert_refused_or_sound(content: Content, kinds: Callable[[int], list[str]], prices: Any, file: Path) -> int:
    count = 0
    for name, path, changed in crafted(content, kinds):
        count += 1
        what = outcome(changed, prices, file)
        assert not what.startswith("bug"), (name, path, what)
        assert what != "works" or name not in CERTAIN, (name, path)
    return count


@pytest.mark.parametrize("first", range(2))
def test_every_value_of_the_contract_may_be_another(
    first: int, content: Content, prices: pd.DataFrame, tmp_path: Path
) -> None:
    names = ["missing", *VALUES]

    def kinds(number: int) -> list[str]:
        return [names[(number * 7 + first * 5) % len(names)]]

    assert assert_refused_or_sound(content, kinds, prices, tmp_path / "a.ckpt") > 60


@pytest.mark.slow
@pytest.mark.parametrize("name", ["missing", *VALUES])
def test_every_value_of_the_contract_may_be_anything(
    name: str, content: Content, prices: pd.DataFrame, tmp_path: Path
) -> None:
    assert_refused_or_sound(content, lambda number: [name], prices, tmp_path / "a.ckpt")


@pytest.mark.parametrize("section", [CHECKPOINT_KEY, "hyper_parameters", "state_dict", "epoch", "optimizer_states"])
def test_every_section_may_be_anything(section: str, content: Content, tmp_path: Path) -> None:
    for name, value in VALUES.items():
        torch.save(content | {section: value}, tmp_path / "a.ckpt")
        try:
            Predictor.from_checkpoint(tmp_path / "a.ckpt")
        except CheckpointError:
            continue
        assert section in ("epoch", "optimizer_states"), name


def with_state(content: Content, state: dict[str, Any]) -> Content:
    """The checkpoint with other weights, and their digest where they have one."""
    try:
        digest = state_digest(state)
    except Exception:  # no tensors: whatever stands there is not looked at
        digest = ""
    return content | {"state_dict": state, CHECKPOINT_KEY: content[CHECKPOINT_KEY] | {"digest": digest}}


STATES: dict[str, Callable[[Tensor], Any]] = {
    "nan": lambda values: torch.full_like(values, math.nan) if values.is_floating_point() else None,
    "another shape": lambda values: torch.zeros(*values.shape, 2),
    "empty": lambda values: values.reshape(-1)[:0],
    "a number": lambda values: 1.0,
    "a list": lambda values: values.tolist(),
    "sparse": lambda values: values.float().reshape(-1).to_sparse(),
    "complex": lambda values: values.to(torch.complex64),
    "whole numbers": lambda values: values.long() if values.is_floating_point() else None,
}


@pytest.mark.parametrize("kind", STATES)
def test_every_tensor_may_be_anything(kind: str, content: Content, prices: pd.DataFrame, tmp_path: Path) -> None:
    for name, values in content["state_dict"].items():
        other = STATES[kind](values)
        if other is not None:
            changed = with_state(content, content["state_dict"] | {name: other})
            what = outcome(changed, prices, tmp_path / "a.ckpt")
            harmless = kind == "whole numbers" or name == "linear.weight"  # one without inputs is left out
            assert what.startswith("E") or harmless, (name, what)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf])
@pytest.mark.parametrize("name", ["y_scale", "network.standardize.scale"])
def test_scales_are_above_zero(name: str, value: float, content: Content, prices: pd.DataFrame, tmp_path: Path) -> None:
    """An infinite scale mutes a feature; that of a target has no meaning."""
    state = content["state_dict"] | {name: torch.full_like(content["state_dict"][name], value)}
    mutes = value == math.inf and name != "y_scale"
    assert (outcome(with_state(content, state), prices, tmp_path / "a.ckpt") == "E420") != mutes


def test_a_number_that_is_repeated_takes_no_memory(content: Content, tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(10**12)
    state = content["state_dict"] | {"y_loc": huge}
    torch.save(content | {"state_dict": state}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="E420"):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    "change", [{"lstm_hidden": 10**6}, {"lstm_layers": 10**9}, {"channels": [10**5], "kernel_sizes": [1001]}]
)
def test_a_model_larger_than_its_weights_takes_no_memory(
    change: dict[str, Any], content: Content, prices: pd.DataFrame, tmp_path: Path
) -> None:
    parameters = copy.deepcopy(content["hyper_parameters"])
    parameters["network"]["init_args"] |= change
    changed = content | {"hyper_parameters": parameters}
    assert outcome(changed, prices, tmp_path / "a.ckpt") in ("E417", "E423")


@pytest.mark.parametrize("kind", ["packed", "twice"])
def test_a_file_that_says_it_holds_more_than_its_size_is_refused(kind: str, content: Content, tmp_path: Path) -> None:
    saved = io.BytesIO()
    torch.save(content, saved)
    method = zipfile.ZIP_DEFLATED if kind == "packed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(saved) as read, zipfile.ZipFile(tmp_path / "a.ckpt", "w", method) as written:
        for member in read.infolist():
            written.writestr(member.filename, read.read(member))
        if kind == "twice":
            largest = max(written.infolist(), key=lambda member: member.file_size)
            written.filelist += [largest] * 3
    with pytest.raises(CheckpointError, match="E418"):
        read_checkpoint(tmp_path / "a.ckpt")
