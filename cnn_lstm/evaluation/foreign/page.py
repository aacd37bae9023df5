"""The comparison of forecasters as one page of HTML that needs nothing else.

Names of forecasters are never drawn. They stand in the page around a plot, which can write any alphabet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm.evaluation.canvas import date_axis, empty_axes, finished_plot, label_axes
from cnn_lstm.evaluation.foreign.compare import SIZE, PairComparison, TargetComparison
from cnn_lstm.evaluation.formatting import number, p_value
from cnn_lstm.evaluation.plain_language import signed
from cnn_lstm.evaluation.plots import MODEL
from cnn_lstm.hints import first_names
from cnn_lstm.pages.environment import Plot, page_environment

TEMPLATE = "comparison.html.jinja"


def comparison_page(compared: Mapping[str, TargetComparison]) -> str:
    """The page as text.

    Args:
        compared: What `compare_forecasters` returned.
    """
    targets = [_target(name, one) for name, one in compared.items()]
    return page_environment(Path(__file__).parents[1]).get_template(TEMPLATE).render(targets=targets)


def _target(name: str, one: TargetComparison) -> dict[str, Any]:
    """What the page says of one target, in the order in which it says it."""
    lines = [
        (each, number(one.losses[each]), p_value(one.confidence_set[each]), each in one.possibly_best)
        for each in one.ranked
    ]
    return {
        "name": name,
        "alone": len(one.possibly_best) == 1,
        "sentence": best_sentence(one),
        "loss": one.loss,
        "extent": f"{one.rows:,} forecasts on {one.dates:,} dates that all know, "
        f"{one.daily.index[0]:%Y-%m-%d} to {one.daily.index[-1]:%Y-%m-%d}",
        "lines": lines,
        "pairs": [_pair(pair) for pair in one.pairs],
        "nested": any(pair.clark_west_p is not None for pair in one.pairs),
        "plots": list(_plots(one)),
    }


def best_sentence(one: TargetComparison) -> str:
    """Which forecaster is best, as far as these dates can tell."""
    best, *others = one.possibly_best
    lowest = f"{best} has the lowest mean {one.loss}"
    if others:
        return f"{lowest}, but its lead over {first_names(others)} may be luck."
    return f"{lowest}. The lead over each other forecaster is larger than luck explains, at a level of {SIZE:.0%}."


def _pair(pair: PairComparison) -> tuple[str, str, tuple[str, ...]]:
    """The two names, and the cells of their tests."""
    low, high = pair.compared.skill_interval
    tests = (pair.compared.dm_p, pair.compared.bootstrap_p, pair.conditional_p, pair.clark_west_p)
    cells = (signed(pair.compared.skill), f"{signed(low)} to {signed(high)}", *map(p_value, tests))
    return pair.first, pair.second, cells


def _plots(one: TargetComparison) -> Iterator[Plot]:
    """Summed loss differences of the best forecaster and each other one, after Welch and Goyal (2008)."""
    best, *others = one.ranked
    dates = pd.DatetimeIndex(one.daily.index).tz_localize(None).to_numpy()
    for other in others:
        ahead = (one.daily[other] - one.daily[best]).cumsum().to_numpy()
        loss = f"{one.loss} of {other} less that of {best}"
        figure, axes = empty_axes()
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.plot(dates, ahead, color=MODEL, linewidth=1.6, label="summed difference")
        date_axis(axes)
        label_axes(axes, "date of the decision", f"summed {one.loss}")
        yield finished_plot(
            figure,
            f"Where {best} is ahead of {other}",
            f"{loss[0].upper()}{loss[1:]}, summed over the dates. Where the line rises, {best} is better. A lead that "
            "comes from a few dates is a step.",
            f"summed {loss} over time",
        )
