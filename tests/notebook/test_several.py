"""Several runs from Python, and how a command that ends becomes an exception."""

from __future__ import annotations

import html
import sys
from pathlib import Path

import optuna
import pandas as pd
import pytest

import cnn_lstm as cl
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.errors import CnnLstmError
from cnn_lstm.files import read_json
from cnn_lstm.notebook.calls import command
from tests.experiments import run
from tests.fits import FEATURES, price_file

SETTINGS = {
    "mlflow": False,
    "tensorboard": False,
    "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False},
    "model.network": {"channels": [4], "kernel_sizes": [3], "lstm_hidden": 4, "attention_heads": 2},
    "evaluation.resamples": 200,
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MarketDataModule:
    monkeypatch.chdir(tmp_path)
    prices = pd.read_csv(price_file(tmp_path, rows=200))
    return MarketDataModule(prices, features=FEATURES, window=6, batch_size=16)


# -- how a command ends ------------------------------------------------------------------------------------------------


def ends(code: int, *lines: str) -> None:
    """A command that prints lines of errors, and leaves."""
    with command("repeat"):
        for line in lines:
            print(line, file=sys.stderr)
        sys.exit(code)


def stopped() -> None:
    """A command that is interrupted, which Lightning turns into an exit."""
    with command("fit"):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)


def test_an_exit_becomes_the_error_of_the_run_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CnnLstmError, match=r"^error\[E238\]: no such device — repeat$") as ended:
        ends(2, "seed 42 failed with exit code 2: error[E238]: no such device", "nothing was trained")
    assert (ended.value.code, ended.value.exit_code) == (238, 2)
    assert "nothing was trained" in capsys.readouterr().err


def test_an_exit_without_a_line_has_its_code() -> None:
    with pytest.raises(CnnLstmError, match=r"^error\[E600\]: it ended with exit code 6 — repeat$"):
        ends(6)


def test_an_exit_without_an_error_is_none() -> None:
    ends(0)


def test_the_stop_button_stays_what_it_is() -> None:
    with pytest.raises(KeyboardInterrupt):
        stopped()


def test_quiet_keeps_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with command("test", quiet=True):
        print("a table")
        print("warning: a gap", file=sys.stderr)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "warning: a gap\n")


# -- several runs ------------------------------------------------------------------------------------------------------


def test_what_fails_at_once_leaves_nothing(data: MarketDataModule) -> None:
    with pytest.raises(CnnLstmError, match=r"E224.*--seeds"):
        cl.repeat(data, SETTINGS, seeds=0)
    with pytest.raises(CnnLstmError, match="E223"):
        cl.walk_forward(data, SETTINGS, folds=0)
    with pytest.raises(CnnLstmError, match=r"E225.*neither"):
        cl.sweep(space="space.yaml")
    assert [path.name for path in Path("runs").iterdir()] == [".prices"]


@pytest.mark.slow
def test_repeat(data: MarketDataModule) -> None:
    result = cl.repeat(data, SETTINGS, seeds=[3, 4], max_epochs=1, folder="runs/seeds", quiet=True)
    assert result.result["seeds"] == [3, 4]
    assert "repeat folder: runs/seeds" in repr(result)
    report = result.report()
    table = result.model().predict(pd.read_csv("prices.csv"))
    keys = ["symbol", "as_of"]
    tested = report.table.set_index(keys)["y_pred"]
    assert table.set_index(keys)["y_pred"].reindex(tested.index).equals(tested)


@pytest.mark.slow
def test_walk_forward(data: MarketDataModule) -> None:
    report = cl.walk_forward(data, SETTINGS, folds=2, max_epochs=1, folder="runs/folds", quiet=True)
    assert sorted(report.table["fold"].unique()) == [0, 1]
    assert list(report.verdict) == ["return_1"]
    assert report.page.is_file()


