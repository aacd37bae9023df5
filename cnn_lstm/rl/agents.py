"""Agents of Stable-Baselines3 in our markets: what they see, how they are made, how they learn."""

from __future__ import annotations

import copy
import inspect
import io
import shutil
import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import KVWriter, configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from cnn_lstm.data.sources.base import nearest
from cnn_lstm.errors import CnnLstmError, ConfigError, DataError
from cnn_lstm.files import write_whole
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.forecaster import CHECKPOINT_KEY
from cnn_lstm.rl.bars import Part
from cnn_lstm.rl.extractor import CNNLSTMExtractor
from cnn_lstm.rl.judging import bars_played
from cnn_lstm.rl.market import MarketEnv
from cnn_lstm.rl.observations import EncoderObservation
from cnn_lstm.rl.settings import AgentSettings, EncoderSettings, MarketSettings

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "a2c": A2C, "sac": SAC, "td3": TD3, "dqn": DQN}
Dates = tuple[pd.Timestamp, pd.Timestamp]
ACTIONS = "ppo and a2c act in all markets, sac and td3 with continuous actions, dqn with discrete ones of one symbol"
# arguments of theirs that are ours to give
OURS = {"self", "policy", "env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model"}


def require_read(market: MarketSettings, agent: AgentSettings) -> None:
    """Refuses settings that nothing would read.

    Args:
        market: The market's.
        agent: The agent's.

    Raises:
        ConfigError: E270.
    """
    if market.see != "window" and agent.encoder not in (None, EncoderSettings()):
        raise ConfigError(
            f"see {market.see} puts no encoder into the policy", "agent.encoder", "set market.see window", code=270
        )
    if market.see != "forecast" and market.forecasts is not None:
        raise ConfigError(
            f"see {market.see} shows no forecasts", "market.forecasts", "set market.see forecast", code=270
        )


def shown_table(settings: MarketSettings, checkpoint: Path, prices: pd.DataFrame) -> pd.DataFrame | None:
    """What is shown of each symbol and date, with `train_first` and `train_last` of the model that it comes from.

    Args:
        settings: The market's.
        checkpoint: The forecaster's.
        prices: Its price table.

    Returns:
        symbol, as_of, train_first, train_last and the shown columns; null where the window is shown.

    Raises:
        ConfigError: E270, if forecasts are to be shown and none are given.
        DataError: If they cannot be read, or there are two of one date.
    """
    if settings.see == "window":
        return None
    if settings.see == "embedding":
        predictor = Predictor.from_checkpoint(checkpoint)
        first, last = _trained(predictor.forecaster.contract)
        return predictor.encode(prices).assign(train_first=first, train_last=last)
    if settings.forecasts is None:
        raise ConfigError("no forecasts to show", "market.forecasts", "name those of walk-forward", code=270)
    table = _forecasts(Path(settings.forecasts))
    keys = ["symbol", "as_of", "train_first", "train_last"]
    missing = [name for name in (*keys, "target", "y_pred") if name not in table]
    if missing:
        raise ConfigError(
            f"the forecasts have no column {', '.join(missing)}",
            settings.forecasts,
            "give predictions.parquet of walk-forward",
            code=270,
        )
    twice = table.duplicated(["symbol", "as_of", "target"])
    if twice.any():
        row = table[twice].iloc[0]
        where = f"{settings.forecasts}: {row['symbol']} @ {row['as_of']}, {int(twice.sum()):,} rows"
        raise DataError("two forecasts of one date", where, "give predictions.parquet of walk-forward", code=363)
    wide = table.pivot(index=keys, columns="target", values="y_pred")
    return wide.add_prefix("y_pred__").rename_axis(columns=None).reset_index()


def _forecasts(file: Path) -> pd.DataFrame:
    """A predictions table.

    Raises:
        DataError: If there is no such file, or it is no Parquet.
    """
    if not file.is_file():
        what = "a folder, not a file" if file.is_dir() else "no such file"
        raise DataError(what, f"market.forecasts: {file}", "name predictions.parquet of walk-forward", code=301)
    try:
        return pd.read_parquet(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"no intact Parquet file: {reason}", str(file), "write it again", code=339) from error


def _trained(contract: Mapping[str, Any]) -> Dates:
    """First and last training date of a checkpoint; all dates where it does not say."""
    training = contract.get("training") or {}
    first = pd.Timestamp(training.get("first", pd.Timestamp.min), tz="UTC")
    last = pd.Timestamp(training.get("last", pd.Timestamp.max), tz="UTC")
    return first, last


def trained_dates(market: MarketSettings, agent: AgentSettings, checkpoint: Path) -> Dates | None:
    """Training dates of the encoder that reads the windows inside the policy; null without one that was trained."""
    if market.see != "window" or agent.encoder is None or not agent.encoder.pretrained:
        return None
    return _trained(read_checkpoint(checkpoint)[CHECKPOINT_KEY])


