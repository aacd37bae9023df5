"""The encoder's embedding in place of the window: looked up, not computed, since a frozen encoder is deterministic.

Shapes: n episodes, D dates, S symbols, C columns of the table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorObservationWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from cnn_lstm.data.times import utc_or_dates, utc_times
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.rl.episodes import Observation
from cnn_lstm.rl.market import MarketVectorEnv, market_of
from cnn_lstm.rl.market_data import Integers, MarketData

EMBEDDING = re.compile(r"e\d+")


class EncoderObservation(gymnasium.ObservationWrapper[Observation, Any, Observation]):
    """Shows `embedding` next to the account, and no window.

    Give the environment `observe="account"`, so that it does not cut windows that nothing reads.

    Args:
        env: A `MarketEnv`, or wrappers around one.
        table: Embeddings: symbol, as_of and columns of numbers, as `Predictor.encode` or `cnn-lstm walk-forward`
            returns them; or a Parquet file of them.
        columns: Columns to show, for example forecasts next to the embedding; e0, e1, ... by default.

    Raises:
        ConfigError: E269, if the table lacks a column, comes from another checkpoint than the market's or from several
            networks, or the environment is not a `MarketEnv`.
        DataError: E363, if a date of an episode has no row.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], table: pd.DataFrame | str | Path, columns: Sequence[str] | None = None
    ) -> None:
        super().__init__(env)
        market = market_of(env)
        self._episodes = market.episodes
        self._values = aligned(table, self._episodes.data, columns, market.digest)
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
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any], table: pd.DataFrame | str | Path, columns: Sequence[str] | None = None
    ) -> None:
        super().__init__(env)
        market = env.unwrapped
        if not isinstance(market, MarketVectorEnv):
            what = f"{type(market).__name__} is not a MarketVectorEnv"
            raise ConfigError(what, "VectorEncoderObservation", "wrap a MarketVectorEnv", code=269)
        self._episodes = market.episodes
        self._values = aligned(table, self._episodes.data, columns, market.digest)
        self.single_observation_space = _space(env.single_observation_space, self._values)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def observations(self, observations: Any) -> Observation:
        """The accounts, (n, S * (1 + delay)), with the embeddings of their dates, (n, S * C)."""
        return {"account": observations["account"], "embedding": self._values.take(self._episodes.position, axis=0)}


def aligned(
    table: pd.DataFrame | str | Path, data: MarketData, columns: Sequence[str] | None, digest: str | None
) -> NDArray[np.float32]:
    """Columns of a table on the dates of a market.

    Args:
        table: One row per symbol and `as_of`, in any order, or a Parquet file of it.
        data: Dates and symbols.
        columns: Columns; e0, e1, ... by default.
        digest: Digest of the market's checkpoint; the table's must be the same if both are known.

    Returns:
        Values, (D, S * C), one symbol after another; NaN on dates outside of all episodes.

    Raises:
        ConfigError: E269, if a column is missing, or the table is of another checkpoint or of several networks.
        DataError: E363, if a row is missing, stands twice or is not finite.
    """
    rows = table if isinstance(table, pd.DataFrame) else pd.read_parquet(table)
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
    _require_all(values, data)
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
        fix = "keep the episodes to one fold with start and end, or show forecasts, which mean the same in all"
        raise ConfigError(what, f"folds {', '.join(map(str, sorted(folds)))}", fix, code=269)


def _positions(rows: pd.DataFrame, data: MarketData, symbol: str) -> tuple[Integers, NDArray[np.bool_]]:
    """Positions in `data.dates` of those rows of a symbol that lie on one of them, and which rows those are."""
    times = utc_times(rows["as_of"])
    at = np.minimum(np.searchsorted(data.dates, times), len(data.dates) - 1)
    known = data.dates[at] == times
    if len(np.unique(at[known])) < known.sum():
        raise DataError("two embeddings of one date", symbol, "give one row per symbol and date", code=363)
    return at[known], known


def _require_all(values: NDArray[np.float32], data: MarketData) -> None:
    """Refuses dates of episodes that have no embedding; `values` is (D, S, C)."""
    holes = ~np.isfinite(values).all(axis=2) & (data.last >= 0)[:, None]
    if holes.any():
        date, symbol = (int(number) for number in np.argwhere(holes)[0])
        where = f"{data.symbols[symbol]} @ {str(data.dates[date])[:10]}, {holes.sum():,} of {holes.size:,} in all"
        fix = "encode the same prices, or keep the episodes to the encoded dates with part, start or end"
        raise DataError("no embedding of a date that episodes can be on", where, fix, code=363)


def _space(space: spaces.Space[Any], values: NDArray[np.float32]) -> spaces.Dict:
    """The space of the account with embeddings of the width of `values`, (D, S * C)."""
    assert isinstance(space, spaces.Dict)
    embedding = spaces.Box(-np.inf, np.inf, (values.shape[1],), dtype=np.float32)
    return spaces.Dict({"account": space["account"], "embedding": embedding})
