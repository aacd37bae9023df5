"""Labels lie where the documentation says: behind the delay, over the horizon, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.checks import PRICES
from cnn_lstm.data.muted_warnings import muted_warnings
from cnn_lstm.data.targets import Floats, Target
from cnn_lstm.data.times import time_text, utc_times
from cnn_lstm.evaluation.audit.findings import Finding, Result, result
from cnn_lstm.evaluation.audit.stages import bits, earliest

if TYPE_CHECKING:
    from cnn_lstm.data.datamodule import MarketDataModule

ALIGNMENT = "label alignment"
FACTORS = (1000.0, 0.001)
FURTHER = 5


def label_alignment(data: MarketDataModule) -> Result:
    """Each label reads the rows t + delay to t + delay + horizon only, and is known at their end.

    One price in the middle is changed: the labels that move are those whose interval holds it, and with a delay the
    label of its own row, which is decided on that price, does not move. And of all lags, a label equals the value
    known k rows later at k = delay + horizon alone. Of labels that a column holds at their decision only the second can
    be checked.

    Args:
        data: A data module that has read its data.
    """
    longest = int(np.bincount(data.panel.symbol).argmax())
    kept = data.panel.symbol == longest
    bars = data.prices[kept].reset_index(drop=True)
    findings: list[Finding] = []
    for k, target in enumerate(data.targets):
        with muted_warnings(), np.errstate(all="ignore"):
            spans = [] if target.stands_at_decision else list(_span(target, bars))
            outside = {finding.column: finding for finding in reversed(spans)}
        findings += outside.values() or _lag(data, k, target)
    delays = ", ".join(f"{target.name} (t+{target.delay}, t+{target.reach}]" for target in data.targets)
    return result(ALIGNMENT, f"{len(bars):,} bars of {data.panel.symbols[longest]}, {delays}", findings)


def _span(target: Target, bars: pd.DataFrame) -> Iterator[Finding]:
    """Which labels and which returns of a position one price moves."""
    row = len(bars) // 2
    labels, returns = (_moved_by(bars, row, target, values) for values in (target.future, target.bar_return))
    spans = {
        "label": (labels, row - target.reach, row - target.delay),
        "position's return": (returns, row - target.delay - 1, row - target.delay),
    }
    for name, (rows, first, last) in spans.items():
        outside = rows[(rows < first) | (rows > last)]
        if len(outside):
            off = row - int(outside[0])
            what = f"it reads the row t{off:+d}, outside of t+{row - last}..t+{row - first}"
            yield Finding("labels", f"{name} of {target.name}", *_place(bars, int(outside[0])), what)
    if row - target.reach not in labels:
        what = f"it does not read the row t+{target.reach}, at which it ends"
        yield Finding("labels", f"label of {target.name}", *_place(bars, max(row - target.reach, 0)), what)


def _place(bars: pd.DataFrame, row: int) -> tuple[str, str]:
    return str(bars["symbol"].iloc[row]), time_text(utc_times(bars["timestamp"])[row])


def _moved_by(
    bars: pd.DataFrame, row: int, target: Target, values: Callable[[pd.DataFrame], Floats]
) -> NDArray[np.int64]:
    """Rows whose value moves with the price of one row, up or down."""
    before = bits(np.asarray(values(bars)))
    rows: set[int] = set()
    for factor in FACTORS:
        changed = bars.astype({target.column: "float64"})
        columns = {*PRICES, target.column} & {*bars.columns} if target.column in PRICES else {target.column}
        for name in sorted(columns):
            price = float(bars[name].iloc[row])
            changed.loc[row, name] = price * factor if price > 0 else price + factor
        rows |= set(np.flatnonzero(before != bits(np.asarray(values(changed)))).tolist())
    return np.array(sorted(rows), dtype=np.int64)


def _lag(data: MarketDataModule, k: int, target: Target) -> Iterator[Finding]:
    """The lag at which labels equal the value known by then."""
    labels, present = data.panel.labels[:, k].numpy(), data.panel.present[:, k].numpy()
    rows = np.flatnonzero(np.isfinite(labels))
    agree = {}
    for lag in range(target.reach + FURTHER):
        inside = rows[rows + lag < len(labels)]
        inside = inside[data.panel.symbol[inside + lag] == data.panel.symbol[inside]]
        agree[lag] = bool(len(inside)) and bool((labels[inside] == present[inside + lag]).all())
    wrong = [lag for lag, equal in agree.items() if equal and lag < target.reach]
    if wrong:
        what = f"it is known at t+{wrong[0]} already, and said to end at t+{target.reach}"
        yield Finding("labels", f"label of {target.name}", what=what)
    elif not agree[target.reach]:
        early = rows[rows + target.reach < len(labels)]
        differs = early[labels[early] != present[early + target.reach]]
        row = int(differs[0]) if len(differs) else int(rows[0])
        what = f"it is not the value known at t+{target.reach}"
        yield Finding("labels", f"label of {target.name}", *earliest(data.panel, np.array([row])), what)