def with_encoder(agent: AgentSettings, market: MarketSettings, checkpoint: Path) -> AgentSettings:
    """Settings whose policy reads windows by the checkpoint's encoder, where they say so.

    Args:
        agent: The agent's.
        market: The market's.
        checkpoint: The forecaster's.
    """
    if market.see != "window" or agent.encoder is None:
        return agent
    policy = {
        **agent.arguments.get("policy_kwargs", {}),
        "features_extractor_class": CNNLSTMExtractor,
        "features_extractor_kwargs": {"checkpoint": str(checkpoint), **asdict(agent.encoder)},
    }
    return replace(agent, arguments={**agent.arguments, "policy_kwargs": policy})


def columns_of(table: pd.DataFrame) -> list[str]:
    """The columns that are shown."""
    return [name for name in map(str, table) if name not in ("symbol", "as_of", "train_first", "train_last")]


def make_market(
    settings: MarketSettings,
    checkpoint: Path,
    prices: pd.DataFrame,
    shown: pd.DataFrame | None,
    *,
    part: Part,
    episode_length: int | None,
) -> gymnasium.Env[Any, Any]:
    """The environment of one agent.

    Args:
        settings: The market's.
        checkpoint: The forecaster's, for features, window and parts.
        prices: Its price table.
        shown: See `shown_table`.
        part: Where episodes lie.
        episode_length: Steps of an episode; the whole part by default.
    """
    # forecasts of walk-forward begin where its first fold is tested
    start = None if shown is None or settings.see == "embedding" else shown["as_of"].min().isoformat()
    market = MarketEnv(
        prices,
        symbols=settings.symbols,
        checkpoint=checkpoint,
        part=part,
        start=start,
        observe="window" if shown is None else "account",
        actions=settings.actions,
        positions=settings.positions,
        delay=settings.delay,
        fee_bp=settings.fee_bp,
        slippage_bp=settings.slippage_bp,
        reward=settings.reward,
        episode_length=episode_length,
    )
    return market if shown is None else EncoderObservation(market, shown, columns_of(shown))


def seen_in_training(env: gymnasium.Env[Any, Any], shown: pd.DataFrame | None, trained: Dates | None = None) -> int:
    """How many rows on dates of episodes are shown by a model that was trained on those very dates.

    Args:
        env: See `make_market`.
        shown: See `shown_table`.
        trained: See `trained_dates`.
    """
    market: MarketEnv = env.unwrapped  # type: ignore[assignment]
    bars = market.episodes.bars
    dates = pd.DatetimeIndex(bars.dates[bars.last >= 0], tz="UTC")
    if shown is None:
        inside = 0 if trained is None else int(((trained[0] <= dates) & (dates <= trained[1])).sum())
        return inside * len(bars.symbols)
    rows = shown[shown["symbol"].isin(bars.symbols) & shown["as_of"].isin(dates)]
    return int(((rows["train_first"] <= rows["as_of"]) & (rows["as_of"] <= rows["train_last"])).sum())


def require_unseen(
    env: gymnasium.Env[Any, Any], shown: pd.DataFrame | None, part: Part, trained: Dates | None = None
) -> None:
    """Refuses what a model says of its own training dates.

    Args:
        env: See `make_market`.
        shown: See `shown_table`.
        part: The part of the environment; in the test part nothing but forecasts out of sample will do.
        trained: See `trained_dates`.

    Raises:
        ConfigError: E270.
    """
    count = seen_in_training(env, shown, trained)
    if count:
        fix = "show forecasts of walk-forward, learn on the validation part, or set market.in_sample true"
        raise ConfigError(
            f"{count:,} shown rows lie in the training part of their own model: they look better than they are",
            f"{part} part",
            "show forecasts of walk-forward whose training ends before their dates" if part == "test" else fix,
            code=270,
        )


def require_device(name: str) -> None:
    """Refuses a device that is not there, where Stable-Baselines3 would take the CPU without a word.

    Args:
        name: Of PyTorch's, or auto.

    Raises:
        ConfigError: E238.
    """
    try:
        torch.zeros(1, device="cpu" if name == "auto" else name).item()
    except (AssertionError, RuntimeError) as error:
        fix = "choose cpu, or a device that is there"
        raise ConfigError(f"no device {name} here", "agent.device", fix, code=238) from error


