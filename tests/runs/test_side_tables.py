"""Facts known ahead and static columns from the YAML of a run to every command, and from Python to the YAML."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.side_tables import KnownFuture, StaticColumns
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.notebook.experiment import from_yaml, to_yaml
from tests.experiments import experiment, fit, run
from tests.markets import days, market

ROWS = 200
PRICES = market(ROWS)
EVENTS = pd.DataFrame({"date": days(ROWS + 10).strftime("%Y-%m-%d"), "auction": [k % 7 == 0 for k in range(ROWS + 10)]})
SECTORS = pd.DataFrame({"symbol": ["AAA", "BBB", "CCC"], "sector": ["x", "y", "x"]})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that reads both tables, which lie in files."""
    folder = tmp_path_factory.mktemp("side")
    EVENTS.astype({"auction": int}).to_csv(folder / "events.csv", index=False)
    SECTORS.to_csv(folder / "sectors.csv", index=False)
    data = {
        "known_future": {"table": str(folder / "events.csv"), "columns": ["auction"], "aggregate": "max"},
        "static": {"columns": ["sector"], "table": str(folder / "sectors.csv")},
    }
    return fit(experiment(folder, PRICES, data, trainer={"max_epochs": 1}), folder / "run")


def test_test_and_predict_read_the_tables_of_the_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--config", finished / "config.yaml", "--ckpt_path", "best")
    for command in ("test", "predict"):
        assert run(command, *words, "--trainer.enable_progress_bar", "false") == 0
    forecasts = pd.read_parquet(finished / "forecasts.parquet")
    predictor = Predictor.from_checkpoint(finished / "checkpoints" / "best.ckpt")
    table = predictor.predict(PRICES, known_future=EVENTS, static=SECTORS)
    last = table[table["as_of"] >= forecasts["as_of"].min()]
    assert (forecasts["y_pred"].to_numpy() == last["y_pred"].to_numpy()).all()
    short = finished.parent / "short.csv"
    EVENTS[:ROWS].astype({"auction": int}).to_csv(short, index=False)
    assert run("predict", *words, "--data.known_future.table", short) == 3
    SECTORS.assign(sector="z").to_csv(short, index=False)
    assert run("predict", *words, "--data.static.table", short) == 3
    said = capsys.readouterr().err
    assert "error[E375]" in said
    assert "error[E378]" in said


def test_encode_takes_the_tables_next_to_other_prices(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, checkpoint = finished.parent, finished / "checkpoints" / "best.ckpt"
    PRICES.to_parquet(folder / "own.parquet")
    words = ["encode", "--ckpt_path", checkpoint, "--output", folder / "e.parquet"]
    assert run(*words) == 0
    of_config = pd.read_parquet(folder / "e.parquet")
    words += ["--data", folder / "own.parquet"]
    assert run(*words) == 4
    assert run(*words, "--known_future", folder / "events.csv") == 4
    assert capsys.readouterr().err.count("error[E429]") == 2
    assert run(*words, "--known_future", folder / "events.csv", "--static", folder / "sectors.csv") == 0
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "e.parquet"), of_config, check_exact=True)


def test_predict_takes_the_tables_next_to_a_file_of_prices(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished.parent
    PRICES.to_parquet(folder / "alone.parquet")
    words = ["predict", "--ckpt_path", finished / "checkpoints" / "best.ckpt", "--output", folder / "f.parquet"]
    words += ["--prices", folder / "alone.parquet", "--known_future", folder / "events.csv"]
    assert run(*words) == 4
    assert "error[E429]: the checkpoint reads sector" in capsys.readouterr().err
    assert run(*words, "--static", folder / "sectors.csv") == 0
    predictor = Predictor.from_checkpoint(finished / "checkpoints" / "best.ckpt")
    table = predictor.predict(PRICES, known_future=EVENTS, static=SECTORS)
    assert (pd.read_parquet(folder / "f.parquet")["y_pred"].to_numpy() == table["y_pred"].to_numpy()).all()


def test_frames_become_files_that_a_yaml_names(tmp_path: Path) -> None:
    data = MarketDataModule(
        PRICES,
        features=["log_return_1"],
        window=5,
        known_future=KnownFuture(EVENTS.set_index("date"), ["auction"], "sum"),
        static=StaticColumns(["sector", "symbol"], SECTORS),
    )
    again, _ = from_yaml(to_yaml(data, folder=tmp_path))
    for one in (data, again):
        one.setup()
    assert again.recipe == data.recipe
    assert again.vocabulary == data.vocabulary == {"sector": ["x", "y"], "symbol": ["AAA", "BBB", "CCC"]}
    assert again.panel.values.numpy().tobytes() == data.panel.values.numpy().tobytes()
    assert to_yaml(again, folder=tmp_path) == to_yaml(data, folder=tmp_path)
