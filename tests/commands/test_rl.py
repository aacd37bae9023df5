"""`rl train` and `rl evaluate` through the command line."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from mlflow import MlflowClient
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from cnn_lstm.commands import rl
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import state_digest
from cnn_lstm.rl import CNNLSTMExtractor, Encoder, MarketEnv, training
from cnn_lstm.rl.agents import load_agent, play_agent
from cnn_lstm.rl.job import job_of, saved_config
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
    assert train(home, *SMALL, "--folder", "small") == 0
    for _ in range(2):
        assert run("rl", "evaluate", home / "rl" / "small") == 0
    return home / "rl" / "small"


def train(home: Path, *options: object) -> int:
    return run("rl", "train", "--ckpt_path", home / "checkpoints" / "best.ckpt", *options)


def test_training_writes_configuration_agents_and_logs(agents: Path) -> None:
    config = yaml.safe_load((agents / "config.yaml").read_text())
    assert (config["agent"]["algo"], config["market"]["part"]) == ("ppo", "validation")
    for seed in (0, 1):
        assert (agents / f"agent_seed{seed}.zip").is_file()
        log = pd.read_csv(agents / "logs" / f"seed{seed}" / "progress.csv")
        assert log["time/total_timesteps"].iloc[-1] == 64
        assert list((agents / "logs" / f"seed{seed}").glob("events.*"))


def test_metrics_can_be_recomputed_from_the_returns(agents: Path, home: Path) -> None:
    report = json.loads((agents / "evaluation.json").read_text())
    returns = pd.read_parquet(agents / "bars.parquet")
    metrics: dict[str, Any] = {**report["agents"], "all seeds together": report["together"], **report["rules"]}
    rules = {"buy and hold", "flat", "sign of return_2"}
    assert set(returns["who"]) == set(metrics) == {"seed 0", "seed 1", "all seeds together", *rules}
    for who, rows in returns.groupby("who"):
        name = str(who)
        year = metrics[name]["periods_per_year"]
        assert metrics[name]["net_annual_return"] == pytest.approx(rows["net"].mean() * year, abs=1e-12)
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


def test_each_use_of_the_test_rows_is_counted_with_those_of_the_forecaster(agents: Path, home: Path) -> None:
    lines = [json.loads(line) for line in (home.parent / "test_uses.jsonl").read_text().splitlines()]
    assert [line["run"] for line in lines] == ["one"] * 4  # two evaluations of two agents
    assert "used 4 times by 2 models" in (agents / "evaluation.txt").read_text()
    assert json.loads((agents / "evaluation.json").read_text())["trials"] == 2
    assert run("test", "--config", home / "config.yaml", "--ckpt_path", "best") == 0
    assert "used 5 times by 3 models" in (home / "test.txt").read_text()


@pytest.mark.parametrize("config", sorted((ROOT / "configs" / "rl").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_configurations_train(config: Path, home: Path) -> None:
    options = ["--agent.steps", "2", "--agent.n_envs", "1", "--agent.seeds", "[3]", "--market.symbols", "[AAA]", *SHORT]
    if config.stem == "ppo":
        options += ["--agent.arguments.n_steps", "2", "--agent.arguments.batch_size", "2"]
    assert train(home, "--config", config, *options, "--folder", config.stem) == 0
    saved = yaml.safe_load((home / "rl" / config.stem / "config.yaml").read_text())
    assert set(yaml.safe_load(config.read_text())["agent"]["arguments"]) <= set(saved["agent"]["arguments"])


def test_embeddings_of_training_dates_are_refused_unless_in_sample_is_set(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*SMALL[:-2], "--market.part", "train"]
    assert train(home, *options, "--folder", "refused") == 2
    assert "error[E270]" in capsys.readouterr().err
    assert not (home / "rl" / "refused").exists()
    assert train(home, *options, "--folder", "wanted", "--market.in_sample", "true") == 0
    assert run("rl", "evaluate", home / "rl" / "wanted") == 0
    assert "learnt from" in capsys.readouterr().out


def weights(file: Path) -> dict[str, torch.Tensor]:
    """Weights of the policy, without the progress of its training."""
    state: dict[str, torch.Tensor] = PPO.load(file, device="cpu").policy.state_dict()
    return state


def encoders(file: Path) -> Encoder:
    extractor = PPO.load(file, device="cpu").policy.features_extractor
    assert isinstance(extractor, CNNLSTMExtractor)
    return extractor.encoder


def test_the_encoder_reads_the_windows_in_the_policy(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*SMALL, "--market.symbols", "[AAA,BBB]", "--market.see", "window"]
    assert train(home, *options, "--folder", "frozen") == 0
    assert train(home, *options, "--folder", "tuned", "--agent.encoder", "{frozen: false, lr_factor: 0.5}") == 0
    trained = Encoder.from_checkpoint(home / "checkpoints" / "best.ckpt").state_dict()
    for seed in (0, 1):
        frozen = encoders(home / "rl" / "frozen" / f"agent_seed{seed}.zip").state_dict()
        assert all(torch.equal(values, frozen[name]) for name, values in trained.items())
    tuned = encoders(home / "rl" / "tuned" / "agent_seed0.zip")
    assert (tuned.frozen, tuned.lr_factor) == (False, 0.5)
    assert any(not torch.equal(values, tuned.state_dict()[name]) for name, values in trained.items())
    assert run("rl", "evaluate", home / "rl" / "tuned") == 0
    assert "learnt from" not in capsys.readouterr().out


def test_windows_are_flattened_without_an_encoder(home: Path) -> None:
    options = [*SMALL[:-2], "--market.part", "train", "--market.see", "window", "--agent.encoder", "null"]
    assert train(home, *options, "--folder", "flat", "--agent.seeds", "[0]") == 0
    assert not any("encoder" in name for name in weights(home / "rl" / "flat" / "agent_seed0.zip"))


@pytest.mark.parametrize("frozen", ["true", "false"])
def test_a_pretrained_encoder_in_the_policy_is_refused_on_its_training_dates(
    frozen: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*SMALL[:-2], "--market.part", "train", "--market.see", "window", "--agent.encoder.frozen", frozen]
    assert train(home, *options, "--folder", "no") == 2
    assert re.search(r"error\[E270\].*rows lie in the training part", capsys.readouterr().err)
    assert not (home / "rl" / "no").exists()


def test_an_evaluation_counts_the_rows_whose_labels_the_encoder_in_the_policy_knew(home: Path) -> None:
    options = [*SMALL[:-2], "--agent.seeds", "[0]", "--market.part", "train", "--market.see", "window"]
    assert train(home, *options, "--folder", "knows", "--market.in_sample", "true") == 0
    assert train(home, *options, "--folder", "blank", "--agent.encoder.pretrained", "false") == 0
    in_sample = {}
    for name in ("knows", "blank"):
        assert run("rl", "evaluate", home / "rl" / name) == 0
        in_sample[name] = json.loads((home / "rl" / name / "evaluation.json").read_text())["in_sample_rows"]
    market = MarketEnv(
        home.parents[1] / "prices.parquet",
        symbols=["AAA"],
        checkpoint=home / "checkpoints" / "best.ckpt",
        part="train",
    )
    known = read_checkpoint(home / "checkpoints" / "best.ckpt")["cnn_lstm"]["training"]
    data = market.episodes.data
    dates = data.dates[data.last >= 0]
    inside = (dates >= np.datetime64(known["first"])) & (dates <= np.datetime64(known["last"]))
    assert in_sample == {"knows": inside.sum(), "blank": 0}
    assert inside.sum() > 50


def test_a_training_that_was_cut_short_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*SMALL, "--agent.seeds", "[0,1,2]"]
    assert train(home, *options, "--folder", "whole") == 0
    saved = PPO.save

    def cut_short(agent: PPO, path: Path) -> None:
        saved(agent, path)
        if agent.seed == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(PPO, "save", cut_short)
        assert train(home, *options, "--folder", "cut") == 130
    folder = home / "rl" / "cut"
    first = (folder / "agent_seed0.zip").read_bytes()
    assert sorted(file.name for file in folder.iterdir()) == ["agent_seed0.zip", "config.yaml", "logs"]
    assert run("rl", "evaluate", folder) == 2
    assert re.search(r"E273.*agent_seed1.*agent_seed2.*--folder", capsys.readouterr().err)

    assert train(home, *options, "--folder", "cut", "--resume", "--no_agent.progress_bar") == 0

    assert "training 2 of 3 seeds" in capsys.readouterr().out
    assert (folder / "agent_seed0.zip").read_bytes() == first
    assert len(list((folder / "logs" / "seed1").glob("events.*"))) == 1
    for seed in range(3):
        one, other = (weights(home / "rl" / name / f"agent_seed{seed}.zip") for name in ("whole", "cut"))
        assert all(torch.equal(values, other[name]) for name, values in one.items())


def test_a_complete_training_is_not_repeated(agents: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (agents / "agent_seed1.zip").read_bytes()
    assert train(home, *SMALL, "--folder", "small", "--resume") == 0
    assert "training 0 of 2 seeds" in capsys.readouterr().out
    assert (agents / "agent_seed1.zip").read_bytes() == before


def test_a_training_does_not_go_on_with_other_settings(
    agents: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--market.delay", "2", "--agent.encoder", "null"]
    assert train(home, *SMALL, *options, "--folder", "small", "--resume") == 2
    assert re.search(r"E273.*another market\.delay, agent\.encoder —", capsys.readouterr().err)


def test_a_training_does_not_go_on_with_another_checkpoint(
    agents: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(home / "checkpoints" / "best.ckpt", weights_only=False)
    content["state_dict"]["head.bias"] += 1
    content["cnn_lstm"]["digest"] = state_digest(content["state_dict"])
    other = home / "checkpoints" / "other.ckpt"
    torch.save(content, other)
    assert run("rl", "train", "--ckpt_path", other, *SMALL, "--folder", "small", "--resume") == 2
    assert re.search(r"E273.*another checkpoint", capsys.readouterr().err)
    changed = shutil.copytree(agents, agents.with_name("changed")) / "config.yaml"
    changed.write_text(changed.read_text().replace("best.ckpt", "other.ckpt"))
    assert run("rl", "evaluate", changed.parent) == 2
    assert re.search(r"E273.*weights [0-9a-f]{12} -> [0-9a-f]{12}", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("terminal", "wanted", "rich", "displayed"),
    [(True, True, True, True), (True, False, True, False), (False, True, True, False), (True, True, False, False)],
    ids=["displayed", "unwanted", "no terminal", "no rich"],
)
def test_the_progress_bar_needs_a_terminal_and_rich(
    terminal: bool, wanted: bool, rich: bool, displayed: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = []

    def learn(agent: PPO, steps: int, callback: None, progress_bar: bool) -> PPO:
        bars.append(progress_bar)
        return agent

    monkeypatch.setattr(PPO, "learn", learn)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.setattr(training, "find_spec", lambda name: rich or None)
    name = f"bar-{terminal}-{wanted}-{rich}"
    assert train(home, *SMALL, "--agent.seeds", "[0]", "--agent.progress_bar", wanted, "--folder", name) == 0
    assert bars == [displayed]


def test_forecasts_of_walk_forward_are_shown(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dates = pd.date_range("2010-03-01", "2010-12-31", freq="B", tz="UTC")
    rows = pd.DataFrame({"symbol": "AAA", "as_of": dates, "target": "return_2", "y_pred": 0.01})
    forecasts = rows.assign(train_first=dates[0] - pd.Timedelta(days=90), train_last=dates[0] - pd.Timedelta(days=9))
    forecasts.to_parquet(tmp_path / "predictions.parquet")
    options = [
        "--market.see",
        "forecast",
        "--market.forecasts",
        tmp_path / "predictions.parquet",
        "--market.part",
        "train",
    ]
    assert train(home, *SMALL[:-2], *options, "--folder", "forecast") == 0
    assert run("rl", "evaluate", home / "rl" / "forecast") == 0
    forecasts.assign(y_pred=0.02).to_parquet(tmp_path / "predictions.parquet")
    capsys.readouterr()
    assert run("rl", "evaluate", home / "rl" / "forecast") == 2
    assert "error[E273]: the agents learnt with other forecasts" in capsys.readouterr().err
    assert train(home, *SMALL[:-2], *options, "--folder", "forecast", "--resume") == 2
    assert "with another file of forecasts" in capsys.readouterr().err


@pytest.mark.parametrize("in_sample", ["false", "true"])
def test_forecasts_that_know_the_test_part_are_not_judged_there(
    in_sample: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dates = pd.date_range("2010-03-01", "2010-12-31", freq="B", tz="UTC")
    rows = pd.DataFrame({"symbol": "AAA", "as_of": dates, "target": "return_2", "y_pred": 0.01})
    edges = read_checkpoint(home / "checkpoints" / "best.ckpt")["cnn_lstm"]["boundaries"]
    known = rows.assign(train_first=pd.Timestamp(edges["test"], tz="UTC"), train_last=dates[-1])
    known.to_parquet(tmp_path / "known.parquet")
    options = ["--market.see", "forecast", "--market.forecasts", tmp_path / "known.parquet"]
    name = f"knows-test-{in_sample}"
    assert train(home, *SMALL, *options, "--market.in_sample", in_sample, "--folder", name) == 0
    capsys.readouterr()
    assert run("rl", "evaluate", home / "rl" / name) == 2
    assert re.search(r"error\[E270\].*rows lie in the training part.*test part", capsys.readouterr().err)


def test_a_foreign_agent_runs_no_code(agents: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(agents, agents.with_name("foreign"))
    call = f"cos\nsystem\n(S'touch {tmp_path}/ran'\ntR.".encode()
    with zipfile.ZipFile(agents / "agent_seed0.zip") as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    data = json.loads(parts["data"])
    data["clip_range"] = {":type:": "<class 'function'>", ":serialized:": base64.b64encode(call).decode()}
    with zipfile.ZipFile(folder / "agent_seed0.zip", "w") as altered:
        for name, content in (parts | {"data": json.dumps(data).encode()}).items():
            altered.writestr(name, content)
    assert run("rl", "evaluate", folder) == 0
    assert not (tmp_path / "ran").exists()
    with contextlib.suppress(Exception):
        PPO.load(folder / "agent_seed0.zip", device="cpu")
    assert (tmp_path / "ran").exists()  # their own loading runs it


@pytest.mark.parametrize("see", ["embedding", "window"])
def test_an_agent_acts_as_stable_baselines_loads_it(see: str, home: Path) -> None:
    name = f"acts-{see}"
    assert train(home, *SMALL, "--agent.seeds", "[0]", "--market.see", see, "--folder", name) == 0
    job = job_of(saved_config(home / "rl" / name, "rl evaluate"))
    env, file = job.env("test"), home / "rl" / name / "agent_seed0.zip"
    ours = play_agent(env, load_agent(file, job.learner, env))
    pd.testing.assert_frame_equal(ours, play_agent(env, PPO.load(file, device="cpu")))


def test_neighbouring_seeds_learn_from_other_episodes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds_of_resets: list[list[int | None]] = []
    reset = DummyVecEnv.reset

    def noted(envs: DummyVecEnv) -> Any:
        seeds_of_resets.append(list(envs._seeds))
        return reset(envs)

    monkeypatch.setattr(DummyVecEnv, "reset", noted)
    assert train(home, *SMALL, "--folder", "seeds") == 0
    first, second = (set(seeds) for seeds in seeds_of_resets if None not in seeds)
    assert len(first | second) == 4


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--agent.arguments", "{learnin_rate: 1}"], 2, "E271.*learning_rate"),
        (["--algo", "sac"], 2, "E271.*continuous"),
        (["--agent.policy", "Mlp"], 2, "E271.*Mlp.*correct the value$"),
        (["--agent.arguments", "{policy_kwargs: {net_archh: [4]}}"], 2, "E271.*net_archh.*correct the value$"),
        (["--algo", "pppo"], 2, "E225.*agent.algo=pppo is none of ppo, .*did you mean ppo"),
        (["--market.see", "forecasts"], 2, "E225.*rl train — did you mean forecast"),
        (["--market.part", "trian"], 2, "E225.*did you mean train"),
        (["--market.symbols", "AAA"], 2, r'E225.*market.symbols=AAA is not a list.*write "\[AAA\]"'),
        (["--agent.seeds", "1"], 2, r'E225.*write "\[1\]"'),
        (["--agent.steps", "many"], 2, "E225.*many is not a whole number.*docs/rl.md"),
        (["--agent.encoder.frozen", "fals"], 2, "E225.*agent.encoder.frozen=fals is neither true nor false"),
        (["--agent.step", "3"], 2, r"E225.*did you mean agent\.steps"),
        (
            ["--config", ROOT / "configs" / "quickstart.yaml"],
            2,
            "E225.*configuration of fit.*quickstart.*rl/ppo.yaml",
        ),
        (["--config", ROOT / "README.md"], 2, "E22[57]"),
        (["--agent.device", "nowhere"], 2, "E238.*nowhere"),
        (["--folder", "../x"], 2, "E273.*not the name of a folder"),
        (["--agent.n_envs", "0"], 2, "E224.*agent.n_envs=0.*at least 1"),
        (["--agent.steps", "0"], 2, "E224.*agent.steps=0.*at least 1"),
        (["--agent.seeds", "[]"], 2, "E224.*agent.seeds="),
        (["--agent.seeds", "[0,0]"], 2, "E224.*agent.seeds=.*different"),
        (["--agent.seeds", "[-1]"], 2, "E224.*agent.seeds="),
        (["--folder", "x" * 300], 2, "E273.*not the name of a folder"),
        (["--folder", ".."], 2, "E273.*not the name of a folder"),
        (["--folder", "a\\b"], 2, "E273.*not the name of a folder"),
        (["--market.see", "forecast"], 2, "E270.*walk-forward"),
        (["--market.part", "test"], 2, "E225.*market.part=test is none of train, validation"),
        (["--market.forecasts", "f.parquet"], 2, "E270.*shows no forecasts"),
        (["--agent.encoder.frozen", "false"], 2, "E270.*no encoder into the policy"),
        (["--market.posit", "[0,1]"], 2, "E225"),
        (["--market.see", "window", "--agent.encoder.lr_factor", "0.1"], 2, "E263.*frozen"),
        (["--agent.encoder.frosen", "false"], 2, "E225"),
        (["--folder", "small", "--resume"], 2, "E273"),
        (["--folder", "small"], 2, "E245.*pass --resume"),
        (["--folder", "nothing-yet", "--resume"], 2, "E246.*leave --resume out"),
        (["--name", "small"], 2, "E225.*write --folder"),
    ],
    ids=[
        *("argument", "action", "policy", "policy-argument", "algo", "see", "part", "symbols", "seeds", "steps"),
        *("encoder-value", "abbreviation", "config-of-fit", "no-config", "device", "name-above"),
        *("no-envs", "no-steps", "no-seeds", "seed-twice", "seed-below-0", "name-too-long", "name-dots"),
        *("name-backslash", "forecasts", "test-part", "unshown", "unread", "key", "encoder", "encoder-key", "name"),
        *("begun", "not-begun", "former-name"),
    ],
)
def test_mistakes_are_reported_in_one_line(
    agents: Path, home: Path, options: list[object], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(home, "--market.symbols", "[AAA]", "--market.part", "validation", *SHORT, *options) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert re.search(message, lines[0]), lines[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(home, *SMALL, "--agent.device", "cuda", "--folder", "gpu") == 2
    assert "error[E238]: no device cuda here" in capsys.readouterr().err
    assert not (home / "rl" / "gpu").exists()


def forecasts_file(folder: Path, kind: str) -> Path:
    """A file that holds no forecasts to show."""
    file = folder / "predictions.parquet"
    if kind == "folder":
        file.mkdir()
    elif kind == "text":
        file.write_text("symbol,as_of\n")
    elif kind != "missing":
        row = {"symbol": "AAA", "as_of": pd.Timestamp("2010-03-01", tz="UTC"), "target": "return_2", "y_pred": 0.01}
        rows = pd.DataFrame([row | {"train_first": row["as_of"], "train_last": row["as_of"]}] * 2)
        (rows if kind == "twice" else rows.drop(columns="as_of")).to_parquet(file)
    return file


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("missing", 3, "E301]: no such file"),
        ("folder", 3, "E301]: a folder, not a file"),
        ("text", 3, "E339]: no intact Parquet file"),
        ("twice", 3, "E363]: two forecasts of one date"),
        ("column", 2, "E270]: the forecasts have no column as_of"),
    ],
    ids=["missing", "folder", "text", "twice", "column"],
)
def test_forecasts_that_cannot_be_shown_are_refused_in_one_line(
    kind: str, code: int, message: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = forecasts_file(tmp_path, kind)
    assert train(home, *SMALL, "--market.see", "forecast", "--market.forecasts", file) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert message in lines[0]
    assert str(file) in lines[0]


@pytest.mark.parametrize("how", ["cut", "text", "empty"])
def test_a_damaged_agent_is_refused_in_one_line(
    how: str, agents: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(agents, agents.with_name(f"damaged-{how}"))
    whole = (folder / "agent_seed0.zip").read_bytes()
    damage = {"cut": whole[: len(whole) // 2], "text": b"no zip", "empty": b""}
    (folder / "agent_seed0.zip").write_bytes(damage[how])
    assert run("rl", "evaluate", folder) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert re.search(r"E273\]: the agent is damaged.*agent_seed0\.zip.*remove the file.*--folder", lines[0])
    (folder / "agent_seed0.zip").unlink()
    assert train(home, *SMALL, "--folder", folder.name, "--resume") == 0
    assert run("rl", "evaluate", folder) == 0


@pytest.mark.parametrize(
    ("argv", "code", "printed", "message"),
    [
        ([], 2, "usage: cnn-lstm rl train", ""),
        (["--help"], 0, "usage: cnn-lstm rl train", ""),
        (["train", "--help"], 0, "usage: cnn-lstm rl train", ""),
        (["trian"], 2, "", "error[E225]: unknown command rl trian — did you mean train?"),
        (["trian", "--folder", "x"], 2, "", "did you mean train?"),
        (["train"], 4, "", "error[E437]"),
        (["evaluate"], 2, "", "error[E273]"),
        (["evaluate", "one", "two"], 2, "", "error[E273]: several folders"),
    ],
    ids=["bare", "help", "help-of-train", "misspelt", "misspelt-with-words", "train", "evaluate", "two-folders"],
)
def test_rl_names_its_commands_and_their_mistakes(
    argv: list[str], code: int, printed: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("rl", *argv) == code
    output = capsys.readouterr()
    assert output.out.startswith(printed) if printed else not output.out
    assert message in output.err
    assert len(output.err.splitlines()) == bool(message)


def test_evaluate_names_the_agents_of_a_forecasters_run(
    agents: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other tests may have left many there: the first ones are named, below the folder that was given."""
    assert run("rl", "evaluate", home) == 2
    error = capsys.readouterr().err
    assert "error[E273]: a forecaster's run" in error
    assert "of its folders of agents: rl/" in error
    assert run("rl", "evaluate", agents.parent) == 2
    assert "of its folders of agents: " in capsys.readouterr().err
    shutil.copy(home / "config.yaml", tmp_path)
    assert run("rl", "evaluate", tmp_path) == 2
    assert "train some first" in capsys.readouterr().err


