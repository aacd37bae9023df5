"""An explanation as a page of HTML, and as a section of the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm.data.checks import day
from cnn_lstm.evaluation.explanation.plots import course_plots, importance_plots
from cnn_lstm.evaluation.explanation.results import Explanation, ForecastExplanation
from cnn_lstm.evaluation.formatting import number, percent
from cnn_lstm.pages.environment import page_environment

TEMPLATE = "explanation.html.jinja"
# column -> title, how to write it
Columns = dict[str, tuple[str, Callable[[Any], str]]]
OF_FEATURES: Columns = {
    "feature": ("feature", str),
    "attribution": ("attribution", number),
    "share": ("share", percent),
    "rise": ("rise of the loss", number),
    "rise_std": ("its std", number),
}
OF_BARS: Columns = {
    "lag": ("bars before the last", str),
    "attribution": ("attribution", number),
    "share": ("share", percent),
}
OF_GROUPS: Columns = {
    "features": ("features that tell the same", str),
    "correlation": ("correlation", "{:.2f}".format),
    "rise": ("rise of the loss", number),
    "rise_std": ("its std", number),
}
OF_ONE: Columns = {
    "feature": ("feature", str),
    "value": ("value at the last bar", number),
    "attribution": ("part of the forecast", number),
    "share": ("share", percent),
}
OF_ITS_BARS: Columns = {
    "lag": ("bars before the last", str),
    "timestamp": ("bar", day),
    "attribution": ("part of the forecast", number),
}


def section(explanation: Explanation | ForecastExplanation) -> dict[str, Any]:
    """What a template says of an explanation: plots, tables and sentences."""
    if isinstance(explanation, ForecastExplanation):
        plots = course_plots(explanation.by_feature, explanation.by_bar, explanation.cells)
        tables = _by_target(explanation.by_feature, "By feature", OF_ONE)
        tables += _by_target(explanation.by_bar, "By bar", OF_ITS_BARS)
        return {"plots": list(plots), "tables": tables, "lead": explanation.sentences, "sentences": []}
    tables = _by_target(explanation.by_feature, "By feature", OF_FEATURES)
    if len(explanation.groups):
        tables.append(_table(explanation.groups, "Groups of features, moved together", OF_GROUPS))
    tables += _by_target(explanation.by_bar, "By bar", OF_BARS)
    plots = importance_plots(explanation.by_feature, explanation.by_bar)
    return {"plots": list(plots), "tables": tables, "lead": [], "sentences": explanation.basis.sentences}


def explanation_page(explanation: Explanation | ForecastExplanation) -> str:
    """A page of HTML that needs no other file."""
    title, subtitle = "What the forecasts depend on", "Integrated gradients and permutation importance."
    if isinstance(explanation, ForecastExplanation):
        title = f"What moved the forecast of {explanation.symbol}"
        subtitle = "Integrated gradients: the parts add up to the forecast less that of the training mean."
    environment = page_environment(Path(__file__).parents[1])
    return environment.get_template(TEMPLATE).render(title=title, subtitle=subtitle, one=section(explanation))


def _by_target(table: pd.DataFrame, title: str, columns: Columns) -> list[dict[str, Any]]:
    targets = dict.fromkeys(table["target"])
    return [_table(table[table["target"] == target], f"{title}: {target}", columns) for target in targets]


def _table(table: pd.DataFrame, title: str, columns: Columns) -> dict[str, Any]:
    lines = [[write(line[name]) for name, (_, write) in columns.items()] for line in table.to_dict("records")]
    return {"title": title, "columns": [title for title, _ in columns.values()], "lines": lines}
