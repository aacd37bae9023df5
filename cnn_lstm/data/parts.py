"""The parts of a split: which windows belong to train, validation and test, and which are purged.

Shapes: n rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cnn_lstm.data.row_numbers import RowCollector, Rows
from cnn_lstm.data.spans import KnownSince, after, rows_of_spans
from cnn_lstm.data.splits import Boundaries, KeptSplit, Split, day
from cnn_lstm.data.times import Times, time_text
from cnn_lstm.errors import DataError, Defect

FitOn = Literal["train", "train_and_validation"]
Order = Literal["global", "blocks"]
Known = tuple[Rows, Times, Times]  # rows, their decisions and the ends of their labels, each (n,)


@dataclass(frozen=True)
class SplitRows:
    """Row numbers of the parts, ascending, and how many rows the purge took.

    Attributes:
        train: Training rows, (n,).
        validation: Validation rows, (n,).
        test: Test rows, (n,).
        purged: Number of rows of train and validation that were left out since their labels reach the next part, or the
            embargo before it.
        boundaries: The dates of decisions, also where the split is by label.
    """

    train: Rows
    validation: Rows
    test: Rows
    purged: int
    boundaries: Boundaries

    @property
    def by_name(self) -> dict[str, Rows]:
        """The rows of each part, by its name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def split_rows(rows: Rows, decision: Times, label_end: Times, boundaries: Boundaries) -> SplitRows:
    """Shares labelled windows out among the parts.

    Args:
        rows: Row numbers of windows whose labels are known, (n,).
        decision: Timestamp of each row, (n,).
        label_end: Timestamp at which the last label of each row ends, (n,).
        boundaries: The dates, of decisions or of labels.

    Example:
        >>> days = np.arange("2020-01-01", "2020-01-10", dtype="datetime64[D]").astype("datetime64[us]")
        >>> parts = split_rows(np.arange(7), days[:7], days[2:], Boundaries(days[0], days[4], days[6], days[8]))
        >>> parts.train.tolist(), parts.validation.tolist(), parts.test.tolist(), parts.purged
        ([0, 1], [], [6], 4)
    """
    return split_chunks(lambda: [(rows, decision, label_end)], boundaries, RowCollector)


def split_chunks(
    chunks: Callable[[], Iterable[Known]], boundaries: Boundaries, collector: Callable[[], RowCollector]
) -> SplitRows:
    """`split_rows` of many rows.

    Args:
        chunks: Gives the chunks of rows, decisions and ends of labels; it may be called twice.
        boundaries: As for `split_rows`.
        collector: Keeps the rows of a part.
    """
    edges = _edges_of_labels(chunks(), boundaries) if boundaries.by == "label" else boundaries
    parts, purged = (collector(), collector(), collector()), 0
    for rows, decision, label_end in chunks():
        for part, inside, unreached in zip(parts, *_inside(decision, label_end, boundaries, edges), strict=True):
            kept = inside if unreached is None else inside & (label_end < unreached)
            purged += int(inside.sum() - kept.sum())
            part.add(rows[kept])
    train, validation, test = (part.rows() for part in parts)
    return SplitRows(train, validation, test, purged, edges)


def _inside(
    decision: Times, label_end: Times, boundaries: Boundaries, edges: Boundaries
) -> tuple[list[NDArray[np.bool_]], list[np.datetime64 | None]]:
    """Whether each row (n,) lies in each part, and the date that its label must not reach."""
    deciding = decision if boundaries.by == "decision" else label_end
    inside = [(deciding >= start) & (deciding < stop) for start, stop, _ in boundaries.parts]
    if boundaries.by == "decision":
        return inside, [unreached for *_, unreached in boundaries.parts]
    return inside, [None, None, None] if edges is boundaries else [edges.validation, edges.test, None]


def _edges_of_labels(chunks: Iterable[Known], boundaries: Boundaries) -> Boundaries:
    """The first decision of each part by the ends of labels; the given boundaries where a part is empty."""
    firsts: list[list[np.datetime64]] = [[], [], []]
    lasts: list[np.datetime64] = []
    for _, decision, label_end in chunks:
        inside, _ = _inside(decision, label_end, boundaries, boundaries)
        for first, part in zip(firsts, inside, strict=True):
            first.extend([decision[part].min()] if part.any() else [])
        lasts.extend([decision[inside[2]].max()] if inside[2].any() else [])
    if not all(firsts):
        return boundaries
    train, validation, test = (min(first) for first in firsts)
    return Boundaries(train, validation, test, after(np.array([max(lasts)])))


