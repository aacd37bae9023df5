"""What agents are shown of a market: windows, embeddings or forecasts, and of whose training they know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import pandas as pd
import pyarrow as pa

from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import Contract
from cnn_lstm.rl.bars import Part
from cnn_lstm.rl.market import MarketEnv
from cnn_lstm.rl.observations import EncoderObservation
from cnn_lstm.rl.settings import AgentSettings, EncoderSettings, MarketSettings

Dates = tuple[pd.Timestamp, pd.Timestamp]


def require_read(market: MarketSettings, agent: AgentSettings) -> None:
    """Refuses settings that nothing would read.

    Args:
        market: The market's.
        agent: The agent's.

    Raises:
        ConfigError: E270.
    """
    if market.see != "window" and agent.encoder not in (None, EncoderSettings()):
        raise ConfigError(
            f"see {market.see} puts no encoder into the policy", "agent.encoder", "set market.see window", code=270
        )
    if market.see != "forecast" and market.forecasts is not None:
        raise ConfigError(
            f"see {market.see} shows no forecasts", "market.forecasts", "set market.see forecast", code=270
        )


def shown_table(settings: MarketSettings, checkpoint: Path, prices: pd.DataFrame) -> pd.DataFrame | None:
    """What is shown of each symbol and date, with `train_first` and `train_last` of the model that it comes from.

    Args:
        settings: The market's.
        checkpoint: The forecaster's.
        prices: Its price table.

    Returns:
        symbol, as_of, train_first, train_last and the shown columns; null where the window is shown.

    Raises:
        ConfigError: E270, if forecasts are to be shown and none are given.
        DataError: If they cannot be read, or there are two of one date.
    """
    if settings.see == "window":
        return None
    if settings.see == "embedding":
        predictor = Predictor.from_checkpoint(checkpoint)
        first, last = _trained(predictor.forecaster.contract)
        return predictor.encode(prices).assign(train_first=first, train_last=last)
    if settings.forecasts is None:
        raise ConfigError("no forecasts to show", "market.forecasts", "name those of walk-forward", code=270)
    table = _forecasts(Path(settings.forecasts))
    keys = ["symbol", "as_of", "train_first", "train_last"]
    missing = [name for name in (*keys, "target", "y_pred") if name not in table]
    if missing:
        raise ConfigError(
            f"the forecasts have no column {', '.join(missing)}",
            settings.forecasts,
            "give predictions.parquet of walk-forward",
            code=270,
        )
    twice = table.duplicated(["symbol", "as_of", "target"])
    if twice.any():
        row = table[twice].iloc[0]
        where = f"{settings.forecasts}: {row['symbol']} @ {row['as_of']}, {int(twice.sum()):,} rows"
        raise DataError("two forecasts of one date", where, "give predictions.parquet of walk-forward", code=363)
    wide = table.pivot(index=keys, columns="target", values="y_pred")
    return wide.add_prefix("y_pred__").rename_axis(columns=None).reset_index()


def _forecasts(file: Path) -> pd.DataFrame:
    """A predictions table.

    Raises:
        DataError: If there is no such file, or it is no Parquet.
    """
    if not file.is_file():
        what = "a folder, not a file" if file.is_dir() else "no such file"
        raise DataError(what, f"market.forecasts: {file}", "name predictions.parquet of walk-forward", code=301)
    try:
        return pd.read_parquet(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"no intact Parquet file: {reason}", str(file), "write it again", code=339) from error


def _trained(contract: Contract) -> Dates:
    """First and last training date of a checkpoint; all dates where it does not say."""
    training = contract.training
    first, last = (training.first, training.last) if training else (pd.Timestamp.min, pd.Timestamp.max)
    return pd.Timestamp(first, tz="UTC"), pd.Timestamp(last, tz="UTC")


def trained_dates(market: MarketSettings, agent: AgentSettings, checkpoint: Path) -> Dates | None:
    """Training dates of the encoder that reads the windows inside the policy; null without one that was trained."""
    if market.see != "window" or agent.encoder is None or not agent.encoder.pretrained:
        return None
    return _trained(Contract.of(read_checkpoint(checkpoint)))


def columns_of(table: pd.DataFrame) -> list[str]:
    """The columns that are shown."""
    return [name for name in map(str, table) if name not in ("symbol", "as_of", "train_first", "train_last")]


def make_market(
    settings: MarketSettings,
    checkpoint: Path,
    prices: pd.DataFrame,
    shown: pd.DataFrame | None,
    *,
    part: Part,
    episode_length: int | None,
) -> gymnasium.Env[Any, Any]:
    """The environment of one agent.

    Args:
        settings: The market's.
        checkpoint: The forecaster's, for features, window and parts.
        prices: Its price table.
        shown: See `shown_table`.
        part: Where episodes lie.
        episode_length: Steps of an episode; the whole part by default.
    """
    # forecasts of walk-forward begin where its first fold is tested
    start = None if shown is None or settings.see == "embedding" else shown["as_of"].min().isoformat()
    market = MarketEnv(
        prices,
        symbols=settings.symbols,
        checkpoint=checkpoint,
        part=part,
        start=start,
        observe="window" if shown is None else "account",
        actions=settings.actions,
        positions=settings.positions,
        delay=settings.delay,
        fee_bp=settings.fee_bp,
        slippage_bp=settings.slippage_bp,
        reward=settings.reward,
        episode_length=episode_length,
    )
    return market if shown is None else EncoderObservation(market, shown, columns_of(shown))


def seen_in_training(env: gymnasium.Env[Any, Any], shown: pd.DataFrame | None, trained: Dates | None = None) -> int:
    """How many rows on dates of episodes are shown by a model that was trained on those very dates.

    Args:
        env: See `make_market`.
        shown: See `shown_table`.
        trained: See `trained_dates`.
    """
    market: MarketEnv = env.unwrapped  # type: ignore[assignment]  # Gymnasium's is any environment
    bars = market.episodes.bars
    dates = pd.DatetimeIndex(bars.dates[bars.last >= 0], tz="UTC")
    if shown is None:
        inside = 0 if trained is None else int(((trained[0] <= dates) & (dates <= trained[1])).sum())
        return inside * len(bars.symbols)
    rows = shown[shown["symbol"].isin(bars.symbols) & shown["as_of"].isin(dates)]
    return int(((rows["train_first"] <= rows["as_of"]) & (rows["as_of"] <= rows["train_last"])).sum())


def require_unseen(
    env: gymnasium.Env[Any, Any], shown: pd.DataFrame | None, part: Part, trained: Dates | None = None
) -> None:
    """Refuses what a model says of its own training dates.

    Args:
        env: See `make_market`.
        shown: See `shown_table`.
        part: The part of the environment; in the test part nothing but forecasts out of sample will do.
        trained: See `trained_dates`.

    Raises:
        ConfigError: E270.
    """
    count = seen_in_training(env, shown, trained)
    if count:
        fix = "show forecasts of walk-forward, learn on the validation part, or set market.in_sample true"
        raise ConfigError(
            f"{count:,} shown rows lie in the training part of their own model: they look better than they are",
            f"{part} part",
            "show forecasts of walk-forward whose training ends before their dates" if part == "test" else fix,
            code=270,
        )
