"""Forecasts where only PyTorch, NumPy, pandas, PyArrow and TA-Lib are installed: the lean line of docs/install.md."""

from __future__ import annotations

import importlib
import re
from importlib.metadata import packages_distributions
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import cnn_lstm
from cnn_lstm import Predictor
from tests import experiments
from tests.environments import ROOT, python
from tests.markets import market

# what the five import, with what these import themselves; in a real lean environment there is a little more
LEAN = {"torch", "numpy", "pandas", "pyarrow", "talib", "typing_extensions", "dateutil", "six", "pytz"} | {
    "functorch",
    "torchgen",
}
PARSER = {"jsonargparse", "yaml", "_yaml"} | {
    # what it looks for and does without
    *("typeshed_client", "docstring_parser", "requests", "fsspec", "importlib_resources", "shtab", "argcomplete"),
    *("ruamel", "_jsonnet", "jsonschema", "omegaconf", "pydantic", "attrs", "attr", "toml", "reconplogger", "rich"),
}
PROGRAM = """
import sys
import pandas as pd
import cnn_lstm as cl
from cnn_lstm.cli import main

checkpoint, prices = "run/checkpoints/best.ckpt", pd.read_parquet("prices.parquet")
model = cl.Predictor.from_checkpoint(checkpoint)
model.predict(prices).to_parquet("of_python.parquet")
model.encode(prices).to_parquet("encoded.parquet")
last = prices["timestamp"].max()
print("streamed", len(model.stream(prices[prices["timestamp"] < last]).update(prices[prices["timestamp"] == last])))
for name in ("fit", "Model", "Forecaster", "MarketDataModule", "sweep"):
    try:
        getattr(cl, name)
    except ModuleNotFoundError as error:
        print(error)
assert main(["predict", "--prices", "prices.parquet", "--ckpt_path", checkpoint, "--output", "of_command.parquet"]) == 0
assert main(["encode", "--prices", "prices.parquet", "--ckpt_path", checkpoint, "--output", "embeddings.parquet"]) == 0
of_run = ["--config", "run/config.yaml", f"--ckpt_path={checkpoint}"]
for words in (["fit", *of_run], ["sweep"], ["plot", "run"], ["data", "check"], ["predict", *of_run]):
    assert main(words) == 2, words
"""
PARSES = """
from cnn_lstm.cli import main
of_run = ["--config", "run/config.yaml", "--ckpt_path", "best"]
assert main(["predict", *of_run, "--csv"]) == 0
assert main(["predict", *of_run, "--data.window", "3"]) == 4
for words in (["--trainer.accelerator", "cpu"], ["--data.windw", "3"], ["--start", "2010-06-01"]):
    assert main(["predict", *of_run, *words]) == 2
"""


def others(*allowed: str) -> set[str]:
    """Modules of every distribution that is installed here, but for some and the package itself."""
    return set(packages_distributions()) - LEAN - {"cnn_lstm", *allowed}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch next to its prices, with the forecasts of the whole environment."""
    path = tmp_path_factory.mktemp("lean")
    config = experiments.experiment(path, market(140))
    experiments.predict(experiments.fit(config, path / "run", "--trainer.max_epochs", 1))
    return path


@pytest.mark.slow
def test_forecasts_need_five_packages(folder: Path) -> None:
    done = python(folder, others(), "-W", "ignore", "-c", PROGRAM)
    assert done.returncode == 0, done.stdout + done.stderr
    model = Predictor.from_checkpoint(folder / "run" / "checkpoints" / "best.ckpt")
    prices = pd.read_parquet(folder / "prices.parquet")
    whole = model.predict(prices)
    assert_frame_equal(pd.read_parquet(folder / "of_python.parquet"), whole, check_exact=True)
    assert_frame_equal(pd.read_parquet(folder / "of_command.parquet"), whole, check_exact=True)
    assert_frame_equal(pd.read_parquet(folder / "encoded.parquet"), model.encode(prices), check_exact=True)
    assert "streamed 3" in done.stdout
    assert done.stdout.count("which is not installed: pip install cnn-lstm") == 5
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert [line[:11] for line in errors] == ["error[E298]"] * 5
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_configuration_needs_its_parser_too(folder: Path) -> None:
    before = pd.read_parquet(folder / "run" / "forecasts.parquet")
    (folder / "run" / "forecasts.parquet").unlink()
    done = python(folder, others(*PARSER), "-W", "ignore", "-c", PARSES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_frame_equal(pd.read_parquet(folder / "run" / "forecasts.parquet"), before, check_exact=True)
    assert len(pd.read_csv(folder / "run" / "forecasts.csv")) == len(before)


def test_forecasts_of_a_table_need_no_configuration(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, output = folder / "run" / "checkpoints" / "best.ckpt", folder / "evening.parquet"
    of_table = ["predict", "--prices", folder / "prices.parquet", "--ckpt_path", checkpoint, "--output", output]
    assert experiments.run(*of_table, "--start", "2010-06-18") == 0
    assert capsys.readouterr().out.startswith("63 forecasts of 3 symbols, 2010-06-18..2010-07-16")
    whole = Predictor.from_checkpoint(checkpoint).predict(pd.read_parquet(folder / "prices.parquet"), "2010-06-18")
    assert_frame_equal(pd.read_parquet(output), whole, check_exact=True)
    for words, text in {
        ("--config", "x.yaml"): "error[E225]: --config with --prices",
        ("--trainer.accelerator", "cpu"): "error[E225]: --trainer.accelerator with --prices",
    }.items():
        assert experiments.run(*of_table, *words) == 2
        assert text in capsys.readouterr().err
    assert experiments.run("predict", "--prices", folder / "prices.parquet") == 4
    assert experiments.run("predict", "--prices", checkpoint, "--ckpt_path", checkpoint, "--output", checkpoint) == 2
    assert "would replace a file" in capsys.readouterr().err


def test_the_lean_line_of_the_docs_is_what_the_tests_hide() -> None:
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    line = re.search(r"pip install (torch .*)\n.*pip install --no-deps \.\n", text)
    assert line is not None
    names = {re.split(r"[<>=]", word)[0].lower().replace("ta-lib", "talib") for word in line[1].split()}
    assert names == {"torch", "numpy", "pandas", "pyarrow", "talib"}


def test_a_name_that_is_not_there_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="lightning")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r"cnn_lstm\.fit needs lightning, which is not installed"):
        _ = cnn_lstm.fit
