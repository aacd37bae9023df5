"""Epochs over every n-th training row of a symbol: which rows they take, and that nothing else decides it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cnn_lstm.data.batches import RowBatches
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.strides import Strides
from cnn_lstm.errors import ConfigError
from tests.fits import small_data

# interleaved in no way: the rows of a symbol lie behind one another, as in a panel, with pauses between them
SYMBOL = np.repeat(np.array([0, 1, 4], dtype=np.int32), [50, 23, 7])
ROWS = np.concatenate([np.arange(100, 150), np.arange(300, 346, 2), np.arange(900, 907)])


def batches(
    stride: int,
    batch: int = 4,
    seed: int = 3,
    epoch: int = 0,
    rank: int = 0,
    world: int = 1,
    rows: Rows = ROWS,
    symbol: NDArray[np.int32] = SYMBOL,
) -> RowBatches:
    made = RowBatches(rows, batch, True, seed, rank, world, Strides(symbol, stride))
    made.set_epoch(epoch)
    return made


def seen(made: RowBatches) -> list[int]:
    return [row for batch in made for row in batch.tolist()]


@pytest.mark.parametrize("stride", [2, 3, 5, 7, 10])
def test_the_rows_of_a_symbol_lie_a_stride_apart_and_none_comes_twice(stride: int) -> None:
    for seed in range(20):
        drawn = Strides(SYMBOL, stride).draw(torch.Generator().manual_seed(seed)).numpy()
        for symbol in np.unique(SYMBOL):
            own = np.flatnonzero(symbol == SYMBOL)
            positions = np.flatnonzero(np.isin(own, drawn))
            assert set(np.diff(positions)) <= {stride}
            assert positions[0] < stride
            assert positions[-1] >= len(own) - stride
    assert len(set(seen(batches(stride, batch=1)))) == len(seen(batches(stride, batch=1)))


@pytest.mark.parametrize("stride", [3, 60])
def test_over_the_epochs_each_row_comes_as_often_as_the_others_of_its_symbol(stride: int) -> None:
    epochs, strides = 3000, Strides(SYMBOL, stride)
    generator = torch.Generator().manual_seed(1)
    counts = np.zeros(len(SYMBOL))
    for _ in range(epochs):
        counts[strides.draw(generator).numpy()] += 1
    for symbol in np.unique(SYMBOL):
        own = counts[symbol == SYMBOL] / epochs
        share = 1 / min(stride, len(own))
        assert own == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / epochs))


def test_symbols_have_phases_of_their_own() -> None:
    strides, generator = Strides(SYMBOL, 5), torch.Generator().manual_seed(0)
    firsts = {tuple(strides.draw(generator)[[0, 10]].tolist()) for _ in range(100)}
    assert len({second - first for first, second in firsts}) > 5


def test_the_draw_depends_on_seed_and_epoch_only() -> None:
    torch.manual_seed(1)
    first = seen(batches(3, epoch=2))
    torch.manual_seed(2)
    assert seen(batches(3, epoch=2)) == first
    again = batches(3, epoch=2)
    assert seen(again) == seen(again) == first
    others = [frozenset(seen(batches(3, seed=seed, epoch=epoch))) for seed, epoch in ((3, 0), (3, 1), (4, 2))]
    assert frozenset(first) not in others


@pytest.mark.parametrize("stride", [2, 3, 9, 30])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_each_epoch_has_the_same_number_of_full_batches_on_each_process(stride: int, world: int) -> None:
    for epoch in range(25):
        ranks = [list(batches(stride, 2, epoch=epoch, rank=rank, world=world)) for rank in range(world)]
        expected = len(batches(stride, 2, world=world))
        assert {len(rank) for rank in ranks} == {expected}
        if Strides(SYMBOL, stride).least >= 2 * world:
            assert {len(batch) for rank in ranks for batch in rank} == {2}
        rows = [row for rank in ranks for batch in rank for row in batch.tolist()]
        assert len(rows) == len(set(rows))


def test_processes_share_the_batches_of_one() -> None:
    alone = [set(batch.tolist()) for batch in batches(3, 6, epoch=4)]
    ranks = [[batch.tolist() for batch in batches(3, 3, epoch=4, rank=rank, world=2)] for rank in range(2)]
    assert [set(one + other) for one, other in zip(*ranks, strict=True)] == alone


def test_a_stride_of_one_is_no_stride(tmp_path: Path) -> None:
    """The order of an epoch stays what it was before there were strides."""
    plain, data = small_data(tmp_path), small_data(tmp_path, train_stride=1)
    for module in (plain, data):
        module.setup()
    orders = [[batch.row.tolist() for batch in module.train_dataloader()] for module in (plain, data)]
    generator = torch.Generator().manual_seed(0)
    order = plain.parts.train[torch.randperm(len(plain.parts.train), generator=generator).numpy()]
    assert orders[0] == orders[1]
    assert np.concatenate(orders[0]).tolist() == order[: len(np.concatenate(orders[0]))].tolist()


def test_only_training_batches_and_no_statistics_feel_the_stride(tmp_path: Path) -> None:
    every, third = small_data(tmp_path), small_data(tmp_path, train_stride=3)
    for module in (every, third):
        module.setup()
    assert torch.equal(every.statistics.x_loc, third.statistics.x_loc)
    assert len(third.train_dataloader()) == pytest.approx(len(every.train_dataloader()) / 3, abs=1)
    for name in ("val_dataloader", "test_dataloader"):
        assert len(getattr(third, name)()) == len(getattr(every, name)())
    rows = np.concatenate([batch.row.numpy() for batch in third.train_dataloader()])
    assert set(rows.tolist()) < set(third.parts.train.tolist())


def test_a_stride_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train_stride=0"):
        small_data(tmp_path, train_stride=0)
