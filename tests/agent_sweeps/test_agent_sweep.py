"""`rl sweep`: trials that are agents, judged before the test part, and the configuration that they end in."""

from __future__ import annotations

import json
import re
import threading
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
import yaml
from optuna.trial import FrozenTrial
from stable_baselines3 import PPO

import cnn_lstm as cl
from cnn_lstm.agent_sweeps.definition import AgentPlan, Scoring, definition_of
from cnn_lstm.agent_sweeps.search import _plan
from cnn_lstm.agent_sweeps.trial import AgentFits, Looks, Scores, changed, markets_of
from cnn_lstm.errors import ConfigError
from cnn_lstm.rl.agents import blank_agent
from cnn_lstm.rl.job import Job, job_of, parse_config
from cnn_lstm.rl.market import market_of
from cnn_lstm.runs.yaml_guard import load_yaml
from cnn_lstm.sweeps import search as of_fits
from cnn_lstm.sweeps.search import SweepOptions
from cnn_lstm.sweeps.space import options_of, value_at
from cnn_lstm.sweeps.study import open_storage
from cnn_lstm.sweeps.worker import Worker
from tests.experiments import experiment, fit, run
from tests.markets import walk

CONFIGS = Path(__file__).parents[2] / "configs" / "rl"
SPACES = sorted((CONFIGS / "sweep").glob("*.yaml"))
RATE = {"agent.arguments.learning_rate": {"float": [1e-4, 1e-1], "log": True}}
SPACE: dict[str, Any] = {
    "pruner": {"name": "none"},
    "scoring": {"evaluations": 2},
    "space": {**RATE, "market.reward": {"categorical": ["return", "log_return"]}},
}
SMALL = [
    *("--agent.steps=64", "--agent.n_envs=2", "--agent.seeds=[3,1]", "--agent.progress_bar=false"),
    *("--agent.arguments={n_steps: 16, batch_size: 16}", "--market.symbols=[AAA]", "--market.episode_length=10"),
]
IN_TRAINING = ["--market.see=window", "--agent.encoder=null", "--market.part=train"]


def forecaster(folder: Path, poisoned: bool = False) -> Path:
    """The run of a forecaster; poisoned, its prices from the first test date on are other ones."""
    table = pd.concat([walk(220, "AAA", 1), walk(220, "BBB", 2)], ignore_index=True)
    if poisoned:
        days = table["timestamp"].sort_values().unique()
        unseen = table["timestamp"] >= days[int(0.85 * len(days))]
        factor = np.exp(np.random.default_rng(9).normal(0, 0.05, int(unseen.sum())).cumsum())
        prices = ["open", "high", "low", "close"]
        table.loc[unseen, prices] = table.loc[unseen, prices].mul(factor, axis=0)
    return fit(experiment(folder, table), folder / "runs" / "one", "--trainer.max_epochs", "1")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forecaster(tmp_path_factory.mktemp("agents"))


def argv_of(home: Path, *options: str) -> list[str]:
    return ["--ckpt_path", str(home / "checkpoints" / "best.ckpt"), *SMALL, *options]


def job_before_test(home: Path, *options: str) -> Job:
    return job_of(parse_config(argv_of(home, *options)), before_test=True)


def in_here(plan: Any, options: Any, cluster: Any, how: Any) -> None:
    """Lets one worker finish the plan in this process."""
    stop: Any = SimpleNamespace(asked=threading.Event(), interrupts=nullcontext)
    Worker(plan, AgentFits(plan), lambda trial: None, stop).work()


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_fits, "_run_workers", in_here)


def swept(home: Path, folder: Path, *options: str, space: Any = None, trials: int = 2, resume: bool = False) -> Path:
    """A sweep in this process."""
    file = folder.with_name(f"{folder.name}-space.yaml")
    file.write_text(yaml.safe_dump(space or SPACE))
    argv = ["--space", file, "--n_trials", trials, "--folder", folder, *(["--resume"] if resume else [])]
    assert run("rl", "sweep", *argv, *argv_of(home, *options)) == 0
    return folder


