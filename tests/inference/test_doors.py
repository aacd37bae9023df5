"""One time rule at every door: bars at local midnight are the bars of their dates, wherever a table enters."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.sources.base import PriceSource
from cnn_lstm.data.stored_tables import write_table
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.evaluation.report import evaluate
from cnn_lstm.inference.embeddings import embeddings_table
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.inference.pyfunc import PriceModel
from tests.fits import small_checkpoint
from tests.markets import TableSource, walk

FEATURES = ["log_return_1", "day_of_week_sin", "day_of_month"]
Change = Callable[[pd.DataFrame], Any]


def prices() -> pd.DataFrame:
    return pd.concat([walk(90, "AAA"), walk(90, "BBB", 1)], ignore_index=True).astype({"symbol": "str"})


def midnights(zone: str) -> Change:
    return lambda t: t.assign(timestamp=t["timestamp"].dt.tz_localize(None).dt.tz_localize(zone))


FORMS: dict[str, Change] = {
    "Tokyo": midnights("Asia/Tokyo"),
    "New York": midnights("America/New_York"),
    "no zone": lambda t: t.assign(timestamp=t["timestamp"].dt.tz_localize(None)),
    "text": lambda t: t.assign(timestamp=t["timestamp"].dt.strftime("%Y-%m-%d")),
    "text of Tokyo": lambda t: t.assign(timestamp=t["timestamp"].dt.strftime("%Y-%m-%dT00:00:00+09:00")),
    "FinRL": lambda t: t.rename(columns={"timestamp": "date", "symbol": "tic"}),
    "yfinance": lambda t: (
        midnights("Europe/Paris")(t).rename(columns=str.title).rename(columns={"Timestamp": "Date"}).set_index("Date")
    ),
    "Arrow": lambda t: t.convert_dtypes(dtype_backend="pyarrow"),
    "table of Arrow": lambda t: arrow(t),
    "batch of Arrow": lambda t: arrow(midnights("Asia/Tokyo")(t)).combine_chunks().to_batches()[0],
    "capsule": lambda t: Capsule(t),
    "Polars": lambda t: polars().from_arrow(arrow(t.rename(columns={"timestamp": "date", "symbol": "tic"}))),
    "Polars, a zone": lambda t: polars().from_arrow(arrow(midnights("America/New_York")(t))),
}


class Capsule:
    """A table of a library that nobody knows: it only hands its columns over."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return arrow(self.table).__arrow_c_stream__(requested_schema)


def arrow(table: pd.DataFrame) -> pa.Table:
    with warnings.catch_warnings():
        # pyarrow reads dates with a time zone as pandas (3.1) does not want it
        warnings.filterwarnings("ignore", "Series.values returning an ndarray that drops timezone")
        return pa.Table.from_pandas(table)


def polars() -> Any:
    return pytest.importorskip("polars", reason="Polars is not installed")


def rows(frame: Any, kept: NDArray[np.bool_]) -> Any:
    """Some rows of a table of any library."""
    if isinstance(frame, Capsule):
        return Capsule(frame.table[kept])
    if isinstance(frame, pa.RecordBatch | pa.Table):
        return frame.filter(pa.array(kept))
    return frame[kept] if isinstance(frame, pd.DataFrame) else frame.filter(kept)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.from_checkpoint(small_checkpoint(tmp_path_factory.mktemp("doors"), features=FEATURES))


@pytest.fixture(params=list(FORMS.values()), ids=list(FORMS))
def frame(request: pytest.FixtureRequest) -> Any:
    change: Change = request.param
    return change(prices())


def same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)


def test_predict_and_encode(predictor: Predictor, frame: Any) -> None:
    same(predictor.predict(frame), predictor.predict(prices()))
    same(predictor.predict(frame, start="2010-04-01"), predictor.predict(prices(), start="2010-04-01"))
    same(predictor.encode(frame), predictor.encode(prices()))
    assert embeddings_table(predictor, frame).attrs == embeddings_table(predictor, prices()).attrs


def test_the_mlflow_model(predictor: Predictor, frame: Any) -> None:
    same(PriceModel(predictor).predict(frame), predictor.predict(prices()))


def test_a_stream_from_its_history_on_and_from_nothing(predictor: Predictor, frame: Any) -> None:
    table = prices()
    last = (table["timestamp"] == table["timestamp"].max()).to_numpy()
    wanted = predictor.stream(table[~last]).update(table[last])
    same(predictor.stream(rows(frame, ~last)).update(rows(frame, last)), wanted)
    fresh = predictor.stream()
    assert fresh.update(rows(frame, (table["timestamp"] == table["timestamp"].min()).to_numpy())).empty
    assert fresh._tails["AAA"].time.tolist() == [int(table["timestamp"].min().timestamp() * 1e6)]


