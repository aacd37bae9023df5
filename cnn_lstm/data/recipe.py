"""What turns a price table into a panel, in plain values: the half of a checkpoint that knows about data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from cnn_lstm import specs
from cnn_lstm.data.features import Feature, default_importer, required_columns, resolve_features
from cnn_lstm.data.prices import CheckedPrices, Checks, check_prices, require_table
from cnn_lstm.data.targets import Target
from cnn_lstm.data.windows import Panel, build_panel
from cnn_lstm.errors import ConfigError

BARS = ("open", "high", "low", "close", "volume")


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

    def resolve(self, columns: Collection[str]) -> list[Feature]:
        """The features on the columns of a table; a user's own function must lie in a trusted package."""
        return resolve_features(self.features, columns, _trusted_function)

    def check(self, prices: pd.DataFrame, targets: list[Target]) -> CheckedPrices:
        """Checks a price table for what the features and targets need."""
        require_table(prices)
        return check_prices(prices, self.checks, required=self.needed_columns(targets, prices.columns))

    def needed_columns(self, targets: Collection[Target], columns: Collection[str]) -> list[str]:
        """Columns that features and targets read, in the order of their names.

        Args:
            targets: The target objects.
            columns: Those of a price table; the bars count as there, so that a missing one is a defect of the table.
        """
        features = self.resolve({*columns, *BARS})
        return sorted({*required_columns(features), *(target.column for target in targets)})

    def panel(self, checked: pd.DataFrame, targets: list[Target]) -> Panel:
        """The panel of a checked price table."""
        return build_panel(checked, self.resolve(list(checked.columns)), targets, self.checks.max_gap_days)


def _trusted_function(path: str) -> Callable[..., Any]:
    if not specs.is_trusted(path):
        package = path.split(".")[0]
        raise ConfigError(
            f"the feature {path} is a function outside the trusted packages",
            "data.features",
            f"if you trust it, add --trust-imports {package}, or call cnn_lstm.trust({package!r}) in Python",
            code=228,
        )
    return default_importer(path)
