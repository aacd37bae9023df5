"""Files that are stretches of one symbol: their names differ by a number, and no two of them have a day in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise, takewhile
from pathlib import Path

import pandas as pd

from cnn_lstm.errors import DataError
from cnn_lstm.hints import first_names


def refuse_parts(tables: Mapping[Path, pd.DataFrame], name_of: Callable[[Path], str]) -> None:
    """Refuses files of one symbol that became a symbol each, such as `ACME-2023.csv` and `ACME-2024.csv`.

    Args:
        tables: Price table by file.
        name_of: What a file calls its symbol where no column names it.

    Raises:
        DataError: E303, naming the symbols and the setting.
    """
    alike: dict[str, list[Path]] = {}
    for path, table in tables.items():
        if set(table["symbol"].unique()) == {name_of(path)}:
            alike.setdefault(re.sub(r"\d+", "#", name_of(path)), []).append(path)
    for pattern, paths in alike.items():
        spans = sorted((tables[path]["timestamp"].min(), tables[path]["timestamp"].max()) for path in paths)
        apart = all(last <= first for (_, last), (first, _) in pairwise(spans))
        names = [name_of(path) for path in paths]
        # names of digits alone are codes of shares, unless they are the year of the rows
        yearly = all(str(tables[path]["timestamp"].iloc[0].year) in name_of(path) for path in paths)
        # files of one name, in several folders, are one symbol
        if len(set(names)) > 1 and apart and (re.search("[A-Za-z]", pattern) or yearly):
            what = f"{len(paths)} files, one after the other in time, became {len(set(names))} symbols"
            where = f"{paths[0].parent}: {first_names(names, most=3)}"
            fix = f"set data.source.symbol: {_common(names)}, or add a column of symbols"
            raise DataError(what, where, fix, code=303)


def _common(names: list[str]) -> str:
    """What names have in common before the first number that differs."""
    prefix = "".join(one for one, *_ in takewhile(lambda signs: len(set(signs)) == 1, zip(*names, strict=False)))
    return re.sub(r"[-_. \d]+$", "", prefix) or "..."