def make_agent(settings: AgentSettings, env: VecEnv | gymnasium.Env[Any, Any], seed: int) -> BaseAlgorithm:
    """An agent that has learnt nothing yet.

    Args:
        settings: The agent's.
        env: Its environment.
        seed: Seed of its weights, actions and episodes.

    Raises:
        ConfigError: E271, if the algorithm has no such argument, or cannot act in this market.
    """
    algorithm = ALGORITHMS[settings.algo]
    known = set(inspect.signature(algorithm.__init__).parameters) - OURS
    for name in settings.arguments:
        if name not in known:
            hint = nearest(name, sorted(known)) or f"one of {', '.join(sorted(known))}"
            raise ConfigError(f"{settings.algo} has no argument {name}", "agent.arguments", hint, code=271)
    try:
        # a copy: some write into what they are given
        return algorithm(settings.policy, env, seed=seed, device=settings.device, **copy.deepcopy(settings.arguments))
    except CnnLstmError:
        raise
    except (AssertionError, AttributeError, TypeError, ValueError) as error:  # what theirs say of actions and values
        reason = " ".join(str(error).split())
        fix = ACTIONS if "action space" in reason else "correct the value"
        raise ConfigError(f"{settings.algo} refuses this: {reason}", "agent", fix, code=271) from error


def learn(
    settings: AgentSettings, env: gymnasium.Env[Any, Any], seed: int, folder: Path, writers: Sequence[KVWriter] = ()
) -> Path:
    """Trains the agent of a seed.

    Args:
        settings: The agent's.
        env: One environment; each of the `n_envs` is a copy.
        seed: The seed.
        folder: Where agent_seedN.zip is written, and logs/seedN with progress.csv and TensorBoard's events.
        writers: What else takes the figures that are logged.

    Returns:
        The agent's file.
    """
    envs = DummyVecEnv([lambda: Monitor(copy.deepcopy(env)) for _ in range(settings.n_envs)])
    agent = make_agent(settings, envs, seed)
    # theirs gives environment i of seed s the seed s + i, so that neighbours would see the same episodes
    envs.seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    logs = folder / "logs" / f"seed{seed}"
    shutil.rmtree(logs, ignore_errors=True)  # of a training that was cut short
    logger = configure(str(logs), ["csv", "tensorboard"])
    logger.output_formats.extend(writers)
    agent.set_logger(logger)
    agent.learn(settings.steps, progress_bar=_shows_bar(settings))
    logger.close()
    file = agent_file(folder, seed)
    write_whole(file, agent.save)
    latest = [episode["r"] for episode in agent.ep_info_buffer or ()]
    reward = f"{np.mean(latest):.4f}" if latest else "-"
    print(f"seed {seed}: {agent.num_timesteps:,} steps, mean reward of the latest {len(latest)} episodes {reward}")
    return file


def _shows_bar(settings: AgentSettings) -> bool:
    """Their bar overwrites its line, and rich draws it."""
    return settings.progress_bar and sys.stdout.isatty() and find_spec("rich") is not None


def agent_file(folder: Path, seed: int) -> Path:
    """Where the agent of a seed is saved."""
    return folder / f"agent_seed{seed}.zip"


def blank_agent(settings: AgentSettings, env: gymnasium.Env[Any, Any]) -> BaseAlgorithm:
    """An agent to be looked at, or filled with weights; in a single environment it is not to be trained.

    Args:
        settings: The agent's.
        env: Its environment.

    Raises:
        ConfigError: E271, see `make_agent`.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*mini-batch size.*")  # a rollout of one environment is shorter
        return make_agent(settings, env, 0)


def load_agent(file: Path, settings: AgentSettings, env: gymnasium.Env[Any, Any]) -> BaseAlgorithm:
    """An agent that has learnt, from the weights in its file alone: what else lies in the zip is pickled.

    Args:
        file: See `agent_file`.
        settings: The agent's, see `with_encoder`.
        env: Where it acts.

    Raises:
        ConfigError: E273, if the file is damaged, or of another agent.
    """
    agent = blank_agent(settings, env)
    try:
        with zipfile.ZipFile(file) as archive:
            content = io.BytesIO(archive.read("policy.pth"))
        agent.policy.load_state_dict(torch.load(content, map_location=agent.device, weights_only=True))
    except Exception as error:  # zip and torch stumble over damage in any way
        raise ConfigError(
            "the agent is damaged",
            f"{file}: {type(error).__name__}",
            "remove the file, and give rl train its --name again: it makes it anew",
            code=273,
        ) from error
    return agent


def play_agent(env: gymnasium.Env[Any, Any], agent: BaseAlgorithm) -> pd.DataFrame:
    """Bars of an agent that acts without exploring, see `bars_played`.

    Args:
        env: See `make_market`.
        agent: The agent.
    """
    market: MarketEnv = env.unwrapped  # type: ignore[assignment]
    lines, dates = [], []
    for first in market.episodes.stretches():
        seen, info = env.reset(options={"start": first})
        done = False
        while not done:
            dates.append(info["date"])
            seen, _, terminated, truncated, info = env.step(agent.predict(seen, deterministic=True)[0])
            lines.append([info["gross_return"], info["turnover"], info["net_return"], info["weights"]])
            done = terminated or truncated
    return bars_played(dates, lines)