def trials_of(folder: Path) -> list[FrozenTrial]:
    name = json.loads((folder / "study.json").read_text())["study_name"]
    storage = open_storage(f"sqlite:///{folder.resolve() / 'study.db'}")
    return optuna.load_study(study_name=name, storage=storage).trials


def weights(folder: Path, seed: int) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = PPO.load(folder / f"agent_seed{seed}.zip", device="cpu").policy.state_dict()
    return state


def same_weights(one: Path, other: Path, seed: int) -> bool:
    others = weights(other, seed)
    return all(torch.equal(values, others[name]) for name, values in weights(one, seed).items())


@pytest.fixture(scope="module")
def folder(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over agents of the training part, whose scoring dates are the whole validation part."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(of_fits, "_run_workers", in_here)
        return swept(home, tmp_path_factory.mktemp("sweep") / "one", *IN_TRAINING)


def test_the_best_configuration_trains_the_agents_of_its_trial(folder: Path, home: Path) -> None:
    """Looks at an agent while it learns change nothing, and neither do prices that the sweep was not given."""
    best = max(trials_of(folder), key=lambda trial: trial.values[0])
    assert run("rl", "train", "--config", folder / "best.yaml", "--folder", "again") == 0
    again = home / "rl" / "again"
    for seed in (3, 1):
        assert same_weights(again, folder / f"trial_{best.number:04d}", seed)


def test_the_trials_are_paid_for(folder: Path, home: Path) -> None:
    config = yaml.safe_load((folder / "best.yaml").read_text())
    assert config["trials"] == 2
    assert run("rl", "train", "--config", folder / "best.yaml", "--folder", "paid") == 0
    assert run("rl", "train", "--config", folder / "best.yaml", "--folder", "alone", "--trials", "1") == 0
    for name, others in (("paid", 1), ("alone", 0)):
        assert run("rl", "evaluate", home / "rl" / name) == 0
        report = json.loads((home / "rl" / name / "evaluation.json").read_text())
        assert report["trials"] == report["test_rows_used"]["models"] + others
    # whoever judges a trial itself pays too
    assert yaml.safe_load((folder / "trial_0000" / "config.yaml").read_text())["trials"] == 2


def test_the_value_is_the_metric_of_all_seeds_on_the_scoring_dates(folder: Path, home: Path) -> None:
    for trial in trials_of(folder):
        bars = pd.read_parquet(folder / f"trial_{trial.number:04d}" / "validation.parquet")
        net = bars["net"]
        assert trial.values[0] == pytest.approx(net.mean() / net.std(ddof=1) * 252**0.5, rel=0.02)
        assert sorted(trial.intermediate_values) == [1, 2, 3, 4]  # two looks at each of two agents
        assert trial.intermediate_values[4] == trial.values[0]
        assert trial.user_attrs["steps"] == 128
    boundaries = job_before_test(home).data.parts
    times = job_before_test(home).data.panel.time
    dates = bars["date"].dt.tz_localize(None)
    assert dates.min() >= times[boundaries.validation].min()
    assert dates.max() < times[boundaries.test].min()


def test_the_first_trial_is_the_given_configuration(folder: Path) -> None:
    """Also what it leaves to the algorithm."""
    assert trials_of(folder)[0].params == {"agent.arguments.learning_rate": 3e-4, "market.reward": "return"}


def test_no_price_of_the_test_part_matters(folder: Path, tmp_path: Path) -> None:
    poisoned = forecaster(tmp_path, poisoned=True)
    other = swept(poisoned, tmp_path / "two", *IN_TRAINING)
    for one, two in zip(trials_of(folder), trials_of(other), strict=True):
        assert (one.params, one.values, one.intermediate_values) == (two.params, two.values, two.intermediate_values)
    for seed in (3, 1):
        assert same_weights(folder / "trial_0000", other / "trial_0000", seed)


@pytest.mark.parametrize("see", [["--market.see=embedding"], IN_TRAINING[:2]], ids=["embedding", "window"])
def test_a_job_before_the_test_part_holds_no_row_of_it(see: list[str], home: Path) -> None:
    job = job_before_test(home, "--market.part=validation", *see)
    first = pd.Timestamp(job.data.panel.time[job.data.parts.test].min(), tz="UTC")
    assert job.prices["timestamp"].max() < first <= job.data.prices["timestamp"].max()
    assert job.inputs.table is None or job.inputs.table["as_of"].max() < first
    with pytest.raises(Exception, match=r"E36[12]"):
        job.env("test")


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_agents_of_the_validation_part_are_scored_on_later_dates(share: float, home: Path) -> None:
    markets = markets_of(job_before_test(home, "--market.part=validation"), share)
    learnt, scored = (market_of(env).episodes.data for env in markets)
    last, first = learnt.dates[learnt.last >= 0].max(), scored.dates[scored.last >= 0].min()
    assert last < first
    count, whole = int((scored.last >= 0).sum()), int((scored.last >= 0).sum() + (learnt.last >= 0).sum())
    assert count == pytest.approx(share * whole, abs=2)
    # the last bar that is learnt from ends where scoring begins, or before
    assert learnt.dates[learnt.last[learnt.last >= 0].max()] < first


def test_embeddings_of_training_dates_are_refused_before_anything_is_written(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    argv = ["--space", tmp_path / "space.yaml", "--folder", tmp_path / "no", *argv_of(home, "--market.part=train")]
    assert run("rl", "sweep", *argv) == 2
    assert "error[E270]" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_sweep_goes_on_in_its_folder(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = swept(home, tmp_path / "one", *IN_TRAINING, trials=1)
    space = tmp_path / "one-space.yaml"
    assert run("rl", "sweep", "--space", space, "--folder", folder, *argv_of(home, *IN_TRAINING)) == 2
    assert "error[E245]" in capsys.readouterr().err
    other = ["--space", space, "--folder", folder, "--resume", *argv_of(home, *IN_TRAINING), "--market.delay=2"]
    assert run("rl", "sweep", *other) == 2
    assert "market.delay: 1 -> 2" in capsys.readouterr().err
    before = trials_of(folder)
    assert run("rl", "sweep", "--resume", "--folder", folder, "--n_trials", "2") == 0
    after = trials_of(folder)
    assert len(after) == 2
    assert after[0].values == before[0].values
    assert yaml.safe_load((folder / "best.yaml").read_text())["trials"] == 2
    lines = (folder / "trials.csv").read_text().splitlines()
    assert lines[0].startswith("number,state,val_sharpe,")
    assert len(lines) == 3


def test_only_the_best_trials_keep_their_agents(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump(SPACE | {"space": RATE}))
    argv = ["--space", file, "--n_trials", 3, "--keep", 1, "--folder", tmp_path / "one"]
    assert run("rl", "sweep", *argv, *argv_of(home, *IN_TRAINING, "--agent.seeds=[0]")) == 0
    best = max(trials_of(tmp_path / "one"), key=lambda trial: trial.values[0])
    kept = {file.parent.name for file in (tmp_path / "one").glob("trial_*/agent_seed*.zip")}
    assert kept == {f"trial_{best.number:04d}"}


def test_a_pruned_trial_stops_learning_and_counts(home: Path, tmp_path: Path) -> None:
    """A learning rate that ruins the policy falls behind the others at the same look."""
    space = {
        "sampler": {"name": "grid"},
        "pruner": {"name": "percentile", "percentile": 1.0, "n_startup_trials": 1, "n_warmup_steps": 0},
        "scoring": {"evaluations": 4},
        "space": {"agent.arguments.learning_rate": {"categorical": [1e-4, 1e-2, 1e-1]}},
    }
    folder = swept(home, tmp_path / "one", *IN_TRAINING, "--agent.steps=128", space=space, trials=3)
    trials = trials_of(folder)
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert pruned
    assert all(trial.user_attrs["steps"] < 256 for trial in pruned)
    assert all(max(trial.intermediate_values) == trial.user_attrs["pruned_at"] for trial in pruned)
    assert yaml.safe_load((folder / "best.yaml").read_text())["trials"] == len(trials)


def test_several_objectives_are_judged_without_pruning(home: Path, tmp_path: Path) -> None:
    objectives = [
        {"metric": "val_net_annual_return", "direction": "maximize"},
        {"metric": "val_max_drawdown", "direction": "minimize"},
    ]
    space = SPACE | {"objectives": objectives}
    folder = swept(home, tmp_path / "one", *IN_TRAINING, "--agent.seeds=[0]", space=space, trials=1)
    (trial,) = trials_of(folder)
    bars = pd.read_parquet(folder / "trial_0000" / "validation.parquet")
    assert trial.values[0] == pytest.approx(bars["net"].mean() * 252, rel=0.1)
    assert 0 <= trial.values[1] < 1


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("agent.stepz", r"E2\d\d.*agent\.stepz.*agent\.steps"),
        ("market.rewards", r"E2\d\d.*market\.rewards.*market\.reward"),
        ("agent.arguments.learning_rates", r"E271.*no argument learning_rates.*learning_rate"),
        ("data.window", r"E2\d\d.*data\.window"),
        ("agent.seeds", r"E254.*agent\.seeds cannot be searched.*luckiest"),
        ("market.fee_bp", r"E254.*market\.fee_bp cannot be searched.*compared"),
        ("market", r"E254.*market cannot be searched"),
        ("trials", r"E254.*trials cannot be searched"),
        ("ckpt_path", r"E254.*ckpt_path cannot be searched"),
    ],
)
def test_a_key_that_cannot_be_searched_is_refused(
    key: str, said: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({"space": {key: {"categorical": [1, 2]}}}))
    argv = ["--space", tmp_path / "space.yaml", "--folder", tmp_path / "no", *argv_of(home, *IN_TRAINING)]
    assert run("rl", "sweep", *argv) == 2
    message = capsys.readouterr().err
    assert re.search(said, message), message
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scoring": {"share": 1.0}}, "share=1.0"),
        ({"scoring": {"share": "half"}}, "share='half'"),
        ({"scoring": {"evaluations": 0}}, "evaluations=0"),
        ({"scoring": {"evaluations": True}}, "evaluations=True"),
        ({"scoring": {"shares": 0.5}}, "unknown key 'shares'.*share"),
        ({"scoring": [1]}, "not a section"),
        ({"score": {}}, "unknown key 'score'.*scoring"),
        ({"objectives": [{"metric": "val_loss", "direction": "minimize"}]}, "val_loss is not a metric"),
        ({"objectives": [{"metric": "val_sharp", "direction": "maximize"}]}, "val_sharp is.*val_sharpe"),
        ({"objectives": [{"metric": "test_sharpe", "direction": "maximize"}]}, "not for choosing"),
        ({"objectives": [{"metric": "val_sharpe", "direction": "minimize"}]}, "maximize it"),
        ({"objectives": []}, "val_sharpe"),
    ],
)
def test_a_file_that_describes_no_sweep_of_agents_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"E25[04].*{said}"):
        definition_of(SPACE | changes, "space.yaml")


