"""What must not matter does not: the unit of prices, where a table begins, the other symbols, the order of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_lstm.data.checks import KEYS, PRICES
from cnn_lstm.data.features import Feature
from cnn_lstm.evaluation.audit.findings import FAILED, NOT_APPLICABLE, WARNED, Finding, Result, at_places, result
from cnn_lstm.evaluation.audit.perturbations import moved
from cnn_lstm.evaluation.audit.stages import Base, Stage

ADJUSTMENT, START_UP, ISOLATION, DETERMINISM = "adjustment", "start-up", "symbol isolation", "determinism"
FACTORS = (0.01, 7.0)
ADJUSTMENT_TOLERANCE = 1e-5
DROPPED = (1, 7, 50, 200)
START_TOLERANCE = 1e-6
MOST_SYMBOLS = 3


def adjustment(base: Base, warnings_fail: bool = False) -> Result:
    """Multiplies the prices of the whole history by a constant, as a later split or dividend does.

    Features that move depend on when the prices were downloaded: they are levels, named as a warning.

    Args:
        base: The stages of the table as it is.
        warnings_fail: Whether such a feature is a failure.
    """
    names = [name for name in (*PRICES, "adj_close") if name in base.table]
    if not names:
        return Result(ADJUSTMENT, NOT_APPLICABLE, "the table has no prices")
    findings: list[Finding] = []
    for factor in FACTORS:
        scaled = base.table.astype(dict.fromkeys(names, "float64"))
        scaled[names] *= factor
        panel = base.pipeline.panel(scaled)
        what = f"a level: it changes when all prices are taken times {factor:g}"
        after = base.pipeline.known(panel)["features"]
        levels = base.known["features"].other_values(after, ADJUSTMENT_TOLERANCE)
        findings += at_places("features", levels, what)
        if base.forecasts and not levels:
            findings += _moved_forecasts(base, base.pipeline.forecast(panel, base.rows)["forecasts"], factor)
    compared = f"prices x {FACTORS[0]:g} and x {FACTORS[1]:g}, {len(base.panel):,} rows"
    return result(ADJUSTMENT, compared, findings, FAILED if warnings_fail else WARNED)


def _moved_forecasts(base: Base, after: Stage, factor: float) -> list[Finding]:
    """Forecasts of what has no unit of prices."""
    free = [target.name for target in base.pipeline.data.targets if not target.level]
    names = {name for name in after.columns if name.rpartition(" of ")[2] in free}
    what = f"it changes when all prices are taken times {factor:g}"
    before = base.forecasts["forecasts"].pick(names)
    return at_places(before.name, before.other_values(after.pick(names), ADJUSTMENT_TOLERANCE), what)


def start_up(base: Base) -> Result:
    """Drops the first rows of each symbol: values behind a feature's warm-up stay.

    A value that the shorter table does not have yet is not compared.

    Args:
        base: The stages of the table as it is.
    """
    position, size = _positions(base.table), base.table.groupby("symbol")["symbol"].transform("size").to_numpy()
    findings: list[Finding] = []
    tried = []
    for dropped in DROPPED:
        if dropped >= int(size.max()):
            continue
        tried.append(dropped)
        kept = (position >= dropped) & (size > dropped)
        if not _columns_begin(base.table[kept]):
            continue
        after = base.pipeline.known(base.pipeline.panel(base.table[kept].reset_index(drop=True)))["features"]
        before = base.known["features"].rows(_in_order(base.table, kept))
        findings += _unsettled(before, after, base.pipeline.bound.features, dropped)
    return result(START_UP, f"first {', '.join(map(str, tried))} rows dropped, {len(base.panel):,} rows", findings)


def _columns_begin(table: pd.DataFrame) -> bool:
    """Whether the checks can pass: prices need a first value at each symbol's first row."""
    first = table.sort_values(KEYS).groupby("symbol").head(1)
    return not first[[name for name in (*PRICES, "volume") if name in table]].isna().any(axis=None)


def _positions(table: pd.DataFrame) -> NDArray[Any]:
    """Number of each row within its symbol, in the order of time."""
    ordered = table.sort_values(KEYS, kind="stable")
    return ordered.groupby("symbol").cumcount().reindex(table.index).to_numpy()


