"""Tables that are written as they come are, bit for bit, those that are made as a whole."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.predictions import collected_columns, collected_table, predictions_blocks, symbol_blocks
from cnn_lstm.data.stored_tables import DIGEST, digest_of_table, read_table, write_blocks, write_table
from cnn_lstm.data.targets import ForwardReturn, Target
from cnn_lstm.errors import DataError, ResourceError
from cnn_lstm.inference.embeddings import EmbeddingBlocks, embeddings_table
from cnn_lstm.inference.intervals import add_intervals
from cnn_lstm.inference.outputs import Written, with_intervals, write_csv_of, write_table_of
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model import outputs as outputs_module
from cnn_lstm.model.calibration import Calibration
from cnn_lstm.model.outputs import EpochOutputs
from tests.fits import small_checkpoint
from tests.markets import TableSource, walk

CALIBRATION = Calibration([[-1.5, -0.5, 0.0, 0.5, 1.5]] * 2, [0.01, 0.02])


@pytest.fixture(scope="module")
def data() -> MarketDataModule:
    table = pd.concat([walk(80, name, k) for k, name in enumerate("ABCD")], ignore_index=True)
    targets: list[Target] = [ForwardReturn(), ForwardReturn(horizon=3)]
    module = MarketDataModule(TableSource(table), targets=targets, features=["log_return_1"], window=5)
    module.setup()
    return module


def collected(data: MarketDataModule) -> dict[str, torch.Tensor]:
    rows = torch.from_numpy(data.windows)
    columns = {name: torch.randn(len(rows), 2) for name in ("y_pred", "q5", "loss", "y_true")}
    return {"row": rows, **columns}


@pytest.mark.parametrize("max_rows", [1, 100, 170, 10_000])
def test_blocks_of_forecasts_are_the_table(data: MarketDataModule, max_rows: int, tmp_path: Path) -> None:
    outputs, mean, boundary = collected(data), [0.1, 0.2], "2010-02-15"
    whole = add_intervals(collected_table(data.panel, data.targets, outputs, mean), CALIBRATION, boundary)
    write_table(tmp_path / "whole.parquet", whole)
    blocks = predictions_blocks(
        data.panel, data.targets, data.windows, collected_columns(outputs), mean, max_rows=max_rows
    )
    written = write_table_of(tmp_path / "x.parquet", with_intervals(blocks, CALIBRATION, boundary), len(whole))
    found = read_table(tmp_path / "x.parquet")
    pd.testing.assert_frame_equal(found, whole, check_exact=True)
    assert found.attrs == whole.attrs
    assert digest_of_table(found) == pq.read_metadata(tmp_path / "x.parquet").metadata[DIGEST].decode()
    groups = pq.ParquetFile(tmp_path / "x.parquet").metadata.num_row_groups
    assert groups == {1: 8, 100: 8, 170: 4, 10_000: 2}[max_rows]
    assert written.symbols == set("ABCD")
    assert (written.rows, written.first, written.last) == (len(whole), whole["as_of"].min(), whole["as_of"].max())
    write_csv_of(tmp_path / "x.parquet", tmp_path / "x.csv")
    whole.to_csv(tmp_path / "whole.csv", index=False)
    assert (tmp_path / "x.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), max_size=8), st.integers(1, 12))
def test_slices_hold_whole_symbols_and_as_many_as_they_may(sizes: list[int], most: int) -> None:
    codes = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    slices = list(symbol_blocks(codes, most))
    assert [row for piece in slices for row in range(len(codes))[piece]] == list(range(len(codes)))
    parts = [codes[piece] for piece in slices]
    assert all(len(part) <= most or len(set(part)) == 1 for part in parts)
    for one, other in pairwise(parts):
        assert one[-1] != other[0]
        assert len(one) + int((other == other[0]).sum()) > most


def test_a_missing_calibration_is_said_once(data: MarketDataModule, caplog: pytest.LogCaptureFixture) -> None:
    blocks = predictions_blocks(data.panel, data.targets, data.windows, collected_columns(collected(data)), [0, 0], 50)
    with caplog.at_level(logging.WARNING):
        parts = list(with_intervals(blocks, None, "2010-02-15"))
    assert len(parts) == 8
    assert sum("no intervals" in record.message for record in caplog.records) == 1


def test_no_forecast_is_a_table_without_rows(data: MarketDataModule, tmp_path: Path) -> None:
    none = {name: values[:0] for name, values in collected(data).items()}
    blocks = predictions_blocks(data.panel, data.targets, data.windows[:0], collected_columns(none), [0, 0])
    written = write_table_of(tmp_path / "x.parquet", with_intervals(blocks, CALIBRATION, "2010-02-15"), 0)
    whole = add_intervals(collected_table(data.panel, data.targets, none, [0, 0]), CALIBRATION, "2010-02-15")
    pd.testing.assert_frame_equal(read_table(tmp_path / "x.parquet"), whole)
    assert written.summary("forecast") == "0 forecasts of 0 symbols"


class TestFile:
    def test_is_whole_or_as_it_was(self, tmp_path: Path) -> None:
        path = tmp_path / "x.parquet"
        write_table(path, pd.DataFrame({"x": [1.0]}))

        def failing() -> Iterator[pd.DataFrame]:
            yield pd.DataFrame({"x": [2.0]})
            raise OSError(28, "No space left on device")

        with pytest.raises(ResourceError):
            write_blocks(path, failing(), 2)
        assert read_table(path)["x"].tolist() == [1.0]
        assert [entry.name for entry in tmp_path.iterdir()] == ["x.parquet"]

    def test_a_table_of_several_pieces_comes_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("cnn_lstm.data.stored_tables.BLOCK_ROWS", 7)
        table = pd.DataFrame({"symbol": ["A", "B"] * 10, "x": np.arange(20.0), "on": [True, False] * 10})
        table.attrs = {"targets": {"y": {"scores": [1.0]}}}
        write_table(tmp_path / "x.parquet", table)
        found = read_table(tmp_path / "x.parquet")
        pd.testing.assert_frame_equal(found, table.astype({"symbol": "str"}))
        assert found.attrs == table.attrs
        assert pq.ParquetFile(tmp_path / "x.parquet").metadata.num_row_groups == 3

    def test_sees_another_number_in_any_group_of_rows(self, tmp_path: Path) -> None:
        blocks = [pd.DataFrame({"x": [k + 0.5] * 50}) for k in range(3)]
        write_blocks(tmp_path / "x.parquet", blocks, 150)
        digest = pq.read_metadata(tmp_path / "x.parquet").metadata
        for number in range(3):
            changed = [block.assign(x=9.0) if k == number else block for k, block in enumerate(blocks)]
            content = pa.Table.from_pandas(pd.concat(changed, ignore_index=True), preserve_index=False)
            pq.write_table(content.replace_schema_metadata(digest), tmp_path / "y.parquet")
            with pytest.raises(DataError, match="does not have its digest"):
                read_table(tmp_path / "y.parquet")

    def test_an_older_file_is_read(self, tmp_path: Path) -> None:
        table = pd.DataFrame({"symbol": ["A"], "x": [1.5]})
        table.to_parquet(tmp_path / "x.parquet", index=False)
        pd.testing.assert_frame_equal(read_table(tmp_path / "x.parquet"), table.astype({"symbol": "str"}))


class TestOutputsOfAnEpoch:
    def fill(self, outputs: EpochOutputs, shuffled: bool) -> dict[str, torch.Tensor]:
        draw = torch.Generator().manual_seed(0)
        order = torch.randperm(1000, generator=draw) if shuffled else torch.arange(1000)
        for part in order.split(64):
            outputs.add(row=part, y_pred=part[:, None] / 7, chosen=part[:, None] > 500)
        return outputs.gather()

    @pytest.mark.parametrize("shuffled", [False, True])
    def test_columns_on_the_disk_are_those_in_memory(
        self, shuffled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outputs_module, "KEPT_BYTES", 5000)
        away = EpochOutputs(tmp_path)
        one, other = self.fill(EpochOutputs(), shuffled), self.fill(away, shuffled)
        assert away._files
        assert not list(tmp_path.iterdir())  # nothing is left, whatever ends the process
        assert one.keys() == other.keys()
        for name, values in one.items():
            assert values.dtype == other[name].dtype
            assert torch.equal(values, other[name])

    def test_few_columns_stay_in_memory(self, tmp_path: Path) -> None:
        outputs = EpochOutputs(tmp_path)
        self.fill(outputs, shuffled=False)
        assert not outputs._files

    def test_a_full_disk_is_one_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outputs_module, "KEPT_BYTES", 0)
        with pytest.raises(ResourceError, match="cannot keep the forecasts"):
            EpochOutputs(tmp_path / "gone").add(row=torch.arange(3))


def test_blocks_of_embeddings_are_the_table(tmp_path: Path) -> None:
    predictor = Predictor.from_checkpoint(small_checkpoint(tmp_path))
    prices = pd.concat([walk(90 + k, name, k) for k, name in enumerate("ABC")], ignore_index=True)
    whole = embeddings_table(predictor, prices)
    every = EmbeddingBlocks(predictor, prices)
    parts = list(every.blocks(max_rows=1))
    assert [part["symbol"].nunique() for part in parts] == [1, 1, 1]
    assert all(part.attrs == whole.attrs for part in parts)
    for part in parts:
        part.attrs = {}
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole, check_exact=True)
    alone, forecasts = predictor.encode(prices), predictor.predict(prices)
    pd.testing.assert_frame_equal(whole[list(alone)], alone, check_exact=True)
    (target,) = predictor.targets
    assert whole[f"y_pred__{target.name}"].tolist() == forecasts["y_pred"].tolist()
    assert whole[f"lower_90__{target.name}"].tolist() == forecasts["lower_90"].tolist()


def test_what_was_written_is_said_in_one_line() -> None:
    written = Written()
    day = pd.Timestamp("2024-01-02", tz="UTC")
    written.add(pd.DataFrame({"symbol": ["A", "B"], "as_of": [day, day + pd.Timedelta(days=1)]}))
    assert written.summary("forecast") == "2 forecasts of 2 symbols, 2024-01-02..2024-01-03"
