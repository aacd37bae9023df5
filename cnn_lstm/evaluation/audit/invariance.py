"""What must not matter does not: the unit of prices, where a table begins, the other symbols, the order of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from cnn_lstm.data.checks import KEYS, PRICES
from cnn_lstm.data.features import Feature
from cnn_lstm.evaluation.audit.findings import FAILED, NOT_APPLICABLE, WARNED, Finding, Result, result
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
        levels = base.known["features"].other_values(after, ADJUSTMENT_TOLERANCE, what)
        findings += levels
        if base.forecasts and not levels:
            findings += _moved_forecasts(base, base.pipeline.forecast(panel, base.rows)["forecasts"], factor)
    compared = f"prices x {FACTORS[0]:g} and x {FACTORS[1]:g}, {len(base.panel):,} rows"
    return result(ADJUSTMENT, compared, findings, FAILED if warnings_fail else WARNED)


def _moved_forecasts(base: Base, after: Stage, factor: float) -> list[Finding]:
    """Forecasts of what has no unit of prices."""
    free = [target.name for target in base.pipeline.data.targets if not target.level]
    names = {name for name in after.columns if name.rpartition(" of ")[2] in free}
    what = f"it changes when all prices are taken times {factor:g}"
    return base.forecasts["forecasts"].pick(names).other_values(after.pick(names), ADJUSTMENT_TOLERANCE, what)


def start_up(base: Base) -> Result:
    """Drops the first rows of each symbol: values behind a feature's warm-up stay.

    A value that the shorter table does not have yet is not compared.

    Args:
        base: The stages of the table as it is.
    """
    table = base.table.sort_values(KEYS, kind="stable", ignore_index=True)  # in the order of a checked one
    position = table.groupby("symbol").cumcount().to_numpy()
    size = table.groupby("symbol")["symbol"].transform("size").to_numpy()
    needed = [name for name in (*PRICES, "volume") if name in table]
    findings: list[Finding] = []
    tried = [dropped for dropped in DROPPED if dropped < int(size.max())]
    for dropped in tried:
        kept = (position >= dropped) & (size > dropped)
        if table.loc[kept & (position == dropped), needed].isna().any(axis=None):
            continue  # the checks would refuse it: a symbol's first row needs values
        after = base.pipeline.known(base.pipeline.panel(table[kept].reset_index(drop=True)))["features"]
        before = base.known["features"].rows(kept)
        findings += _unsettled(before, after, base.pipeline.bound.features, dropped)
    return result(START_UP, f"first {', '.join(map(str, tried))} rows dropped, {len(base.panel):,} rows", findings)


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
        yield from one.other_values(other, START_TOLERANCE, f"{what} (warm-up {feature.warmup})")


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
        findings += pair[0].other_bits(pair[1], what)
    return findings


def determinism(base: Base) -> Result:
    """The same table a second time gives the same bits.

    Args:
        base: The stages of the table as it is.
    """
    panel = base.pipeline.panel(base.table)
    again = base.pipeline.known(panel) | base.pipeline.forecast(panel, base.rows, again=True)
    findings, values = [], 0
    for name, before in (base.known | base.forecasts).items():
        values += before.values.size
        findings += before.other_bits(again[name], "it changed when the same table was given again")
    return result(DETERMINISM, f"the same table twice, {len(again)} stages, {values:,} values", findings)
