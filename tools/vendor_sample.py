"""Make cnn_lstm/data/sample/daily_bars.parquet again.

Run `pip install bokeh_sampledata`, then this script in the environment that has cnn_lstm installed. It prints
the two digests that the README.md next to the file states.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from bokeh_sampledata import stocks

from cnn_lstm.data.prices import data_fingerprint
from cnn_lstm.data.sources.base import TIME_DTYPE

SYMBOLS = ["AAPL", "GOOG", "IBM", "MSFT"]
TARGET = Path(__file__).parents[1] / "cnn_lstm" / "data" / "sample" / "daily_bars.parquet"


def main() -> None:
    """Write the file and print its digests."""
    table = stocks.data.rename(columns={"ticker": "symbol", "date": "timestamp"})
    table = table[table["symbol"].isin(SYMBOLS)].reset_index(drop=True)
    table["timestamp"] = table["timestamp"].dt.tz_localize("UTC").astype(TIME_DTYPE)
    table["volume"] = table["volume"].astype("float64")
    table.to_parquet(TARGET, compression="zstd", index=False)
    print("file   ", hashlib.sha256(TARGET.read_bytes()).hexdigest())
    print("content", data_fingerprint(table))


if __name__ == "__main__":
    main()
