"""Price tables out of the DataFrames that users hold, by the rules that files are read by; nothing is guessed.

yfinance gives capital names and an index of dates, FinRL `date` and `tic`, others an index of symbol and time, or
columns of Arrow; frames of Polars and Arrow come in by `as_pandas`. Each becomes the long table of
`data/sources/base.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa

from cnn_lstm.data.arrow_frames import as_pandas
from cnn_lstm.data.checks import BARS, KEYS
from cnn_lstm.data.prices import is_long, require_table
from cnn_lstm.data.sources.clock import OFFSET, Clock
from cnn_lstm.data.sources.column_names import our_name
from cnn_lstm.data.sources.numbers import number_columns
from cnn_lstm.data.times import require_years, utc_or_dates
from cnn_lstm.errors import DataError, Defect
from cnn_lstm.hints import first_names

log = logging.getLogger(__name__)
PLACE = "the price table"
UNNAMED = "unnamed"  # symbol of a table that does not say whose bars it holds
DATES = "give dates: pd.to_datetime(prices['{name}'], utc=True), with unit='ms' or another one for numbers"


def price_table(
    frame: object,
    wanted: Collection[str] = (),
    zone: str | None = None,
    daily: bool | None = None,
    of_all: str | None = None,
) -> pd.DataFrame:
    """The long price table that a DataFrame stands for.

    - Names: those of the keys and of the bars are recognised as in `PriceFiles`, in any case, as columns or as levels
      of the index. Columns of two levels, as yfinance returns them for several tickers, become rows.
    - Symbols become text. A table that names none is that of one symbol, `unnamed`, with a warning.
    - Times: ISO text or datetimes, by the one time rule; see `utc_or_dates`.
    - Numbers become float64. Columns of mere text are left out with a warning.

    Args:
        frame: What a user holds: a DataFrame of pandas, or of anything that `as_pandas` takes. It is not changed.
        wanted: Further columns that are needed under exactly these names.
        zone: Zone of times without one; None refuses them unless all are midnight, which makes them dates.
        daily: As for `utc_or_dates`.
        of_all: Symbol of a table that names none, without a warning; None as above.

    Returns:
        symbol, timestamp, and columns of numbers; not sorted, not checked. What has no symbol of its own is left for
        `check_structure` to refuse.

    Raises:
        DataError: E338 it is not a table; E303 two columns have one meaning, or rows of several symbols have none; E304
            a cell is not a number; E309 a time is not an ISO date; E310 the zone is not known; E311 a year is not.

    Example:
        >>> days = pd.DatetimeIndex(["2024-01-02", "2024-01-03"], name="Date").tz_localize("Asia/Tokyo")
        >>> frame = pd.DataFrame({"Close": [1, 2]}, index=days).assign(tic=7203)
        >>> price_table(frame).to_csv(index=False).splitlines()
        ['symbol,timestamp,close', '7203,2024-01-02 00:00:00+00:00,1.0', '7203,2024-01-03 00:00:00+00:00,2.0']
    """
    table = require_table(as_pandas(frame))
    if is_long(table) or table.empty or table.columns.has_duplicates:
        return table
    table = _named(_flat(table), wanted)
    if "timestamp" not in table:
        where = f"{PLACE} has {first_names([str(name) for name in table.columns])}"
        raise DataError("no column timestamp", where, "rename the column that holds it to timestamp", code=303)
    named = table if "symbol" in table else _as_one_symbol(table) if of_all is None else table.assign(symbol=of_all)
    keys = {"symbol": named["symbol"].astype("str"), "timestamp": price_times(named["timestamp"], zone, daily)}
    return pd.DataFrame(keys).assign(**_numbers(named.drop(columns=KEYS), {*BARS, *wanted}))


# -- names -------------------------------------------------------------------------------------------------------------


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """The table with one level of columns, and with what the index says as columns."""
    if table.columns.nlevels == 2:
        table = _stacked(table)
    found = {_role(name) for name in table.columns}
    levels: dict[str, pd.Series] = {}
    rest: list[pd.Series] = []
    for number, name in enumerate(table.index.names):
        values = table.index.get_level_values(number)
        cells = pd.Series(values).reset_index(drop=True)
        nameless = name is None and not isinstance(values, pd.RangeIndex)
        role = _role(name) or ("timestamp" if nameless and _holds_times(cells, table.index.nlevels) else "")
        if role and role not in found | levels.keys():
            levels[role] = cells
        else:
            rest.append(cells)
    if table.index.nlevels == 2 and len(levels) == len(rest) == 1 and "symbol" not in found | levels.keys():
        levels["symbol"] = rest[0]
    return pd.concat([*(part.rename(name) for name, part in levels.items()), table.reset_index(drop=True)], axis=1)


def _stacked(table: pd.DataFrame) -> pd.DataFrame:
    """Columns of (price, ticker) or (ticker, price) as rows; days on which a ticker has no bar at all go."""
    texts = [{str(name).lower() for name in table.columns.get_level_values(level)} for level in (0, 1)]
    tickers = next((level for level in (0, 1) if "close" in texts[1 - level]), None)
    if tickers is None:
        fix = "give columns open, high, low, close and volume, and one row per symbol and time"
        raise DataError("columns of two levels, none of which names a close", PLACE, fix, code=303)
    index = table.index.rename("timestamp" if table.index.name in (None, "") else table.index.name)
    parts = []
    for ticker, columns in table.set_axis(index).T.groupby(level=tickers, sort=False):
        part = columns.droplevel(tickers).T.dropna(how="all")
        parts.append(part.rename_axis(columns=None).infer_objects().assign(symbol=str(ticker)))
    return pd.concat(parts)


def _role(name: object) -> str:
    """Which key a name stands for; nothing where it is none."""
    ours = our_name(str(name))
    return ours if ours in KEYS else ""


def _holds_times(level: pd.Series, levels: int) -> bool:
    """Whether a level without a name holds times: the only level of text does, or nothing else is one."""
    return pd.api.types.is_datetime64_any_dtype(level.dtype) or (levels == 1 and _is_text(level))


def _named(table: pd.DataFrame, wanted: Collection[str]) -> pd.DataFrame:
    """The table in our names: keys and bars in any table, all columns in one whose keys have other names than ours.

    A table with `symbol` and `timestamp` was made for us, and its further columns have the names that they should.
    """
    names = [str(name) for name in table.columns]
    ours = set(KEYS) <= set(names)
    renamed: dict[str, str] = {}
    for name in names:
        new = our_name(name)
        known = new in (*KEYS, *BARS)
        new = name if name in wanted or (ours and (not known or new in names)) else new
        if (twin := next((one for one, other in renamed.items() if other == new), None)) is not None:
            what, fix = f"{twin} and {name} both look like {new}", "rename or drop one of them"
            raise DataError(what, f"{PLACE} has {first_names(names)}", fix, code=303)
        renamed[name] = new
    return table.set_axis(list(renamed.values()), axis=1)


def _as_one_symbol(table: pd.DataFrame) -> pd.DataFrame:
    """A table of one symbol, which it does not name; refused where it may hold several."""
    where = f"{PLACE} has {first_names([str(name) for name in table.columns])}"
    texts = [name for name in table.columns.drop("timestamp") if _is_text(table[name])]
    if texts or table["timestamp"].duplicated().any():
        raise DataError("no column symbol", where, "rename the column that holds it to symbol", code=303)
    fix = "taken as one symbol: prices.assign(symbol='...') names it"
    warning = Defect(350, "no column symbol", PLACE, fix, fatal=False)
    log.warning("[W%d] %s — %s — %s", warning.code, warning.what, warning.where, warning.fix)
    return table.assign(symbol=UNNAMED)


def _is_text(cells: pd.Series) -> bool:
    kinds = (pd.api.types.is_string_dtype, lambda dtype: isinstance(dtype, pd.CategoricalDtype))
    return any(kind(cells.dtype) for kind in kinds) and bool(pd.to_numeric(cells, errors="coerce").isna().all())


# -- values ------------------------------------------------------------------------------------------------------------


def price_times(cells: pd.Series, zone: str | None = None, daily: bool | None = None) -> pd.Series:
    """Times of a table in UTC, by the one time rule.

    Args:
        cells: ISO text or datetimes.
        zone: As for `price_table`.
        daily: As for `price_table`.

    Raises:
        DataError: E309, E310 or E311, as of `price_table`.
    """
    if isinstance(cells.dtype, pd.ArrowDtype):
        cells = pd.Series(pa.array(cells).to_pandas(date_as_object=False), name=cells.name)
    clock = Clock(ZoneInfo(zone) if zone else None, None)
    if isinstance(cells.dtype, pd.DatetimeTZDtype):
        require_years(cells, PLACE)
        return utc_or_dates(cells, daily)
    if cells.dtype.kind == "M":
        known = cells.dropna()
        require_years(known, PLACE)
        if not zone and (daily is False or not (known == known.dt.normalize()).all()):
            raise _without_zone(str(cells.dtype))
        return cells.dt.tz_localize("UTC").dt.as_unit("us") if known.empty or not zone else clock.read(cells, PLACE)
    text = cells.map(str) if cells.dtype == object else cells.astype("str")
    offset = text.str.strip().str.extract(OFFSET, expand=False)
    if offset.notna().all():
        return _of_offsets(text, daily)
    try:
        utc = clock.read(text, PLACE)
    except DataError as error:
        fix = DATES.format(name=cells.name) if error.code == 309 else error.fix
        raise DataError(error.what, error.where, fix, code=error.code) from None
    if not zone and offset.isna().all() and (daily is False or (utc != utc.dt.normalize()).any()):
        raise _without_zone("text")
    return utc


def _without_zone(kind: str) -> DataError:
    fix = "say where these are the times of: .dt.tz_localize('America/New_York'), or 'UTC'"
    return DataError(f"timestamp is {kind} without a time zone", PLACE, fix, code=310)


def _of_offsets(text: pd.Series, daily: bool | None) -> pd.Series:
    """Times with offsets of their own, by the time rule: each row is midnight or not by its own clock."""
    moments = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True).dt.as_unit("us")
    clock = text.str.strip().str.replace(r"\s?(Z|[+-]\d{2}:?\d{2})$", "", regex=True)
    local = pd.to_datetime(clock, format="ISO8601", errors="coerce").dt.tz_localize("UTC").dt.as_unit("us")
    require_years(moments, PLACE)
    midnight = (local == local.dt.normalize()) | local.isna()
    if daily is False or (daily is None and not midnight.all()):
        return moments
    return moments.where(~midnight, local)


def _numbers(columns: pd.DataFrame, wanted: set[str]) -> dict[str, pd.Series]:
    """Columns as float64, as files are read; complex numbers stay, for `check_structure` to refuse."""
    cells: dict[str, pd.Series] = {}
    strange: dict[str, pd.Series] = {}
    for name, column in columns.items():
        if pd.api.types.is_complex_dtype(column.dtype):
            strange[str(name)] = column
        elif pd.api.types.is_numeric_dtype(column.dtype):
            cells[str(name)] = pd.Series(column.to_numpy(dtype=np.float64, na_value=np.nan))
        else:
            cells[str(name)] = column
    return {**number_columns(cells, wanted & set(cells), PLACE), **strange}
