"""What turns a price table into a panel, in plain values: the half of a checkpoint that knows about data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from cnn_lstm import specs
from cnn_lstm.data.features import required_columns, resolve_features
from cnn_lstm.data.prices import CheckedPrices, Checks, check_prices
from cnn_lstm.data.targets import Target
from cnn_lstm.data.windows import Panel, build_panel


@dataclass(frozen=True)
class Recipe:
    """The pipeline from prices to windows; equal recipes give equal windows on equal prices.

    Attributes:
        features: Feature names, in the order of the columns.
        targets: Specs of the targets, in order.
        window: Rows of a window.
        anchor: Features taken relative to the window's last value.
        checks: How defects of a table are treated.
    """

    features: tuple[str, ...]
    targets: tuple[Mapping[str, Any], ...]
    window: int
    anchor: tuple[str, ...]
    checks: Checks

    def to_plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return dict(specs.plain(asdict(self)))

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe of a checkpoint."""
        return cls(
            features=tuple(values["features"]),
            targets=tuple(values["targets"]),
            window=int(values["window"]),
            anchor=tuple(values["anchor"]),
            checks=Checks(**values["checks"]),
        )

    def build_targets(self) -> list[Target]:
        """The target objects; their classes must lie in trusted packages."""
        return [specs.build(spec, Target) for spec in self.targets]

    def check(self, prices: pd.DataFrame, targets: list[Target]) -> CheckedPrices:
        """Checks a price table for what the features and targets need."""
        known = set(prices.columns)
        features = resolve_features(self.features, known)
        needed = {*required_columns(features), *(target.column for target in targets)}
        return check_prices(prices, self.checks, required=sorted(needed))

    def panel(self, checked: pd.DataFrame, targets: list[Target]) -> Panel:
        """The panel of a checked price table."""
        features = resolve_features(self.features, set(checked.columns))
        return build_panel(checked, features, targets, self.checks.max_gap_days)
