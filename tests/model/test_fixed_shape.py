"""The bits of a forecast do not depend on how many windows are asked for at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cnn_lstm.model.fixed_shape import (
    INFERENCE_BATCH,
    MOST_SMALL,
    SMALL_BATCHES,
    SmallShapes,
    fixed_shape,
    small_batches_are_equal,
)
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import CNNLSTM

NETWORKS: dict[str, dict[str, Any]] = {
    "default": {"n_features": 14},
    "two layers, both ways": {"n_features": 3, "lstm_layers": 2, "bidirectional": True, "pooling": "attention"},
    "no convolution, layer norm": {"n_features": 1, "channels": [], "kernel_sizes": [], "attention_heads": 0},
    "one head, mean": {"n_features": 7, "attention_heads": 1, "pooling": "mean", "norm": "layer", "lstm_hidden": 100},
}


def windows(batch: int, rows: int = 6, features: int = 3) -> Tensor:
    return torch.randn(batch, rows, features, generator=torch.Generator().manual_seed(batch))


def by_shape(shapes: list[int], equal: bool = True) -> Any:
    """A function of windows that notes the batches it sees; its outputs may depend on their size."""

    def function(x: Tensor) -> tuple[Tensor]:
        shapes.append(len(x))
        return (x.sum(dim=(1, 2)) + (0.0 if equal else len(x)),)

    return function


@pytest.mark.parametrize("size", [1, 7, 31, 32, 33, 80])
def test_fixed_shape_always_asks_for_the_same_shape(size: int) -> None:
    shapes: list[int] = []
    (sums,) = fixed_shape(by_shape(shapes), windows(size))
    assert torch.equal(sums, windows(size).sum(dim=(1, 2)))
    assert set(shapes) == {INFERENCE_BATCH}


@pytest.mark.parametrize(
    ("size", "batches"),
    [(1, [2]), (2, [2]), (3, [4]), (5, [8]), (9, [8, 8]), (MOST_SMALL, [8, 8]), (MOST_SMALL + 1, [INFERENCE_BATCH])],
)
def test_few_windows_are_taken_in_small_batches(size: int, batches: list[int]) -> None:
    shapes: list[int] = []
    with torch.no_grad():
        few = SmallShapes()
        few(by_shape([]), windows(size))  # tried out here
        (sums,) = few(by_shape(shapes), windows(size))
    assert torch.equal(sums, windows(size).sum(dim=(1, 2)))
    assert shapes == batches


def test_the_next_size_is_taken_where_one_gives_other_bits() -> None:
    shapes: list[int] = []

    def function(x: Tensor) -> tuple[Tensor]:
        shapes.append(len(x))
        return (x.sum(dim=(1, 2)) + float(len(x) == 2),)

    with torch.no_grad():
        few = SmallShapes()
        few(function, windows(1))
        shapes.clear()
        few(function, windows(1))
    assert shapes == [4]


def test_a_network_whose_bits_depend_on_the_batch_is_given_the_large_one() -> None:
    shapes: list[int] = []
    with torch.no_grad():
        few = SmallShapes()
        for _ in range(2):
            shapes.clear()
            (sums,) = few(by_shape(shapes, equal=False), windows(2))
    assert shapes == [INFERENCE_BATCH], "it is tried out once"
    assert torch.equal(sums, windows(2).sum(dim=(1, 2)) + INFERENCE_BATCH)


@pytest.mark.parametrize(("size", "place"), [(size, place) for size in SMALL_BATCHES for place in range(size)])
def test_each_place_of_a_small_batch_is_tried_out(size: int, place: int) -> None:
    def function(x: Tensor) -> tuple[Tensor]:
        odd = torch.zeros(len(x))
        odd[place] = float(len(x) == size)
        return (x.sum(dim=(1, 2)) + odd,)

    assert not small_batches_are_equal(function, windows(1)[0], size)


def test_with_gradients_nothing_is_tried_out() -> None:
    shapes: list[int] = []
    SmallShapes()(by_shape(shapes), windows(1))
    assert shapes == [INFERENCE_BATCH]


def test_another_shape_or_type_is_tried_out_again() -> None:
    few = SmallShapes()
    with torch.no_grad():
        for x in (windows(1), windows(1, rows=7), windows(1).double()):
            shapes: list[int] = []
            few(by_shape(shapes), x)
            assert INFERENCE_BATCH in shapes


@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS.keys())
@pytest.mark.parametrize("n_targets", [1, 3])
def test_bits_do_not_depend_on_the_batch_for_other_networks(settings: dict[str, Any], n_targets: int) -> None:
    torch.manual_seed(0)
    forecaster = Forecaster(CNNLSTM(**settings), n_targets=n_targets).eval()
    x = windows(37, rows=20, features=settings["n_features"])
    with torch.inference_mode():
        whole = fixed_shape(forecaster._outputs, x)
        for size in (1, 3, 4, 5, 16):
            parts = [forecaster.forecast(part) for part in x.split(size)]
            assert torch.equal(torch.cat([part.embedding for part in parts]), whole[0]), size
            columns = torch.cat([part.columns["y_pred"] for part in parts])
            assert torch.equal(columns, forecaster.forecast(x).columns["y_pred"]), size


def test_the_global_random_state_is_left_alone() -> None:
    forecaster = Forecaster(CNNLSTM(3, lstm_hidden=8)).eval()
    state = torch.get_rng_state()
    with torch.no_grad():
        forecaster.forecast(windows(2))
    assert torch.equal(torch.get_rng_state(), state)