def split_spans(
    chunks: Callable[[], Iterable[KnownSince]],
    boundaries: Boundaries,
    times: Times,
    collector: Callable[[], RowCollector],
) -> SplitRows:
    """`split_chunks` of boundaries whose parts are not in order, see `rows_of_spans`."""
    assert boundaries.spans is not None
    (train, validation, test), purged = rows_of_spans(chunks, boundaries.spans, times, collector)
    return SplitRows(train, validation, test, purged, boundaries)


def rows_before_test(rows: Rows, decision: Times, label_end: Times, boundaries: Boundaries) -> Rows:
    """Rows that a final model is fitted on, (n,): those of train and validation, and those purged between the two.

    Args:
        rows: As for `split_rows`.
        decision: As for `split_rows`.
        label_end: As for `split_rows`.
        boundaries: The dates; no label reaches the test part, or the embargo before it.

    Example:
        >>> days = np.arange("2020-01-01", "2020-01-10", dtype="datetime64[D]").astype("datetime64[us]")
        >>> rows_before_test(np.arange(7), days[:7], days[2:], Boundaries(days[0], days[4], days[6], days[8])).tolist()
        [0, 1, 2, 3]
    """
    (start, *_), (_, stop, unreached), _ = boundaries.parts
    inside = (decision >= start) & (decision < stop)
    return rows[inside if unreached is None else inside & (label_end < unreached)]


def same_dates(one: Boundaries, other: Boundaries) -> bool:
    """Whether the parts begin at the same dates; their end follows the table."""
    parts = [(edges.train, edges.validation, edges.test, edges.spans) for edges in (one, other)]
    return parts[0] == parts[1]


def split_keeping(
    dates: Boundaries, split: Split, times: Times, parts_of: Callable[[Split], SplitRows]
) -> tuple[Split, list[Defect]]:
    """The split of a configuration where it gives the dates of a checkpoint, or is made of dates; else these dates.

    A split by shares of the rows moves with each new bar, and what was a test row becomes one of validation. The dates
    of a `DateSplit` are the user's, and stay these. Prices that do not reach back to the training part of the
    checkpoint are split as configured.

    Args:
        dates: The dates of the checkpoint.
        split: The split of the configuration, or what this function made of it before.
        times: Distinct ascending timestamps of the table, (n,).
        parts_of: The parts that a split gives.

    Returns:
        The split, and a warning if the dates are others not for new bars alone.
    """
    split = split.split if isinstance(split, KeptSplit) else split
    ended = times[-1] < dates.test  # no row is left for the test part: the checkpoint is refused for this split
    if split.gives_dates or ended or same_dates(parts_of(split).boundaries, dates):
        return split, []
    kept = KeptSplit(split, dates)
    parts, before = parts_of(kept), times[times < dates.end]
    reached = len(parts.train) > 0 and len(parts.validation) > 0
    chosen = kept if reached else split
    if reached and len(before) and same_dates(split.boundaries(before), dates):
        return chosen, []
    begins, would = (time_text(edges.test) for edges in (dates, split.boundaries(times)))
    what = f"the test part of the checkpoint begins at {begins}, by data.split at {would}"
    fix = "the checkpoint's dates decide" if reached else "data.split decides: no bars of its training part"
    where, fix = "other prices, or another data.split, than in training", f"{fix}; choose dates by DateSplit"
    return chosen, [Defect(351, what, where, fix, fatal=False)]


def empty_part(parts: SplitRows) -> str:
    """Name of the first part without a window, or nothing."""
    return next((name for name, rows in parts.by_name.items() if not len(rows)), "")


def require_rows(parts: SplitRows, cause: str = "", fix: str = "") -> None:
    """Refuses an empty part.

    Args:
        parts: Rows of the parts.
        cause: Why it is empty, if that is known.
        fix: What helps then.

    Raises:
        DataError: Naming the part and the three ranges.
    """
    if name := empty_part(parts):
        edges = parts.boundaries
        train = f"train {day(edges.train)}..{day(edges.validation)}"
        where = f"{train}, validation ..{day(edges.test)}, test ..{day(edges.end)}"
        fix = fix or "move the dates of data.split, or shorten data.window or the horizon"
        if edges.spans is not None:
            where, fix = "a combination of data.split CPCV", f"{fix}; or give fewer groups"
        where = f"{where}: {cause}" if cause else where
        raise DataError(f"the {name} part has no window", where, fix, code=323)