def test_evaluate_has_no_options(agents: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("rl", "evaluate", agents, "--fee", "3") == 2
    assert "error[E225]: unknown option --fee — rl evaluate" in capsys.readouterr().err


def test_evaluate_names_itself_in_its_errors(agents: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(agents, agents.with_name("wrong"))
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("algo: ppo", "algo: pppo"))
    assert run("rl", "evaluate", folder) == 2
    assert re.search(r"E225.*agent\.algo=pppo is none of.*rl evaluate", capsys.readouterr().err)


@pytest.fixture
def moved(home: Path, tmp_path: Path) -> Path:
    """The run, copied with agents whose policy holds the encoder, without the checkpoint where they learnt."""
    first = shutil.copytree(home, tmp_path / "first", ignore=shutil.ignore_patterns("rl"))
    assert train(first, *SMALL, "--agent.seeds", "[0]", "--market.see", "window", "--folder", "a") == 0
    return first.rename(tmp_path / "second")


def test_agents_of_a_moved_run_are_judged_and_go_on_with_its_own_checkpoint(
    moved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = moved / "rl" / "a"
    assert yaml.safe_load((folder / "config.yaml").read_text())["ckpt_path"] == "../../checkpoints/best.ckpt"
    monkeypatch.chdir(moved.parent)
    assert run("rl", "evaluate", folder) == 0
    (folder / "agent_seed0.zip").unlink()
    assert run("rl", "train", "--config", folder / "config.yaml", "--resume") == 0
    assert "training 1 of 1 seed;" in capsys.readouterr().out
    assert (folder / "agent_seed0.zip").is_file()


def test_a_missing_extra_is_reported_in_one_line(
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
    options = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--mlflow", "true"]
    home = fit(file, tmp_path / "runs" / "one", *options)
    assert train(home, *SMALL, "--folder", "small") == 0
    (home / "rl" / "small" / "agent_seed1.zip").unlink()
    assert train(home, *SMALL, "--folder", "small", "--resume") == 0  # goes on in the same record
    assert run("rl", "evaluate", home / "rl" / "small") == 0
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    records = {each.info.run_name: each for each in client.search_runs(["1"])}
    assert set(records) == {"one", "small"}
    child = records["small"]
    assert child.data.tags["mlflow.parentRunId"] == records["one"].info.run_id
    assert child.info.status == "FINISHED"
    assert child.data.params["agent.algo"] == "ppo"
    assert {"seed1/rollout/ep_rew_mean", "test/net_annual_return", "test/evidence"} <= set(child.data.metrics)
    kept = {item.path for item in client.list_artifacts(child.info.run_id)}
    assert {"agent_seed0.zip", "config.yaml", "evaluation.json"} <= kept
