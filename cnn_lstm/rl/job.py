"""What `rl train` and `rl evaluate` work on: a checkpoint, its data, and the settings of market and agents."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import jsonargparse
import pandas as pd

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.errors import CheckpointError, ConfigError
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.forecaster import CHECKPOINT_KEY, refuse_differences
from cnn_lstm.rl.agent_inputs import (
    Dates,
    make_market,
    require_read,
    require_unseen,
    seen_in_training,
    shown_table,
    trained_dates,
)
from cnn_lstm.rl.agents import with_encoder
from cnn_lstm.rl.bars import Part
from cnn_lstm.rl.settings import AgentSettings, MarketSettings
from cnn_lstm.runs.argv import config_files, explicit_flags, flags_of
from cnn_lstm.runs.config import is_of_fit, read_config, with_current_files
from cnn_lstm.runs.forecast_cli import ForecastCLI
from cnn_lstm.runs.parser_errors import in_plain_words, one_line_errors
from cnn_lstm.training.run_folder import RunFolder, run_of_checkpoint

# keys of earlier versions, and what they are called now
RENAMED = {"name": "folder"}


@dataclass(frozen=True)
class Job:
    """What a command works on.

    Attributes:
        checkpoint: The forecaster's.
        digest: Of its weights.
        home: The forecaster's run.
        market: Settings of the market.
        agent: Settings of the agents.
        data: The forecaster's data, set up.
        shown: What agents see of each date, see `shown_table`.
        forecasts: SHA-256 of the file with forecasts, if they are shown.
        trained: Training dates of an encoder inside the policy, see `trained_dates`.
    """

    checkpoint: Path
    digest: str
    home: RunFolder
    market: MarketSettings
    agent: AgentSettings
    data: MarketDataModule
    shown: pd.DataFrame | None
    forecasts: str | None
    trained: Dates | None

    def env(self, part: Part, episode_length: int | None = None) -> gymnasium.Env[Any, Any]:
        """The market in a part, see `make_market`."""
        return make_market(
            self.market, self.checkpoint, self.data.prices, self.shown, part=part, episode_length=episode_length
        )

    @property
    def learner(self) -> AgentSettings:
        """Settings of the agents, with the encoder in their policy where it belongs there."""
        return with_encoder(self.agent, self.market, self.checkpoint)

    def unseen_env(self, part: Part, episode_length: int | None = None) -> gymnasium.Env[Any, Any]:
        """`env`, in which nothing is shown by a model that was trained on it, unless agents may learn from that.

        Raises:
            ConfigError: E270.
        """
        env = self.env(part, episode_length)
        if part == "test" or not self.market.in_sample:
            require_unseen(env, self.shown, part, self.trained)
        return env

    def in_sample_rows(self) -> int:
        """See `seen_in_training`, of the part in which the agents learn."""
        return seen_in_training(self.env(self.market.part), self.shown, self.trained)


def job_parser() -> jsonargparse.ArgumentParser:
    """Parser of the options of `rl train`."""
    parser = jsonargparse.ArgumentParser(prog="cnn-lstm rl train", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with these keys.")
    parser.add_argument("--ckpt_path", type=str | None, default=None, help="Checkpoint of the forecaster.")
    parser.add_argument(
        "--ckpt_digest", type=str | None, default=None, help="Digest of its weights; others are refused."
    )
    parser.add_argument(
        "--forecasts_digest", type=str | None, default=None, help="Digest of market.forecasts; others are refused."
    )
    parser.add_argument("--folder", type=str | None, default=None, help="Folder of the agents within RUN/rl.")
    parser.add_class_arguments(MarketSettings, "market")
    parser.add_class_arguments(AgentSettings, "agent")
    return parser


def parsed(words: Sequence[str], command: str = "rl train") -> Any:
    """The configuration that words mean.

    Args:
        words: Options of `rl train`.
        command: What the user called, for the messages.

    Raises:
        ConfigError: If one is wrong.
    """
    parser, files = job_parser(), config_files(words)
    trees = {file: read_config(file, RENAMED) for file in files}
    for file, tree in trees.items():
        if is_of_fit(tree):
            raise ConfigError(
                "a configuration of fit", f"{command}, {file}", "give one like configs/rl/ppo.yaml", code=225
            )
    known = list(parser.get_defaults().keys(branches=True))
    try:
        with one_line_errors(command, known):
            argv = with_current_files(explicit_flags(words, flags_of(parser)), RENAMED)
            config = parser.instantiate_classes(parser.parse_args(argv))
    except ConfigError as error:
        raise in_plain_words(error) from error
    for file, tree in trees.items():
        # agents name their checkpoint as seen from their own folder, so that a run can be moved
        if "ckpt_digest" in tree and config.ckpt_path is not None and config.ckpt_path == tree.get("ckpt_path"):
            config.ckpt_path = str((file.parent / config.ckpt_path).resolve())
    return config


def saved(folder: Path, command: str) -> Any:
    """The configuration of agents that are there already.

    Args:
        folder: Their folder.
        command: What the user called, for the messages.
    """
    return parsed(["--config", str(folder / "config.yaml")], command)


def job_of(config: Any) -> Job:
    """Reads the checkpoint, and the data of its run.

    Args:
        config: See `parsed`.

    Raises:
        CheckpointError: If there is none, or it is of other data than its run's configuration reads now.
        ConfigError: E270, if a setting would be read by nothing; E273, if it is not the one that the
            agents learnt with, or not in a run folder.
    """
    if config.ckpt_path is None:
        raise CheckpointError("rl train needs a checkpoint", fix="add --ckpt_path RUN/checkpoints/best.ckpt", code=437)
    market: MarketSettings = config.market
    agent: AgentSettings = config.agent
    require_read(market, agent)
    checkpoint = Path(config.ckpt_path)
    contract = read_checkpoint(checkpoint)[CHECKPOINT_KEY]
    if config.ckpt_digest not in (None, contract["digest"]):
        raise ConfigError(
            "the agents learnt with another checkpoint than lies there now",
            f"{checkpoint}: weights {config.ckpt_digest[:12]} -> {contract['digest'][:12]}",
            "put that one back, or train agents with another --folder",
            code=273,
        )
    home = run_of_checkpoint(checkpoint)
    if not home.config.is_file():
        raise ConfigError("no config.yaml above the checkpoint", str(home.path), "take one in its run folder", code=273)
    data = ForecastCLI(["fit", "--config", str(home.config)], run=False).build_data()
    data.setup()
    refuse_differences({"data": contract["fingerprint"]}, {"data": data.fingerprint})
    shown = shown_table(market, checkpoint, data.prices)
    forecasts = hashlib.sha256(Path(market.forecasts).read_bytes()).hexdigest() if market.forecasts else None
    if config.forecasts_digest not in (None, forecasts):
        raise ConfigError(
            "the agents learnt with other forecasts than lie there now",
            str(market.forecasts),
            "put those back, or train agents with another --folder",
            code=273,
        )
    trained = trained_dates(market, agent, checkpoint)
    return Job(checkpoint, contract["digest"], home, market, agent, data, shown, forecasts, trained)
