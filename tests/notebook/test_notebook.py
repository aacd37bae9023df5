"""The seven lines of a notebook, and the same job by YAML and the shell: every bit is the same."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import pandas as pd
import pyarrow as pa
import pytest
import torch
import yaml

import cnn_lstm as cl
from cnn_lstm import shipped
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.splits import DateSplit
from cnn_lstm.data.targets import RealizedVolatility, Target
from cnn_lstm.notebook.model import Model, fit
from cnn_lstm.notebook.report import TestReport
from tests.experiments import network, run, spec
from tests.fits import FEATURES, price_file

ROWS = 260
NETWORK = {"channels": [4], "kernel_sizes": [3], "lstm_hidden": 4, "attention_heads": 2}
SPLIT = ("2020-08-03", "2020-10-01")
SETTINGS: dict[str, Any] = {
    "mlflow": False,
    "tensorboard": False,
    "trainer": {"accelerator": "cpu", "devices": 1, "enable_model_summary": False},
    "trainer.enable_progress_bar": False,  # a dotted key joins its section
    "model.network": NETWORK,
    "evaluation.resamples": 200,
}


def data_of(prices: Any, **arguments: Any) -> MarketDataModule:
    """The data of all tests here."""
    targets: list[Target] = [RealizedVolatility(5, log=True)]
    values = {"targets": targets, "split": DateSplit(*SPLIT), "features": FEATURES, "window": 6, "batch_size": 16}
    return MarketDataModule(prices, **{**values, **arguments})


class Both(NamedTuple):
    """The job by Python, and its twin by YAML."""

    folder: Path
    prices: pd.DataFrame
    model: Model
    report: TestReport
    twin: Path


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("notebook")
    prices = pd.read_csv(price_file(folder, rows=ROWS))
    before = Path.cwd()
    os.chdir(folder)
    try:
        model = fit(data_of(prices), SETTINGS, max_epochs=2, run_dir="runs/first")
        yield Both(folder, prices, model, model.test(), _by_shell(folder))
    finally:
        os.chdir(before)


def _by_shell(folder: Path) -> Path:
    """The run folder of the same job by a YAML that somebody wrote by hand, on the same prices as CSV."""
    values = {
        "mlflow": False,
        "tensorboard": False,
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "devices": 1,
            "enable_model_summary": False,
            "enable_progress_bar": False,
        },
        "model": {"network": network(**NETWORK)},
        "evaluation": {"resamples": 200},
        "data": {
            "source": spec("cnn_lstm.data.sources.PriceFiles", paths=str(folder / "prices.csv")),
            "targets": [spec("cnn_lstm.data.targets.RealizedVolatility", horizon=5, log=True)],
            "split": spec("cnn_lstm.data.splits.DateSplit", validation=SPLIT[0], test=SPLIT[1]),
            "features": FEATURES,
            "window": 6,
            "batch_size": 16,
        },
    }
    file, twin = folder / "twin.yaml", folder / "runs" / "twin"
    file.write_text(yaml.safe_dump(values))
    assert run("fit", "--config", file, "--run_dir", twin) == 0
    assert run("test", "--config", twin / "config.yaml", "--ckpt_path", "best") == 0
    return twin


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    return state


def same_weights(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# -- both doors ------------------------------------------------------------------------------------------------------


def test_the_twin_by_yaml_is_equal_in_every_bit(both: Both) -> None:
    first, twin = both.model.run.path, both.twin
    assert same_weights(first, twin)
    one, other = (pd.read_parquet(run / "predictions.parquet") for run in (first, twin))
    pd.testing.assert_frame_equal(one, other, check_exact=True)  # with the fingerprint of the prices
    for name in ("test_metrics.json", "report.json"):
        assert json.loads((first / name).read_text()) == json.loads((twin / name).read_text()), name
    timed = ["epoch_s", "windows_per_s", "peak_memory_mib"]
    one, other = (pd.read_csv(run / "metrics.csv").drop(columns=timed) for run in (first, twin))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_python_run_has_the_folder_of_a_shell_run(both: Both) -> None:
    def names(run: Path) -> set[str]:
        return {path.relative_to(run).as_posix() for path in run.rglob("*")}

    assert names(both.model.run.path) == names(both.twin)


def test_config_yaml_of_a_python_run_reruns_by_the_shell(both: Both) -> None:
    again = both.folder / "runs" / "again"
    before = Path.cwd()
    os.chdir(both.folder.parent)  # it names the prices by their whole path
    try:
        assert run("fit", "--config", both.folder / "runs/first/config.yaml", "--run_dir", again) == 0
    finally:
        os.chdir(before)
    assert same_weights(again, both.twin)


def test_prices_are_kept_once(both: Both) -> None:
    files = list((both.folder / "runs" / ".prices").iterdir())
    cl.to_yaml(data_of(both.prices.assign(close=both.prices["close"])), SETTINGS)
    assert list((both.folder / "runs" / ".prices").iterdir()) == files
    assert len(files) == 1


@pytest.mark.parametrize("form", ["polars", "arrow"])
def test_other_frames_give_the_same_bits(both: Both, form: str) -> None:
    frame: Any = pa.Table.from_pandas(both.prices)
    if form == "polars":
        frame = pytest.importorskip("polars", reason="Polars is not installed").from_arrow(frame)
    model = fit(data_of(frame), SETTINGS, max_epochs=2, run_dir=f"runs/{form}", quiet=True)
    assert same_weights(model.run.path, both.twin)
    pd.testing.assert_frame_equal(model.predict(frame), both.model.predict(both.prices), check_exact=True)


def test_predict_is_the_forecast_of_the_test(both: Both) -> None:
    keys = ["symbol", "as_of", "target"]
    tested = both.report.table.set_index(keys)["y_pred"]
    assert both.model.predict(both.prices).set_index(keys)["y_pred"].reindex(tested.index).equals(tested)


# -- YAML and back -----------------------------------------------------------------------------------------------------


def test_yaml_and_back(both: Both) -> None:
    text = cl.to_yaml(data_of(both.prices), {**SETTINGS, "trainer.max_epochs": 2})
    data, settings = cl.from_yaml(text)
    assert isinstance(data, MarketDataModule)
    assert settings["model"]["network"]["init_args"]["channels"] == [4]
    assert cl.to_yaml(data, settings) == text
    kept = yaml.safe_load(both.model.run.config.read_text())
    assert yaml.safe_load(text) == kept
    assert yaml.safe_load(cl.to_yaml(*cl.from_yaml(both.model.run.config))) == kept


def test_data_take_the_place_of_the_whole_section(both: Both) -> None:
    other = "data: {window: 9, anchor: [log_return_1], source: {class_path: cnn_lstm.data.sources.SampleBars}}\n"
    text = yaml.safe_load(cl.to_yaml(data_of(both.prices), other))
    assert text["data"]["window"] == 6
    assert text["data"]["anchor"] is None
    assert text["data"]["source"]["class_path"].endswith("PriceFiles")


def test_a_shipped_configuration_is_found_by_its_name() -> None:
    file = shipped.configs() / "volatility.yaml"

    assert cl.from_yaml("volatility").settings == cl.from_yaml(file).settings


def test_objects_are_settings_too(both: Both) -> None:
    from cnn_lstm.model.network import CNNLSTM
    from cnn_lstm.model.objectives import Gaussian

    made = {"model.network": CNNLSTM(3, channels=[4], kernel_sizes=[3]), "model.objective": Gaussian()}
    kept = yaml.safe_load(cl.to_yaml(data_of(both.prices), made))["model"]
    assert kept["network"]["init_args"]["channels"] == [4]
    assert kept["objective"]["class_path"].endswith("Gaussian")


# -- what comes after a fit --------------------------------------------------------------------------------------------


def test_verdict_and_evaluate_are_public(both: Both) -> None:
    assert cl.evaluate(both.report.table) == both.report.report
    assert cl.verdict(both.report.table) == both.report.verdict
    (name,) = both.report.verdict
    assert both.report.verdict[name]["verdict"] == "NO EVIDENCE OF SKILL"
    metrics = both.report.metrics()
    assert metrics.index[0] == "model"
    assert metrics.loc["model", "rmse"] == both.report.report["targets"][name]["forecasts"]["model"]["rmse"]


def test_models_pickle(both: Both, tmp_path: Path) -> None:
    joblib.dump(both.model, tmp_path / "model.pkl")
    for again in (joblib.load(tmp_path / "model.pkl"), pickle.loads(pickle.dumps(both.model))):
        pd.testing.assert_frame_equal(again.predict(both.prices), both.model.predict(both.prices), check_exact=True)
        assert again.run == both.model.run


def test_a_run_of_the_shell_opens_as_a_model(both: Both) -> None:
    for model in (Model(both.twin), Model.from_checkpoint(both.twin / "checkpoints" / "best.ckpt")):
        pd.testing.assert_frame_equal(model.predict(both.prices), both.model.predict(both.prices), check_exact=True)
        assert model.history.table["val_loss"].tolist() == both.model.history.table["val_loss"].tolist()


def test_everything_prints_itself(both: Both) -> None:
    for thing in (both.model, both.report, both.model.history):
        shown = thing._repr_html_()
        assert "val_loss" in shown or "NO EVIDENCE OF SKILL" in shown
        assert "0x" not in repr(thing)
    assert "log_volatility_5" in repr(both.model)
    assert repr(both.report).startswith("NO EVIDENCE OF SKILL: log_volatility_5")


def test_plots(both: Both, tmp_path: Path) -> None:
    one = both.model.plot("forecast", symbol="AAA")
    assert repr(one) == "<Drawing: Forecast and truth: AAA>"
    assert one._repr_html_().count("<img") == 1
    assert len(both.report.plot("forecast").plots) == 2
    for kind in ("truth", "calibration", "errors"):
        assert both.report.plot(kind, file=tmp_path / f"{kind}.svg").plots
        assert (tmp_path / f"{kind}.svg").read_text().lstrip().startswith("<?xml")
    both.model.history.plot(tmp_path / "history.png")
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")


def test_before_a_test_the_validation_part_is_drawn(both: Both) -> None:
    table = Model(both.twin).validation_forecasts()
    assert table["as_of"].min() >= pd.Timestamp(SPLIT[0], tz="UTC")
    assert table["target_end"].max() < pd.Timestamp(SPLIT[1], tz="UTC")


# -- explanations ------------------------------------------------------------------------------------------------------


def test_the_shell_explains_what_python_does(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("captum")
    explained = both.model.explain(rows=60, repeats=2)
    few = ("--rows", 60, "--repeats", 2)
    config, file = both.twin / "config.yaml", both.twin / "explanation.json"
    assert run("explain", "--config", config, "--ckpt_path", "best", *few) == 0
    assert json.loads(file.read_text()) == explained.to_plain()
    assert "explanation.html" in capsys.readouterr().out.splitlines()[-1]
    one = both.model.explain(both.prices, "AAA", "2020-11-02")
    pd.testing.assert_frame_equal(both.model.explain(symbol="AAA", as_of="2020-11-02").cells, one.cells)
    page = both.folder / "one.html"
    of_one = ("--symbol", "AAA", "--as_of", "2020-11-02", "--output", page)
    assert run("explain", "--config", config, "--ckpt_path", "best", *of_one) == 0
    assert json.loads(page.with_suffix(".json").read_text()) == one.to_plain()
    assert "What moved the forecast of AAA" in page.read_text()


def test_the_report_explains_where_it_is_asked_to(both: Both) -> None:
    pytest.importorskip("captum")
    heading, page = "What the forecasts depend on", both.model.run.path / "report.html"
    before = json.loads((both.model.run.path / "report.json").read_text())
    assert heading not in page.read_text()
    report = both.model.test({"evaluation.explain": True})
    assert heading in page.read_text()
    assert (both.model.run.path / "explanation.json").is_file()
    assert report.report["targets"] == before["targets"]  # nothing else knows of it


# -- refusals ----------------------------------------------------------------------------------------------------------


class OwnData(MarketDataModule):
    """It may do anything that no key says."""


class Own(RealizedVolatility):
    """As if a cell of a notebook had defined it."""


Own.__module__ = "__main__"
REFUSED: dict[str, tuple[str, Any]] = {
    "a misspelt key": ("E225.*did you mean model", lambda both: fit(data_of(both.prices), {"modle": 1})),
    "the place of a wrong key": ("E225.* the settings ", lambda both: fit(data_of(both.prices), {"modle": 1})),
    "a folder with a run": ("E206", lambda both: fit(data_of(both.prices), SETTINGS, run_dir="runs/first")),
    "a frame for the data": ("E225.*MarketDataModule", lambda both: fit(both.prices)),
    "a path for a frame": ("E338", lambda _: MarketDataModule("prices.csv")),  # type: ignore[arg-type]
    "no rows": ("E302", lambda both: MarketDataModule(both.prices.head(0))),
    "no file": ("E201", lambda both: fit(data_of(both.prices), "missing.yaml")),
    "settings that are none": ("E225", lambda both: fit(data_of(both.prices), 3)),  # type: ignore[arg-type]
    "a value of another kind": ("E225", lambda both: fit(data_of(both.prices), {"trainer.max_epochs": "many"})),
    "a function": ("E225.*YAML cannot hold", lambda both: fit(data_of(both.prices), {"model.network": print})),
    "a class of the notebook": ("E228.*data.targets.*trust", lambda both: fit(data_of(both.prices, targets=[Own()]))),
    "a data module of another class": ("E225.*OwnData", lambda both: fit(OwnData(both.prices))),
    "a key within a value": ("E225", lambda both: fit(None, {"trainer": 1, "trainer.max_epochs": 1})),
    "negative epochs": ("E224", lambda both: fit(data_of(both.prices), max_epochs=-5)),
    "few rows": ("E306", lambda both: fit(data_of(both.prices.head(9)), SETTINGS)),
    "an unknown accelerator": ("E238", lambda both: fit(data_of(both.prices), {"trainer.accelerator": "abacus"})),
    "an unknown plot": ("E224.*one of forecast", lambda both: both.report.plot("pie")),
    "an unknown symbol": ("E224.*did you mean AAA", lambda both: both.model.plot(symbol="AAB")),
    "an unknown target": ("E224", lambda both: both.report.metrics("x")),
    "a missing plot": ("E224", lambda both: both.report.plot("strategy")),
    "another ending": ("E224.*svg", lambda both: both.report.plot("errors", file="errors.gif")),
    "no run": ("E437", lambda both: Model("runs/none")),
    "no test": ("E339", lambda both: TestReport.from_run("runs/none")),
    "an explanation of few rows": ("E224.*rows=3", lambda both: both.model.explain(rows=3)),
    "an explanation of nobody": ("E224.*AAA", lambda both: both.model.explain(symbol="AAB")),
    "an explanation of a day off": (
        "E380.*2020-10-30",
        lambda both: both.model.explain(symbol="AAA", as_of="2020-11-01"),
    ),
    "a table of predict": ("E390", lambda both: cl.verdict(both.model.predict(both.prices))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_line(both: Both, name: str) -> None:
    message, call = REFUSED[name]
    folders = {path.name for path in Path("runs").iterdir()}
    with pytest.raises(Exception, match=message) as refused:
        call(both)
    assert type(refused.value).__module__ == "cnn_lstm.errors"
    assert {path.name for path in Path("runs").iterdir()} == folders  # and they leave nothing behind
