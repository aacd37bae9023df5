"""Windows against plain slicing and a brute-force loop; the panel is never copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cnn_lstm.data.batches import RowBatches, WindowDataset, make_loader
from cnn_lstm.data.feature_catalogue import resolve_features
from cnn_lstm.data.targets import ForwardReturn, ForwardValue, Target
from cnn_lstm.data.windows import Panel, build_panel, complete_windows, cut_windows, labelled
from tests.markets import market, walk

GAP = 10.0


class Allocations(TorchDispatchMode):
    """Writes down the storage bytes of every result that is not a view of `known`."""

    def __init__(self, known: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.known, self.sizes = known.untyped_storage().data_ptr(), [0]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().data_ptr() != self.known:
                self.sizes.append(leaf.untyped_storage().nbytes())
        return result


def panel_of(table: pd.DataFrame, *targets: Target, features: tuple[str, ...] = ("close",)) -> Panel:
    ordered = table.sort_values(["symbol", "timestamp"], ignore_index=True)
    return build_panel(ordered, resolve_features(features, ordered.columns), targets or [ForwardValue("close")], GAP)


def holed_panel(seed: int) -> Panel:
    """Random segments of random lengths, and NaN in a tenth of the rows."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 15, size=random.integers(1, 8))
    count = int(lengths.sum())
    values = random.normal(size=(count, 2)).astype(np.float32)
    values[random.random(values.shape) < 0.05] = np.nan
    segment = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    labels = torch.zeros(count, 1)
    return Panel(
        torch.from_numpy(values),
        labels,
        labels,
        labels,
        labels,
        ("A",),
        segment,
        np.zeros(count, "datetime64[us]"),
        segment,
    )


@given(
    rows=st.integers(1, 40),
    features=st.integers(1, 5),
    length=st.integers(1, 40),
    picks=st.lists(st.integers(0, 1000), max_size=9),
)
def test_cut_windows_are_plain_slices(rows: int, features: int, length: int, picks: list[int]) -> None:
    length = min(length, rows)
    values = torch.randn(rows, features)
    ends = [length - 1 + pick % (rows - length + 1) for pick in picks]
    windows = cut_windows(values, torch.tensor(ends, dtype=torch.int64), length)
    assert windows.shape == (len(ends), length, features)
    for window, end in zip(windows, ends, strict=True):
        assert torch.equal(window, values[end - length + 1 : end + 1])


@given(seed=st.integers(0, 10_000), length=st.integers(1, 12))
@settings(max_examples=200)
def test_complete_windows_are_those_of_a_brute_force_loop(seed: int, length: int) -> None:
    panel = holed_panel(seed)
    expected = [
        row
        for row in range(length - 1, len(panel))
        if len(set(panel.segment[row - length + 1 : row + 1])) == 1
        and torch.isfinite(panel.values[row - length + 1 : row + 1]).all()
    ]
    assert complete_windows(panel, length).tolist() == expected


@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("horizon", [1, 5])
def test_labels_and_windows_of_a_market_never_leave_a_symbol_or_bridge_a_gap(horizon: int, delay: int) -> None:
    table = market(200).sort_values(["symbol", "timestamp"], ignore_index=True)
    panel = panel_of(table, ForwardReturn(horizon, delay))
    step = table.groupby("symbol")["timestamp"].diff()
    breaks = (step.isna() | (step > pd.Timedelta(days=GAP))).to_numpy()
    assert breaks.sum() == 4, "three symbols, one gap"
    reach = horizon + delay
    for row in range(len(panel)):
        inside = row + reach < len(panel) and not breaks[row + 1 : row + reach + 1].any()
        assert bool(torch.isfinite(panel.labels[row, 0])) == inside
    for row in complete_windows(panel, 30):
        assert not breaks[row - 28 : row + 1].any()


def test_a_pause_of_exactly_the_limit_is_no_gap() -> None:
    table = walk(30)
    late = table["timestamp"].where(table.index < 15, table["timestamp"] + pd.Timedelta(days=20))
    pause = (late[15] - late[14]) / pd.Timedelta(days=1)
    features, targets = resolve_features(["close"], table.columns), [ForwardReturn()]
    shifted = table.assign(timestamp=late)
    assert build_panel(shifted, features, targets, pause).segment.max() == 1
    assert build_panel(shifted, features, targets, pause - 0.01).segment.max() == 2


def test_the_panel_holds_symbols_behind_one_another_with_their_times() -> None:
    table = market(60).sort_values(["symbol", "timestamp"], ignore_index=True)
    panel = panel_of(table)
    assert [panel.symbols[code] for code in panel.symbol] == table["symbol"].tolist()
    assert (pd.DatetimeIndex(panel.time, tz="UTC") == pd.DatetimeIndex(table["timestamp"])).all()
    np.testing.assert_array_equal(panel.values[:, 0].numpy(), table["close"].to_numpy(np.float32))
    assert panel.values.is_contiguous()
    assert panel.values.dtype == torch.float32


def test_times_are_stored_in_utc_whatever_the_zone_of_the_table() -> None:
    table = walk(20)
    moved = table.assign(timestamp=table["timestamp"].dt.tz_convert("Asia/Tokyo"))
    np.testing.assert_array_equal(panel_of(table).time, panel_of(moved).time)


def test_a_label_of_a_column_with_a_hole_is_unknown_not_infinite() -> None:
    table = walk(20).assign(rate=np.arange(20.0))
    table.loc[7, "rate"] = np.inf
    labels = panel_of(table, ForwardValue("rate", horizon=2)).labels[:, 0]
    assert torch.isnan(labels).nonzero().flatten().tolist() == [5, 18, 19]


def test_labelled_asks_for_every_target() -> None:
    panel = panel_of(walk(20), ForwardReturn(1, 0), ForwardReturn(4, 1))
    assert labelled(panel, np.arange(20)).tolist() == [True] * 15 + [False] * 5


def test_no_batch_allocates_more_than_its_own_windows() -> None:
    values, labels = torch.randn(50_000, 6), torch.zeros(50_000, 1)
    loader = make_loader(WindowDataset(values, labels, 20), RowBatches(np.arange(19, 50_000), 16, shuffle=False))
    batches = iter(loader)
    next(batches)
    with Allocations(values) as seen:
        batch = next(batches)
    assert batch.x.shape == (16, 20, 6)
    assert max(seen.sizes) == batch.x.nbytes


def test_the_dataset_shares_the_storage_of_the_panel() -> None:
    panel = panel_of(walk(50))
    dataset = WindowDataset(panel.values, panel.labels, 5)
    assert dataset.values.data_ptr() == panel.values.data_ptr()
    batch = dataset[torch.tensor([9, 4])]
    assert torch.equal(batch.x[0], panel.values[5:10])
    assert torch.equal(batch.y, panel.labels[[9, 4]])
    assert batch.row.tolist() == [9, 4]
