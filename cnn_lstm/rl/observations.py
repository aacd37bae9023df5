"""The encoder's embedding in place of the window: looked up, not computed, since a frozen encoder is deterministic.

Shapes: n episodes, D dates, S symbols, C columns of the table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import gymnasium
import numpy as np
import pandas as pd
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorObservationWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from cnn_lstm.data.arrow_frames import Frame, as_pandas
from cnn_lstm.data.prices import require_table
from cnn_lstm.data.stored_tables import read_table
from cnn_lstm.data.times import utc_or_dates, utc_times
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.rl.episodes import Episodes, Observation
from cnn_lstm.rl.market import MarketVectorEnv, market_of
from cnn_lstm.rl.market_data import Integers, MarketData

EMBEDDING = re.compile(r"e\d+")
OnMissing = Literal["error", "skip"]


class EncoderObservation(gymnasium.ObservationWrapper[Observation, Any, Observation]):
    """Shows `embedding` next to the account, and no window.

    Give the environment `observe="account"`, so that it does not cut windows that nothing reads.

    Args:
        env: A `MarketEnv`, or wrappers around one.
        table: Embeddings: symbol, as_of and columns of numbers, as `Predictor.encode` or `cnn-lstm walk-forward`
            returns them; or a Parquet file of them.
        columns: Columns to show, for example forecasts next to the embedding; e0, e1, ... by default.
        on_missing: Whether a date of an episode without a row of every traded symbol is an error, or is left out of the
            episodes. Forecasts of walk-forward have no row where the label is not known: at the end of each symbol, and
            before a gap.

    Raises:
        ConfigError: E269, if the table lacks a column, comes from another checkpoint than the market's or from several
            networks, or the environment is not a `MarketEnv`.
        DataError: E363, if a date of an episode has no row, or no date has one; E362, if too few dates in a row do.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        table: Frame | str | Path,
        columns: Sequence[str] | None = None,
        on_missing: OnMissing = "error",
    ) -> None:
        super().__init__(env)
        market = market_of(env)
        self._episodes = market.episodes
        self._values = _fitted(table, self._episodes, columns, market.digest, on_missing)
        # Gymnasium declares any space
        self.observation_space: spaces.Dict = _space(env.observation_space, self._values)  # type: ignore[assignment]

    def observation(self, observation: Observation) -> Observation:
        """The account, (S * (1 + delay),), with the embedding of the date, (S * C,)."""
        return {"account": observation["account"], "embedding": self._values[self._episodes.position[0]].copy()}


class VectorEncoderObservation(VectorObservationWrapper[Observation, Any, NDArray[Any], Observation]):
    """`EncoderObservation` of many episodes at once.

    Args:
        env: A `MarketVectorEnv`.
        table: See `EncoderObservation`.
        columns: See `EncoderObservation`.
        on_missing: See `EncoderObservation`.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        table: Frame | str | Path,
        columns: Sequence[str] | None = None,
        on_missing: OnMissing = "error",
    ) -> None:
        super().__init__(env)
        market = env.unwrapped
        if not isinstance(market, MarketVectorEnv):
            what = f"{type(market).__name__} is not a MarketVectorEnv"
            raise ConfigError(what, "VectorEncoderObservation", "wrap a MarketVectorEnv", code=269)
        self._episodes = market.episodes
        self._values = _fitted(table, self._episodes, columns, market.digest, on_missing)
        self.single_observation_space = _space(env.single_observation_space, self._values)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def observations(self, observations: Any) -> Observation:
        """The accounts, (n, S * (1 + delay)), with the embeddings of their dates, (n, S * C)."""
        return {"account": observations["account"], "embedding": self._values.take(self._episodes.position, axis=0)}


def _fitted(
    table: Frame | str | Path,
    episodes: Episodes,
    columns: Sequence[str] | None,
    digest: str | None,
    on_missing: OnMissing,
) -> NDArray[np.float32]:
    """`aligned` values of all dates of episodes, which are kept to the dates of the table where that is asked for."""
    if on_missing not in get_args(OnMissing):
        fix = f"one of {', '.join(get_args(OnMissing))}"
        raise ConfigError(f"on_missing={on_missing!r}", "EncoderObservation", fix, code=269)
    values = aligned(table, episodes.data, columns, digest)
    known = np.asarray(np.isfinite(values).all(axis=1))
    if on_missing == "error":
        _require_all(known, values, episodes.data)
    elif not (known & (episodes.data.last >= 0)).any():
        inside = episodes.data.dates[episodes.data.last >= 0]
        where = f"{', '.join(episodes.data.symbols)}, {str(inside[0])[:10]} to {str(inside[-1])[:10]}"
        fix = "give a table of these symbols and dates, or keep the episodes to its dates with part, start or end"
        raise DataError("the table has no date with a row of every traded symbol", where, fix, code=363)
    else:
        episodes.keep_to(known)
    return values


def aligned(
    table: Frame | str | Path, data: MarketData, columns: Sequence[str] | None, digest: str | None
) -> NDArray[np.float32]:
    """Columns of a table on the dates of a market.

    Args:
        table: One row per symbol and `as_of`, in any order, or a Parquet file of it.
        data: Dates and symbols.
        columns: Columns; e0, e1, ... by default.
        digest: Digest of the market's checkpoint; the table's must be the same if both are known.

    Returns:
        Values, (D, S * C), one symbol after another; NaN on dates of which the table has no row.

    Raises:
        ConfigError: E269, if a column is missing, or the table is of another checkpoint or of several networks.
        DataError: E363, if a row stands twice, or its date has no time zone.
    """
    rows = read_table(table) if isinstance(table, str | Path) else require_table(as_pandas(table))
    columns = [name for name in map(str, rows) if EMBEDDING.fullmatch(name)] if columns is None else list(columns)
    missing = [name for name in ("symbol", "as_of", *columns) if name not in rows]
    if missing or not columns:
        what = f"the embeddings have no column {', '.join(missing) or 'e0'}"
        raise ConfigError(what, "EncoderObservation", "name other columns, or encode the prices", code=269)
    _require_same_checkpoint(rows, digest)
    if not isinstance(rows["as_of"].dtype, pd.DatetimeTZDtype):
        raise DataError(f"as_of is {rows['as_of'].dtype}", "", "give dates with a time zone, UTC", code=363)
    rows = rows.assign(as_of=utc_or_dates(rows["as_of"]))
    if any(EMBEDDING.fullmatch(name) for name in columns):
        _require_one_network(rows, data)
    values = np.full((len(data.dates), len(data.symbols), len(columns)), np.nan, dtype=np.float32)
    for number, symbol in enumerate(data.symbols):
        symbol_rows = rows[rows["symbol"] == symbol]
        at, known = _positions(symbol_rows, data, symbol)
        values[at, number] = symbol_rows[columns].to_numpy(dtype=np.float32)[known]
    return values.reshape(len(data.dates), -1)


def _require_same_checkpoint(rows: pd.DataFrame, digest: str | None) -> None:
    """Compares the checkpoint that `cnn-lstm encode` wrote into the table with the market's."""
    encoded = rows.attrs.get("checkpoint")
    if encoded is not None and digest is not None and encoded != digest:
        what = f"the embeddings are of checkpoint {encoded[:12]}, the market is of {digest[:12]}"
        raise ConfigError(what, "EncoderObservation", "encode the prices with the market's checkpoint", code=269)