@pytest.mark.parametrize(
    ("option", "code"), [("--folder.x=1", "E225"), ("--trials=3", "E225"), ("--n_trials=0", "E224")]
)
def test_options_that_are_not_for_users_are_refused(
    option: str, code: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    assert run("rl", "sweep", "--space", tmp_path / "space.yaml", option, *argv_of(home)) == 2
    assert f"error[{code}]" in capsys.readouterr().err


# -- the parts -------------------------------------------------------------------------------------------------------


def test_looks_come_at_even_distances_and_never_twice_without_an_update() -> None:
    seen: list[int] = []

    def look(number: int, agent: object) -> bool:
        seen.append(number)
        return False

    looks = Looks(100, 10, look)
    looks.model = SimpleNamespace(num_timesteps=0)  # type: ignore[assignment]  # what a look reads of it
    for steps in (0, 5, 10, 19, 20, 55, 99, 100, 140):
        looks.model.num_timesteps = steps
        looks._on_rollout_start()
    assert seen == [1, 2, 5, 9]
    assert looks._on_step()


def test_an_agent_that_does_nothing_has_a_sharpe_ratio_of_zero(home: Path) -> None:
    markets = markets_of(job_before_test(home, "--market.part=validation"), 0.5)
    flat: Any = SimpleNamespace(predict=lambda observation, deterministic: (1, None))
    metrics = Scores(markets.scoring).metrics(flat)
    assert metrics == dict.fromkeys(metrics, 0.0) | {"val_psr": 0.5}


def test_the_fingerprint_is_of_weights_settings_and_scoring(home: Path, tmp_path: Path) -> None:
    def fingerprint(tree: dict[str, Any], *options: str) -> str:
        job = job_before_test(home, *IN_TRAINING, *options)
        return _plan(tmp_path, job, definition_of(tree), tree, SweepOptions()).fingerprint

    same = fingerprint(SPACE)
    assert fingerprint(SPACE, "--agent.progress_bar=true") == same
    assert fingerprint(SPACE | {"scoring": {"evaluations": 3}}) != same
    assert fingerprint(SPACE, "--market.delay=2") != same


def test_a_plan_comes_through_the_pipe_as_it_was(home: Path, tmp_path: Path) -> None:
    job = job_before_test(home, *IN_TRAINING)
    plan = _plan(tmp_path, job, definition_of(SPACE), SPACE, SweepOptions())
    assert AgentPlan.from_text(plan.to_text()) == plan
    assert plan.scoring == Scoring(evaluations=2)
    assert plan.seed == 3


# -- the shipped spaces ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", SPACES, ids=lambda file: file.stem)
def test_the_shipped_spaces_join_their_configuration(file: Path) -> None:
    tree = load_yaml(file.read_text(encoding="utf-8"))
    space = definition_of(tree, file.name).space
    config = ["--config", str(CONFIGS / f"{file.stem}.yaml")]
    before, differing = asdict(parse_config(config)), set[str]()
    for settings in space.examples():
        after = asdict(parse_config([*config, *options_of(settings)]))
        assert all(value_at(after, key) == value for key, value in settings.items())
        differing |= {key for key in settings if value_at(after, key) != value_at(before, key)}
    assert differing == space.keys


@pytest.mark.parametrize("file", SPACES, ids=lambda file: file.stem)
def test_the_shipped_spaces_make_agents(file: Path, home: Path) -> None:
    tree = load_yaml(file.read_text(encoding="utf-8"))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    argv = ["--config", str(CONFIGS / f"{file.stem}.yaml"), "--ckpt_path", str(home / "checkpoints" / "best.ckpt")]
    argv += ["--market.symbols=[AAA]", "--agent.n_envs=1"]
    job = job_of(parse_config(argv), before_test=True)
    for _ in range(3):
        settings = definition_of(tree).space.suggest(study.ask()) | {"market.episode_length": 5}
        trial = changed(job, parse_config([*argv, *options_of(settings)]))
        assert blank_agent(trial.learner, markets_of(trial, 0.5).learning).policy is not None


# -- the command with its worker, and Python's door ------------------------------------------------------------------


@pytest.mark.slow
def test_workers_and_python(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("space.yaml").write_text(yaml.safe_dump(SPACE))
    settings: dict[str, Any] = {
        "agent.steps": 64,
        "agent.n_envs": 2,
        "agent.seeds": [0],
        "agent.arguments": {"n_steps": 16, "batch_size": 16},
        "market.symbols": ["AAA"],
        "market.episode_length": 10,
        "market.part": "validation",
    }
    study = cl.rl_sweep(home / "checkpoints" / "best.ckpt", settings, space="space.yaml", n_trials=2, n_jobs=2)
    assert len([trial for trial in study.trials if trial.state.is_finished()]) >= 2
    assert study.direction.name == "MAXIMIZE"
    best = yaml.safe_load(Path("runs/rl-sweep/best.yaml").read_text())
    assert best["market"]["symbols"] == ["AAA"]
