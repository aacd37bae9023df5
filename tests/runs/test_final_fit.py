"""A final fit: which rows it sees, what its checkpoint says, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.parts import rows_before_test, split_rows
from cnn_lstm.data.splits import Boundaries
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.runs.forecast_cli import parsed
from tests.experiments import experiment, fit, run
from tests.fits import small_data
from tests.markets import market

FINAL = ["--data.fit_on", "train_and_validation", "--model.scheduler", "null"]


class Case(NamedTuple):
    """A fit on train, and the final one after it."""

    config: Path
    before: Path
    final: Path


def final_argv(before: Path, alias: str = "best") -> list[object]:
    return [*FINAL, "--calibration_from", before / "checkpoints" / f"{alias}.ckpt"]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("runs")
    config = experiment(folder, market(200), early_stopping={"patience": 1})
    before = fit(config, folder / "before", "--trainer.max_epochs", 2)
    final = fit(before / "config.yaml", folder / "final", "--trainer.max_epochs", 3, *final_argv(before))
    return Case(config, before, final)


def contract(folder: Path, alias: str = "best") -> Contract:
    return Contract.of(read_checkpoint(folder / "checkpoints" / f"{alias}.ckpt"))


def data_of(folder: Path) -> MarketDataModule:
    data = parsed(["fit", "--config", str(folder / "config.yaml")]).build_data()
    data.setup()
    return data


# -- rows ------------------------------------------------------------------------------------------------------------


def test_it_is_fitted_on_all_rows_whose_labels_end_before_the_test_part() -> None:
    random = np.random.default_rng(0)
    days = np.arange("2020-01-01", "2021-01-01", dtype="datetime64[D]").astype("datetime64[us]")
    for _ in range(50):
        cuts, reach = np.sort(random.choice(np.arange(20, 300), 2, replace=False)), int(random.integers(1, 15))
        edges = Boundaries(days[3], days[cuts[0]], days[cuts[1]], days[340])
        rows = np.arange(340 - reach)
        parts = split_rows(rows, days[rows], days[rows + reach], edges)
        fitted = rows_before_test(rows, days[rows], days[rows + reach], edges)
        assert fitted.tolist() == list(range(3, cuts[1] - reach))
        assert {*parts.train, *parts.validation} <= set(fitted)
        assert not set(fitted) & set(parts.test)


def test_its_batches_and_statistics_are_those_of_train_and_validation(tmp_path: Path) -> None:
    plain, final = small_data(tmp_path), small_data(tmp_path, fit_on="train_and_validation")
    for data in (plain, final):
        data.setup()
    assert plain.parts.test.tolist() == final.parts.test.tolist()
    assert plain.fit_rows.tolist() == plain.parts.train.tolist()
    between = set(final.fit_rows) - {*plain.parts.train, *plain.parts.validation}
    assert 0 < len(between) <= plain.parts.purged
    labels = final.panel.labels[torch.from_numpy(final.fit_rows)].double()
    assert final.statistics.y_loc.numpy() == pytest.approx(labels.mean(dim=0).numpy(), rel=1e-4)
    assert not torch.equal(plain.statistics.y_loc, final.statistics.y_loc)
    rows = np.concatenate([batch.row.numpy() for batch in final.train_dataloader()])
    assert set(rows) <= set(final.fit_rows)
    assert set(rows) & set(plain.parts.validation)


# -- the fit and its checkpoint --------------------------------------------------------------------------------------


def test_it_trains_the_stated_epochs_without_a_validation_or_a_stop(case: Case) -> None:
    table = pd.read_csv(case.final / "metrics.csv")
    assert not [name for name in map(str, table) if name.startswith("val_")]
    assert table["train_loss"].notna().sum() == 3
    best, last = (read_checkpoint(case.final / "checkpoints" / f"{alias}.ckpt") for alias in ("best", "last"))
    assert best["epoch"] == last["epoch"] == 2
    assert all(torch.equal(values, last["state_dict"][name]) for name, values in best["state_dict"].items())


def test_its_checkpoint_says_what_it_has_seen(case: Case) -> None:
    before, final, data = contract(case.before), contract(case.final), data_of(case.final)
    assert (before.fitted_on, final.fitted_on) == ("", "train_and_validation")
    assert before.boundaries == final.boundaries
    assert before.training is not None
    assert final.training is not None
    assert before.training.last < final.boundaries.validation < final.training.last < final.boundaries.test
    assert final.training.last == str(data.panel.time[data.fit_rows].max())


def test_its_intervals_are_those_of_the_fit_before(case: Case) -> None:
    before, final = contract(case.before), contract(case.final)
    assert before.calibration is not None
    assert before.calibration == final.calibration
    predictor = Predictor.from_checkpoint(case.final / "checkpoints" / "best.ckpt")
    data = data_of(case.final)
    assert {"lower_90", "upper_90"} <= set(predictor.predict_rows(data.panel, data.parts.test))


def test_it_can_be_tested_and_no_check_fails(case: Case) -> None:
    assert run("test", "--config", case.final / "config.yaml", "--ckpt_path", "best") == 0
    text = (case.final / "report.html").read_text()
    assert "train" in text
    table = pd.read_parquet(case.final / "predictions.parquet")
    assert table["as_of"].min() >= pd.Timestamp(contract(case.final).boundaries.test, tz="UTC")
    sheet = pd.read_json(case.final / "model_info.json", typ="series")
    assert {check["outcome"] for check in sheet["leakage"]} <= {"passed", "note"}


def test_a_resumed_final_fit_is_the_whole_one(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Forecaster.on_train_epoch_start

    def interrupt(self: Forecaster) -> None:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        begin(self)

    argv = ["--run_dir", tmp_path / "part", "--trainer.max_epochs", 3, *final_argv(case.before)]
    with monkeypatch.context() as patched:
        patched.setattr(Forecaster, "on_train_epoch_start", interrupt)
        assert run("fit", "--config", case.before / "config.yaml", *argv) == 130
    assert run("fit", "--config", tmp_path / "part" / "config.yaml", "--ckpt_path", "last") == 0
    states = [read_checkpoint(folder / "checkpoints" / "best.ckpt") for folder in (case.final, tmp_path / "part")]
    assert states[0]["cnn_lstm"] == states[1]["cnn_lstm"]  # with the digest of the weights


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message", "code"),
    [
        (["--data.fit_on", "train_and_validation"], "no validation rows to calibrate", 2),
        (["--calibration_from", "BEFORE"], "only a final fit takes the calibration", 2),
        (["--data.fit_on", "train_and_validation", "--calibration_from", "BEFORE"], "the learning rate waits", 2),
        ([*FINAL, "--calibration_from", "FINAL"], "no calibration of its own", 2),
        ([*FINAL, "--calibration_from", "BEFORE", "--data.window", "7"], "window: 8 -> 7", 4),
        ([*FINAL, "--calibration_from", "BEFORE", "--model.network.lstm_hidden", "8"], "lstm_hidden: 4 -> 8", 4),
        ([*FINAL, "--calibration_from", "BEFORE", "--data.split.train", "0.6"], "data.split.validation: ", 4),
        ([*FINAL, "--calibration_from", "missing.ckpt"], "no such checkpoint file", 4),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str, code: int
) -> None:
    places = {
        "BEFORE": str(case.before / "checkpoints" / "best.ckpt"),
        "FINAL": str(case.final / "checkpoints" / "best.ckpt"),
    }
    words: list[Any] = [places.get(word, word) for word in argv]
    assert run("fit", "--config", case.config, "--run_dir", tmp_path / "run", *words) == code
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in line
    assert len(line) <= 400


@pytest.mark.parametrize("folder", ["before", "final"])
def test_a_final_model_is_not_validated(case: Case, capsys: pytest.CaptureFixture[str], folder: str) -> None:
    config = getattr(case, folder) / "config.yaml"
    checkpoint = case.final / "checkpoints" / "best.ckpt"
    assert run("validate", "--config", config, "--ckpt_path", checkpoint) in (2, 4)
    assert "validation part" in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_usual_fit_does_not_go_on_as_a_final_one(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--ckpt_path", "last", "--trainer.max_epochs", 5, *final_argv(case.before)]
    assert run("fit", "--config", case.before / "config.yaml", *argv) == 4
    assert "data.fit_on: train -> train_and_validation" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["repeat", "--seeds", "2"], ["walk-forward", "--folds", "2"]])
def test_many_runs_are_not_final_ones(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    argv = ["--folder", tmp_path / "many", "--config", case.config, *final_argv(case.before)]
    assert run(*command, *argv) == 2
    assert "of final fits" in capsys.readouterr().err