def _in_order(table: pd.DataFrame, kept: NDArray[np.bool_]) -> NDArray[Any]:
    """Marks of a raw table, in the order of a checked one."""
    return pd.Series(kept, index=table.index)[table.sort_values(KEYS, kind="stable").index].to_numpy()


def _unsettled(before: Stage, after: Stage, features: Sequence[Feature], dropped: int) -> Iterator[Finding]:
    """Features whose values behind the warm-up differ."""
    codes = pd.factorize(after.symbol)[0]
    age = pd.Series(codes).groupby(codes).cumcount().to_numpy()
    youngest = pd.Series(age).groupby(after.time).transform("min").to_numpy()
    all_there = after.time >= after.time[age == 0].max()
    what = f"behind its warm-up it changed when the first {dropped} rows were dropped"
    for feature in features:
        # the other symbols' rows must be there again, and behind the warm-up too
        settled = all_there & (youngest >= feature.warmup) if feature.cross_sectional else age >= feature.warmup
        one, other = (stage.pick({feature.name}).rows(settled) for stage in (before, after))
        places = one.other_values(other, START_TOLERANCE)
        yield from at_places(before.name, places, f"{what} (warm-up {feature.warmup})")


def symbol_isolation(base: Base) -> Result:
    """Takes the other symbols away, changes them, and shuffles the rows of the table: a symbol's own values stay.

    Cross-sectional features are compared under shuffled rows, and under changes of the other symbols' later rows.

    Args:
        base: The stages of the table as it is.
    """
    table, symbols = base.table, base.panel.symbols
    shuffled = table.sample(frac=1.0, random_state=0).reset_index(drop=True)
    findings = _moved(base, shuffled, symbols, "it changed when the rows of the table were shuffled")
    tried = symbols[:MOST_SYMBOLS] if len(symbols) > 1 else ()
    of_one_symbol = {feature.name for feature in base.pipeline.bound.features if not feature.cross_sectional}
    middle = np.sort(base.when)[len(base.when) // 2]
    for symbol in tried:
        others = (table["symbol"] != symbol).to_numpy()
        for done, changed in (("taken away", table[~others]), ("changed", moved(table, others))):
            what = f"it changed when the other symbols were {done}"
            findings += _moved(base, changed.reset_index(drop=True), (symbol,), what, of_one_symbol)
        later = moved(table, others & (base.when > middle))
        what = "it changed when later rows of the other symbols were changed"
        findings += _moved(base, later, (symbol,), what, until=middle)
    compared = f"{len(tried)} of {len(symbols)} symbols alone, and next to changed ones; rows shuffled"
    return result(ISOLATION, compared, findings)


def _moved(
    base: Base,
    table: pd.DataFrame,
    symbols: tuple[str, ...],
    what: str,
    features: set[str] | None = None,
    until: np.datetime64 | None = None,
) -> list[Finding]:
    """Values of some symbols that differ on another table."""
    findings, pipeline = [], base.pipeline
    for name, after in pipeline.known(pipeline.panel(table)).items():
        pair = [stage.of(symbols) for stage in (base.known[name], after)]
        if features is not None:
            if name == "windows" and len(features) < len(pipeline.bound.features):
                continue  # a window is complete if all features are known
            columns = features | set(after.columns if name == "targets" else ()) | {"complete"}
            pair = [stage.pick(columns) for stage in pair]
        if until is not None:
            pair = [stage.until(until) for stage in pair]
        findings += at_places(name, pair[0].other_bits(pair[1]), what)
    return findings


def determinism(base: Base) -> Result:
    """The same table a second time gives the same bits.

    Args:
        base: The stages of the table as it is.
    """
    panel = base.pipeline.panel(base.table)
    again = base.pipeline.known(panel) | base.pipeline.forecast(panel, base.rows)
    findings, values = [], 0
    for name, before in (base.known | base.forecasts).items():
        values += before.values.size
        what = "it changed when the same table was given again"
        findings += at_places(name, before.other_bits(again[name]), what)
    return result(DETERMINISM, f"the same table twice, {len(again)} stages, {values:,} values", findings)
