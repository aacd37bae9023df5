"""Bars from a table or a query of a database, read in blocks of symbols."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from cnn_lstm.data.sources.blocks import BlockSource, Store
from cnn_lstm.errors import ConfigError, require

IN_A_FILE = re.compile(r"(sqlite|duckdb)[^:]*://(?!/md:|[^/])")  # DuckDB's `md:` is a server
VARIABLE = re.compile(r"\$\{?(\w+)\}?")


class SqlBars(BlockSource):
    """Bars from any database that SQLAlchemy has a driver for: SQLite, DuckDB, PostgreSQL and others.

    Names of columns are recognised as in `PriceFiles`. Symbols and dates are asked of the database, and what the driver
    returns at a time is some thousand rows. SQLite is always there; `pip install "cnn-lstm[sql]"` brings DuckDB.

    The address is never printed with its user, password or query. A configuration is saved without them too, so that
    an address with a password is better given as the name of an environment variable: `url: $PRICES_URL`.

    Args:
        url: Address as SQLAlchemy writes it, such as `duckdb:///prices.duckdb`; or `$NAME` for the value of an
            environment variable.
        table: Name of the table or view, also `schema.table`.
        query: One SELECT in place of a table.
        columns: Our name of a column -> the name in the table, as for `PriceFiles`.
        tz: Time zone of timestamps without an offset; None takes them as UTC. Daily bars keep their date. Types of the
            database that have a zone are moments, and UTC.
        date_format: Format of timestamps that are text, or the unit of numbers since 1970, as for `PriceFiles`.
        symbol: The only symbol, of a table that names none.
        only: Our names of the columns to read, next to symbol and timestamp; None reads all columns of numbers.
        adjust: As for `PriceFiles`.

    Raises:
        ConfigError: E2xx, an argument is malformed.

    Source:
        SQLAlchemy, https://docs.sqlalchemy.org/en/20/core/engines.html#database-urls.

    Example:
        >>> SqlBars("sqlite:///prices.db", table="bars").table
        'bars'
    """

    def __init__(  # noqa: PLR0913 - each argument is a key of the YAML
        self,
        url: str,
        table: str | None = None,
        query: str | None = None,
        columns: dict[str, str] | None = None,
        tz: str | None = None,
        date_format: str | None = None,
        symbol: str | None = None,
        only: list[str] | None = None,
        adjust: bool | None = None,
    ) -> None:
        super().__init__(columns, tz, date_format, symbol, only, adjust)
        require(bool(url), "data.source.url is empty", "", "give the address of the database", code=201)
        one = bool(table) != bool(query)
        require(one, "a table and a query" if table else "no table", "data.source", "give table or query")
        # what stands behind a semicolon is a second statement, which may do anything
        plain = ";" not in (query or "").rstrip().removesuffix(";")
        require(plain, "a query with a semicolon", "data.source.query", "give one SELECT")
        variable = VARIABLE.fullmatch(url)
        self.local = IN_A_FILE.match(os.environ.get(variable[1], "") if variable else url) is not None
        self.url, self.table, self.query = url, table, query and query.rstrip().removesuffix(";")

    @contextmanager
    def open(self) -> Iterator[Store]:
        """A connection to the database, which is closed at the end."""
        # SQLAlchemy takes a part of a second to import; other sources do not pay for it
        from cnn_lstm.data.sources.database import database

        with database(_address(self.url), self.table, self.query) as store:
            yield store


def database_file(setting: str) -> str | None:
    """The file of a database, from its address or the name of the variable that holds it; None for anything else.

    Args:
        setting: Any text of a configuration.

    Example:
        >>> database_file("duckdb:////data/prices.duckdb?memory_limit=1GB")
        '/data/prices.duckdb'
        >>> database_file("postgresql://host/market"), database_file("prices.parquet")
        (None, None)
    """
    variable = VARIABLE.fullmatch(setting)
    address = os.environ.get(variable[1], "") if variable else setting
    if not IN_A_FILE.match(address):
        return None
    return address.partition("://")[2].partition("?")[0].removeprefix("/")


def _address(url: str) -> str:
    """The address itself, out of the environment where it is the name of a variable."""
    variable = VARIABLE.fullmatch(url)
    if variable is None:
        return url
    value = os.environ.get(variable[1], "")
    if not value:
        fix = "set it to the address of the database"
        raise ConfigError(f"the environment has no {variable[1]}", "data.source.url", fix, code=201)
    return value
