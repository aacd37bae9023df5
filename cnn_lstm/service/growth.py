"""What an evening adds to live.parquet; no forecast that was issued moves.

Shapes: n rows of live.parquet, m of tonight's forecasts.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cnn_lstm.data.checks import day
from cnn_lstm.data.predictions import TARGETS, are_late, target_infos
from cnn_lstm.hints import counted
from cnn_lstm.service.live import About

KEYS = ["target", "symbol", "as_of"]
OUTCOMES = ("target_start", "target_end", "y_true", "bar_return")  # known once a label has begun, or ended
# a value that differs by more of its scale comes from other bars; less is rounding, as after a split
TOLERANCE = 1e-3
SAME = 1e-4  # relative difference of two ratios of one split


@dataclass(frozen=True)
class Evening:
    """What is known tonight.

    Attributes:
        forecasts: Predictions table of all decisions since the first one of live.parquet, (m,).
        symbols: Symbols of the prices.
        lost: Symbols that were asked for, and that the source has lost.
        daily: Whether the bars are daily.
        now: Time of the update, UTC.
        about: What live.parquet says of itself; which symbols are gone is found out here.
    """

    forecasts: pd.DataFrame
    symbols: frozenset[str]
    lost: frozenset[str]
    daily: bool
    now: pd.Timestamp
    about: About


@dataclass(frozen=True)
class Changes:
    """What an update has changed.

    Attributes:
        symbols: Number of symbols with a new forecast.
        new: Number of new forecasts.
        late: Number of those that came after their label had begun.
        known: Number of outcomes that have become known.
        rows: Rows of live.parquet.
        revised: Issued forecasts whose bars are others tonight, as symbol, date and count; empty without any.
        gone: Symbols that the source has lost.

    Example:
        >>> print(Changes(symbols=2, new=2, late=1, known=2, rows=12))
        2 symbols, 2 new forecasts (1 late), 2 outcomes known; 12 rows
        >>> print(Changes(rows=12))
        nothing new; 12 rows
        >>> print(Changes())
        nothing new since what the fit and the test of the run have known (--since DATE begins earlier); 0 rows
    """

    symbols: int = 0
    new: int = 0
    late: int = 0
    known: int = 0
    rows: int = 0
    revised: str = ""
    gone: tuple[str, ...] = ()

    def __str__(self) -> str:
        late = f" ({self.late:,} late)" if self.late else ""
        made = f"{counted(self.symbols, 'symbol')}, {counted(self.new, 'new forecast')}{late}"
        what = f"{made}, {counted(self.known, 'outcome')} known" if self.new or self.known else "nothing new"
        if not self.rows:
            what += " since what the fit and the test of the run have known (--since DATE begins earlier)"
        return f"{what}; {counted(self.rows, 'row')}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(str(self))}</p>"


def grown(live: pd.DataFrame | None, evening: Evening) -> tuple[pd.DataFrame, Changes]:
    """live.parquet after an update.

    Args:
        live: The table before, (n,); None before the first update.
        evening: What is known tonight.

    Returns:
        The table, and what has changed. It equals the one before, `attrs` among it, where nothing has.
    """
    tonight = _bare(evening.forecasts)
    before = _issued(tonight.iloc[:0], evening.now) if live is None else _bare(live)
    places = pd.MultiIndex.from_frame(tonight[KEYS]).get_indexer(pd.MultiIndex.from_frame(before[KEYS]))
    added = _issued(tonight.drop(index=places[places >= 0].tolist()), evening.now)
    filled = _filled(before, tonight.reindex(places).reset_index(drop=True), evening)
    table = pd.concat([part for part in (filled, added) if len(part)] or [added], ignore_index=True)
    table["late"] = are_late(table["issued"], table["target_start"], evening.daily)
    gone = (set(before["symbol"]) | evening.lost) - evening.symbols
    changes = Changes(
        symbols=added["symbol"].nunique(),
        new=len(added),
        late=int(table["late"].iloc[len(before) :].sum()),
        known=int(filled["y_true"].notna().sum() - before["y_true"].notna().sum()),
        rows=len(table),
        revised=_named(before[filled["revised"] & ~before["revised"]]),
        gone=tuple(sorted(gone - set(() if live is None else About.of(live).gone))),
    )
    table = _sorted(table, list(evening.forecasts.attrs[TARGETS]))
    table.attrs = dict(evening.forecasts.attrs)
    replace(evening.about, gone=tuple(sorted(gone))).write(table)
    return table, changes


def _bare(table: pd.DataFrame) -> pd.DataFrame:
    """A table with rows from 0 on, and without `attrs`, which pandas copies with every piece."""
    bare = table.copy(deep=False)
    bare.attrs = {}
    return bare.reset_index(drop=True)


def _issued(forecasts: pd.DataFrame, now: pd.Timestamp) -> pd.DataFrame:
    """New rows of live.parquet; whether they are late is not known yet."""
    issued = pd.Series(now, index=forecasts.index, dtype="datetime64[us, UTC]")
    return forecasts.assign(issued=issued, late=False, revised=False)


def _filled(before: pd.DataFrame, now: pd.DataFrame, evening: Evening) -> pd.DataFrame:
    """The rows before, with what has become known of them.

    Args:
        before: Rows of live.parquet, (n,).
        now: The same forecasts as tonight's prices give them, (n,); missing where they give none.
        evening: What is known tonight.
    """
    kinds = {name: about.quantity for name, about in target_infos(evening.forecasts).items()}
    levels = before["target"].isin([name for name, quantity in kinds.items() if quantity.is_level])
    compared, ratio = _compared(before), _ratio(before, now).where(levels, 1.0)
    now = now.assign(**{name: now[name] * ratio for name in compared})
    known = {name: before[name].where(before[name].notna(), now[name]) for name in OUTCOMES}
    moved = pd.concat([(before[name] - now[name]).abs() > size for name, size in compared.items()], axis=1).any(axis=1)
    spans = evening.forecasts.groupby("symbol")["as_of"].agg(["min", "max"]).reindex(before["symbol"])
    first, last = (spans[edge].set_axis(before.index) for edge in ("min", "max"))
    lost = now["as_of"].isna() & (before["as_of"] > first) & (before["as_of"] < last)  # else there are fewer bars
    return before.assign(**known, revised=before["revised"] | moved | lost)


def _compared(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Columns that tell whether a forecast is made of the same bars, each with the difference that is none, (n,).

    A forecast may hardly depend on a bar that was changed: the latest value is compared, too. The volatility is not,
    since it has a long memory, and a table that begins later would change it.
    """
    names, scale = [str(name) for name in table], table["scale"]
    of_objective = names[names.index("y_true") + 1 : names.index("y_last")]
    rounding = TOLERANCE * scale.where((scale > 0) & np.isfinite(scale), 1.0)
    return dict.fromkeys(("y_true", *of_objective, "y_last"), rounding)


