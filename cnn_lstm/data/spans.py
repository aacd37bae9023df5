"""Parts that are made of several stretches of time, as those of a combinatorial split, purged on both sides of each.

A row knows an interval: from the first price that its features and its window read to the end of its label. A row stays
in its part only if this interval touches no interval from a decision to the end of its label in a later part, where
train comes before validation, and validation before test: so what a test label is made of is neither an input nor a
label of training, whichever of the two comes first in time.

Shapes: n rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_lstm.data.row_numbers import RowCollector, Rows
from cnn_lstm.data.times import Times

KnownSince = tuple[Rows, Times, Times, Times]  # rows, first price read, decision, end of label: (n,)
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Span:
    """A stretch of decisions.

    Attributes:
        start: The first one, UTC.
        stop: The first moment after it.
    """

    start: np.datetime64
    stop: np.datetime64


@dataclass(frozen=True)
class PartSpans:
    """The stretches of each part, ascending, and the embargo.

    Attributes:
        train: Those of the training part.
        validation: Those of the validation part.
        test: Those of the test part.
        embargo: Timestamps of the table that stay free, next to what the purge takes, on both sides of a stretch.
    """

    train: tuple[Span, ...]
    validation: tuple[Span, ...]
    test: tuple[Span, ...]
    embargo: int = 0

    def inside(self, part: str, times: Times) -> NDArray[np.bool_]:
        """Whether each timestamp, (n,), lies in a part.

        Example:
            >>> days = np.arange("2020-01-01", "2020-01-05", dtype="datetime64[D]").astype("datetime64[us]")
            >>> PartSpans((), (), (Span(days[1], days[3]),)).inside("test", days).tolist()
            [False, True, True, False]
        """
        found = np.zeros(len(times), dtype=bool)
        for span in self.of(part):
            found |= (times >= span.start) & (times < span.stop)
        return found

    def of(self, part: str) -> tuple[Span, ...]:
        """The stretches of a part, by its name."""
        spans: tuple[Span, ...] = getattr(self, part)
        return spans

    def to_plain(self) -> dict[str, Any]:
        """The form of a checkpoint: ISO texts in pairs."""
        pairs = {part: [[str(span.start), str(span.stop)] for span in self.of(part)] for part in PARTS}
        return {**pairs, "embargo": self.embargo}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> PartSpans:
        """Reads what `to_plain` wrote."""
        train, validation, test = (
            tuple(Span(*(np.datetime64(time, "us") for time in pair)) for pair in plain[part]) for part in PARTS
        )
        return cls(train, validation, test, int(plain["embargo"]))


def rows_of_spans(
    chunks: Callable[[], Iterable[KnownSince]], spans: PartSpans, times: Times, collector: Callable[[], RowCollector]
) -> tuple[list[Rows], int]:
    """The rows of train, validation and test, and how many of them the purge took.

    Args:
        chunks: Gives the chunks of rows whose labels are known; it is called twice.
        spans: The stretches of the parts.
        times: Distinct ascending timestamps of the table.
        collector: Keeps the rows of a part.

    Example:
        >>> days = np.arange("2020-01-01", "2020-01-11", dtype="datetime64[D]").astype("datetime64[us]")
        >>> spans = PartSpans((Span(days[0], days[3]), Span(days[5], days[9])), (), (Span(days[3], days[5]),))
        >>> rows = np.arange(1, 9)  # windows of two rows, labels of one
        >>> known = rows, days[rows - 1], days[rows], days[rows + 1]
        >>> parts, purged = rows_of_spans(lambda: [known], spans, days, RowCollector)
        >>> [part.tolist() for part in parts], purged
        ([[1, 7, 8], [], [3, 4]], 3)
    """
    blocked = _blocked(chunks(), spans, times)
    parts, purged = [collector() for _ in PARTS], 0
    for rows, since, decision, label_end in chunks():
        for number, part in enumerate(PARTS):
            inside = spans.inside(part, decision)
            kept = inside.copy()
            for later in PARTS[number + 1 :]:
                for begin, end in blocked[later]:
                    kept &= (label_end < begin) | (since > end)
            purged += int(inside.sum() - kept.sum())
            parts[number].add(rows[kept])
    return [part.rows() for part in parts], purged


def _blocked(
    chunks: Iterable[KnownSince], spans: PartSpans, times: Times
) -> dict[str, list[tuple[np.datetime64, np.datetime64]]]:
    """Of each part: from the first decision of a stretch to the end of its last label, widened by the embargo."""
    ends = {part: [span.start for span in spans.of(part)] for part in PARTS}
    for _, _, decision, label_end in chunks:
        for part, known in ends.items():
            for k, span in enumerate(spans.of(part)):
                reached = label_end[(decision >= span.start) & (decision < span.stop)]
                known[k] = max(known[k], reached.max()) if len(reached) else known[k]
    return {
        part: [_widened(span.start, end, spans.embargo, times) for span, end in zip(spans.of(part), known, strict=True)]
        for part, known in ends.items()
    }


def _widened(begin: np.datetime64, end: np.datetime64, embargo: int, times: Times) -> tuple[Any, Any]:
    first, last = int(np.searchsorted(times, begin)), int(np.searchsorted(times, end, side="right")) - 1
    return times[max(first - embargo, 0)], times[min(last + embargo, len(times) - 1)]


def after(times: Times) -> np.datetime64:
    """The first moment behind ascending timestamps, (n,)."""
    end: np.datetime64 = times[-1] + np.timedelta64(1, "us")
    return end


def stretches(times: Times, inside: NDArray[np.bool_]) -> tuple[Span, ...]:
    """The stretches of those timestamps, (n,), for which `inside`, (n,), holds.

    Example:
        >>> days = np.arange("2020-01-01", "2020-01-04", dtype="datetime64[D]").astype("datetime64[us]")
        >>> [str(span.start)[:10] for span in stretches(days, np.array([True, False, True]))]
        ['2020-01-01', '2020-01-03']
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8)))
    bounds = np.append(times, after(times))
    return tuple(Span(bounds[start], bounds[stop]) for start, stop in edges.reshape(-1, 2))


def touching(first: Times, last: Times, others: Sequence[Times]) -> NDArray[np.bool_]:
    """Whether each interval [first, last], (n,), has a moment in common with any of others; an independent check.

    Args:
        first: Where the intervals begin.
        last: Where they end.
        others: Begins and ends of the other intervals, (m,) each.

    Example:
        >>> days = np.arange("2020-01-01", "2020-01-09", dtype="datetime64[D]").astype("datetime64[us]")
        >>> touching(days[[0, 1, 6]], days[[2, 3, 7]], (days[[3, 4]], days[[5, 5]])).tolist()
        [False, True, False]
    """
    if not len(others[0]):
        return np.zeros(len(first), dtype=bool)
    order = np.argsort(others[0], kind="stable")
    begins, reached = others[0][order], np.maximum.accumulate(others[1][order])
    before = np.searchsorted(begins, last, side="right")  # how many begin by the end of each
    found: NDArray[np.bool_] = (before > 0) & (reached[np.maximum(before, 1) - 1] >= first)
    return found
