"""What agents see of a market: windows, embeddings or forecasts, and the training dates of the model they come from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import pandas as pd

from cnn_lstm.data.stored_tables import read_table
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.hints import counted
from cnn_lstm.inference.given_tables import GivenTables
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import Contract
from cnn_lstm.rl.market import market_of
from cnn_lstm.rl.market_data import Part
from cnn_lstm.rl.settings import AgentSettings, EncoderSettings, MarketSettings

Dates = tuple[pd.Timestamp, pd.Timestamp]
KEYS = ["symbol", "as_of", "train_first", "train_last"]
WALK_FORWARD = "give predictions.parquet of walk-forward"
QUANTILE, CLASS = re.compile(r"q\d+(\.\d)?"), re.compile(r"p\d+")
INTERVAL, ALIGNED = re.compile(r"lower_\d+"), re.compile(r"a\d+")


@dataclass(frozen=True)
class AgentInputs:
    """What agents see next to their account.

    Attributes:
        table: `symbol`, `as_of`, `train_first` and `train_last` of the model, and the columns that agents see, one row
            per symbol and date; None where agents see the windows themselves.
        trained: First and last training date of a pretrained encoder that reads the windows inside the policy; None
            without such an encoder.
    """

    table: pd.DataFrame | None
    trained: Dates | None

    @property
    def columns(self) -> list[str]:
        """The columns that agents see; empty where they see windows."""
        return [] if self.table is None else [name for name in map(str, self.table) if name not in KEYS]

    def before(self, date: pd.Timestamp | None) -> AgentInputs:
        """The same without the rows from a date on.

        Args:
            date: The date; None for all rows.
        """
        if self.table is None or date is None:
            return self
        return replace(self, table=self.table[self.table["as_of"] < date])

    def in_sample_rows(self, env: gymnasium.Env[Any, Any]) -> int:
        """How many rows on dates of episodes come from a model that was trained on those very dates.

        Args:
            env: A `MarketEnv`, or wrappers around one.
        """
        data = market_of(env).episodes.data
        dates = pd.DatetimeIndex(data.dates[data.last >= 0], tz="UTC")
        if self.table is None:
            if self.trained is None:
                return 0
            return int(((self.trained[0] <= dates) & (dates <= self.trained[1])).sum()) * len(data.symbols)
        rows = self.table[self.table["symbol"].isin(data.symbols) & self.table["as_of"].isin(dates)]
        return int(((rows["train_first"] <= rows["as_of"]) & (rows["as_of"] <= rows["train_last"])).sum())

    def require_out_of_sample(self, env: gymnasium.Env[Any, Any], part: Part) -> None:
        """Refuses what a model says of its own training dates.

        Args:
            env: A `MarketEnv`, or wrappers around one.
            part: Its part; in the test part only forecasts out of sample can help.

        Raises:
            ConfigError: E270.
        """
        if count := self.in_sample_rows(env):
            what = f"{count:,} shown rows lie in the training part of their own model: they look better than they are"
            fix = "show forecasts of walk-forward, learn on the validation part, or set market.in_sample true"
            if part == "test":
                fix = "show forecasts of walk-forward whose training ends before their dates"
            raise ConfigError(what, f"{part} part", fix, code=270)


def read_inputs(
    market: MarketSettings, agent: AgentSettings, checkpoint: Path, prices: pd.DataFrame, tables: GivenTables
) -> AgentInputs:
    """What agents of these settings see.

    Args:
        market: Settings of the market.
        agent: Settings of the agents.
        checkpoint: Checkpoint of the forecaster.
        prices: Its price table.
        tables: What it reads next to the prices.

    Raises:
        ConfigError: E270, if forecasts are to be shown and there are none, or they lack a column, an uncertainty or
            aligned embeddings of the same models.
        DataError: If the forecasts cannot be read, or there are two of one date.
    """
    if market.see == "forecast":
        forecasts = _forecasts(market.forecasts, market.uncertainty)
        return AgentInputs(_with_embeddings(forecasts, market.embeddings), None)
    if market.see == "embedding":
        predictor = predictor_of(checkpoint, tables)
        first, last = _training_dates(predictor.forecaster.contract)
        return AgentInputs(predictor.encode(prices).assign(train_first=first, train_last=last), None)
    if agent.encoder is None or not agent.encoder.pretrained:
        return AgentInputs(None, None)
    return AgentInputs(None, _training_dates(Contract.of(read_checkpoint(checkpoint))))


def predictor_of(checkpoint: Path, tables: GivenTables) -> Predictor:
    """The forecaster behind agents, with what it reads next to the prices.

    Args:
        checkpoint: Its checkpoint, which may have expired.
        tables: What it reads next to the prices.
    """
    predictor = Predictor.from_checkpoint(checkpoint, allow_expired=True)
    return predictor.keep(tables.known_future, tables.static, tables.open_end)


def require_used(market: MarketSettings, agent: AgentSettings) -> None:
    """Refuses settings that would have no effect.

    Args:
        market: Settings of the market.
        agent: Settings of the agents.

    Raises:
        ConfigError: E270.
    """
    if market.see != "window" and agent.encoder not in (None, EncoderSettings()):
        what = f"see {market.see} puts no encoder into the policy"
        raise ConfigError(what, "agent.encoder", "set market.see window", code=270)
    if market.see == "forecast":
        return
    for name in ("forecasts", "embeddings", "uncertainty"):
        if getattr(market, name):
            what = f"see {market.see} shows no forecasts"
            raise ConfigError(what, f"market.{name}", "set market.see forecast", code=270)


def _forecasts(file: str | None, uncertainty: bool) -> pd.DataFrame:
    """Forecasts of walk-forward, one row per symbol and date, with one column y_pred__TARGET per target.

    With `uncertainty` there is a column uncertainty__TARGET, too.
    """
    if file is None:
        raise ConfigError("no forecasts to show", "market.forecasts", "name those of walk-forward", code=270)
    table = _read(file, "forecasts", "predictions.parquet", (*KEYS, "target", "y_pred"))
    twice = table.duplicated(["symbol", "as_of", "target"])
    if twice.any():
        row = table[twice].iloc[0]
        where = f"{file}: {row['symbol']} @ {row['as_of']}, {counted(int(twice.sum()), 'row')}"
        raise DataError("two forecasts of one date", where, WALK_FORWARD, code=363)
    shown = ["y_pred"]
    if uncertainty:
        spreads = [_uncertainty(rows, file) for _, rows in table.groupby("target", sort=False)]
        table, shown = table.assign(uncertainty=pd.concat(spreads)), ["y_pred", "uncertainty"]
    wide = [table.pivot(index=KEYS, columns="target", values=name).add_prefix(f"{name}__") for name in shown]
    return pd.concat(wide, axis=1).rename_axis(columns=None).reset_index()


def _read(file: str, kind: str, name: str, needed: Sequence[str]) -> pd.DataFrame:
    """A table of walk-forward that has some columns."""
    if not Path(file).is_file():
        what = "a folder, not a file" if Path(file).is_dir() else "no such file"
        raise DataError(what, f"market.{kind}: {file}", f"name {name} of walk-forward", code=301)
    table = read_table(file)
    missing = [column for column in needed if column not in table]
    if missing:
        what = f"the {kind} have no column {', '.join(missing)}"
        raise ConfigError(what, file, f"give {name} of walk-forward", code=270)
    return table


def _uncertainty(rows: pd.DataFrame, file: str) -> pd.Series:
    """Uncertainty of the forecasts of one target, (n,), as their head gives it.

    The standard deviation; half the width between the outermost quantiles; the probability that the likeliest class is
    wrong; the spread of an ensemble; else half the width of the widest interval.
    """
    known = {str(name): rows[name] for name in rows if rows[name].notna().all()}
    quantiles = sorted((name for name in known if QUANTILE.fullmatch(name)), key=lambda name: float(name[1:]))
    classes = [values for name, values in known.items() if CLASS.fullmatch(name)]
    intervals = [name for name in known if INTERVAL.fullmatch(name) and name.replace("lower", "upper") in known]
    if "std" in known:
        return known["std"]
    if len(quantiles) > 1:
        return (known[quantiles[-1]] - known[quantiles[0]]) / 2
    if classes:
        return 1 - pd.concat(classes, axis=1).max(axis=1)
    if "ensemble_std" in known:
        return known["ensemble_std"]
    if intervals:
        widest = max(intervals, key=lambda name: int(name.partition("_")[2]))
        return (known[widest.replace("lower", "upper")] - known[widest]) / 2
    what = f"the forecasts of {rows['target'].iloc[0]} have no uncertainty"
    fix = "train with intervals or a head that forecasts a distribution, or leave out market.uncertainty"
    raise ConfigError(what, file, fix, code=270)


def _with_embeddings(forecasts: pd.DataFrame, file: str | None) -> pd.DataFrame:
    """Forecasts with the aligned embeddings of the same models, on the rows that have both."""
    if file is None:
        return forecasts
    table = _read(file, "embeddings", "embeddings.parquet", (*KEYS, "a0"))
    aligned = table[[*KEYS, *(name for name in map(str, table) if ALIGNED.fullmatch(name))]]
    joined = forecasts.merge(aligned.dropna(), on=KEYS, validate="one_to_one")
    if not len(joined):
        what, fix = "no embedding is of a model of the forecasts", "give both files of one walk-forward"
        raise ConfigError(what, f"market.embeddings: {file}", fix, code=270)
    return joined


def _training_dates(contract: Contract) -> Dates:
    """First and last training date of a checkpoint; all dates where it does not say."""
    training = contract.training
    first, last = (training.first, training.last) if training else (pd.Timestamp.min, pd.Timestamp.max)
    return pd.Timestamp(first, tz="UTC"), pd.Timestamp(last, tz="UTC")
