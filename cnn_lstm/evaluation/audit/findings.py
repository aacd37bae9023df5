"""What a check of the audit found: where the first value moved that must not move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_lstm.evaluation.audit.stages import Stage

PASSED, FAILED, WARNED, NOT_APPLICABLE = "passed", "failed", "warning", "not applicable"
ROWS = "rows"


@dataclass(frozen=True)
class Finding:
    """One column of one stage that is not what it must be.

    Attributes:
        stage: Name of the stage.
        column: Column, or `rows` where the stage has other rows.
        symbol: Symbol of the first row; empty where no row is concerned.
        first: Timestamp of the first row, ISO; empty where no row is concerned.
        what: What was done, and what came of it.
        times: Number of trials that found it.
    """

    stage: str
    column: str
    symbol: str = ""
    first: str = ""
    what: str = ""
    times: int = 1

    def __str__(self) -> str:
        place = f" — {self.symbol} @ {self.first}" if self.first else f" — {self.symbol}" if self.symbol else ""
        often = f" ({self.times} times)" if self.times > 1 else ""
        return f"{self.stage}: {self.column}{place} — {self.what}{often}"


@dataclass(frozen=True)
class Result:
    """What one check found.

    Attributes:
        name: Name of the check.
        outcome: `passed`, `failed`, `warning` or `not applicable`.
        compared: What was compared, or why nothing was.
        findings: What moved; empty where it passed.
    """

    name: str
    outcome: str
    compared: str
    findings: tuple[Finding, ...] = ()


def result(name: str, compared: str, findings: Iterable[Finding], otherwise: str = FAILED) -> Result:
    """Passed without a finding.

    Args:
        name: Name of the check.
        compared: What was compared.
        findings: What was found; those of one column become one, with the earliest row.
        otherwise: Outcome where there is a finding.
    """
    merged = merge(findings)
    return Result(name, otherwise if merged else PASSED, compared, merged)


def merge(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding a column, in the order of their first appearance: the earliest row, and how often it was found.

    Example:
        >>> one, other = (Finding("features", "rsi_14", "IBM", day, "moved") for day in ("2010-02-02", "2010-01-05"))
        >>> print(*merge([one, other]))
        features: rsi_14 — IBM @ 2010-01-05 — moved (2 times)
    """
    found: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        key = finding.stage, finding.column
        before = found.get(key)
        if before is None:
            found[key] = finding
            continue
        earliest = min(before, finding, key=lambda item: item.first)
        found[key] = replace(earliest, times=before.times + finding.times)
    return tuple(found.values())


def moved_bits(before: Stage, after: Stage, what: str) -> list[Finding]:
    """Columns of a stage that differ in any bit, NaN = NaN, or the first row that only one of the two has.

    Args:
        before: Rows of the table as it is.
        after: The same rows of another table.
        what: What was done.
    """
    other = _first_other_row(before, after)
    if other is not None:
        return [Finding(before.name, ROWS, *other, what)]
    different = bits(before.values) != bits(after.values)
    return _by_column(before, different, what)


def moved_values(before: Stage, after: Stage, tolerance: float, what: str) -> list[Finding]:
    """Columns of which a known value moved by more than a tolerance, relative to its size and its column's spread.

    Args:
        before: Rows of the table as it is.
        after: The same rows of another table.
        tolerance: Largest distance, in units of the value's size plus the column's standard deviation.
        what: What was done.
    """
    other = _first_other_row(before, after)
    if other is not None:
        return [Finding(before.name, ROWS, *other, what)]
    one, two = before.values.astype(np.float64), after.values.astype(np.float64)
    known = np.isfinite(one) & np.isfinite(two)
    one, two = np.where(known, one, 0.0), np.where(known, two, 0.0)
    count = np.maximum(known.sum(axis=0), 1)
    mean = one.sum(axis=0) / count
    spread = np.sqrt((np.where(known, one - mean, 0.0) ** 2).sum(axis=0) / count)
    different = np.abs(one - two) > tolerance * (np.abs(one) + spread)
    return _by_column(before, different, what)


def bits(values: NDArray[Any]) -> NDArray[Any]:
    """Values as unsigned integers of the same bits, with one pattern for all NaN.

    Example:
        >>> bool((bits(np.array([np.nan, 0.0])) == bits(np.array([-np.nan, 0.0]))).all())
        True
    """
    one = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    return np.ascontiguousarray(one).view(f"u{values.dtype.itemsize}")


def _first_other_row(before: Stage, after: Stage) -> tuple[str, str] | None:
    if len(before) == len(after) and (before.time == after.time).all() and (before.symbol == after.symbol).all():
        return None
    keys = [set(zip(stage.time.tolist(), stage.symbol.tolist(), strict=True)) for stage in (before, after)]
    different = keys[0] ^ keys[1]
    if not different:
        return "", ""  # the same rows in another order
    time, symbol = min(different)
    return symbol, shown(np.datetime64(time))


def _by_column(stage: Stage, different: NDArray[np.bool_], what: str) -> list[Finding]:
    found = []
    for column in np.flatnonzero(different.any(axis=0)):
        rows = np.flatnonzero(different[:, column])
        first = rows[stage.time[rows].argmin()]
        place = str(stage.symbol[first]), shown(stage.time[first])
        found.append(Finding(stage.name, stage.columns[column], *place, what))
    return found


def shown(time: np.datetime64) -> str:
    """A timestamp, without midnight.

    Example:
        >>> shown(np.datetime64("2010-01-05T00:00")), shown(np.datetime64("2010-01-05T14:30"))
        ('2010-01-05', '2010-01-05T14:30')
    """
    return str(time.astype("datetime64[m]")).replace("T00:00", "")
