"""What turns a price table into a panel, in plain values: the half of a checkpoint that knows about data.

A recipe names its features. Bound to the columns of a table it has found them, and no later room looks them up again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd

from cnn_lstm import specs
from cnn_lstm.data.anchors import check_anchors
from cnn_lstm.data.checks import BARS
from cnn_lstm.data.feature_catalogue import default_importer, raw_columns, required_columns, resolve_features
from cnn_lstm.data.features import Feature
from cnn_lstm.data.frames import price_table
from cnn_lstm.data.indicators.calendars import in_zone
from cnn_lstm.data.indicators.declare import declaration_of
from cnn_lstm.data.known_future import AheadFact, KnownFuture
from cnn_lstm.data.prices import CheckedPrices, Checks, check_prices
from cnn_lstm.data.session_features import SESSIONS, of_exchange
from cnn_lstm.data.side_tables import SideTables, no_table
from cnn_lstm.data.static_columns import SYMBOL, StaticColumns, Vocabulary, static_feature, static_names
from cnn_lstm.data.symbol_codes import SYMBOL_CODE
from cnn_lstm.data.targets import Target
from cnn_lstm.data.windows import Panel, build_panel
from cnn_lstm.errors import CheckpointError, require
from cnn_lstm.hints import first_names

CALENDARS = "calendars"  # the family of features that read the timestamp
# parts that older checkpoints do not have: kept where they say something
ADDED = ("zone", "known_future", "static", "exchange")


@dataclass(frozen=True)
class Recipe:
    """The pipeline from prices to windows; equal recipes give equal windows on equal prices.

    Attributes:
        features: Feature names, in the order of the columns.
        targets: Specs of the targets, in order.
        window: Rows of a window.
        anchor: Features taken relative to the window's last value.
        checks: How defects of a table are treated.
        zone: Zone of the features of the calendar; empty for UTC.
        known_future: Those of the features that are facts known ahead.
        static: Names of the static columns, whose codes stand behind all features but `symbol_code`.
        tables: Where known facts and static columns come from. A checkpoint does not hold it.
        exchange: Exchange whose sessions measure gaps, and give the features of sessions; empty for none.
    """

    features: tuple[str, ...]
    targets: tuple[Mapping[str, Any], ...]
    window: int
    anchor: tuple[str, ...]
    checks: Checks
    zone: str = ""
    known_future: tuple[AheadFact, ...] = ()
    static: tuple[str, ...] = ()
    exchange: str = ""
    tables: SideTables | None = field(default=None, compare=False, repr=False)

    def to_plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        values = asdict(replace(self, tables=None)) | {"checks": self.checks.to_plain()}
        plain = dict(specs.plain({name: value for name, value in values.items() if name != "tables"}))
        return {name: value for name, value in plain.items() if name not in ADDED or value}

    def digest_of_tables(self) -> list[str]:
        """Digests of the tables next to the prices that features come from; empty without any.

        Raises:
            DataError: If a table is missing or damaged.
        """
        return [] if self.tables is None else self.tables.digest()

    def fingerprint(self, prices: str) -> str:
        """Digest of prices and of the tables next to them; that of the prices alone where no feature needs a table.

        Args:
            prices: `data_fingerprint` of the checked prices.

        Raises:
            DataError: If a table is missing or damaged.
        """
        tables = self.digest_of_tables()
        return hashlib.sha256(json.dumps([prices, *tables]).encode()).hexdigest() if tables else prices

    def with_tables(
        self, known_future: KnownFuture | None, static: StaticColumns | None, known: Vocabulary | None = None
    ) -> Recipe:
        """The recipe with the tables that its known facts and static columns come from.

        A table that the recipe does not read is left alone. The symbol as a static column needs no table.

        Args:
            known_future: Facts known ahead.
            static: Static columns.
            known: Categories that a model has learnt; None for any.

        Raises:
            CheckpointError: E429, if one is missing.
        """
        if self.static == (SYMBOL,) and static is None:
            static = StaticColumns([SYMBOL])
        facts = list(dict.fromkeys(one.fact for one in self.known_future))
        for needed, given, argument in ((facts, known_future, "known_future"), (self.static, static, "static")):
            if missing := [name for name in needed if given is None or name not in given.columns]:
                raise no_table(missing, argument)
        if not self.known_future and not self.static:
            return self
        tables = SideTables(known_future if self.known_future else None, static if self.static else None, known=known)
        return replace(self, tables=tables)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe of a checkpoint; `Contract` has checked its types.

        Raises:
            CheckpointError: E424, if a value of it cannot be.
        """
        try:
            return cls._of(values)
        except (LookupError, TypeError, ValueError) as error:
            raise CheckpointError("the recipe of the checkpoint is damaged", str(error), code=424) from error

    @classmethod
    def _of(cls, values: Mapping[str, Any]) -> Recipe:
        return cls(
            features=tuple(values["features"]),
            targets=tuple(values["targets"]),
            window=int(values["window"]),
            anchor=tuple(values["anchor"]),
            checks=Checks.from_plain(values["checks"]),
            zone=str(values.get("zone", "")),
            known_future=tuple(AheadFact(**fact) for fact in values.get("known_future", ())),
            static=tuple(values.get("static", ())),
            exchange=str(values.get("exchange", "")),
        )

    @property
    def codes(self) -> tuple[str, ...]:
        """Names of the features that are codes: of the symbol, and of static columns."""
        return (*static_names(self.static), SYMBOL_CODE)

    def build_targets(self) -> list[Target]:
        """The target objects; their classes must lie in trusted packages.

        Raises:
            CheckpointError: E416 or E417 for a class, E424 if a target names a column by something else than text.
        """
        targets = [specs.build(spec, Target) for spec in self.targets]
        if odd := [name for target in targets for name in target.columns if not isinstance(name, str)]:
            raise CheckpointError(f"a target of the recipe reads the column {odd[0]!r}", "its contract", code=424)
        return targets

    def read(self, prices: object, zone: str | None = None, daily: bool | None = None) -> pd.DataFrame:
        """The long table that a DataFrame stands for, see `price_table`: the way in at every door.

        Args:
            prices: Price table in any of the usual forms.
            zone: As for `price_table`.
            daily: As for `price_table`.

        Raises:
            DataError: If it is not a table, or names or times of it are not clear.
        """
        columns = (value for spec in self.targets for value in spec["init_args"].values() if isinstance(value, str))
        return price_table(prices, {*raw_columns(self.of_prices), *columns}, zone, daily)

    @property
    def of_prices(self) -> tuple[str, ...]:
        """Names of the features that price tables give, in order."""
        others = {one.name for one in self.known_future} | {*static_names(self.static)}
        return tuple(name for name in self.features if name not in others)

    def bind(self, columns: Collection[str], targets: Sequence[Target]) -> BoundRecipe:
        """The recipe with its features found; a user's own function must lie in a trusted package.

        Args:
            columns: Those of a price table. The bars count as present: a missing one is a defect of the table, which
                `BoundRecipe.check` reports with all others.
            targets: The target objects.

        Raises:
            ConfigError: If a feature is unknown, its function lies outside the trusted packages, or it cannot be the
                anchor of a target.
            CheckpointError: E429, if a table next to the prices is needed and missing.
        """
        known = list(dict.fromkeys([*columns, *BARS]))
        found = {one.name: self._placed(one) for one in resolve_features(self.of_prices, known, _trusted_function)}
        found |= {one.name: one for one in self._of_tables()}
        features = [found[name] for name in self.features]
        check_anchors(features, targets)
        return BoundRecipe(self, tuple(features), tuple(targets))

    def _of_tables(self) -> list[Feature]:
        """The features that tables next to the prices give."""
        tables = (self if self.tables is not None else self.with_tables(None, None)).tables
        if tables is None:
            return []
        known = tables.known or {}
        return [
            *(fact.feature(tables.facts(), tables.open_end) for fact in self.known_future),
            *(static_feature(name, tables.categories(), known.get(name)) for name in self.static),
        ]

    def _placed(self, feature: Feature) -> Feature:
        """A feature of the calendar in the zone of the recipe, one of sessions with its exchange; others stay."""
        if feature.family == SESSIONS:
            return of_exchange(feature, self.exchange)
        if not self.zone or feature.family != CALENDARS:
            return feature
        return replace(feature, function=partial(in_zone, feature.function, self.zone))

    def bind_to(self, prices: pd.DataFrame, targets: Sequence[Target]) -> BoundRecipe:
        """`bind` to the columns of a price table, as `read` returns it."""
        return self.bind(list(prices.columns), targets)


