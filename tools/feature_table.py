"""Write docs/features.md from the registry: python tools/feature_table.py."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from cnn_lstm.data.feature_catalogue import DEFAULT_FEATURES, available_features
from cnn_lstm.data.indicators.declare import FeatureInfo
from cnn_lstm.data.session_features import FUNCTIONS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "features.md"

INTRODUCTION = """# Features

<!-- Written by tools/feature_table.py from the docstrings; edit those. -->

Each name in the YAML is one column. The numbers in a name are its parameters, in the order of the table.
Parameters that are left out take their defaults: `rsi` and `rsi_14` are the same feature. There are {count}
names. The default of `data.features` is

```yaml
{default}
```

The following holds for all of them, and the tests check it for each one:

- **Causal**: the value of a row uses rows of the same symbol up to that row. Changing, blanking or removing
  later rows does not change a bit of it. Features of the cross section also read other symbols, but only at
  the same timestamp.
- **Free of scale**: multiplying a symbol's prices, or its volumes, by a constant changes nothing beyond
  rounding. So a later split or another currency does not change the features. (Prices rounded to cents can be
  exactly equal where a candle pattern compares them; there a rescaled history can give the other result.)
- **Warm-up**: the first rows of each symbol are empty; the table says how many. After them the value does not
  depend on where the history begins, to 1e-6. Recursive averages wait until they have forgotten their first
  value to 1e-8.
- **Finite or empty**: an infinite result, such as the logarithm of zero volume, becomes an empty value. A
  single bar without a range is neutral. A whole window without movement has no value where the feature is a
  ratio of movements.
- **Gaps**: an empty price empties the windows that hold it. TA-Lib's recursive indicators start again after
  it.

Times are UTC. Volatilities are per bar, not per year. TA-Lib computes the recursive features and the candle
patterns. Where its formula depends on the unit of price or volume (money flow index), or differs from the
published formula (Chande's momentum), pandas computes the feature. Two kinds of feature are left out on
purpose: those whose memory has no fixed length (parabolic SAR, levels of cumulative volume), and those that
only the future can tell (the last session of a month, a zigzag's turning points).

There are three more kinds of name:

- **A column of the table** is passed on as it is: `close` is the raw level, which is *not* free of scale.
- **A function of any column**: `mean_5:rate` is the mean of the last 5 rows of the column `rate`, and
  `log_mean_5:rate` its natural logarithm. Of a realised variance, `log_mean_1`, `log_mean_5` and `log_mean_22`
  are the inputs of log-HAR.
- **Your own function**, by its import path: `my_package.my_module.spread`. It takes the bars of one symbol (a
  table in ascending order of time) and returns one number per row. Digits in the path are part of the name.
  Declare its warm-up and its columns with the decorator:

```python
from cnn_lstm.data.features import feature


@feature(inputs=("high", "low"), warmup=19)
def spread(bars):
    return (bars["high"] / bars["low"] - 1).rolling(20).mean()
```
"""

SESSIONS = """## Sessions of an exchange

They need [`data.exchange`](data.md#the-calendar-of-an-exchange) and bars within the day. They read the timestamp of
the bar, whether it stands for the beginning or the end of the bar.

| name | meaning |
|---|---|
{rows}

On a day without a session they are empty. Early closes are announced months ahead; the calendar also knows the few
that came without notice, and there `minutes_to_close` knows more than a trader did.
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
    rows = "\n".join(f"| `{function.__name__}` | {_meaning(function)} |" for function in FUNCTIONS.values())
    return "\n".join([*parts, SESSIONS.format(rows=rows)])


def _meaning(function: Callable[..., object]) -> str:
    """What the docstring says before the arguments."""
    return " ".join((inspect.getdoc(function) or "").partition("Args:")[0].split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
