"""What `rl train` and `rl evaluate` work on: a checkpoint, its data, and the settings of market and agents."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import gymnasium
import jsonargparse
import pandas as pd
import yaml

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.splits import Boundaries
from cnn_lstm.errors import CheckpointError, ConfigError, require
from cnn_lstm.inference.given_tables import GivenTables
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import Contract, digest_of, refuse_differences
from cnn_lstm.rl.agent_inputs import AgentInputs, read_inputs, require_used
from cnn_lstm.rl.extractor import CNNLSTMExtractor
from cnn_lstm.rl.market import MarketEnv
from cnn_lstm.rl.market_data import Part
from cnn_lstm.rl.observations import EncoderObservation, OnMissing
from cnn_lstm.rl.settings import AgentSettings, MarketSettings
from cnn_lstm.runs.argv import config_files, explicit_flags, flags_of
from cnn_lstm.runs.config import is_of_fit, read_config
from cnn_lstm.runs.config_files import sections_of, with_read_files
from cnn_lstm.runs.forecast_cli import ForecastCLI
from cnn_lstm.runs.named_code import require_declared
from cnn_lstm.runs.parser_errors import SEE_HELP, one_line_errors
from cnn_lstm.runs.yaml_guard import guard_parser, read_nothing
from cnn_lstm.training.run_folder import RunFolder, run_of_checkpoint

# keys of earlier versions, and what they are called now
RENAMED = {"name": "folder"}


@dataclass(frozen=True)
class JobConfig:
    """The configuration of `rl train`, as it is written to the config.yaml of the agents.

    Attributes:
        ckpt_path: Checkpoint of the forecaster.
        ckpt_digest: Digest of its weights; other weights are refused. None: any.
        forecasts_digest: SHA-256 of the file `market.forecasts`, and of `market.embeddings` behind it; other files are
            refused. None: any.
        folder: Folder of the agents within RUN/rl.
        trials: How many settings `rl sweep` has tried before it chose these; the deflated Sharpe ratio pays for them.
        market: Settings of the market.
        agent: Settings of the agents.

    Raises:
        ConfigError: E224, if there is not at least one trial.
    """

    ckpt_path: str | None = None
    ckpt_digest: str | None = None
    forecasts_digest: str | None = None
    folder: str | None = None
    trials: int = 1
    market: MarketSettings = field(default_factory=MarketSettings)
    agent: AgentSettings = field(default_factory=AgentSettings)

    def __post_init__(self) -> None:
        require(self.trials >= 1, f"trials={self.trials}", "rl train", "give at least 1")

    def to_yaml(self, folder: Path) -> str:
        """The configuration for a file; it names the checkpoint relative to its folder, so that a run can be moved.

        Args:
            folder: Where the file will lie.
        """
        path = self.ckpt_path and os.path.relpath(Path(self.ckpt_path).resolve(), folder.resolve())
        return yaml.safe_dump(asdict(replace(self, ckpt_path=path)), sort_keys=False)


@dataclass(frozen=True)
class Job:
    """What a command works on.

    Attributes:
        config: The configuration, with the digests of the files that lie there now.
        checkpoint: Checkpoint of the forecaster.
        home: Run of the forecaster.
        data: Data of the forecaster, set up.
        prices: Its price table, or the part of it that agents may see.
        inputs: What the agents see.
    """

    config: JobConfig
    checkpoint: Path
    home: RunFolder
    data: MarketDataModule
    prices: pd.DataFrame
    inputs: AgentInputs

    @property
    def tables(self) -> GivenTables:
        """What the forecaster's data read next to the prices."""
        return tables_of(self.data)

    @property
    def learner(self) -> AgentSettings:
        """Settings of the agents, with the checkpoint's encoder in their policy if it reads their windows there."""
        market, agent = self.config.market, self.config.agent
        if market.see != "window" or agent.encoder is None:
            return agent
        policy = {
            **agent.arguments.get("policy_kwargs", {}),
            "features_extractor_class": CNNLSTMExtractor,
            "features_extractor_kwargs": {"checkpoint": str(self.checkpoint), **asdict(agent.encoder)},
        }
        return replace(agent, arguments={**agent.arguments, "policy_kwargs": policy})

    def env(
        self, part: Part, episode_length: int | None = None, between: tuple[str | None, str | None] = (None, None)
    ) -> gymnasium.Env[Any, Any]:
        """The environment of one agent.

        Args:
            part: Part in which episodes lie.
            episode_length: Steps of an episode; the whole part by default.
            between: First day of episodes, and the day after the last one, ISO; the whole part by default.
        """
        settings, table = self.config.market, self.inputs.table
        names = ("symbols", "actions", "positions", "delay", "fee_bp", "slippage_bp", "reward")
        market = MarketEnv(
            self.prices,
            checkpoint=self.checkpoint,
            part=part,
            start=between[0],
            end=between[1],
            observe="window" if table is None else "account",
            episode_length=episode_length,
            known_future=self.tables.known_future,
            static=self.tables.static,
            **{name: getattr(settings, name) for name in names},
        )
        if table is None:
            return market
        # walk-forward forecasts from its first test part on, and where a label is known: not before a gap or at the end
        on_missing: OnMissing = "skip" if settings.see == "forecast" else "error"
        return EncoderObservation(market, table, self.inputs.columns, on_missing)

    def checked_env(
        self, part: Part, episode_length: int | None = None, between: tuple[str | None, str | None] = (None, None)
    ) -> gymnasium.Env[Any, Any]:
        """`env`, refused if a model was trained on dates that it describes there, unless `market.in_sample` allows it.

        In the test part nothing allows it.

        Args:
            part: Part in which episodes lie.
            episode_length: Steps of an episode; the whole part by default.
            between: As of `env`.

        Raises:
            ConfigError: E270.
        """
        env = self.env(part, episode_length, between)
        if part == "test" or not self.config.market.in_sample:
            self.inputs.require_out_of_sample(env, part)
        return env


