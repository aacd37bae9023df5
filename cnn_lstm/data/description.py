"""What a data module would build, as text: symbols, parts, features, targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from cnn_lstm.data.mapped import MappedPanel
from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.panel_checks import muted_features
from cnn_lstm.data.panel_key import Request
from cnn_lstm.data.symbol_codes import SYMBOL_CODE
from cnn_lstm.data.times import time_text
from cnn_lstm.data.windows import Panel
from cnn_lstm.errors import ConfigError, DefectsError
from cnn_lstm.hints import counted


def check_text(data: MarketData) -> str:
    """Rows, symbols and warnings of a price table; its fatal defects are raised, all at once.

    Args:
        data: The data module, which is set up here and logs its warnings.

    Raises:
        DefectsError: If a defect is fatal.
    """
    data.setup()
    rows, symbols, warnings = (
        len(data.panel),
        len(data.panel.symbols),
        sum(text.startswith("[W") for _, text in data.messages),
    )
    return f"{counted(rows, 'row')}, symbols: {symbols}, warnings: {warnings}, no fatal defect\n"


def check_plain(data: MarketData) -> dict[str, Any]:
    """What `data check --json` prints: rows, symbols, and every defect with its code; fatal ones raise nothing here.

    Args:
        data: The data module, which is set up here.

    Returns:
        `rows` and `symbols`, None where a defect is fatal, and `defects`, each with `code`, `what`, `where`, `fix` and
        `fatal`.

    Example:
        >>> check_plain(MarketData())["defects"]
        []
    """
    try:
        data.setup()
    except DefectsError as error:
        defects = [
            {"code": f"E{one.code}", "what": one.what, "where": one.where, "fix": one.fix, "fatal": True}
            for one in error.defects
        ]
        return {"rows": None, "symbols": None, "defects": defects}
    defects = [_warned(text) for _, text in data.messages if text.startswith("[W")]
    return {"rows": len(data.panel), "symbols": len(data.panel.symbols), "defects": defects}


def _warned(text: str) -> dict[str, Any]:
    """A warning of ours in its parts."""
    code, _, rest = text[1:].partition("] ")
    what, where, fix = [*rest.split(" — "), "", ""][:3]
    return {"code": code, "what": what, "where": where, "fix": fix, "fatal": False}


def build_text(data: MarketData) -> str:
    """Makes the panel of a data module in the folder of its storage, or checks the one that is there.

    Args:
        data: The data module, which is set up here.

    Raises:
        ConfigError: E277, if its panel is kept in memory.
        DataError: E356, if a file is damaged.
    """
    storage = data.storage
    if not isinstance(storage, MappedPanel):
        fix = "give data.storage, see docs/large_data.md"
        raise ConfigError("nothing to build: the panel is kept in memory", "data.storage", fix, code=277)
    asked = Request(data.source, data.symbols, data.start, data.end), data.recipe, data.targets
    was_whole = storage.is_whole(*asked)
    data.setup()
    rows, symbols, windows = len(data.panel), len(data.panel.symbols), len(data.windows)
    done = "whole, every checksum is right" if was_whole else "built"
    return f"{counted(rows, 'row')}, {counted(symbols, 'symbol')}, {counted(windows, 'window')}: {done}\n"


def description(data: MarketData) -> str:
    """Everything that a fit would be built from, as text.

    Args:
        data: The data module, which is set up here.
    """
    data.setup()
    blocks = {
        "symbols": _symbols(data),
        "parts": _parts(data),
        f"features ({data.n_features}, window {data.recipe.window})": _features(data),
        "targets over the training rows": _targets(data),
    }
    text = "".join(f"{title}\n{table.to_string(index=False)}\n\n" for title, table in blocks.items())
    return f"{text}purged rows: {data.parts.purged}\ndata SHA-256: {data.fingerprint}\n"


def description_plain(data: MarketData) -> dict[str, Any]:
    """What `data describe --json` prints: the same tables in plain values.

    Args:
        data: The data module, which is set up here.

    Returns:
        `symbols`, `parts`, `features` and `targets`, each a list of rows by column, `window`, `purged` and `sha256`.

    Example:
        >>> description_plain(MarketData(window=30))["parts"][0]["part"]
        'train'
    """
    data.setup()
    tables = {"symbols": _symbols(data), "parts": _parts(data), "features": _features(data), "targets": _targets(data)}
    plain: dict[str, Any] = {name: _records(table) for name, table in tables.items()}
    return plain | {"window": data.recipe.window, "purged": int(data.parts.purged), "sha256": data.fingerprint}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    named = table.rename(columns=lambda name: str(name).replace(" ", "_").replace("-", "_"))
    return [{str(key): value for key, value in row.items()} for row in named.to_dict("records")]


def _symbols(data: MarketData) -> pd.DataFrame:
    panel = data.panel
    windows = np.diff(panel.edges_among(data.windows))
    lines = []
    for code, symbol in enumerate(panel.symbols):
        days, segment = panel.time[panel.rows_of(code)], panel.segment[panel.rows_of(code)]
        stretches = int(segment[-1] - segment[0]) + 1
        lines.append((symbol, len(days), int(windows[code]), time_text(days[0]), time_text(days[-1]), stretches))
    return pd.DataFrame(lines, columns=["symbol", "rows", "windows", "first", "last", "gap-free stretches"])


def _parts(data: MarketData) -> pd.DataFrame:
    lines = []
    for name, rows in data.parts.by_name.items():
        days = data.panel.time[rows]
        lines.append((name, len(rows), time_text(days.min()), time_text(days.max())))
    return pd.DataFrame(lines, columns=["part", "windows", "first decision", "last decision"])


def _features(data: MarketData) -> pd.DataFrame:
    muted = muted_features(data.statistics, data.recipe.features, data.recipe.codes)
    location, scales = data.statistics.of_all_symbols
    lines = []
    for k, name in enumerate(data.recipe.features):
        scale = "muted: constant" if name in muted else f"{float(scales[k]):.4g}"
        if name == SYMBOL_CODE:
            scale = f"its own for {len(data.statistics.codes)} of {counted(len(data.panel.symbols), 'symbol')}"
        elif categories := int((data.statistics.categories[:, 0] == k).sum()):
            scale = f"embedded, categories: {categories}"
        lines.append((name, _first_valid(data.panel, k), float(location[k]), scale))
    return pd.DataFrame(lines, columns=["feature", "first valid row", "location", "scale"])


def _first_valid(panel: Panel, column: int) -> str:
    """Row within its symbol at which a feature is first known, and its date, for the symbol that is latest."""
    first: tuple[int, str] = (0, "")
    for code in range(len(panel.symbols)):
        rows = panel.rows_of(code)
        values, days = panel.values[rows, column], panel.time[rows]
        finite = np.flatnonzero(torch.isfinite(values).numpy())
        first = max(first, (int(finite[0]), time_text(days[finite[0]])) if len(finite) else (len(days), "never"))
    return f"{first[0]} ({first[1]})"


def _targets(data: MarketData) -> pd.DataFrame:
    labels = data.panel.labels[torch.from_numpy(data.parts.train)].double()
    lines = []
    for target, y in zip(data.targets, labels.T, strict=True):
        moments = [float(v) for v in (y.mean(), y.std(), y.min(), y.max())]
        lines.append((target.name, target.unit, f"(t+{target.delay}, t+{target.reach}]", *moments))
    return pd.DataFrame(lines, columns=["target", "unit", "rows", "mean", "std", "min", "max"])
