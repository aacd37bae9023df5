"""Public benchmark files that are not part of the package, in a folder that CNN_LSTM_BENCHMARKS names.

The folder holds what the published repositories have, or the same numbers as Parquet:
`exchange_rate.txt` or `.txt.gz` (LSTNet) or `exchange_rate/exchange_rate.parquet` (t, symbol, value);
`price/raw/*.csv` (StockNet) or `acl18/ohlcv.parquet` (date, symbol, open, high, low, close, adj_close, volume).
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from tools.acl18_table import main as write_acl18
from tools.acl18_table import table_of

FOLDER = "CNN_LSTM_BENCHMARKS"
RATES = ["AUD", "GBP", "CAD", "CHF", "CNY", "JPY", "NZD", "SGD"]


def exchange_rate(folder: Path) -> Path | None:
    """The matrix of exchange rates as a bare text file, written to the folder if need be; None without the data."""
    given = _folder()
    for name in ("exchange_rate.txt", "exchange_rate.txt.gz", "exchange_rate/exchange_rate.txt.gz"):
        if (given / name).is_file():
            return given / name
    table = given / "exchange_rate" / "exchange_rate.parquet"
    if not table.is_file():
        return None
    wide = pd.read_parquet(table).pivot(index="t", columns="symbol", values="value")[RATES]
    folder.mkdir(parents=True, exist_ok=True)
    wide.to_csv(folder / "exchange_rate.txt", header=False, index=False)
    return folder / "exchange_rate.txt"


def acl18(folder: Path) -> Path | None:
    """The table of configs/papers/acl18.yaml, written to the folder; None without the data."""
    raw, table = _folder() / "price" / "raw", _folder() / "acl18" / "ohlcv.parquet"
    file = folder / "acl18.parquet"
    if raw.is_dir():
        write_acl18(raw, file)
    elif table.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        stocks = pd.read_parquet(table).groupby("symbol", observed=True)
        parts = [table_of(bars.sort_values("date")).assign(symbol=str(symbol)) for symbol, bars in stocks]
        pd.concat(parts, ignore_index=True).to_parquet(file, index=False)
    else:
        return None
    return file


def _folder() -> Path:
    return Path(os.environ.get(FOLDER, "a folder that nobody has named"))
