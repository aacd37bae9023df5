"""Single values of a report, and whether two of them agree."""

import math
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd


def leaves(value: Any, path: str = "") -> dict:
    """Dotted path of each single value; what is not finite has no value."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {p: v for key, item in pairs for p, v in leaves(item, f"{path}.{key}").items()}
    return {path[1:]: None if isinstance(value, Number) and not math.isfinite(value) else value}


def same(a: Any, b: Any) -> bool:
    """Whether two single values agree to 1e-9."""
    both = isinstance(a, Number) and isinstance(b, Number)
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) if both else a == b


def pearson(rows: pd.DataFrame, column: str) -> float:
    """Correlation with the truth; NaN for a constant."""
    constant = rows[column].nunique() == 1 or rows["y_true"].nunique() == 1
    return math.nan if constant else float(np.corrcoef(rows["y_true"], rows[column])[0, 1])
