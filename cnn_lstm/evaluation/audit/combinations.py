"""The purge of a combination, whose training rows lie on both sides of its test rows, checked in another way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from cnn_lstm.data.spans import PARTS, touching
from cnn_lstm.data.splits import day
from cnn_lstm.data.times import Times
from cnn_lstm.evaluation.audit.findings import Finding
from cnn_lstm.evaluation.audit.stages import earliest

if TYPE_CHECKING:
    from cnn_lstm.data.datamodule import MarketDataModule


def touched_rows(data: MarketDataModule, ends: Mapping[str, Times]) -> Iterator[Finding]:
    """Rows whose prices and labels touch the label of a row of a later part.

    Args:
        data: A data module that has read its data, split by a combination.
        ends: When the longest label of each row of a part ends.
    """
    panel = data.panel
    for number, part in enumerate(PARTS):
        rows = data.parts.by_name[part]
        since = panel.time[panel.first_of(rows, data.bound.needed_rows)]
        for later in PARTS[number + 1 :]:
            others = panel.time[data.parts.by_name[later]], ends[later]
            touched = rows[touching(since, ends[part], others)]
            if len(touched):
                what = f"what it reads, or its label, touches a label of the {later} part"
                yield Finding("split", f"{part} rows", *earliest(panel, touched), what, len(touched))


def memory_ends(data: MarketDataModule) -> bool:
    """Whether other prices in the test part of a combination must leave every training row as it is, bit for bit.

    They must where all features forget: a running average owes its last bits to all rows before it, nobody knows how
    far back a user's function looks, and a cross-sectional feature reads the rows of other symbols.

    Args:
        data: A data module that has read its data.
    """
    features = data.bound.features
    remembered = any(item.running or item.reads_all_rows or item.cross_sectional for item in features)
    bounded = all(target.bounded for target in data.targets)
    return data.parts.boundaries.spans is not None and bounded and not remembered


def parted(data: MarketDataModule) -> str:
    """The first decisions of the test stretches, for a sheet."""
    spans = data.parts.boundaries.spans
    assert spans is not None
    return ", ".join(day(span.start) for span in spans.test)
