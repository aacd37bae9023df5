"""Every shipped YAML trains and tests through the real command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests import experiments, fake_yahoo
from tests.markets import market
from tools.acl18_table import table_of

CONFIGS = Path(__file__).parents[1] / "configs"
EXPERIMENTS = sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("papers/*.yaml")])
TWINS = ("exchange_rate_h12",)  # differs in a number from one that is run
AUDITED = ("levels", "own_files", "quickstart", "realised_variance")  # the others take minutes together
FAST = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 2]
QUIET = ["--mlflow", "false", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples read, and a Yahoo that answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    fake_yahoo.install(monkeypatch)
    table = market(900, gaps=False)
    (tmp_path / "prices").mkdir()
    for symbol, bars in table.groupby("symbol"):
        columns = {"timestamp": "Date", "close": "Close"}
        bars.rename(columns=columns).drop(columns="symbol").to_csv(tmp_path / f"prices/{symbol}.csv", index=False)
    rates = pd.DataFrame({"symbol": "GBP", "timestamp": pd.bdate_range("2010-01-04", periods=600)})
    rates["value"] = 1.5 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.005, 600)))
    rates.to_csv(tmp_path / "rates.csv", index=False)
    write_papers(tmp_path / "papers")
    return tmp_path


def write_papers(folder: Path) -> None:
    """Made-up files in the form of those that the published protocols name; the real ones: tests/validity."""
    folder.mkdir()
    random = np.random.default_rng(0)
    walks = pd.DataFrame(np.exp(random.normal(0, 0.005, (1200, 8)).cumsum(axis=0)))
    walks.to_csv(folder / "exchange_rate.txt", header=False, index=False)
    days = pd.bdate_range("2013-06-03", "2015-12-31")
    moves, stocks = random.normal(0, 0.01, (len(days), 3)), []
    for number, symbol in enumerate(("AAA", "BBB", "CCC")):
        close = 100 * np.exp(moves[:, number].cumsum())
        bars = pd.DataFrame({"date": days, "close": close, "adj_close": close})
        stocks.append(table_of(bars.assign(open=close, high=close * 1.01, low=close * 0.99)).assign(symbol=symbol))
    pd.concat(stocks).to_parquet(folder / "acl18.parquet", index=False)
    measure = {"date": days, "realised_variance": np.exp(-9 + random.normal(0, 0.5, len(days)).cumsum() / 10)}
    pd.DataFrame(measure).to_csv(folder / "realised_variance.csv", index=False)


@pytest.mark.parametrize(
    "config",
    [pytest.param(path, marks=pytest.mark.slow if path.stem in TWINS else ()) for path in EXPERIMENTS],
    ids=lambda path: path.stem,
)
def test_experiment_trains_and_tests(config: Path, workplace: Path) -> None:
    run = experiments.fit(config, workplace / "run", *FAST, *QUIET)
    assert experiments.run("test", "--config", run / "config.yaml", "--ckpt_path", "best") == 0
    assert "model" in (run / "test.txt").read_text()


@pytest.mark.parametrize(
    "config",
    [pytest.param(path, marks=() if path.stem in AUDITED else pytest.mark.slow) for path in EXPERIMENTS],
    ids=lambda path: path.stem,
)
def test_experiment_passes_the_audit(config: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiments.run("audit", "--config", config) == 0
    assert "future perturbation           passed " in capsys.readouterr().out


@pytest.mark.parametrize("part", sorted((CONFIGS / "model").glob("*.yaml")), ids=lambda path: path.stem)
def test_model_part_joins_any_experiment(part: Path, workplace: Path) -> None:
    run = experiments.fit(CONFIGS / "quickstart.yaml", workplace / "run", "--model", part, *FAST, *QUIET)
    assert (run / "checkpoints/best.ckpt").is_file()


def test_every_yaml_is_tested() -> None:
    # those of sweeps in tests/sweeps/test_shipped_spaces.py, of agents in tests/commands/test_rl.py and
    # tests/agent_sweeps
    parts = ("model", "sweep", "rl", "rl/sweep")
    tested = {*EXPERIMENTS, *(path for part in parts for path in (CONFIGS / part).glob("*.yaml"))}
    assert {*CONFIGS.rglob("*.yaml")} == tested


def test_symbols_of_the_command_line_win(workplace: Path) -> None:
    argv = ["--data.symbols", "[AAPL,GOOGL,MSFT]", *FAST, *QUIET]
    run = experiments.fit(CONFIGS / "stocks_daily.yaml", workplace / "run", *argv)
    assert set(experiments.predict(run)["symbol"]) == {"AAPL", "GOOGL", "MSFT"}
