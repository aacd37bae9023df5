"""Candle patterns by TA-Lib, on the bar that completes them.

1 is bullish (or a pattern without direction), -1 bearish, 0 none.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import talib

from cnn_lstm.data.indicators.declare import feature
from cnn_lstm.data.indicators.numerics import OHLC, FloatArray, from_talib

# the longest look-back of TA-Lib's patterns
_LOOKBACK = 14


def _sign(code: str, bars: pd.DataFrame) -> FloatArray:
    # TA-Lib says 80 for an engulfing body that shares one end, 100 else
    values: FloatArray = np.sign(from_talib(getattr(talib, code), [bars[name] for name in OHLC]))
    return values


def _pattern(name: str, code: str, meaning: str) -> partial[FloatArray]:
    function = partial(_sign, code)
    function.__doc__ = meaning
    return feature(name, family="patterns", inputs=OHLC, warmup=_LOOKBACK, running=True)(function)


belt_hold = _pattern("cdl_belt_hold", "CDLBELTHOLD", "Long body that opens at its extreme: 1 or -1.")
dark_cloud_cover = _pattern("cdl_dark_cloud_cover", "CDLDARKCLOUDCOVER", "Dark cloud cover: -1.")
doji = _pattern("cdl_doji", "CDLDOJI", "Doji, open and close almost equal: 1.")
dragonfly_doji = _pattern("cdl_dragonfly_doji", "CDLDRAGONFLYDOJI", "Doji at the top of its range: 1.")
engulfing = _pattern("cdl_engulfing", "CDLENGULFING", "Body that swallows the one before: 1 or -1.")
evening_star = _pattern("cdl_evening_star", "CDLEVENINGSTAR", "Evening star, penetration 0.3: -1.")
gravestone_doji = _pattern("cdl_gravestone_doji", "CDLGRAVESTONEDOJI", "Doji at the bottom of its range: 1.")
hammer = _pattern("cdl_hammer", "CDLHAMMER", "Hammer, long lower shadow near a low: 1.")
hanging_man = _pattern("cdl_hanging_man", "CDLHANGINGMAN", "Hanging man, long lower shadow near a high: -1.")
harami = _pattern("cdl_harami", "CDLHARAMI", "Small body inside the long one before: 1 or -1.")
inverted_hammer = _pattern("cdl_inverted_hammer", "CDLINVERTEDHAMMER", "Long upper shadow below the last body: 1.")
long_line = _pattern("cdl_long_line", "CDLLONGLINE", "Long body with short shadows: 1 or -1.")
marubozu = _pattern("cdl_marubozu", "CDLMARUBOZU", "Long body almost without shadows: 1 or -1.")
morning_star = _pattern("cdl_morning_star", "CDLMORNINGSTAR", "Morning star, penetration 0.3: 1.")
piercing = _pattern("cdl_piercing", "CDLPIERCING", "Piercing line: 1.")
shooting_star = _pattern("cdl_shooting_star", "CDLSHOOTINGSTAR", "Long upper shadow above the last body: -1.")
spinning_top = _pattern("cdl_spinning_top", "CDLSPINNINGTOP", "Small body between long shadows: 1 or -1.")
three_black_crows = _pattern("cdl_three_black_crows", "CDL3BLACKCROWS", "Three black crows: -1.")
three_inside = _pattern("cdl_three_inside", "CDL3INSIDE", "Harami confirmed by the third bar: 1 or -1.")
three_outside = _pattern("cdl_three_outside", "CDL3OUTSIDE", "Engulfing confirmed by the third bar: 1 or -1.")
three_white_soldiers = _pattern("cdl_three_white_soldiers", "CDL3WHITESOLDIERS", "Three white soldiers: 1.")
