"""The encoder's embedding in place of the window: looked up, not computed, since a frozen encoder always says the same.

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

from cnn_lstm.data.times import utc_times
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.rl.bars import Bars, Integers
from cnn_lstm.rl.episodes import Episodes, Observation
from cnn_lstm.rl.market import MarketEnv, MarketVectorEnv

EMBEDDING = re.compile(r"e\d+")


class EncoderObservation(gymnasium.ObservationWrapper[Observation, Any, Observation]):
    """Shows `embedding` beside the account, and no window.

    Give the environment `observe="account"`, so that no window is cut for nothing.

    Args:
        env: A `MarketEnv`, or wrappers around one.
        table: Embeddings: symbol, as_of and columns of numbers, as `Predictor.encode` or `cnn-lstm walk-forward` give
            them; or a Parquet file.
        columns: Columns to show, for example forecasts beside the embedding; e0, e1, ... by default.

    Raises:
        ConfigError: E269, if the table lacks a column, is of another checkpoint than the market or of several
            networks, or the environment is no market.
        DataError: E363, if a date on which an episode can be has no row.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], table: pd.DataFrame | str | Path, columns: Sequence[str] | None = None
    ) -> None:
        super().__init__(env)
        if not isinstance(env.unwrapped, MarketEnv):
            raise _no_market(env.unwrapped)
        self._episodes = env.unwrapped.episodes
        self._values = aligned(table, self._episodes.bars, columns, env.unwrapped.digest)
        self.observation_space: spaces.Dict = _space(env.observation_space, self._values)  # type: ignore[assignment]

    def observation(self, observation: Observation) -> Observation:
        """The account with the embedding of the date."""
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
        if not isinstance(env.unwrapped, MarketVectorEnv):
            raise _no_market(env.unwrapped)
        self._episodes: Episodes = env.unwrapped.episodes
        self._values = aligned(table, self._episodes.bars, columns, env.unwrapped.digest)
        self.single_observation_space = _space(env.single_observation_space, self._values)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def observations(self, observations: Any) -> Observation:
        """The accounts with the embeddings of their dates, (n, S * C)."""
        return {"account": observations["account"], "embedding": self._values.take(self._episodes.position, axis=0)}


def aligned(
    table: pd.DataFrame | str | Path, bars: Bars, columns: Sequence[str] | None = None, digest: str | None = None
) -> NDArray[np.float32]:
    """Columns of a table on the dates of a market.

    Args:
        table: One row for each symbol and `as_of`, in any order, or a Parquet file of it.
        bars: Dates and symbols.
        columns: Columns; e0, e1, ... by default.
        digest: Of the market's checkpoint; the table's must be the same where both are known.

    Returns:
        Values, (D, S * C), one symbol behind another; NaN on dates on which no episode can be.

    Raises:
        ConfigError: E269, a column is missing, or the table is of another checkpoint or of several networks.
        DataError: E363, a row is missing, stands twice or is not finite.
    """
    rows = table if isinstance(table, pd.DataFrame) else pd.read_parquet(table)
    columns = [name for name in map(str, rows) if EMBEDDING.fullmatch(name)] if columns is None else list(columns)
    missing = [name for name in ("symbol", "as_of", *columns) if name not in rows]
    if missing or not columns:
        raise ConfigError(f"the embeddings have no column {', '.join(missing) or 'e0'}", "", "name others", code=269)
    _require_same_checkpoint(rows, digest)
    if any(EMBEDDING.fullmatch(name) for name in columns):
        _require_one_network(rows, bars)
    values = np.full((len(bars.dates), len(bars.symbols), len(columns)), np.nan, dtype=np.float32)
    for number, symbol in enumerate(bars.symbols):
        own = rows[rows["symbol"] == symbol]
        at, known = _positions(own, bars, symbol)
        values[at, number] = own[columns].to_numpy(dtype=np.float32)[known]
    _require_all(values, bars)
    return values.reshape(len(bars.dates), -1)


def _require_same_checkpoint(rows: pd.DataFrame, digest: str | None) -> None:
    """Compares what `cnn-lstm encode` wrote into the table with the market's checkpoint."""
    own = rows.attrs.get("checkpoint")
    if own is not None and digest is not None and own != digest:
        raise ConfigError(
            f"the embeddings are of checkpoint {own[:12]}, the market is of {digest[:12]}",
            "EncoderObservation",
            "encode the prices with the market's checkpoint",
            code=269,
        )


def _require_one_network(rows: pd.DataFrame, bars: Bars) -> None:
    """Refuses embeddings of several folds: a number means something else in each of their networks."""
    if "fold" not in rows:
        return
    dates = pd.DatetimeIndex(bars.dates[bars.last >= 0], tz="UTC")
    folds = rows.loc[rows["symbol"].isin(bars.symbols) & rows["as_of"].isin(dates), "fold"].unique()
    if len(folds) > 1:
        raise ConfigError(
            f"the embeddings are of {len(folds)} folds, and each network has coordinates of its own",
            f"folds {', '.join(map(str, sorted(folds)))}",
            "keep the episodes to one fold with start and end, or show forecasts, which mean the same in all",
            code=269,
        )


def _positions(own: pd.DataFrame, bars: Bars, symbol: str) -> tuple[Integers, NDArray[np.bool_]]:
    """Dates that a symbol's rows belong to, and which rows those are."""
    if not isinstance(own["as_of"].dtype, pd.DatetimeTZDtype):
        raise DataError(f"as_of is {own['as_of'].dtype}", symbol, "give dates with a time zone, UTC", code=363)
    times = utc_times(own["as_of"])
    at = np.minimum(np.searchsorted(bars.dates, times), len(bars.dates) - 1)
    known = bars.dates[at] == times
    if len(np.unique(at[known])) < known.sum():
        raise DataError("two embeddings of one date", symbol, "give one row for each symbol and date", code=363)
    return at[known], known


def _require_all(values: NDArray[np.float32], bars: Bars) -> None:
    """Refuses a date without an embedding before an episode comes upon it."""
    holes = ~np.isfinite(values).all(axis=2) & (bars.last >= 0)[:, None]
    if holes.any():
        date, symbol = (int(number) for number in np.argwhere(holes)[0])
        raise DataError(
            "no embedding of a date that episodes can be on",
            f"{bars.symbols[symbol]} @ {str(bars.dates[date])[:10]}, {holes.sum():,} of {holes.size:,} in all",
            "encode the same prices, or keep the episodes to the encoded dates with part, start or end",
            code=363,
        )


def _space(space: spaces.Space[Any], values: NDArray[np.float32]) -> spaces.Dict:
    assert isinstance(space, spaces.Dict)
    return spaces.Dict(
        {
            "account": space["account"],
            "embedding": spaces.Box(-np.inf, np.inf, (values.shape[1],), dtype=np.float32),
        }
    )


def _no_market(env: object) -> ConfigError:
    return ConfigError(f"{type(env).__name__} is no market of ours", "EncoderObservation", "wrap a MarketEnv", code=269)
