"""The evidence over time in words and tables, for the terminal, the page and a notebook."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from cnn_lstm.evaluation.formatting import aligned, number, time_noun
from cnn_lstm.evaluation.json_types import SequenceRecord, Sequential, TargetReport
from cnn_lstm.hints import counted

TITLE = "Evidence over time"
RICH = 1_000_000
COLUMNS = ("dates", "wealth", "mean difference", "from", "to")
WHICH = (
    "Which to believe: if you look once, at a date that was fixed in advance, the tests of the verdict; if you look "
    "again and again, as every month, the sequence. With the tests each further look is one more chance to be misled; "
    "with the sequence it is not."
)


def sequence_sentences(target: TargetReport) -> Iterator[str]:
    """What the e-process and the confidence sequence say, and which to believe when; nothing in reports without them.

    Args:
        target: What the report says of a target.
    """
    record = target.get("sequential")
    if record is None:
        return
    yield f"{_outcome(record)} {_interval(record, target['loss'])}"
    if record["kept"]:
        yield (
            f"On {record['kept']:,} of {counted(record['dates'], time_noun(target))} the losses are not those of this "
            "table: they were written down at an earlier look at this recipe, and dates that were counted once stay as "
            "they are."
        )
    yield WHICH


def _outcome(record: Sequential) -> str:
    wealth, level = number(record["threshold"]), f"{1 / record['threshold']:.0%}"
    since = f"since {record['first'][:10]}, whatever the number of looks"
    if record["reached"]:
        later = ", since later dates spoke against the model" if record["wealth"] < record["threshold"] else ""
        return (
            f"The wealth of bets on the model reached {wealth} on {record['reached'][:10]}: evidence at the level of "
            f"{level} {since}. It is {wealth_text(record['wealth'])} now{later}."
        )
    return (
        f"The wealth of bets on the model has not reached {wealth}, which would be evidence at the level of {level} "
        f"{since}. It is {wealth_text(record['wealth'])} now, and was {wealth_text(record['highest'])} at most."
    )


def _interval(record: Sequential, loss: str) -> str:
    hardest = record["baselines"][record["baseline"]]
    where = f"the mean saving of {loss} against {record['baseline']}, the hardest baseline over time,"
    if hardest["low"] is None or hardest["high"] is None:
        return f"Where {where} lies is not known on so few dates."
    return (
        f"With {1 - record['level']:.0%}, {where} lies between {number(hardest['low'])} and {number(hardest['high'])}."
    )


def sequence_table(record: Sequential) -> list[tuple[str, ...]]:
    """Name of each baseline, dates, wealth, mean difference, and both ends of the confidence sequence."""
    return [(name, *_cells(one)) for name, one in record["baselines"].items()]


def _cells(one: SequenceRecord) -> tuple[str, ...]:
    return f"{one['dates']:,}", wealth_text(one["wealth"]), *(number(one[key]) for key in ("mean", "low", "high"))


def wealth_text(wealth: float) -> str:
    """A wealth; what is beyond a million says nothing more.

    Example:
        >>> wealth_text(0.0123), wealth_text(19.96), wealth_text(1234.5), wealth_text(3e9)
        ('0.01', '19.9', '1,234', 'over 1,000,000')
    """
    if wealth > RICH:
        return f"over {RICH:,}"
    places = 2 if wealth < 10 else 1 if wealth < 100 else 0
    return f"{math.floor(wealth * 10**places) / 10**places:,.{places}f}"  # not rounded up to a threshold


def sequence_block(target: TargetReport) -> str:
    """The section of test.txt; empty in reports without a sequence."""
    record = target.get("sequential")
    if record is None:
        return ""
    title = f"{TITLE.lower()}: wealth of bets on the model, {1 - record['level']:.0%} confidence sequence"
    table = aligned([("against", *COLUMNS), *sequence_table(record)], left=1)
    return "\n".join([title, table, *sequence_sentences(target)])


def sequence_section(target: TargetReport) -> dict[str, Any] | None:
    """What the page shows; None for reports without a sequence."""
    record = target.get("sequential")
    if record is None:
        return None
    return {
        "title": TITLE,
        "columns": COLUMNS,
        "lines": sequence_table(record),
        "sentences": list(sequence_sentences(target)),
        "level": f"{1 - record['level']:.0%}",
    }
