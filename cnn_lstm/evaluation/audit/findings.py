"""What a check of the audit says: passed or not, and where the first value moved that must not move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Outcome = Literal["passed", "failed", "warning", "not applicable"]
PASSED: Outcome = "passed"
FAILED: Outcome = "failed"
WARNED: Outcome = "warning"
NOT_APPLICABLE: Outcome = "not applicable"
NO_CHECKPOINT = "no checkpoint is given"


@dataclass(frozen=True)
class Finding:
    """One column of one stage that is not what it must be.

    Attributes:
        stage: Name of the stage.
        column: Column, or `rows` where the stage has other rows.
        symbol: Symbol of the first row; empty where no row is concerned.
        first: Timestamp of the first row, ISO; empty where no row is concerned.
        what: What was done, and what came of it.
        times: Number of trials in which it moved.
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
    """The outcome of one check.

    Attributes:
        name: Name of the check.
        outcome: What came out.
        compared: What was compared, or why nothing was.
        findings: What moved; empty where it passed.
    """

    name: str
    outcome: Outcome
    compared: str
    findings: tuple[Finding, ...] = ()


def result(name: str, compared: str, findings: Iterable[Finding], otherwise: Outcome = FAILED) -> Result:
    """The outcome of a check, which passes without a finding.

    Args:
        name: Name of the check.
        compared: What was compared.
        findings: What moved; the findings of one column become one, with the earliest row.
        otherwise: Outcome where there is a finding.
    """
    merged = merge(findings)
    return Result(name, otherwise if merged else PASSED, compared, merged)


def merge(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding per column, in the order of their first appearance: the earliest row, and in how many trials.

    Example:
        >>> one, other = (Finding("features", "rsi_14", "IBM", day, "moved") for day in ("2010-02-02", "2010-01-05"))
        >>> print(*merge([one, other]))
        features: rsi_14 — IBM @ 2010-01-05 — moved (2 times)
    """
    merged: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        key = finding.stage, finding.column
        before = merged.get(key)
        if before is None:
            merged[key] = finding
            continue
        earliest = min(before, finding, key=lambda item: item.first)
        merged[key] = replace(earliest, times=before.times + finding.times)
    return tuple(merged.values())
