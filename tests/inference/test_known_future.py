"""A checkpoint that reads facts known ahead: the same bits at every door, a planted event learnt, no table refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.known_future import KnownFuture
from cnn_lstm.data.targets import RealizedVolatility
from cnn_lstm.errors import CheckpointError, ConfigError, DataError
from cnn_lstm.inference.embeddings import embeddings_table
from cnn_lstm.inference.ensemble import write_ensemble
from cnn_lstm.inference.export import export
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.inference.pyfunc import PriceModel, example_prices, example_tables
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import CHECKPOINT_KEY
from cnn_lstm.model.forecaster import Forecaster
from tests.fits import small_network, small_trainer
from tests.markets import TableSource, bars_of, days

ROWS, AHEAD, HORIZON = 420, 20, 3
SAME = ["y_pred", "lower_90", "upper_90"]


def planted(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prices of two symbols whose volatility is three times as large on days of an event, and the events."""
    random = np.random.default_rng(seed)
    when = days(ROWS + AHEAD)
    event = random.random(ROWS + AHEAD) < 0.12
    tables = []
    for number, symbol in enumerate(("AAA", "BBB")):
        moves = random.normal(0, 0.01, ROWS) * np.where(event[:ROWS], 3.0, 1.0)
        tables.append(bars_of(100 * np.exp(np.cumsum(moves)), when[:ROWS], symbol, number))
    return pd.concat(tables, ignore_index=True), pd.DataFrame({"timestamp": when, "event": event * 1.0})


PRICES, EVENTS = planted()


