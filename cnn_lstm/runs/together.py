"""Commands that make several runs: what they share on the command line, and their folder."""

from __future__ import annotations

import argparse
import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cnn_lstm.errors import ConfigError, ResourceError
from cnn_lstm.files import write_text_whole
from cnn_lstm.runs.config import guard_parser
from cnn_lstm.runs.forecast_cli import ForecastCLI, quiet

# keys that change no figure, or that differ between the runs
FREE_KEYS = (
    *("runs_dir", "quiet", "csv", "tensorboard", "mlflow"),
    *("tracking", "tracking_uri", "experiment", "register_model"),
)


@dataclass(frozen=True)
class MultiRunCommand:
    """A command that makes several runs.

    Attributes:
        command: Its name.
        option: What names the folder of all runs.
        ours: Options of `fit` that each run is given by the command.
        free: Keys of the configuration that may differ.
    """

    command: str
    option: str
    ours: Sequence[str]
    free: Sequence[str] = ()

    @property
    def stem(self) -> str:
        """Name of its files."""
        return self.command.replace("-", "_")

    def refuse_ours(self, words: Sequence[str]) -> None:
        """Refuses options that are not for the user.

        Raises:
            ConfigError: Naming the first one.
        """
        for word in words:
            name = word.partition("=")[0]
            if any(name == own or name.startswith(f"{own}.") for own in self.ours):
                raise ConfigError(
                    f"{name} is not for {self.command}", fix="each run gets its own: leave it out", code=225
                )

    def parsed(self, words: Sequence[str]) -> ForecastCLI:
        """The configuration of the runs: a wrong one is told before anything is trained.

        Args:
            words: Arguments of `fit`.

        Raises:
            ConfigError: If it names a checkpoint, or is wrong.
        """
        quiet()
        guard_parser()
        cli = ForecastCLI(["fit", *words], run=False)
        if cli.config["fit"].get("ckpt_path"):
            raise ConfigError(
                f"ckpt_path is not for {self.command}", fix="each run gets its own: leave it out", code=225
            )
        return cli

    def folder(self, given: Path | None, config: Any) -> Path:
        """The folder that was named, or a new one.

        Args:
            given: What the command line says.
            config: Configuration of the fit.
        """
        if given is not None:
            return given
        name = Path(str(config.config[0])).stem if config.get("config") else "fit"
        return Path(config.runs_dir) / f"{name}-{self.command}-{time.strftime('%Y%m%d-%H%M%S')}"

    @contextmanager
    def taken(self, folder: Path) -> Iterator[int]:
        """Makes the folder and keeps others out of it; yields the lock, which the runs inherit.

        So the folder stays taken while a run of a command that was killed still works in it.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / ".lock").open("ab")
        except OSError as error:
            raise ResourceError(
                f"cannot write the {self.command} folder",
                f"{folder}: {error.strerror}",
                f"choose another {self.option}",
                code=606,
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(
                    f"another {self.command}, or a run of it, is at work here",
                    str(folder),
                    "wait for its end",
                    code=243,
                ) from error
            yield lock.fileno()

    def require_same_configuration(self, folder: Path, text: str) -> None:
        """Keeps the configuration in a new folder, and refuses a folder that was made of another one.

        Args:
            folder: The folder, taken.
            text: The configuration as YAML.

        Raises:
            ConfigError: Naming each difference.
        """
        kept = folder / f"{self.stem}.yaml"
        if not kept.exists():
            if any(path.name != ".lock" for path in folder.iterdir()):
                raise ConfigError(
                    "the folder holds something else", str(folder), f"choose a new {self.option}", code=242
                )
            write_text_whole(kept, text)
            return
        before, now = (self.settings_of(content) for content in (kept.read_text(encoding="utf-8"), text))
        differing = [
            f"{key}: {before.get(key)} -> {now.get(key)}"
            for key in {**before, **now}
            if before.get(key) != now.get(key)
        ]
        if differing:
            raise ConfigError(
                f"the {self.command} folder was made of another configuration",
                f"{folder}: {'; '.join(differing)}",
                f"choose a new {self.option}, or give what it was made of",
                code=242,
            )

    def settings_of(self, text: str) -> dict[str, Any]:
        """Dotted keys and values of a configuration, without those that change no figure.

        Args:
            text: The configuration as YAML.
        """
        return self._settings(yaml.safe_load(text))

    def _settings(self, tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        """Dotted keys and values of a configuration, without those that change no figure."""
        found: dict[str, Any] = {}
        for key, value in tree.items():
            name = f"{prefix}{key}"
            if isinstance(value, dict) and value:
                found |= self._settings(value, f"{name}.")
            elif name not in (*FREE_KEYS, *self.free):
                found[name] = value
        return found


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Adds how many runs there may be at a time."""
    parser.add_argument("--n_jobs", type=int, default=1, metavar="N", help="runs at a time; 1 by default")


def require_jobs(jobs: int) -> None:
    """Refuses a number of runs at a time below 1.

    Raises:
        ConfigError: If it is.
    """
    if jobs < 1:
        raise ConfigError(f"--n_jobs {jobs}", fix="give at least 1", code=224)
