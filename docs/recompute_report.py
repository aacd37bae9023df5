"""Recompute the metrics of a run's report from its predictions alone: python docs/recompute_report.py RUN.

It reads RUN/predictions.parquet and uses public libraries and the definitions in docs/recompute, nothing of cnn_lstm.
So it shows that RUN/report.json follows from the forecasts: every number must agree to 1e-9, bootstraps too (same seed,
same draws). It names each metric that differs and each kind that it does not cover. It exits with 1 if one differs.
"""

import json
import sys
import warnings
from numbers import Number
from pathlib import Path

import pandas as pd
from recompute.pooled import pooled
from recompute.target import NAMES, target_report
from recompute.values import leaves, same


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
