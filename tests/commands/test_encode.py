"""`encode` writes what the predictor says, and names what it came from."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from cnn_lstm.data.prices import data_fingerprint
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from tests.experiments import experiment, fit, run, spec
from tests.markets import market


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two targets."""
    folder = tmp_path_factory.mktemp("encode")
    targets = [spec("cnn_lstm.data.targets.ForwardReturn", horizon=h) for h in (1, 3)]
    config = experiment(folder, market(220), {"targets": targets}, trainer={"max_epochs": 1})
    return fit(config, folder / "run")


def checkpoint_of(run_dir: Path) -> Path:
    return run_dir / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def encoded(finished: Path) -> pd.DataFrame:
    assert run("encode", "--ckpt_path", checkpoint_of(finished)) == 0
    return pd.read_parquet(checkpoint_of(finished).with_name("embeddings.parquet"))


def test_rows_are_those_of_encode_and_predict(finished: Path, encoded: pd.DataFrame) -> None:
    predictor, prices = Predictor.from_checkpoint(checkpoint_of(finished)), market(220)
    wanted = predictor.encode(prices)
    assert len(wanted) > 300
    for name in wanted:
        assert np.array_equal(encoded[name], wanted[name]), name
    forecasts = predictor.predict(prices)
    for target in ("return_1", "return_3"):
        of_target = forecasts[forecasts["target"] == target]
        for name in ("y_pred", "lower_90", "upper_90"):
            assert np.array_equal(encoded[f"{name}__{target}"], of_target[name]), name


def test_no_column_holds_what_is_forecast(encoded: pd.DataFrame) -> None:
    forecasts = {name.partition("__")[0] for name in map(str, encoded) if "__" in name}
    assert forecasts == {
        "y_pred",
        "y_linear",
        *(f"{side}_{level}" for side in ("lower", "upper") for level in (50, 80, 90, 95)),
    }


def test_attributes_name_checkpoint_data_and_training(finished: Path, encoded: pd.DataFrame) -> None:
    contract = read_checkpoint(checkpoint_of(finished))["cnn_lstm"]
    assert encoded.attrs["checkpoint"] == contract["digest"]
    assert encoded.attrs["data"] == data_fingerprint(market(220)) == contract["fingerprint"]
    assert encoded.attrs["training"] == contract["training"]
    assert encoded.attrs["test"] == contract["boundaries"]["test"]


def test_prices_and_output_can_be_given(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    market(150).to_parquet(tmp_path / "other.parquet")
    argv = ("--data", tmp_path / "other.parquet", "--output", tmp_path / "e.parquet", "--samples", 3)
    assert run("encode", "--ckpt_path", checkpoint_of(finished), *argv) == 0
    output, table = capsys.readouterr().out, pd.read_parquet(tmp_path / "e.parquet")
    assert output.startswith(f"{len(table):,} embeddings of 3 symbols, ")
    assert (table["mc_std__return_1"] > 0).all()
    assert table.attrs["data"] == data_fingerprint(market(150))


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["encode", "--samlpes", "3"], 2, "error[E225]: unrecognized arguments: --samlpes 3 .* mean --samples[?]"),
        (["encode", "--sample", "3"], 2, "error[E225]: unrecognized .* mean --samples[?]"),
        (["encode", "--output", "x.csv"], 2, "error[E224]: --output x.csv .* name the file .parquet"),
        (["encode", "--output", "nowhere/x.parquet"], 6, "error[E606]: cannot write the file .*no such folder"),
        (["export", "--format", "onxx"], 2, "error[E225]: .*onxx.* did you mean onnx[?]"),
        (["export", "--format", "tflite"], 2, "error[E225]: .*tflite.* see cnn-lstm export --help"),
        (["export", "--outptu", "x"], 2, "error[E225]: .* did you mean --output[?]"),
        (["export", "--format", "pt2", "--output", "model.onnx"], 2, "error[E257]: model.onnx .* end it in .pt2"),
        (["export", "--output", "nowhere/model.onnx"], 6, "error[E606]: cannot write the file .*no such folder"),
    ],
    ids=[
        *("option", "abbreviation", "ending", "folder"),
        *("format", "unlike-any-format", "option-of-export", "ending-of-export", "folder-of-export"),
    ],
)
def test_mistakes_are_one_line_before_any_work(
    argv: list[str],
    code: int,
    said: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if argv[0] == "export":
        pytest.importorskip("onnx")
    assert run(*argv, "--ckpt_path", checkpoint_of(finished)) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert re.search(said.replace("[E", r"\[E"), lines[0]), lines[0]
    assert not list(tmp_path.iterdir())


def test_a_lone_checkpoint_needs_prices(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lone = tmp_path / "below" / "below" / "lone.ckpt"
    lone.parent.mkdir(parents=True)
    lone.write_bytes(checkpoint_of(finished).read_bytes())
    assert run("encode", "--ckpt_path", lone) == 2
    assert "error[E258]: no prices" in capsys.readouterr().err


def test_a_server_that_only_the_run_folder_names_is_not_called(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
    config = yaml.safe_load((finished / "config.yaml").read_text(encoding="utf-8"))
    url = "postgresql+psycopg://127.0.0.1:1/x"
    config["data"]["source"] = spec("cnn_lstm.data.sources.SqlBars", url=url, table="bars")
    (tmp_path / "lone.ckpt").write_bytes(checkpoint_of(finished).read_bytes())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert run("encode", "--ckpt_path", tmp_path / "lone.ckpt") == 2
    assert "error[E258]" in capsys.readouterr().err
    assert run("encode", "--ckpt_path", tmp_path / "lone.ckpt", "--config", tmp_path / "config.yaml") == 3
    assert "error[E349]" in capsys.readouterr().err


def test_prices_come_from_one_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--ckpt_path", tmp_path / "best.ckpt", "--data", tmp_path / "x.csv", "--config", tmp_path / "config.yaml"]
    assert run("encode", *argv) == 2
    assert "not allowed with" in capsys.readouterr().err
