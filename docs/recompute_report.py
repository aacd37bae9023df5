"""Recompute the metrics of a run's report from its predictions alone: python docs/recompute_report.py RUN.

It reads RUN/predictions.parquet and uses public libraries and the definitions in docs/recompute, nothing of cnn_lstm.
So it shows that RUN/report.json follows from the forecasts: every number must agree to 1e-9, bootstraps too (same seed,
same draws). It names each metric that differs and each kind that it does not cover. It exits with 1 if one differs.
"""

import json
import math
import sys
import warnings
from numbers import Number
from pathlib import Path
from typing import Any

import pandas as pd
from recompute.pooled import pooled
from recompute.target import NAMES, target_report


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


def main(run: Path) -> bool:
    """Compares the recomputed metrics with the reported ones; True if none differs."""
    warnings.simplefilter("ignore")  # of metrics that have no value, as the correlation of a constant
    table = pd.read_parquet(run / "predictions.parquet")
    reported = leaves(json.loads((run / "report.json").read_text()))
    redone = {name: target_report(table, name, about) for name, about in table.attrs["targets"].items()}
    redone = leaves({"format": 1, "settings": table.attrs["settings"], "targets": redone} | pooled(table, NAMES))
    wrong = [path for path in redone if not same(redone[path], reported.get(path, "nothing"))]
    for path in wrong:
        print(f"{path}: reported {reported.get(path, 'nothing')}, recomputed {redone[path]}")
    left = [path for path, value in reported.items() if isinstance(value, Number) and path not in redone]
    kinds = sorted({[part for part in path.split(".") if not part.isdigit()][-1] for path in left})
    print(f"{len(redone) - len(wrong)} metrics are equal, {len(wrong)} differ, {len(left)} are not covered: {kinds}")
    return not wrong


if __name__ == "__main__":
    sys.exit(0 if main(Path(sys.argv[1])) else 1)
