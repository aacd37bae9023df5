"""A table of a database, read through SQLAlchemy in chunks; only `SqlBars` imports this module."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from cnn_lstm.credentials import MASK
from cnn_lstm.data.sources.blocks import Kind, Moment, Store
from cnn_lstm.errors import ConfigError, DataError

CHUNK = 50_000  # rows that the driver gives at a time
DUCKDB_VECTORS = 24  # of 2,048 rows, which is nearly as much
DUCKDB_MEMORY = "256MB"  # of DuckDB's own cache of the file; it would take most of the machine's memory
MOST_NAMES = 500  # symbols of one query: databases limit its parameters
IN_FILES = {"sqlite", "duckdb"}
DAY_TEXT = "____-__-__%"  # texts of this form are in the order of time


@contextmanager
def database(address: str, table: str | None, query: str | None) -> Iterator[Store]:
    """A table of a database, open.

    Args:
        address: Address of SQLAlchemy, with its secrets.
        table: Name of the table.
        query: A SELECT in place of it.

    Raises:
        ConfigError: E201, the address is malformed; E235, its driver is not installed.
        DataError: E301, the file does not exist; E349, the database refuses.
    """
    url = _url(address)
    with _one_line(url, shown(url, table)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*duckdb-engine doesn't yet support reflection.*")
        engine = sa.create_engine(url, connect_args=_connect_args(url), poolclass=sa.NullPool)
        try:
            with engine.connect().execution_options(stream_results=True) as connection:
                yield _Table(connection, _relation(table, query), shown(url, table))
        finally:
            engine.dispose()


def shown(url: URL, table: str | None) -> str:
    """An address for messages: without user, password and query.

    Example:
        >>> shown(make_url("postgresql://me:pass@host:5432/market?sslcert=x"), "bars")
        'postgresql://host:5432/market, table bars'
    """
    port = f":{url.port}" if url.port else ""
    return f"{url.drivername}://{url.host or ''}{port}/{url.database or ''}" + (
        f", table {table}" if table else ", query"
    )


def _url(address: str) -> URL:
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):  # the message of a ValueError may hold a part of the address
        fix = "write it as duckdb:///prices.duckdb or postgresql+psycopg://HOST/DATABASE"
        raise ConfigError("not an address of a database", "data.source.url", fix, code=201) from None
    name = url.database or ""
    plain = url.get_backend_name() in IN_FILES and name and name != ":memory:" and not name.startswith(("file:", "md:"))
    if plain and not Path(name).is_file():  # a database makes an empty file of a name that it does not know
        raise DataError("no such file", f"{name} (in {Path.cwd()})", "check data.source.url", code=301)
    return url


def _connect_args(url: URL) -> dict[str, Any]:
    """DuckDB only reads, and keeps little in memory, unless `?memory_limit=` of the address says another size."""
    if url.get_backend_name() != "duckdb":
        return {}
    in_file = url.database not in (None, "", ":memory:")
    return {"config": {"memory_limit": DUCKDB_MEMORY}, **({"read_only": True} if in_file else {})}


@contextmanager
def _one_line(url: URL, where: str) -> Iterator[None]:
    """Reports what the database or its driver refuses, without a secret of the address."""
    try:
        yield
    except NoSuchModuleError:
        raise _no_driver(url.drivername, url) from None
    except ModuleNotFoundError as error:
        raise _no_driver(error.name or url.drivername, url) from None
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split("\n", 1)[0].split())
        for secret in (url.password, *url.query.values()):
            if secret and len(str(secret)) > 2:
                reason = reason.replace(str(secret), MASK)
        fix = "check data.source.url and the name of the table"
        raise DataError(f"the database cannot be read: {reason}", where, fix, code=349) from None


def _no_driver(name: str, url: URL) -> ConfigError:
    is_duckdb = url.drivername.startswith("duckdb")
    fix = 'pip install "cnn-lstm[sql]"' if is_duckdb else f"install SQLAlchemy's driver for {url.drivername}"
    return ConfigError(f"{name} is not installed", "data.source SqlBars", fix, code=235)


def _relation(table: str | None, query: str | None) -> Any:
    """What stands behind FROM."""
    if query:
        escaped = query.replace(":", r"\:")  # no part of it is a parameter
        return sa.text(f"({escaped}\n) AS bars")  # it may end with a comment
    *schema, name = (table or "").rsplit(".", 1)
    return sa.table(name, schema=schema[0] if schema else None)


class _Table(Store):
    """A table of an open connection.

    Args:
        connection: The connection.
        relation: The table.
        where: The address, for messages.
    """

    def __init__(self, connection: sa.Connection, relation: Any, where: str) -> None:
        self.where = where
        self._connection, self._relation = connection, relation
        self._raw: dict[str, list[Any]] = {}
        empty: sa.CursorResult[Any] = connection.execute(
            sa.select(sa.literal_column("*")).select_from(relation).where(sa.false())
        )
        self.header = [str(name) for name in empty.keys()]  # noqa: SIM118 - a result, not a mapping
        empty.close()
        if twice := [name for name in self.header if self.header.count(name) > 1]:
            what, fix = f"several columns are called {twice[0]}", "give each column a name of its own"
            raise DataError(what, where, fix, code=303)

    def _select(self, *columns: Any) -> Any:
        return sa.select(*columns).select_from(self._relation)

    def _column(self, position: int) -> Any:
        return sa.column(self.header[position])

    def _sample(self, position: int) -> Any:
        """The first value that is not empty; None where all are."""
        column = self._column(position)
        return self._connection.execute(self._select(column).where(column.is_not(None)).limit(1)).scalar()

    def kind(self, position: int) -> Kind:
        """What the first value of a column is."""
        value = self._sample(position)
        if value is None:
            return "nothing"
        return "numbers" if isinstance(value, int | float | Decimal) else "text"

    def rows(self, symbol: int | None) -> dict[str, int]:
        """Number of rows of each symbol, counted by the database."""
        if symbol is None:
            return {"": int(self._connection.execute(self._select(sa.func.count())).scalar() or 0)}
        column, counts = self._column(symbol), dict[str, int]()
        for raw, rows in self._connection.execute(self._select(column, sa.func.count()).group_by(column)):
            name = "" if raw is None else str(raw).strip()
            counts[name] = counts.get(name, 0) + int(rows)
            self._raw.setdefault(name, []).append(raw)
        return counts

    def times(self, positions: Sequence[int]) -> Iterator[pd.DataFrame]:
        """The different times that there are."""
        columns = [self._column(position) for position in positions]
        for cells in self._chunks(self._select(*columns).distinct()):
            yield _moments(cells.set_axis(list(positions), axis=1), positions)

    def read(
        self, positions: Sequence[int], symbol: int | None, names: Sequence[str], time: int, low: Moment, high: Moment
    ) -> pd.DataFrame:
        """The rows of some symbols in the order of time: those of a database have none."""
        select = self._select(*(self._column(position) for position in positions)).where(
            *self._in_span(time, low, high)
        )
        if symbol is None:
            queries = [select]
        else:
            raw = [value for name in names for value in self._raw[name]]
            groups = [raw[k : k + MOST_NAMES] for k in range(0, len(raw), MOST_NAMES)]
            queries = [select.where(self._column(symbol).in_(group)) for group in groups]
        parts = [chunk for query in queries for chunk in self._chunks(query)]
        cells = _moments(pd.concat(parts, ignore_index=True).set_axis(list(positions), axis=1), [time])
        return cells.iloc[cells[time].argsort(kind="stable")]

    def _chunks(self, query: Any) -> Iterator[pd.DataFrame]:
        """The rows of a query in parts; at least one, which may be empty."""
        if self._connection.dialect.name != "duckdb":
            yield from pd.read_sql_query(query, self._connection, chunksize=CHUNK)
            return
        try:  # DuckDB makes the columns itself, which is ten times as fast as by way of Python's objects
            # a stream of SQLAlchemy has taken the first row before anybody asks
            cursor: Any = self._connection.execute(query, execution_options={"stream_results": False}).cursor
            cells = cursor.fetch_df_chunk(DUCKDB_VECTORS)
            yield cells
            while len(cells := cursor.fetch_df_chunk(DUCKDB_VECTORS)):
                yield cells
        except self._connection.dialect.loaded_dbapi.Error as error:
            raise sa.exc.DBAPIError(None, None, error) from None

    def _in_span(self, time: int, low: Moment, high: Moment) -> Iterator[Any]:
        """Conditions on the times, where their kind is in the order of time."""
        sample, column = self._sample(time), self._column(time)
        for moment, condition in ((low, column.__ge__), (high, column.__lt__)):
            if moment is None:
                continue
            if isinstance(sample, datetime):
                bound = moment.to_pydatetime()
                yield condition(bound if sample.tzinfo else bound.replace(tzinfo=None))
            elif isinstance(sample, date):
                yield condition(moment.date())
            elif isinstance(sample, str) and self._all_like_days(column):
                yield condition(f"{moment:%Y-%m-%d}")

    def _all_like_days(self, column: Any) -> bool:
        odd = self._select(column).where(sa.not_(column.like(DAY_TEXT))).limit(1)
        return self._connection.execute(odd).first() is None


def _moments(cells: pd.DataFrame, times: Sequence[int]) -> pd.DataFrame:
    """The cells, with Python's datetimes of one zone as those of pandas: a driver may give another zone."""
    cells = cells.copy()
    for at in times:
        known = cells[at].dropna()
        if cells[at].dtype == object and len(known) and isinstance(known.iloc[0], datetime):
            cells[at] = pd.to_datetime(cells[at], utc=known.iloc[0].tzinfo is not None)
        elif isinstance(cells[at].dtype, pd.DatetimeTZDtype):
            cells[at] = cells[at].dt.tz_convert("UTC")
    return cells
