"""A saved agent is whole: it loads in another process and folder, where the checkpoint is not."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from cnn_lstm.errors import CheckpointError
from cnn_lstm.model.contract import state_digest
from tests.fits import small_checkpoint
from tests.rl.small_env import ALGORITHMS, SmallEnv, Windows, agent, extractors

ROOT = Path(__file__).resolve().parents[2]
NAME = "best.ckpt"
PAGE = (ROOT / "docs" / "rl_extractor.md").read_text(encoding="utf-8")
((EXPRESSION, QUOTED),) = re.findall(r'policy_kwargs: "(.*?checkpoint=\'(.*?)\'.*)"', PAGE)
ELSEWHERE = """
import json, sys
import numpy as np
import stable_baselines3
import torch
from cnn_lstm.model.contract import state_digest
torch.set_num_threads(1)
windows, actual = np.load("windows.npy"), {}
for name in sys.argv[1:]:
    agent = getattr(stable_baselines3, name).load(f"{name}.zip", device="cpu")
    digest = state_digest(agent.policy.state_dict())
    agent.save("again.zip")  # a loaded agent is as whole as the first
    again = getattr(stable_baselines3, name).load("again.zip", device="cpu")
    actions, _ = again.predict(windows, deterministic=True)
    actual[name] = [digest, state_digest(again.policy.state_dict()), actions.tolist()]
print(json.dumps(actual))
"""


@pytest.fixture(scope="module")
def windows() -> Windows:
    return np.random.default_rng(0).normal(0, 0.01, (40, 6, 3)).astype(np.float32)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a checkpoint of a relative path."""
    monkeypatch.chdir(tmp_path)
    small_checkpoint(tmp_path).rename(NAME)
    return tmp_path


def options(name: str) -> dict[str, Any]:
    """Frozen for some agents, tuned for the others."""
    return {"frozen": True} if name in ("PPO", "SAC") else {"frozen": False, "lr_factor": 0.1}


def elsewhere(folder: Path, windows: Windows) -> dict[str, Any]:
    np.save(folder / "windows.npy", windows)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *ALGORITHMS],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    actual: dict[str, Any] = json.loads(done.stdout)
    return actual


def test_agents_load_elsewhere_without_the_checkpoint(here: Path, windows: Windows) -> None:
    folder, agents = here / "elsewhere", {}
    folder.mkdir()
    (folder / NAME).write_text("a file of that name, of somebody else")
    for name in ALGORITHMS:
        agents[name] = agent(name, windows, checkpoint=NAME, **options(name))
        agents[name].learn(50)
        agents[name].save(folder / f"{name}.zip")

    actual = elsewhere(folder, windows)

    for name, made in agents.items():
        digest = state_digest(made.policy.state_dict())
        actions, _ = made.predict(windows, deterministic=True)
        assert actual[name][:2] == [digest, digest]
        np.testing.assert_array_equal(np.array(actual[name][2], dtype=actions.dtype), actions)


def test_an_agent_loads_here_without_the_checkpoint(here: Path, windows: Windows) -> None:
    made = agent("PPO", windows, checkpoint=NAME)
    made.save("agent.zip")
    Path(NAME).unlink()

    loaded = PPO.load("agent.zip", env=SmallEnv(windows), device="cpu")
    loaded.learn(50)

    before, after = (extractors(each)["features_extractor"].state_dict() for each in (made, loaded))
    assert all(torch.equal(values, after[name]) for name, values in before.items())
    assert loaded.policy_kwargs["features_extractor_kwargs"] == {"checkpoint": NAME}


def test_a_checkpoint_that_was_replaced_is_read_again(here: Path, windows: Windows) -> None:
    env = SmallEnv(windows)
    first = PPO("MlpPolicy", env, policy_kwargs=zoo(), device="cpu")
    (here / "other").mkdir()
    torch.manual_seed(1)
    small_checkpoint(here / "other").replace(NAME)

    second = PPO("MlpPolicy", env, policy_kwargs=zoo(), device="cpu")

    one, two = (extractors(each)["features_extractor"].state_dict() for each in (first, second))
    assert state_digest(one) != state_digest(two)


def test_an_agent_without_weights_refuses_to_act(here: Path, windows: Windows) -> None:
    env = SmallEnv(windows)
    PPO("MlpPolicy", env, policy_kwargs=zoo(), device="cpu")
    Path(NAME).unlink()

    orphan = PPO("MlpPolicy", env, policy_kwargs=zoo(), device="cpu")

    with pytest.raises(CheckpointError, match=r"error\[E437\]: the encoder has no weights"):
        orphan.predict(windows[0])


def zoo() -> dict[str, Any]:
    """What RL Zoo makes of the policy arguments in the guide: it evaluates the expression with its imports."""
    made: dict[str, Any] = eval(EXPRESSION.replace(QUOTED, NAME), {"importlib": importlib})
    return made


def test_the_policy_arguments_of_the_guide_make_an_agent(here: Path, windows: Windows) -> None:
    made: BaseAlgorithm = PPO("MlpPolicy", SmallEnv(windows), policy_kwargs=zoo(), device="cpu")

    assert {type(part).__module__ for part in extractors(made).values()} == {"cnn_lstm.rl.extractor"}
