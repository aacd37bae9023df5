"""Write docs/features.md from the registry: python tools/feature_table.py."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from cnn_lstm.data.feature_catalogue import DEFAULT_FEATURES, FeatureInfo, available_features

PAGE = Path(__file__).resolve().parents[1] / "docs" / "features.md"

INTRODUCTION = """# Features

<!-- Written by tools/feature_table.py from the docstrings; edit those. -->

One name in the YAML is one column. The numbers behind a name are its parameters, in the order of the table;
those left out take the default: `rsi` and `rsi_14` are the same metrics. The list has {count} names;
`data.features` begins as

```yaml
{default}
```

What holds for all of them, and is tested for each:

- **Causal**: the value of a row uses rows of the same symbol up to it. Changing, blanking or removing later
  rows changes no bit of it. Features of the cross section also read other symbols, at the same timestamp
  only.
- **Free of scale**: multiplying a symbol's prices, or its volumes, by a constant changes nothing beyond
  rounding. So a later split or another currency leaves the features alone. (Prices rounded to cents may tie
  exactly where a candle pattern compares; there a rescaled history can fall on the other side.)
- **Warm-up**: as many rows at the start of each symbol are empty. Behind them the value does not depend on
  where the history begins, to 1e-6; recursive averages wait until they have forgotten their seed to 1e-8.
- **Finite or empty**: an infinite result, as the logarithm of no volume, is an empty one. A single bar
  without a range is neutral; a whole window without movement has no value where the figure is a ratio of
  movements.
- **Gaps**: an empty price empties the windows that hold it. TA-Lib's recursive indicators begin anew behind
  it.

Times are UTC. Volatilities are a bar's, not a year's. TA-Lib computes what is recursive or a candle
pattern; where its formula depends on the unit of price or volume (money flow index) or differs from the
published one (Chande's momentum), pandas does. Left out on purpose: metrics without a fixed memory
(parabolic SAR, cumulative volume lines as levels), and what only the future tells (the last session of a
month, a zigzag's turning points).

Two more kinds of name:

- **A column of the table** passes through as it is: `close` is the raw level, which is *not* free of scale.
- **A function of one's own**, by import path: `my_package.my_module.spread`. It takes the bars of one
  symbol (a table in ascending order) and returns one number a row. Digits in the path are part of the name.
  Declare warm-up and columns with the decorator:

```python
from cnn_lstm.data.features import feature


@feature(inputs=("high", "low"), warmup=19)
def spread(bars):
    return (bars["high"] / bars["low"] - 1).rolling(20).mean()
```
"""

HEADING = "| name | default | reads | warm-up | meaning |\n|---|---|---|---:|---|"


def _row(offer: FeatureInfo) -> str:
    reads = ", ".join(offer.inputs) or "timestamp"
    return f"| `{offer.pattern}` | `{offer.default}` | {reads} | {offer.warmup} | {offer.meaning} |"


def page() -> str:
    """The whole page."""
    offers = available_features()
    default = f"features: [{', '.join(DEFAULT_FEATURES)}]"
    parts = [INTRODUCTION.format(count=len(offers), default=default)]
    for family, members in groupby(offers, key=lambda offer: offer.family):
        rows = "\n".join(_row(offer) for offer in members)
        parts.append(f"## {family.replace('_', ' ').capitalize()}\n\n{HEADING}\n{rows}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
