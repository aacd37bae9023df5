"""Make the table of configs/papers/acl18.yaml from the price files of StockNet.

python tools/acl18_table.py price/raw papers/acl18.parquet

The first argument is the folder with one CSV file per stock (Date, Open, High, Low, Close, Adj Close, Volume) of the
data set of Xu and Cohen (2018), Stock Movement Prediction from Tweets and Historical Prices. Features and labels are
those of Feng, Chen, He, Ding, Sun and Chua (2019), Enhancing Stock Movement Prediction with Adversarial Training.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

RISE, FALL = 0.0055, -0.005
MEANS = (5, 10, 15, 20, 25, 30)


def table_of(bars: pd.DataFrame) -> pd.DataFrame:
    """Eleven features in percent and the label of each day of one stock.

    Args:
        bars: Date, open, high, low, close and adj_close, ascending; a day without prices is left out.

    Returns:
        The dates with c_open, c_high, c_low (against the close), n_close, n_adj_close (against the day before), ma5 to
        ma30 (means of the adjusted close, with today's, against it), adj_close, and label: 1 for a rise of 0.55 % or
        more, -1 for a fall of 0.5 % or more, empty in between.

    Example:
        >>> bars = pd.DataFrame({"date": ["2014-01-02", "2014-01-03", "2014-01-06"], "close": [1.0, 1.01, 1.012]})
        >>> bars = bars.assign(open=1.0, high=1.0, low=1.0, adj_close=bars["close"])
        >>> table_of(bars)["label"].tolist()
        [nan, 1.0, nan]
    """
    bars = bars.dropna(subset=["close", "adj_close"]).reset_index(drop=True)
    adjusted = bars["adj_close"]
    table = bars[["date"]].copy()
    for name in ("open", "high", "low"):
        table[f"c_{name}"] = 100 * (bars[name] / bars["close"] - 1)
    for name in ("close", "adj_close"):
        table[f"n_{name}"] = 100 * (bars[name] / bars[name].shift() - 1)
    for rows in MEANS:
        table[f"ma{rows}"] = 100 * (adjusted.rolling(rows).mean() / adjusted - 1)
    move = adjusted / adjusted.shift() - 1
    label = pd.Series(float("nan"), table.index).mask(move >= RISE, 1.0).mask(move <= FALL, -1.0)
    return table.assign(adj_close=adjusted, label=label)


def main(folder: Path, file: Path) -> None:
    """Writes the table of all stocks of a folder."""
    parts = []
    for path in sorted(folder.glob("*.csv")):
        bars = pd.read_csv(path)
        bars.columns = bars.columns.str.lower().str.replace(" ", "_")
        parts.append(table_of(bars.sort_values("date")).assign(symbol=path.stem))
    table = pd.concat(parts, ignore_index=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(file, index=False)
    print(f"{file}: {len(table):,} rows of {len(parts)} stocks, {int(table['label'].notna().sum()):,} labels")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