@pytest.mark.slow
def test_sweep(data: MarketDataModule) -> None:
    Path("space.yaml").write_text("space:\n  model.network.init_args.lstm_hidden: {categorical: [4, 6]}\n")
    study = cl.sweep(data, SETTINGS, space="space.yaml", n_trials=1, max_epochs=1)
    assert isinstance(study, optuna.Study)
    assert len(study.trials) == 1
    best = cl.from_yaml("runs/sweep/best.yaml")
    assert best.data.recipe.window == 6


@pytest.mark.slow
def test_audit(data: MarketDataModule) -> None:
    model = cl.fit(data, SETTINGS, max_epochs=1, quiet=True)
    audit = cl.audit(data, model)
    assert not audit.failed
    assert "calibration" in repr(audit)
    assert audit._repr_html_().startswith("<pre>prices as they were known")


def by_command(data: MarketDataModule, *words: str) -> Path:
    """A command on the same experiment as YAML; its folder."""
    Path("twin.yaml").write_text(cl.to_yaml(data, {**SETTINGS, "trainer.max_epochs": 1}))
    assert run(*words, "--config", "twin.yaml", "--folder", "runs/twin", "--quiet") == 0
    return Path("runs/twin")


def assert_twins(ours: Path, twin: Path, *names: str) -> None:
    for name in names:
        pd.testing.assert_frame_equal(pd.read_parquet(ours / name), pd.read_parquet(twin / name), check_exact=True)


@pytest.mark.slow
def test_cross_validate_is_the_command(data: MarketDataModule) -> None:
    found = cl.cross_validate(data, SETTINGS, groups=3, test_groups=1, max_epochs=1, folder="runs/cross", quiet=True)
    twin = by_command(data, "cross-validate", "--groups", "3", "--test_groups", "1")
    assert_twins(found.folder, twin, "path_0/predictions.parquet")
    assert found.result == read_json(twin / "cross_validation.json", "result")
    assert found.page.is_file()
    assert list(found.report(0).verdict) == ["return_1"]
    assert found._repr_html_().startswith("<pre>")
    assert "cross-validate folder: runs/cross" in repr(found)


@pytest.mark.slow
def test_roll_is_the_command(data: MarketDataModule) -> None:
    words = {"every": "15bars", "judge_on": "40bars"}
    found = cl.roll(data, SETTINGS, **words, max_epochs=1, folder="runs/roll", quiet=True)
    twin = by_command(data, "roll", "--every", "15bars", "--judge_on", "40bars")
    assert_twins(found.folder, twin, "predictions.parquet")
    assert found.result == read_json(twin / "roll.json", "result of a roll")
    steps = found.result["steps"]
    assert len(steps) > 1
    champion = found.champion()
    assert (champion.run.path.name, champion.checkpoint.name) == (f"step_{steps[-1]['champion']}", "champion.ckpt")
    assert champion.forecaster.contract.expires
    assert sorted(found.report().table["champion"].unique()) == sorted({one["champion"] for one in steps})
    again = cl.roll(data, SETTINGS, max_epochs=1, folder="runs/roll", resume=True, quiet=True)
    assert (again.result, found._repr_html_()[:5]) == (found.result, "<pre>")


def test_an_evening_of_a_frame_shows_itself(data: MarketDataModule, tmp_path: Path) -> None:
    """The prices of the fit were a frame: each evening brings another one."""
    (tmp_path / "later").mkdir()
    later = pd.read_csv(price_file(tmp_path / "later", rows=230))
    model = cl.fit(data, SETTINGS, max_epochs=1, quiet=True)
    changes = model.update(later, since=later["date"].iloc[205])
    assert changes.new == 2 * 25
    assert changes._repr_html_() == f"<p>{changes}</p>"
    newest = later["date"].iloc[-1]
    seen = model.monitor(now=newest, prices=later)
    assert seen.record["last_bar"][:10] == newest
    assert seen._repr_html_() == f"<pre>{html.escape(seen.text)}</pre>"
