"""`cnn-lstm data describe|check`: what the data module would build, and every defect of the table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.panel_checks import muted_features
from cnn_lstm.data.windows import Panel
from cnn_lstm.errors import ConfigError
from cnn_lstm.runs.config import guard_parser
from cnn_lstm.runs.forecast_cli import ForecastCLI, quiet

USAGE = """usage: cnn-lstm data describe|check --config FILE [--data.KEY VALUE ...]

describe   symbols, dates, rows, windows of each part, features, targets
check      every defect of the price table; exit code 3 if one is fatal
"""


def run(words: list[str]) -> None:
    """Runs `data describe` or `data check`.

    Args:
        words: `data`, the verb, and the arguments of `fit` that choose the data.
    """
    if len(words) < 2 or words[1] in ("-h", "--help"):
        print(USAGE, end="")
        return
    if words[1] not in ("describe", "check"):
        raise ConfigError(f"unknown verb {words[1]!r}", "cnn-lstm data", "one of describe, check", code=225)
    quiet()
    guard_parser()
    data = ForecastCLI(["fit", *words[2:]], run=False).build_data()
    print(describe(data) if words[1] == "describe" else check(data), end="")


def check(data: MarketDataModule) -> str:
    """Warnings of the price table are logged; its fatal defects are raised, all at once."""
    data.setup()
    rows, symbols, warnings = len(data.panel), len(data.panel.symbols), len(data.checked.warnings)
    return f"{rows:,} rows, symbols: {symbols}, warnings: {warnings}, no fatal defect\n"


def describe(data: MarketDataModule) -> str:
    """Everything that a fit would be built from, as text."""
    data.setup()
    blocks = {
        "symbols": _symbols(data),
        "parts": _parts(data),
        f"features ({data.n_features}, window {data.recipe.window})": _features(data),
        "targets over the training rows": _targets(data),
    }
    text = "".join(f"{title}\n{table.to_string(index=False)}\n\n" for title, table in blocks.items())
    return f"{text}purged rows: {data.parts.purged}\ndata SHA-256: {data.fingerprint}\n"


def _symbols(data: MarketDataModule) -> pd.DataFrame:
    panel = data.panel
    lines = []
    for code, symbol in enumerate(panel.symbols):
        rows = np.flatnonzero(panel.symbol == code)
        windows = int(np.isin(data.windows, rows).sum())
        days = panel.time[rows]
        lines.append((symbol, len(rows), windows, _day(days[0]), _day(days[-1]), len(set(panel.segment[rows]))))
    return pd.DataFrame(lines, columns=["symbol", "rows", "windows", "first", "last", "gap-free stretches"])


def _parts(data: MarketDataModule) -> pd.DataFrame:
    lines = []
    for name in ("train", "validation", "test"):
        rows = getattr(data.parts, name)
        days = data.panel.time[rows]
        lines.append((name, len(rows), _day(days.min()), _day(days.max())))
    return pd.DataFrame(lines, columns=["part", "windows", "first decision", "last decision"])


def _features(data: MarketDataModule) -> pd.DataFrame:
    muted = muted_features(data.statistics, data.recipe.features)
    lines = [
        (name, _first_valid(data.panel, k), float(loc), "muted: constant" if name in muted else f"{float(scale):.4g}")
        for k, (name, loc, scale) in enumerate(
            zip(data.recipe.features, data.statistics.x_loc, data.statistics.x_scale, strict=True)
        )
    ]
    return pd.DataFrame(lines, columns=["feature", "first valid row", "location", "scale"])


def _first_valid(panel: Panel, column: int) -> str:
    """Row within its symbol at which a feature is first known, and its date, for the symbol that is latest."""
    first: tuple[int, str] = (0, "")
    for code in range(len(panel.symbols)):
        rows = np.flatnonzero(panel.symbol == code)
        finite = np.flatnonzero(torch.isfinite(panel.values[torch.from_numpy(rows), column]).numpy())
        first = max(first, (int(finite[0]), _day(panel.time[rows[finite[0]]])) if len(finite) else (len(rows), "never"))
    return f"{first[0]} ({first[1]})"


def _targets(data: MarketDataModule) -> pd.DataFrame:
    labels = data.panel.labels[torch.from_numpy(data.parts.train)].double()
    lines = []
    for k, target in enumerate(data.targets):
        y = labels[:, k]
        moments = [float(v) for v in (y.mean(), y.std(), y.min(), y.max())]
        lines.append((target.name, target.unit, f"(t+{target.delay}, t+{target.reach}]", *moments))
    return pd.DataFrame(lines, columns=["target", "unit", "rows", "mean", "std", "min", "max"])


def _day(stamp: np.datetime64) -> str:
    return str(stamp)[:16].replace("T00:00", "")
