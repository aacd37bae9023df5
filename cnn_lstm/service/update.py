"""An evening of a model in service: new bars in, forecasts out, outcomes filled in."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from cnn_lstm.data.arrow_frames import Frame
from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.sources.base import stamp
from cnn_lstm.data.stored_tables import read_table
from cnn_lstm.data.windows import Panel
from cnn_lstm.errors import require
from cnn_lstm.hints import counted, first_names
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.locks import take_folder
from cnn_lstm.model.contract import state_digest
from cnn_lstm.model.training_data import contract_with
from cnn_lstm.service.growth import Changes, Evening, grown
from cnn_lstm.service.live import LIVE, About, read_live, require_model, write_live
from cnn_lstm.service.lost_symbols import without_lost

log = logging.getLogger(__name__)
DAY = 86_400_000_000  # microseconds
TICK = np.timedelta64(1, "us")


def update_run(run: Path, predictor: Predictor, prices: Frame | MarketData, since: str | None = None) -> Changes:
    """Appends to live.parquet of a run the forecasts of every decision that is new, and fills in outcomes.

    The forecasts and their intervals are those of `Predictor.predict` on tonight's prices. Those that were issued
    before stay, whatever the prices have become. Called again with the same prices, nothing changes. A kill leaves the
    file as it was, or as it will be.

    Args:
        run: The run folder, which is locked meanwhile.
        predictor: The model of the run.
        prices: Price table that reaches back far enough for a window, better to the test part of the run; or data, of
            which the prices and the tables next to them are taken.
        since: First day of a decision, ISO, for the first update; by default all after the last bar that the fit or
            the test of the run has known.

    Returns:
        What has changed.

    Raises:
        DataError: If the prices are damaged, or too short for a window; E339, if a file of the run is.
        CheckpointError: E443, if other weights have issued the forecasts so far.
        ConfigError: E243, if another command writes in the folder; E224, if the first update began at another day.
        ResourceError: If the file cannot be written.

    Example:
        >>> print(update_run(Path("runs/mine"), predictor, prices))  # doctest: +SKIP
        2 symbols, 2 new forecasts, 2 outcomes known; 12 rows
    """
    with take_folder(run, "update", "run"):
        live = read_live(run) if (run / LIVE).is_file() else None
        model = state_digest(predictor.forecaster.state_dict())
        if live is not None:
            require_model(live, model, run)
        first = _first(run, predictor, live, since)
        panel, windows, lost = _windows(predictor, prices)
        forecasts = predictor.predict_since(panel, windows, first)
        daily, now = not bool((panel.time.astype(np.int64) % DAY).any()), utc_now()
        about = About(model, str(first))
        table, changes = grown(live, Evening(forecasts, frozenset(panel.symbols), lost, daily, now, about))
        if len(table) and (live is None or table.attrs != live.attrs or not table.equals(live)):
            write_live(run, table)
    _warn_of(changes)
    return changes


def utc_now() -> pd.Timestamp:
    """The time, in UTC and microseconds."""
    return pd.Timestamp.now("UTC").as_unit("us")


def _first(run: Path, predictor: Predictor, live: pd.DataFrame | None, since: str | None) -> np.datetime64:
    """First moment of a decision that live.parquet may hold."""
    given = None if since is None else stamp(since, "--since")
    if live is not None:
        begun = np.datetime64(About.of(live).since, "us")
        what, fix = f"--since {since}: {LIVE} begins at {str(begun)[:10]}", f"leave it out, or move {LIVE} away"
        require(given is None or given == begun, what, str(run), fix)
        return begun
    if given is not None:
        return given
    ends, judged = [np.datetime64(predictor.forecaster.contract.boundaries.end, "us")], run / "predictions.parquet"
    if judged.is_file():
        table = read_table(judged)
        ends += [table[name].max().to_datetime64() + TICK for name in ("as_of", "target_end")]
    return max(ends)


def _windows(predictor: Predictor, prices: Frame | MarketData) -> tuple[Panel, Rows, frozenset[str]]:
    """The panel of the prices, the last rows of its complete windows, and the symbols that the source has lost."""
    if not isinstance(prices, MarketData):
        return *predictor.windows(prices)[:2], frozenset()
    if (tables := prices.recipe.tables) is not None:
        predictor.keep(tables.known_future, tables.static)
    contract = predictor.forecaster.contract
    if prices.storage is None:
        read: list[pd.DataFrame] = []
        lost = without_lost(prices, contract.symbols, lambda: read.append(prices.load()))
        return *predictor.windows(read[0])[:2], lost
    prices.keep_dates(contract.boundaries)
    prices.keep_gap_limit(contract.gap_limit)
    lost = without_lost(prices, contract.symbols, prices.setup)
    contract_with(contract, prices, refuse_other_prices=False)
    return prices.panel, prices.windows, lost


def _warn_of(changes: Changes) -> None:
    """Says once what the source has changed."""
    if changes.revised:
        what = "the source has changed bars under issued forecasts, which stay"
        log.warning("[W367] %s — %s — see the column revised of %s", what, changes.revised, LIVE)
    if changes.gone:
        where = f"{first_names(changes.gone)}, {counted(len(changes.gone), 'symbol')}"
        log.warning("[W368] no bars any more — %s — the forecasts that were issued stay", where)