def _ratio(before: pd.DataFrame, now: pd.DataFrame) -> pd.Series:
    """How many of tonight's units a unit of each issued level is, (n,): a split rescales all bars before it.

    A single bar that was corrected changes one latest value, too, but not as its neighbours'; its ratio is 1.
    """
    ratio = before["y_last"] / now["y_last"]
    of_series = ratio.groupby([before["target"], before["symbol"]])
    earlier, later = of_series.shift(1), of_series.shift(-1)
    agrees = (ratio / earlier - 1).abs().le(SAME) | (ratio / later - 1).abs().le(SAME)
    return ratio.where(agrees | (earlier.isna() & later.isna()) & np.isfinite(ratio), 1.0)


def _named(rows: pd.DataFrame) -> str:
    """Forecasts, for people: the first one, and how many there are."""
    if rows.empty:
        return ""
    earliest = rows.sort_values("as_of", kind="stable").head(1)
    symbol, as_of = earliest["symbol"].item(), pd.Timestamp(earliest["as_of"].item())
    several = f" of {counted(rows['symbol'].nunique(), 'symbol')}" if rows["symbol"].nunique() > 1 else ""
    return f"{symbol} @ {day(as_of)}, {counted(len(rows), 'forecast')}{several}"


def _sorted(table: pd.DataFrame, targets: list[str]) -> pd.DataFrame:
    """A table in the order of a predictions table: by target, symbol and date."""
    order = np.lexsort((table["as_of"], table["symbol"], table["target"].map(targets.index)))
    return table.iloc[order].reset_index(drop=True)