@dataclass(frozen=True)
class BoundRecipe:
    """A recipe, with its features found on the columns of a price table.

    Attributes:
        recipe: The recipe.
        features: The features, (F,), in its order.
        targets: The targets, (H,), in its order.
    """

    recipe: Recipe
    features: tuple[Feature, ...]
    targets: tuple[Target, ...]

    @property
    def needed_columns(self) -> list[str]:
        """Columns that features and targets read, in the order of their names."""
        return sorted({*required_columns(self.features), *(name for one in self.targets for name in one.columns)})

    @property
    def readers(self) -> dict[str, str]:
        """Names of the features and targets that read each needed column, for messages."""
        inputs = {one.name: one.inputs for one in self.features} | {one.name: one.columns for one in self.targets}
        by_column = {
            column: [name for name, read in inputs.items() if column in read] for column in self.needed_columns
        }
        return {column: first_names(names, most=3) for column, names in by_column.items()}

    @property
    def label_columns(self) -> list[str]:
        """Columns of labels that nothing else reads: an empty cell of theirs is a label that is not known."""
        read = {*required_columns(self.features), *(one.column for one in self.targets if not one.holds_labels)}
        return sorted({target.column for target in self.targets if target.holds_labels} - read)

    @property
    def needed_rows(self) -> int:
        """Rows of one symbol that the first complete window takes: the longest warm-up and the window."""
        return max(feature.warmup for feature in self.features) + self.recipe.window

    @property
    def reach(self) -> int:
        """Rows from a decision to the end of its longest label."""
        return max(target.reach for target in self.targets)

    def with_checks(self, checks: Checks) -> BoundRecipe:
        """The same features and targets, with another treatment of defects."""
        return replace(self, recipe=replace(self.recipe, checks=checks))

    def check(self, prices: pd.DataFrame, warn: bool = True) -> CheckedPrices:
        """Checks a price table for what the features and targets need; see `check_prices` for `warn`."""
        recipe = self.recipe
        return check_prices(prices, recipe.checks, self.readers, self.label_columns, warn, recipe.exchange)

    def with_label_columns(self, prices: pd.DataFrame) -> pd.DataFrame:
        """The price table with an empty column for each label column that it lacks: new bars have no labels yet."""
        return prices.assign(**{name: float("nan") for name in self.label_columns if name not in prices})

    def panel(self, checked: pd.DataFrame) -> Panel:
        """The panel of a checked price table."""
        exchange = self.recipe.exchange
        limit = self.recipe.checks.gap_limit(checked, exchange)
        return build_panel(checked, self.features, self.targets, limit, exchange=exchange)


def _trusted_function(path: str) -> Callable[..., Any]:
    package, what = path.split(".")[0], f"the feature {path} is a function outside the trusted packages"
    fix = f"if you trust it, add --trust-imports {package}, or call cnn_lstm.trust({package!r}) in Python"
    require(specs.is_trusted(path), what, "data.features", fix, code=228)
    function = default_importer(path)
    # any other function of ours would be called with whatever the table holds, the names of its columns too
    declared = declaration_of(function) is not None or specs.is_of_user(function)
    fix = "docs/features.md lists the features; a function of your own has the decorator feature"
    require(declared, f"{path} is not declared as a feature", "data.features", fix, code=293)
    return function