def test_a_source_of_the_users_own(frame: Any) -> None:
    class Own(PriceSource):
        def load(self, symbols: Sequence[str] | None, start: str | None, end: str | None) -> pd.DataFrame:
            return frame  # type: ignore[no-any-return]  # of any library

    modules = [MarketDataModule(source, features=FEATURES, window=6) for source in (Own(), TableSource(prices()))]
    for module in modules:
        module.setup()
    one, other = modules
    assert one.fingerprint == other.fingerprint
    assert one.parts.boundaries == other.parts.boundaries
    np.testing.assert_array_equal(one.panel.values.numpy(), other.panel.values.numpy())


def test_an_hourly_stream_takes_a_bar_at_local_midnight_for_a_moment(tmp_path: Path) -> None:
    """A bar alone cannot say whether it is a day; the bars before it do, and so do the dates of the training."""
    hours = prices().assign(timestamp=[*pd.date_range("2024-01-01 03:00", periods=90, freq="h", tz="UTC")] * 2)
    data = MarketDataModule(TableSource(hours), features=FEATURES, window=6)
    assert data.load()["timestamp"].tolist() == hours["timestamp"].tolist()
    local = hours.assign(timestamp=hours["timestamp"].dt.tz_convert("Asia/Tokyo"))
    midnight = local["timestamp"].dt.hour == 0
    moment = local["timestamp"][midnight].max()
    daily = Predictor.from_checkpoint(small_checkpoint(tmp_path, features=FEATURES))
    stream = daily.stream(local[local["timestamp"] < moment])
    assert stream.update(local[local["timestamp"] == moment])["as_of"].unique().tolist() == [moment]


def test_agents_trade_the_dates_of_local_midnights(predictor: Predictor, frame: Any, tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    from cnn_lstm.rl.market import MarketEnv
    from cnn_lstm.rl.observations import EncoderObservation

    checkpoint = small_checkpoint(tmp_path, features=FEATURES)
    one, other = (MarketEnv(table, checkpoint=checkpoint, observe="account") for table in (frame, prices()))
    np.testing.assert_array_equal(one.episodes.data.dates, other.episodes.data.dates)
    embeddings = predictor.encode(prices())
    embeddings.attrs = {}
    local = embeddings.assign(as_of=embeddings["as_of"].dt.tz_localize(None).dt.tz_localize("Asia/Tokyo"))
    first, second = (EncoderObservation(one, table).reset(seed=0)[0] for table in (embeddings, local))
    np.testing.assert_array_equal(first["embedding"], second["embedding"])


def test_a_report_counts_the_years_of_local_midnights(predictor: Predictor) -> None:
    table = predictor.predict(prices()).assign(naive_mae=1.0, naive_mse=1.0)
    table.attrs |= {"settings": {}, "trials": 1, "failed_checks": []}
    local = table.assign(as_of=table["as_of"].dt.tz_localize(None).dt.tz_localize("Asia/Tokyo"))
    assert evaluate(local) == evaluate(table)


def test_a_predictions_table_of_arrow_is_judged_as_that_of_pandas(predictor: Predictor, tmp_path: Path) -> None:
    table = predictor.predict(prices()).assign(naive_mae=1.0, naive_mse=1.0)
    table.attrs |= {"settings": {}, "trials": 1, "failed_checks": []}
    write_table(tmp_path / "predictions.parquet", table)
    assert evaluate(pq.read_table(tmp_path / "predictions.parquet")) == evaluate(table)
    bare = arrow(table).replace_schema_metadata(None)
    with pytest.raises(DataError, match="E390"):
        evaluate(bare)
    with pytest.raises(DataError, match="E338"):
        evaluate("predictions.parquet")  # type: ignore[arg-type]  # on purpose


def test_what_is_no_table_is_refused_in_one_line(predictor: Predictor) -> None:
    for odd in (pa.array([1.0, 2.0]), pa.schema([("close", pa.float64())]), "prices.csv", None):
        with pytest.raises(DataError, match="E338"):
            predictor.predict(odd)  # type: ignore[arg-type]  # on purpose


def test_numbers_of_arrow_are_numbers(predictor: Predictor) -> None:
    table = prices()
    odd = arrow(table)
    place = odd.schema.get_field_index("close")
    decimals = odd.column(place).cast(pa.decimal128(30, 18), safe=False)
    found = predictor.recipe.read(odd.set_column(place, "close", decimals).append_column("late", [[True, None] * 90]))
    np.testing.assert_allclose(found["close"], table["close"], rtol=1e-15)
    assert found["late"].dtype == np.float64


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta", ""])
def test_a_device_that_is_not_there_is_refused_in_one_line(tmp_path: Path, device: str) -> None:
    with pytest.raises(ConfigError, match="no device") as caught:
        Predictor.from_checkpoint(tmp_path / "any.ckpt", device=device)
    assert caught.value.code == 238