def fitted(folder: Path, known: KnownFuture | None, epochs: int = 1) -> tuple[Path, float]:
    """A checkpoint, and its validation loss."""
    torch.manual_seed(0)
    features = ["log_return_1", "realised_volatility_5"]
    targets: list[Any] = [RealizedVolatility(HORIZON, log=True)]
    data = MarketDataModule(TableSource(PRICES), features=features, window=6, targets=targets, known_future=known)
    trainer = small_trainer(max_epochs=epochs)
    trainer.fit(Forecaster(small_network(n_features=data.n_features)), datamodule=data)
    path = folder / "x.ckpt"
    trainer.save_checkpoint(path)
    return path, float(trainer.callback_metrics["val_loss"])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of an epoch."""
    return fitted(tmp_path_factory.mktemp("fit"), KnownFuture(EVENTS, ["event"], "max"))[0]


@pytest.fixture(scope="module")
def whole(checkpoint: Path) -> pd.DataFrame:
    """Forecasts of the whole table."""
    return Predictor.from_checkpoint(checkpoint).predict(PRICES, known_future=EVENTS)


def test_a_planted_event_is_learnt_only_where_it_is_known(checkpoint: Path, tmp_path: Path) -> None:
    _, without = fitted(tmp_path, None)
    (tmp_path / "known").mkdir()
    _, known = fitted(tmp_path / "known", KnownFuture(EVENTS, ["event"], "max"))
    assert known < 0.85 * without


def test_a_stream_has_the_bits_of_the_whole_table(checkpoint: Path, whole: pd.DataFrame, tmp_path: Path) -> None:
    first, later = (PRICES["timestamp"] <= days(ROWS)[389]), (PRICES["timestamp"] > days(ROWS)[389])
    stream = Predictor.from_checkpoint(checkpoint).stream(PRICES[first], known_future=EVENTS[: 391 + HORIZON])
    rows = []
    for number, (_, bars) in enumerate(PRICES[later].groupby("timestamp")):
        if number == 1:
            with pytest.raises(DataError, match=r"E375.*event_ahead_1_3: 2 sessions after"):
                stream.update(bars)
            with pytest.raises(DataError, match="E376"):
                stream.replace_known_future(EVENTS[["timestamp"]])
            stream.replace_known_future(EVENTS)
        if number == 5:
            stream.save(tmp_path / "state.npz")
            again = Predictor.from_checkpoint(checkpoint)
            with pytest.raises(CheckpointError, match="E429"):
                again.stream(state=tmp_path / "state.npz")
            stream = again.stream(state=tmp_path / "state.npz", known_future=EVENTS)
        rows.append(stream.update(bars))
    streamed = pd.concat(rows).sort_values(["symbol", "as_of"], ignore_index=True)
    expected = whole[whole["as_of"] > days(ROWS)[389]].sort_values(["symbol", "as_of"], ignore_index=True)
    pd.testing.assert_frame_equal(streamed[SAME], expected[SAME], check_exact=True)


def test_an_evening_that_remembers_has_the_same_bits(checkpoint: Path, whole: pd.DataFrame) -> None:
    predictor = Predictor.from_checkpoint(checkpoint).keep(known_future=KnownFuture(EVENTS, ["event"]))
    start = str(days(ROWS)[400])[:10]
    for rows in (ROWS - 2, ROWS - 1, ROWS):
        evening = predictor.predict(PRICES[PRICES["timestamp"] <= days(ROWS)[rows - 1]], start=start)
    expected = whole[whole["as_of"] >= start].reset_index(drop=True)
    pd.testing.assert_frame_equal(evening[SAME], expected[SAME], check_exact=True)


def test_prices_without_the_table_are_refused_at_every_door(checkpoint: Path) -> None:
    predictor = Predictor.from_checkpoint(checkpoint)
    doors: list[Any] = [
        predictor.predict,
        predictor.encode,
        predictor.stream,
        predictor.windows,
        PriceModel(predictor).predict,
    ]
    for door in [*doors, lambda prices: embeddings_table(predictor, prices), lambda prices: predictor.stream()]:
        with pytest.raises(CheckpointError, match=r"E429.*the checkpoint reads event, and no table") as caught:
            door(PRICES)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) <= 400
    with pytest.raises(CheckpointError, match="E429"):
        predictor.predict(PRICES, known_future=KnownFuture(EVENTS.assign(other=1.0), ["other"]))
    with pytest.raises(DataError, match=r"E375.*it needs 3 — AAA @ 2011-08-10, 3 rows"):
        predictor.predict(PRICES, known_future=EVENTS[:ROWS])
    with pytest.raises(ConfigError):
        predictor.stream(PRICES, state="x", known_future=EVENTS)


def test_mlflow_takes_the_table_as_a_parameter(checkpoint: Path, whole: pd.DataFrame) -> None:
    model = PriceModel(Predictor.from_checkpoint(checkpoint))
    text = EVENTS.to_json(orient="records", date_format="iso")
    table = model.predict(PRICES, {"known_future": text, "static": ""})
    pd.testing.assert_frame_equal(table[SAME], whole[SAME], check_exact=True)
    example = example_prices(model.predictor)
    assert model.predict(example, example_tables(model.predictor, example)).empty
    for odd in ("events.csv", "[1", '{"a": 1}', "3"):
        with pytest.raises((DataError, CheckpointError)):
            model.predict(PRICES, {"known_future": odd})


def test_encodings_ensembles_and_exports(checkpoint: Path, whole: pd.DataFrame, tmp_path: Path) -> None:
    predictor = Predictor.from_checkpoint(checkpoint)
    assert len(predictor.encode(PRICES, known_future=EVENTS)) == len(whole)
    assert len(embeddings_table(predictor.keep(EVENTS), PRICES)) == len(whole)
    write_ensemble([checkpoint, checkpoint], tmp_path / "both.ckpt")
    both = Predictor.from_checkpoint(tmp_path / "both.ckpt").predict(PRICES, known_future=EVENTS)
    assert (both["y_pred"] == whole["y_pred"]).all()
    assert export(checkpoint, tmp_path / "x.pt2", "pt2").path.is_file()


DAMAGED: list[Any] = [
    "event",
    [3],
    [{"name": "event_ahead_1_3"}],
    [{"name": "event_ahead_1_3", "fact": "event", "first": 0, "last": 3, "aggregate": "max"}],
    [{"name": "event_ahead_1_3", "fact": "event", "first": 4, "last": 3, "aggregate": "max"}],
    [{"name": "event_ahead_1_3", "fact": "event", "first": 1, "last": True, "aggregate": "max"}],
    [{"name": "event_ahead_1_3", "fact": "event", "first": 1, "last": 3, "aggregate": "median"}],
    [{"name": "event_ahead_1_3", "fact": "event", "first": 1, "last": 3, "aggregate": "max", "more": 1}],
]


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_checkpoint_is_refused(damage: Any, checkpoint: Path, tmp_path: Path) -> None:
    content = copy.deepcopy(read_checkpoint(checkpoint))
    content[CHECKPOINT_KEY]["recipe"]["known_future"] = damage
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(CheckpointError, match="E424"):
        Predictor.from_checkpoint(tmp_path / "odd.ckpt")
