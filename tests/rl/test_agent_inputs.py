"""What agents see of a walk-forward: forecasts, how sure they are, and the aligned embeddings of the same models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.errors import ConfigError
from cnn_lstm.inference.given_tables import GivenTables
from cnn_lstm.rl.agent_inputs import KEYS, AgentInputs, read_inputs, require_used
from cnn_lstm.rl.settings import AgentSettings, MarketSettings

ROWS = 12
Change = Callable[[pd.DataFrame], pd.DataFrame]


def forecasts(target: str = "return_2", seed: int = 0) -> pd.DataFrame:
    """Forecasts of two folds."""
    random = np.random.default_rng(seed)
    dates = pd.date_range("2020-01-01", periods=ROWS, tz="UTC")
    fold = np.arange(ROWS) // (ROWS // 2)
    trained = pd.DatetimeIndex(["2019-06-01", "2019-09-01"], tz="UTC")[fold]
    table = pd.DataFrame({"symbol": "AAA", "as_of": dates, "fold": fold, "target": target})
    return table.assign(
        train_first=pd.Timestamp("2019-01-01", tz="UTC"), train_last=trained, y_pred=random.normal(size=ROWS)
    )


def embeddings(table: pd.DataFrame) -> pd.DataFrame:
    made = table[["symbol", "as_of", "fold", "train_first", "train_last"]].drop_duplicates()
    return made.assign(e0=9.0, a0=np.arange(len(made), dtype=np.float32), a1=1.0)


def shown(
    folder: Path, table: pd.DataFrame, aligned: pd.DataFrame | None = None, uncertainty: bool = False
) -> AgentInputs:
    table.to_parquet(folder / "predictions.parquet")
    file = None
    if aligned is not None:
        aligned.to_parquet(folder / "embeddings.parquet")
        file = str(folder / "embeddings.parquet")
    market = MarketSettings(
        see="forecast", forecasts=str(folder / "predictions.parquet"), embeddings=file, uncertainty=uncertainty
    )
    require_used(market, AgentSettings())
    return read_inputs(market, AgentSettings(), Path("none.ckpt"), pd.DataFrame(), GivenTables())


def test_aligned_embeddings_stand_next_to_the_forecasts_of_their_date(tmp_path: Path) -> None:
    table = forecasts()

    inputs = shown(tmp_path, table, embeddings(table).sample(frac=1.0, random_state=0))

    assert inputs.columns == ["y_pred__return_2", "a0", "a1"]
    assert inputs.table is not None
    rows = inputs.table.set_index("as_of").sort_index()
    assert rows["a0"].tolist() == list(range(ROWS))
    assert rows["y_pred__return_2"].tolist() == table["y_pred"].tolist()
    assert set(KEYS) <= set(inputs.table)


def test_rows_without_an_aligned_embedding_are_not_shown(tmp_path: Path) -> None:
    table = forecasts()
    aligned = embeddings(table)
    aligned.loc[aligned["fold"] == 1, ["a0", "a1"]] = np.nan
    inputs = shown(tmp_path, table, aligned)
    assert inputs.table is not None
    assert len(inputs.table) == ROWS // 2


def with_std(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(std=0.25, lower_90=-9.0, upper_90=9.0)


def with_quantiles(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{"q02.5": table["y_pred"] - 0.25, "q50": table["y_pred"], "q97.5": table["y_pred"] + 0.25})


def with_classes(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(p0=0.05, p1=0.75, p2=0.2)


def with_members(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(ensemble_std=0.25, lower_90=-9.0, upper_90=9.0)


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(lower_50=-0.1, upper_50=0.1, lower_90=-0.3, upper_90=0.2)


@pytest.mark.parametrize("change", [with_std, with_quantiles, with_classes, with_members, with_intervals])
def test_the_uncertainty_is_that_of_the_head(change: Change, tmp_path: Path) -> None:
    inputs = shown(tmp_path, change(forecasts()), uncertainty=True)
    assert inputs.columns == ["y_pred__return_2", "uncertainty__return_2"]
    assert inputs.table is not None
    assert inputs.table["uncertainty__return_2"].to_numpy() == pytest.approx(0.25)


def test_each_target_has_its_own_uncertainty(tmp_path: Path) -> None:
    """A column that one target lacks is empty there; it belongs to the other one alone."""
    one, other = forecasts().assign(std=0.5), forecasts("class_2", 1).assign(p0=0.9, p1=0.1)

    inputs = shown(tmp_path, pd.concat([one, other], ignore_index=True), uncertainty=True)

    assert inputs.table is not None
    assert (inputs.table["uncertainty__return_2"] == 0.5).all()
    assert inputs.table["uncertainty__class_2"].to_numpy() == pytest.approx(0.1)
    assert inputs.table["y_pred__class_2"].tolist() == other["y_pred"].tolist()


def test_what_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    table = forecasts()
    with pytest.raises(ConfigError, match=r"E270.*return_2 have no uncertainty"):
        shown(tmp_path, table, uncertainty=True)
    with pytest.raises(ConfigError, match=r"E270.*embeddings have no column a0"):
        shown(tmp_path, table, embeddings(table).drop(columns=["a0", "a1"]))
    late = embeddings(table).assign(train_last=pd.Timestamp("2019-12-01", tz="UTC"))
    with pytest.raises(ConfigError, match=r"E270.*no embedding is of a model of the forecasts"):
        shown(tmp_path, table, late)
    for market in (MarketSettings(uncertainty=True), MarketSettings(embeddings="e.parquet")):
        with pytest.raises(ConfigError, match=r"E270.*shows no forecasts"):
            require_used(market, AgentSettings())