def tables_of(data: MarketDataModule) -> GivenTables:
    """What data read next to their prices: facts known ahead, which may end with the prices, and static columns.

    Args:
        data: The data.
    """
    tables = data.recipe.tables
    known_future, static = (None, None) if tables is None else (tables.known_future, tables.static)
    return GivenTables(known_future, static, open_end=True)


def parse_config(argv: Sequence[str], command: str = "rl train") -> JobConfig:
    """The configuration that a command line gives.

    Args:
        argv: Options of `rl train`.
        command: Command that the user called, for the messages.

    Raises:
        ConfigError: If an option or a key is wrong.
    """
    guard_parser(AgentSettings.__module__)
    parser = jsonargparse.ArgumentParser(prog="cnn-lstm rl train", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with these keys.")
    parser.add_class_arguments(JobConfig)
    read_nothing(parser)
    trees = {file: read_config(file, RENAMED) for file in config_files(argv)}
    for file, tree in trees.items():
        if is_of_fit(tree):
            fix = "give one like configs/rl/ppo.yaml"
            raise ConfigError("a configuration of fit", f"{command}, {file}", fix, code=225)
    known = list(parser.get_defaults().keys(branches=True))
    try:
        with one_line_errors(command, known):
            read = with_read_files(explicit_flags(argv, flags_of(parser)), sections_of(known), RENAMED)
            named = parser.parse_args(read)
            require_declared(named)
            parsed = parser.instantiate_classes(named)
    except ConfigError as error:
        fix = "see docs/rl.md" if error.fix == SEE_HELP else error.fix
        raise ConfigError(error.what, error.where, fix, code=error.code) from error
    config = JobConfig(**{each.name: parsed[each.name] for each in fields(JobConfig)})
    for file, tree in trees.items():
        # agents name their checkpoint relative to their own folder, so that a run can be moved
        if "ckpt_digest" in tree and config.ckpt_path is not None and config.ckpt_path == tree.get("ckpt_path"):
            config = replace(config, ckpt_path=str((file.parent / config.ckpt_path).resolve()))
    return config


def saved_config(folder: Path, command: str) -> JobConfig:
    """The configuration of agents that are trained already.

    Args:
        folder: Folder of the agents.
        command: Command that the user called, for the messages.
    """
    return parse_config(["--config", str(folder / "config.yaml")], command)


def job_of(config: JobConfig, before_test: bool = False) -> Job:
    """Reads the checkpoint, and the data of its run.

    Args:
        config: The configuration.
        before_test: Whether agents see neither prices nor forecasts from the first test date on.

    Raises:
        CheckpointError: If there is no checkpoint, or its run's configuration now reads other data.
        ConfigError: E270, if a setting would have no effect; E273, if the checkpoint is not the one that the agents
            learnt with, or does not lie in a run folder.
    """
    if config.ckpt_path is None:
        raise CheckpointError("rl train needs a checkpoint", fix="add --ckpt_path RUN/checkpoints/best.ckpt", code=437)
    market, agent = config.market, config.agent
    require_used(market, agent)
    checkpoint = Path(config.ckpt_path)
    content = read_checkpoint(checkpoint)
    digest = digest_of(content)
    if config.ckpt_digest not in (None, digest):
        what = "the agents learnt with another checkpoint than lies there now"
        where = f"{checkpoint}: weights {config.ckpt_digest[:12]} -> {digest[:12]}"
        raise ConfigError(what, where, "put that one back, or train agents with another --folder", code=273)
    home = run_of_checkpoint(checkpoint)
    if not home.config.is_file():
        raise ConfigError(
            "no config.yaml above the checkpoint", str(home.path), "use a checkpoint inside its run folder", code=273
        )
    data = ForecastCLI(["fit", "--config", str(home.config)], run=False).build_data()
    data.setup()
    refuse_differences({"data": Contract.of(content).fingerprint}, {"data": data.fingerprint})
    prices, first_test = data.prices, None
    if before_test:
        first_test = pd.Timestamp(Boundaries.of(Contract.of(content).boundaries).test, tz="UTC")
        prices = prices[prices["timestamp"] < first_test]
    inputs = read_inputs(market, agent, checkpoint, prices, tables_of(data)).before(first_test)
    files = [Path(file) for file in (market.forecasts, market.embeddings) if file]
    forecasts = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest() if files else None
    if config.forecasts_digest not in (None, forecasts):
        what = "the agents learnt with other forecasts than lie there now"
        fix = "put those back, or train agents with another --folder"
        raise ConfigError(what, str(market.forecasts), fix, code=273)
    config = replace(config, ckpt_digest=digest, forecasts_digest=forecasts)
    return Job(config, checkpoint, home, data, prices, inputs)
