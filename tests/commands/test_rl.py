"""`rl train` and `rl evaluate` through the command line."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from cnn_lstm.commands import rl
from tests.experiments import experiment, fit, run
from tests.markets import walk

ROOT = Path(__file__).parents[2]
SHORT = ["--market.episode_length", "20"]
SMALL = [
    *("--agent.steps", "64", "--agent.n_envs", "2", "--agent.seeds", "[0,1]"),
    *("--agent.arguments", "{n_steps: 16, batch_size: 16}", "--market.symbols", "[AAA]"),
    *SHORT,
    *("--market.part", "validation"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a forecaster."""
    folder = tmp_path_factory.mktemp("rl")
    file = experiment(folder, pd.concat([walk(220, "AAA", 1), walk(220, "BBB", 2)]))
    return fit(file, folder / "runs" / "one", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")


@pytest.fixture(scope="module")
def agents(home: Path) -> Path:
    """Agents of two seeds, evaluated twice."""
    assert train(home, *SMALL, "--name", "small") == 0
    for _ in range(2):
        assert run("rl", "evaluate", home / "rl" / "small") == 0
    return home / "rl" / "small"


def train(home: Path, *words: object) -> int:
    return run("rl", "train", "--ckpt_path", home / "checkpoints" / "best.ckpt", *words)


def test_writes_what_was_learnt(agents: Path) -> None:
    config = yaml.safe_load((agents / "config.yaml").read_text())
    assert (config["agent"]["algo"], config["market"]["part"]) == ("ppo", "validation")
    for seed in (0, 1):
        assert (agents / f"agent_seed{seed}.zip").is_file()
        log = pd.read_csv(agents / "logs" / f"seed{seed}" / "progress.csv")
        assert log["time/total_timesteps"].iloc[-1] == 64
        assert list((agents / "logs" / f"seed{seed}").glob("events.*"))


def test_figures_can_be_recomputed_from_the_bars(agents: Path, home: Path) -> None:
    report = json.loads((agents / "evaluation.json").read_text())
    bars = pd.read_parquet(agents / "bars.parquet")
    figures: dict[str, Any] = {**report["agents"], "all seeds together": report["together"], **report["rules"]}
    rules = {"buy and hold", "flat", "sign of return_2"}
    assert set(bars["who"]) == set(figures) == {"seed 0", "seed 1", "all seeds together", *rules}
    for name, own in bars.groupby("who"):
        year = figures[name]["periods_per_year"]
        assert figures[name]["net_annual_return"] == pytest.approx(own["net"].mean() * year, abs=1e-12)
    tested = pd.read_parquet(home.parents[1] / "prices.parquet")["timestamp"].sort_values().unique()
    assert report["first"] >= str(tested[int(0.85 * len(tested))])[:10]
    assert report["bars"] > 25


def test_the_page_says_what_the_text_says(agents: Path) -> None:
    page = html.unescape((agents / "report.html").read_text())
    report = json.loads((agents / "evaluation.json").read_text())
    assert report["claim"]["sentence"] in page
    for line in (agents / "evaluation.txt").read_text().splitlines()[-3:]:
        assert line in page
    assert "data:image/svg+xml;base64," in page
    assert "http" not in re.sub(r'"data:[^"]*"', "", page)


def test_each_look_at_the_test_rows_is_counted_beside_the_forecasters(agents: Path, home: Path) -> None:
    lines = [json.loads(line) for line in (home.parent / "test_uses.jsonl").read_text().splitlines()]
    assert [line["run"] for line in lines] == ["one", "one"]
    assert "used 2 times by 1 model" in (agents / "evaluation.txt").read_text()
    assert run("test", "--config", home / "config.yaml", "--ckpt_path", "best") == 0
    assert "used 3 times by 2 models" in (home / "test.txt").read_text()


@pytest.mark.parametrize("config", sorted((ROOT / "configs" / "rl").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_settings_train(config: Path, home: Path) -> None:
    words = ["--agent.steps", "2", "--agent.n_envs", "1", "--agent.seeds", "[3]", "--market.symbols", "[AAA]", *SHORT]
    if config.stem == "ppo":
        words += ["--agent.arguments.n_steps", "2", "--agent.arguments.batch_size", "2"]
    assert train(home, "--config", config, *words, "--name", config.stem) == 0
    saved = yaml.safe_load((home / "rl" / config.stem / "config.yaml").read_text())
    assert set(yaml.safe_load(config.read_text())["agent"]["arguments"]) <= set(saved["agent"]["arguments"])


def test_what_is_known_of_training_dates_is_refused_unless_it_is_wanted(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL[:-2], "--market.part", "train"]
    assert train(home, *words, "--name", "refused") == 2
    assert "error[E270]" in capsys.readouterr().err
    assert not (home / "rl" / "refused").exists()
    assert train(home, *words, "--name", "wanted", "--market.in_sample", "true") == 0
    assert run("rl", "evaluate", home / "rl" / "wanted") == 0
    assert "learnt from" in capsys.readouterr().out


def test_forecasts_of_walk_forward_are_shown(home: Path, tmp_path: Path) -> None:
    dates = pd.date_range("2010-03-01", "2010-12-31", freq="B", tz="UTC")
    rows = pd.DataFrame({"symbol": "AAA", "as_of": dates, "target": "return_2", "y_pred": 0.01})
    made = rows.assign(train_first=dates[0] - pd.Timedelta(days=90), train_last=dates[0] - pd.Timedelta(days=9))
    made.to_parquet(tmp_path / "predictions.parquet")
    words = [
        "--market.see",
        "forecast",
        "--market.forecasts",
        tmp_path / "predictions.parquet",
        "--market.part",
        "train",
    ]
    assert train(home, *SMALL[:-2], *words, "--name", "forecast") == 0
    assert run("rl", "evaluate", home / "rl" / "forecast") == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--agent.arguments", "{learnin_rate: 1}"], 2, "E271.*learning_rate"),
        (["--algo", "sac"], 2, "E271.*continuous"),
        (["--algo", "pppo"], 2, "E225"),
        (["--market.see", "forecast"], 2, "E270.*walk-forward"),
        (["--market.posit", "[0,1]"], 2, "E225"),
        (["--name", "small"], 2, "E273"),
    ],
    ids=["argument", "action", "algorithm", "forecasts", "key", "name"],
)
def test_mistakes_are_told_in_one_line(
    agents: Path, home: Path, words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert train(home, "--market.symbols", "[AAA]", "--market.part", "validation", *SHORT, *words) == code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(said, error), error


def test_a_missing_extra_is_told_in_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rl, "find_spec", lambda name: None)
    assert train(home) == 2
    assert 'pip install "cnn_lstm[rl]"' in capsys.readouterr().err


def test_evaluate_needs_agents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("rl", "evaluate", tmp_path) == 2
    assert "error[E273]" in capsys.readouterr().err


@pytest.mark.slow
def test_agents_are_a_child_of_their_forecasters_run_in_mlflow(tmp_path: Path) -> None:
    file = experiment(tmp_path, walk(220, "AAA", 1))
    words = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--mlflow", "true"]
    own = fit(file, tmp_path / "runs" / "one", *words)
    assert train(own, *SMALL, "--name", "small") == 0
    assert run("rl", "evaluate", own / "rl" / "small") == 0
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    found = {each.info.run_name: each for each in client.search_runs(["1"])}
    assert set(found) == {"one", "small"}
    child = found["small"]
    assert child.data.tags["mlflow.parentRunId"] == found["one"].info.run_id
    assert child.info.status == "FINISHED"
    assert child.data.params["agent.algo"] == "ppo"
    assert {"seed1/rollout/ep_rew_mean", "test_net_annual_return", "test_evidence"} <= set(child.data.metrics)
    kept = {item.path for item in client.list_artifacts(child.info.run_id)}
    assert {"agent_seed0.zip", "config.yaml", "evaluation.json"} <= kept
