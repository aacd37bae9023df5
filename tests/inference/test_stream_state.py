"""A state of a stream has one writer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.errors import CnnLstmError, ConfigError
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.inference.stream import Stream
from cnn_lstm.locks import take_file
from tests.inference.test_stream import trained
from tests.markets import market


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return market(300, ("AAA",))


@pytest.fixture(scope="module")
def predictor(prices: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.from_checkpoint(trained(tmp_path_factory.mktemp("state"), prices))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.npz"


@pytest.fixture
def begun(predictor: Predictor, prices: pd.DataFrame, path: Path) -> Stream:
    """A stream of all but the last five bars, saved."""
    stream = predictor.stream(prices[:-5])
    stream.save(path)
    return stream


def last_bars(path: Path) -> list[str]:
    with np.load(path) as arrays:
        return sorted(name for name in arrays if name.startswith("bars"))


def test_a_state_that_another_process_writes_is_left_alone(begun: Stream, path: Path) -> None:
    before = path.read_bytes()
    with (
        take_file(path, "stream", "state"),
        pytest.raises(ConfigError, match=rf"E288.*{path}: cnn-lstm stream, pid {os.getpid()}"),
    ):
        begun.save(path)
    assert path.read_bytes() == before
    begun.save(path)
    assert [file.name for file in path.parent.iterdir()] == ["state.npz"]


def test_the_later_bars_of_another_stream_are_not_lost(
    begun: Stream, predictor: Predictor, prices: pd.DataFrame, path: Path
) -> None:
    other = predictor.stream(state=path)
    other.update(prices[-5:-4])
    begun.save(path)  # the same bars as there: nothing is lost
    other.save(path)
    with pytest.raises(ConfigError, match=r"E289.*later bars"):
        begun.save(path)
    begun.update(prices[-5:-4])
    begun.save(path)  # it has them now
    other.save(path)
    begun.save(path.with_name("elsewhere.npz"))


def test_a_file_that_does_not_go_on_with_the_stream_is_replaced(
    begun: Stream, predictor: Predictor, prices: pd.DataFrame, path: Path
) -> None:
    path.write_bytes(path.read_bytes()[:100])  # damaged
    begun.save(path)
    predictor.stream(prices).save(path)
    begin_again = predictor.stream(prices[:-5])  # it has never read the file
    begin_again.save(path)
    path.unlink()
    begun.save(path)
    assert last_bars(path)


def saves(stream: Stream, path: Path, times: int) -> None:
    for _ in range(times):
        with suppress(ConfigError):  # E288, where the other one is at it all the time
            stream.save(path)


@pytest.fixture
def processes(predictor: Predictor, prices: pd.DataFrame, path: Path) -> Iterator[None]:
    """Two processes that save one state again and again."""
    streams = [predictor.stream(prices[:-5]) for _ in range(2)]
    started = [get_context("fork").Process(target=saves, args=(stream, path, 30)) for stream in streams]
    for process in started:
        process.start()
    yield
    for process in started:
        process.join(60)
        assert process.exitcode == 0


@pytest.mark.usefixtures("processes")
def test_a_state_is_whole_at_each_read_while_two_processes_save_it(predictor: Predictor, path: Path) -> None:
    while not path.exists():
        pass
    for _ in range(20):
        try:
            predictor.stream(state=path)
        except CnnLstmError as error:  # pragma: no cover - what must not happen
            pytest.fail(str(error))