def _require_one_network(rows: pd.DataFrame, data: MarketData) -> None:
    """Refuses embeddings of several folds: each of their networks has its own meaning for each number."""
    if "fold" not in rows:
        return
    dates = pd.DatetimeIndex(data.dates[data.last >= 0], tz="UTC")
    folds = rows.loc[rows["symbol"].isin(data.symbols) & rows["as_of"].isin(dates), "fold"].unique()
    if len(folds) > 1:
        what = f"the embeddings are of {len(folds)} folds, and each network has coordinates of its own"
        fix = "show a0, a1, ..., which walk-forward has aligned, or keep the episodes to one fold with start and end"
        raise ConfigError(what, f"folds {', '.join(map(str, sorted(folds)))}", fix, code=269)


def _positions(rows: pd.DataFrame, data: MarketData, symbol: str) -> tuple[Integers, NDArray[np.bool_]]:
    """Positions in `data.dates` of those rows of a symbol that lie on one of them, and which rows those are."""
    times = utc_times(rows["as_of"])
    at = np.minimum(np.searchsorted(data.dates, times), len(data.dates) - 1)
    known = data.dates[at] == times
    if len(np.unique(at[known])) < known.sum():
        raise DataError("two embeddings of one date", symbol, "give one row per symbol and date", code=363)
    return at[known], known


def _require_all(known: NDArray[np.bool_], values: NDArray[np.float32], data: MarketData) -> None:
    """Refuses dates of episodes that have no embedding; `known` is (D,), `values` (D, S * C)."""
    if (~known & (data.last >= 0)).any():
        by_symbol = values.reshape(len(data.dates), len(data.symbols), -1)
        holes = ~np.isfinite(by_symbol).all(axis=2) & (data.last >= 0)[:, None]
        date, symbol = (int(number) for number in np.argwhere(holes)[0])
        where = f"{data.symbols[symbol]} @ {str(data.dates[date])[:10]}, {holes.sum():,} of {holes.size:,} in all"
        fix = 'encode the same prices, or leave such dates out: on_missing="skip", or part, start or end'
        raise DataError("no embedding of a date that episodes can be on", where, fix, code=363)


def _space(space: spaces.Space[Any], values: NDArray[np.float32]) -> spaces.Dict:
    """The space of the account with embeddings of the width of `values`, (D, S * C)."""
    assert isinstance(space, spaces.Dict)
    embedding = spaces.Box(-np.inf, np.inf, (values.shape[1],), dtype=np.float32)
    return spaces.Dict({"account": space["account"], "embedding": embedding})
