"""`cnn-lstm plot` as a user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from matplotlib.image import imread

from cnn_lstm.training.history import read_history
from cnn_lstm.training.history_plot import history_figure
from tests.experiments import experiment, fit, run
from tests.markets import market
from tests.training.test_history import whole


def test_one_run_is_drawn_into_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = whole(tmp_path / "run")
    assert run("plot", folder) == 0
    assert capsys.readouterr().out.split() == [str(folder / "history.png")]
    assert imread(folder / "history.png").shape[:2] == (700, 1200)


def test_comparison_is_drawn_here_or_where_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [whole(tmp_path / "a"), whole(tmp_path / "b", losses=[0.4])]
    monkeypatch.chdir(tmp_path)
    assert run("plot", *runs) == 0
    assert run("plot", *runs, "--output", "both.svg") == 0
    assert (tmp_path / "history.png").is_file()
    assert (tmp_path / "both.svg").read_text().startswith("<?xml")
    assert not list(tmp_path.glob("?/history.png"))


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["nowhere"], 2, "error[E240]: no run folder — nowhere"),
        (["empty"], 3, "error[E340]: no metrics.csv — empty/metrics.csv"),
        (["run", "empty"], 3, "error[E340]"),
        (["run", "--output", "a.gif"], 2, "error[E224]: the plot 'a.gif'"),
        (["run", "--output", "nowhere/a.png"], 6, "error[E606]: cannot write the plot"),
        (["run", "--size", "3"], 2, "error[E225]: unrecognized arguments"),
        ([], 2, "error[E225]"),
    ],
)
def test_refusals_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    code: int,
    text: str,
) -> None:
    whole(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run("plot", *argv) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(text)


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plot", "--help") == 0
    assert "--output FILE" in capsys.readouterr().out


def test_fit_draws_and_resumes(tmp_path: Path) -> None:
    config = experiment(tmp_path, market(260, gaps=False), history_plot={"enabled": True})
    folder = fit(config, tmp_path / "run")
    before = (folder / "history.png").read_bytes()
    assert run("fit", "--config", folder / "config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", 3) == 0
    assert (folder / "history.png").read_bytes() != before


def with_config(run: Path, target: str, objective: str = "Point", **arguments: object) -> Path:
    """A run with the part of its configuration that says what it forecasts."""
    target_spec = {"class_path": f"cnn_lstm.data.targets.{target}", "init_args": arguments}
    objective_spec = {"class_path": f"cnn_lstm.model.objectives.{objective}", "init_args": {}}
    config = {"data": {"targets": [target_spec]}, "model": {"objective": objective_spec}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


def test_runs_with_different_targets_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    returns = with_config(whole(tmp_path / "a"), "ForwardReturn", horizon=1)
    longer = with_config(whole(tmp_path / "b"), "ForwardReturn", horizon=5)
    volatility = with_config(whole(tmp_path / "c"), "RealizedVolatility", horizon=1)
    unknown, output = whole(tmp_path / "d"), tmp_path / "plot.png"
    for pair, text in (
        ((returns, longer), "ForwardReturn(horizon=1) and ForwardReturn(horizon=5) — a, b"),
        ((returns, unknown, volatility), "ForwardReturn and RealizedVolatility — a, c"),
    ):
        assert run("plot", *pair, "--output", output) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error[E224]: runs with different targets: {text}")
        assert not output.exists()
    assert run("plot", returns, with_config(whole(tmp_path / "e"), "ForwardReturn", horizon=1), "--output", output) == 0
    assert run("plot", returns, unknown, "--output", output) == 0


def test_losses_of_different_objectives_are_said_to_differ(tmp_path: Path) -> None:
    one = with_config(whole(tmp_path / "a"), "ForwardReturn", "Point")
    other = with_config(whole(tmp_path / "b"), "ForwardReturn", "Gaussian")
    figures = [history_figure([read_history(run) for run in runs]) for runs in ((one, one), (one, other))]
    titles = [figure.axes[0].get_title(loc="left") for figure in figures]
    assert titles == ["Loss", "Loss of different objectives"]
