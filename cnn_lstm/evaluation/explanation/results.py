"""What an explanation says: tidy tables, as text, as HTML and as plots.

Shapes: T window length, F features, H targets.
"""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm.data.checks import day
from cnn_lstm.evaluation.explanation.plots import course_plots, importance_plots
from cnn_lstm.hints import counted
from cnn_lstm.pages.drawing import Drawing

MOST_FEATURES, MOST_BARS = 40, 10  # that are shown
Tables = dict[str, pd.DataFrame]
DIGITS = "{:.4g}".format


@dataclass(frozen=True)
class Basis:
    """What the numbers of an explanation rest on.

    Attributes:
        part: Whose windows were looked at, and when they decide.
        windows: Windows of the permutation.
        attributed: Windows of the integrated gradients.
        repeats: Permutations of each feature.
        block: Dates that change places together.
        loss: Loss of the windows as they are.
        steps: Steps of the integrated gradients.
        gap: How far the attributions are from forecast less baseline, as a share of their size, of the worst target.
        seed: Of the permutations.
    """

    part: str
    windows: int
    attributed: int
    repeats: int
    block: int
    loss: float
    steps: int
    gap: float
    seed: int

    @property
    def sentences(self) -> list[str]:
        """What a reader needs to know of the numbers."""
        return [
            f"Attribution: integrated gradients of {counted(self.attributed, 'window')} of {self.part}; baseline: the "
            f"training mean of each feature. It is the mean absolute part of the forecast, in the target's unit. The "
            f"parts add up to the forecast less that of the baseline within {self.gap:.2%} of their size ({self.steps} "
            "steps).",
            f"Rise: of the loss ({self.loss:.4g}, of all targets together) when the windows of a feature are those of "
            f"other dates; mean and standard deviation of {counted(self.repeats, 'permutation')} of blocks of "
            f"{counted(self.block, 'date')}, on {counted(self.windows, 'window')}.",
            "A large attribution without a rise is a feature that moves the forecast and does not make it better.",
        ]


@dataclass(frozen=True, repr=False)
class Explanation:
    """Which features and bars the forecasts of a model depend on.

    Attributes:
        by_feature: `target, feature, attribution` (mean absolute part of the forecast, in the target's unit)`, share`,
            `rise` of the loss of all targets when the feature is permuted, and `rise_std` over the repeats; the
            largest attribution first.
        by_bar: `target, lag` (bars before the last one of the window)`, attribution, share`.
        cells: `target, feature, lag, attribution`: what the other two tables add up.
        groups: Features that tell nearly the same: `features, correlation` (the weakest that holds the group
            together)`, rise, rise_std` when all of them are permuted together. Each alone may look useless.
        basis: What the numbers rest on.
    """

    by_feature: pd.DataFrame
    by_bar: pd.DataFrame
    cells: pd.DataFrame
    groups: pd.DataFrame
    basis: Basis

    def to_plain(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**_records(self, ("by_feature", "by_bar", "cells", "groups")), "basis": asdict(self.basis)}

    def plot(self, target: str | None = None, file: str | Path | None = None) -> Drawing:
        """Draws attributions and rises by feature, and attributions by bar.

        Args:
            target: The only target; all by default.
            file: Where to write them too, see `Drawing.save`.
        """
        return _drawn(Drawing(tuple(importance_plots(self.by_feature, self.by_bar, target))), file)

    def __repr__(self) -> str:
        return "\n\n".join([_text(_shown(self.by_feature, self.by_bar, self.groups)), *self.basis.sentences])

    def _repr_html_(self) -> str:
        return _html(self.basis.sentences, _shown(self.by_feature, self.by_bar, self.groups))


@dataclass(frozen=True, repr=False)
class ForecastExplanation:
    """Which features and bars moved one forecast.

    Attributes:
        symbol: Whose forecast it is.
        as_of: The last bar that it used.
        forecasts: `target, forecast, baseline` (forecast of the training mean)`, gap` (what the attributions miss, as a
            share of their size)`, unit`.
        by_feature: `target, feature, value` (of the last bar)`, attribution` (in the target's unit, with its sign)`,
            share` of the sum of absolute attributions; the largest first.
        by_bar: `target, lag, timestamp, attribution`.
        cells: `target, feature, lag, timestamp, value, attribution`: everything that the other tables add up.
    """

    symbol: str
    as_of: pd.Timestamp
    forecasts: pd.DataFrame
    by_feature: pd.DataFrame
    by_bar: pd.DataFrame
    cells: pd.DataFrame

    def to_plain(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        tables = _records(self, ("forecasts", "by_feature", "by_bar", "cells"))
        return {"symbol": self.symbol, "as_of": self.as_of.isoformat(), **tables}

    def plot(self, target: str | None = None, file: str | Path | None = None) -> Drawing:
        """Draws the parts of the forecast by feature, by bar, and by both.

        Args:
            target: The only target; all by default.
            file: Where to write them too, see `Drawing.save`.
        """
        return _drawn(Drawing(tuple(course_plots(self.by_feature, self.by_bar, self.cells, target))), file)

    @property
    def sentences(self) -> list[str]:
        """What a reader needs to know of the numbers."""
        lines = [
            f"{one['target']}: forecast {one['forecast']:.4g}, {one['baseline']:.4g} for the training mean of every "
            f"feature, in the unit {one['unit']}. The parts below add up to the difference within {one['gap']:.2%} of "
            "their size."
            for one in self.forecasts.to_dict("records")
        ]
        return [f"The forecast of {self.symbol} as of {day(self.as_of)}, by integrated gradients.", *lines]

    def __repr__(self) -> str:
        return "\n\n".join([*self.sentences, _text(_shown(self.by_feature, self.by_bar))])

    def _repr_html_(self) -> str:
        return _html(self.sentences, _shown(self.by_feature, self.by_bar))


def _records(result: object, names: tuple[str, ...]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name in names:
        table: pd.DataFrame = getattr(result, name)
        if "timestamp" in table:
            table = table.assign(timestamp=[when.isoformat() for when in table["timestamp"]])
        plain[name] = table.to_dict("records")
    return plain


def _drawn(drawing: Drawing, file: str | Path | None) -> Drawing:
    if file is not None:
        drawing.save(file)
    return drawing.shown()


def _shown(by_feature: pd.DataFrame, by_bar: pd.DataFrame, groups: pd.DataFrame | None = None) -> Tables:
    """The first lines of the tables by their titles; of the bars those that matter most."""
    order = by_bar["attribution"].abs().sort_values(ascending=False, kind="stable").index
    tables = {"By feature": by_feature.head(MOST_FEATURES)}
    if groups is not None and len(groups):
        tables["Groups of features, moved together"] = groups
    tables[f"By bar, the {min(MOST_BARS, len(by_bar))} that matter most"] = by_bar.loc[order].head(MOST_BARS)
    return tables


def _text(tables: Tables) -> str:
    texts = {title: table.to_string(index=False, float_format=DIGITS) for title, table in tables.items()}
    return "\n\n".join(f"{title}\n{text}" for title, text in texts.items())


def _html(sentences: list[str], tables: Tables) -> str:
    shown = {title: table.to_html(index=False, float_format=DIGITS, na_rep="") for title, table in tables.items()}
    parts = [f"<h4>{title}</h4>{text}" for title, text in shown.items()]
    return "\n".join([*(f"<p>{html.escape(line)}</p>" for line in sentences), *parts])
