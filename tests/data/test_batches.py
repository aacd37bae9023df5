"""Loaders over row numbers: orders, shards, and the random state that they leave alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import RunningStage
from torch import Tensor
from torch.utils.data import DataLoader

from cnn_lstm.data.batches import Batch, RowBatches, WindowDataset, make_loader
from cnn_lstm.model.forecaster import Forecaster
from tests.fits import small_data, small_network, small_trainer

ROWS = np.arange(100, 150)


def order_of(batches: RowBatches) -> list[int]:
    return [row for batch in batches for row in batch.tolist()]


def training(count: int, batch: int, seed: int = 3, epoch: int = 0, rank: int = 0, world: int = 1) -> RowBatches:
    batches = RowBatches(np.arange(count), batch, True, seed, rank, world)
    batches.set_epoch(epoch)
    return batches


def test_training_sees_each_row_once_in_a_new_order() -> None:
    order = order_of(RowBatches(ROWS, 5, shuffle=True))
    assert sorted(order) == ROWS.tolist()
    assert order != ROWS.tolist()


def test_the_training_order_depends_on_seed_and_epoch_only() -> None:
    torch.manual_seed(1)
    first = order_of(training(40, 4, seed=3, epoch=2))
    torch.manual_seed(2)
    np.random.default_rng(0)
    assert order_of(training(40, 4, seed=3, epoch=2)) == first
    others = [order_of(training(40, 4, seed, epoch)) for seed, epoch in ((3, 0), (3, 1), (4, 2), (2, 3))]
    assert first not in others
    assert all(sorted(order) == sorted(first) for order in others)


def test_neighbouring_seeds_do_not_share_orders_at_neighbouring_epochs() -> None:
    orders = [tuple(order_of(training(30, 3, seed, epoch))) for seed in range(10) for epoch in range(10)]
    assert len(set(orders)) == 100


def test_an_epoch_starts_over_when_it_is_read_again() -> None:
    batches = training(20, 4)
    assert order_of(batches) == order_of(batches)


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("count", [24, 25, 47, 50])
def test_the_parts_of_all_ranks_are_the_batches_of_one_process(count: int, world: int) -> None:
    alone = [set(batch.tolist()) for batch in training(count, 2 * world, epoch=1)]
    ranks = [[batch.tolist() for batch in training(count, 2, 3, 1, rank, world)] for rank in range(world)]
    assert {len(rank) for rank in ranks} == {len(alone)}
    for step, batch in enumerate(alone):
        parts = [rank[step] for rank in ranks]
        assert all(len(part) == 2 for part in parts)
        rows = [row for part in parts for row in part]
        assert len(rows) == len(set(rows))
        assert set(rows) == batch


@pytest.mark.parametrize(("count", "steps"), [(32, 4), (33, 4), (39, 4), (40, 5), (8, 1), (15, 1), (7, 1), (1, 1)])
def test_an_incomplete_last_batch_is_left_out_when_there_is_a_complete_one(count: int, steps: int) -> None:
    sizes = [len(batch) for batch in training(count, 8)]
    assert len(sizes) == len(training(count, 8)) == steps
    assert sizes == ([8] * steps if count >= 8 else [count])


def test_another_epoch_leaves_out_other_rows() -> None:
    left = [frozenset(range(39)) - set(order_of(training(39, 8, epoch=epoch))) for epoch in range(5)]
    assert len(set(left)) > 1


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [1, 2, 5, 8])
def test_evaluation_sees_each_row_once_over_all_ranks_in_equal_steps(batch: int, world: int) -> None:
    for count in range(1, 51):
        ranks = [list(RowBatches(ROWS[:count], batch, False, 0, rank, world)) for rank in range(world)]
        assert sorted(row for rank in ranks for part in rank for row in part.tolist()) == ROWS[:count].tolist()
        steps = len(RowBatches(ROWS[:count], batch, False, 0, 0, world))
        assert {len(rank) for rank in ranks} == {steps}
        assert max(len(part) for rank in ranks for part in rank) <= batch


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("batch", [2, 5, 8])
def test_no_rank_gets_an_empty_batch_when_there_are_rows_for_all(batch: int, world: int) -> None:
    for count in range(world, 51):
        for rank in range(world):
            parts = list(RowBatches(ROWS[:count], batch, False, 0, rank, world))
            assert all(len(part) for part in parts), (count, rank)


def test_one_process_evaluates_in_the_given_order() -> None:
    rows = np.array([7, 3, 5, 1, 9])
    assert [batch.tolist() for batch in RowBatches(rows, 2, shuffle=False)] == [[7, 3], [5, 1], [9]]
    assert len(RowBatches(rows, 2, shuffle=False)) == 3


def test_no_rows_are_no_batches() -> None:
    for shuffle in (True, False):
        assert list(RowBatches(np.arange(0), 4, shuffle)) == []
        assert len(RowBatches(np.arange(0), 4, shuffle)) == 0


def test_row_numbers_may_come_as_any_view_of_an_array() -> None:
    assert order_of(RowBatches(np.arange(20)[::2], 4, shuffle=False)) == list(range(0, 20, 2))


def dataset() -> WindowDataset:
    values = torch.arange(300.0).reshape(150, 2)
    return WindowDataset(values, torch.arange(150.0)[:, None], 4)


def test_a_loader_gives_windows_labels_and_rows_that_belong_together() -> None:
    data = dataset()
    for batch in make_loader(data, RowBatches(ROWS, 8, shuffle=True)):
        for x, y, row in zip(*batch, strict=True):
            assert torch.equal(x, data.values[row - 3 : row + 1])
            assert torch.equal(y, data.labels[row])


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_loader_leaves_the_global_random_state_alone(shuffle: bool) -> None:
    loader = make_loader(dataset(), RowBatches(ROWS, 8, shuffle))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for _ in range(2):
        list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loader_follows_the_epoch_of_its_sampler() -> None:
    batches = RowBatches(ROWS, 8, shuffle=True)
    loader = make_loader(dataset(), batches)

    def rows(epoch: int) -> Tensor:
        batches.set_epoch(epoch)
        return torch.cat([batch.row for batch in loader])

    first, second = rows(0), rows(1)
    assert not torch.equal(first, second)
    assert torch.equal(rows(0), first)


# -- what Lightning makes of a loader -----------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp"])
@pytest.mark.parametrize("stage", [RunningStage.TRAINING, RunningStage.VALIDATING, RunningStage.PREDICTING])
def test_a_trainer_of_several_processes_does_not_shard_a_second_time(stage: RunningStage, strategy: str) -> None:
    trainer = small_trainer(devices=2, strategy=strategy)  # its default: use_distributed_sampler=True
    loader = make_loader(dataset(), RowBatches(ROWS, 8, stage == RunningStage.TRAINING, rank=1, world_size=2))
    prepared = trainer._data_connector._prepare_dataloader(loader, shuffle=True, mode=stage)
    assert isinstance(prepared, DataLoader)
    assert [batch.row.tolist() for batch in prepared] == [batch.row.tolist() for batch in loader]


def test_a_loader_without_a_trainer_takes_its_share_from_the_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = RowBatches(np.arange(9), 2, shuffle=False)
    assert len(batches) == 5
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    seen = []
    for rank in range(3):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        monkeypatch.setattr("torch.distributed.get_world_size", lambda: 3)
        assert (batches.rank, batches.world_size, batches.num_replicas, len(batches)) == (rank, 3, 3, 2)
        seen += order_of(batches)
    assert sorted(seen) == list(range(9))


@pytest.mark.parametrize(("wanted", "steps"), [(1, 1), (3, 3), (0.5, 4)])
def test_overfit_batches_trains_on_the_same_batches_again_and_again(tmp_path: Path, wanted: float, steps: int) -> None:
    seen: list[list[list[int]]] = []

    class Seen(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            seen.append([])

        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
        ) -> None:
            seen[-1].append(batch.row.tolist())

    trainer = small_trainer(max_epochs=3, overfit_batches=wanted, callbacks=[Seen()])
    trainer.fit(Forecaster(small_network()), datamodule=small_data(tmp_path))
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) == steps
    assert len({row for batch in seen[0] for row in batch}) == 16 * steps


def test_a_batch_is_moved_only_where_it_lies_elsewhere(tmp_path: Path) -> None:
    data = small_data(tmp_path)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert data.transfer_batch_to_device(batch, torch.device("cpu"), 0) is batch
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert isinstance(moved, Batch)
    assert {part.device.type for part in moved} == {"meta"}
    half = batch._replace(y=batch.y.to("meta"))
    assert data.transfer_batch_to_device(half, torch.device("meta"), 0).x.device.type == "meta"
