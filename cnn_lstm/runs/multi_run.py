"""Commands that make several runs: what they share on the command line, and their folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from cnn_lstm.bounded import with_digest
from cnn_lstm.credentials import clean
from cnn_lstm.errors import ConfigError, require
from cnn_lstm.files import write_text_whole
from cnn_lstm.locks import LOCK, take_folder
from cnn_lstm.plain_values import differences, flattened
from cnn_lstm.runs import forecast_cli
from cnn_lstm.runs.argv import config_files
from cnn_lstm.runs.config import read_config
from cnn_lstm.runs.forecast_cli import ForecastCLI
from cnn_lstm.training.run_folder import unused_folder, will_make

FORMER_LOCK = ".lock"  # of earlier versions
# keys that change no metric, or that differ between the runs
FREE_KEYS = (
    *("runs_dir", "quiet", "csv", "n_jobs", "tensorboard", "mlflow"),
    *("tracking", "tracking_uri", "experiment", "register_model"),
)


def defaults_of_fit() -> str:
    """The configuration of a fit where nothing is said, as YAML."""
    return forecast_cli.parsed(["fit"]).config_text


@dataclass(frozen=True)
class MultiRunCommand:
    """A command that makes several runs.

    Attributes:
        command: Its name.
        reserved: Options of `fit` that the command gives to each run, so that the user cannot.
        free: Keys of the configuration that may differ.
        option: Option that chooses its folder, for messages.
        kept: Name of the file that keeps the configuration; by default that of the command.
    """

    command: str
    reserved: Sequence[str]
    free: Sequence[str] = ()
    option: str = "--folder"
    kept: str = ""

    def kept_config(self, folder: Path) -> Path:
        """The configuration that the runs of a folder share."""
        return folder / (self.kept or f"{self.command.replace('-', '_')}.yaml")

    def argv_of_fit(self, argv: Sequence[str], jobs: int | None, folder: Path | None, resume: bool) -> list[str]:
        """The arguments of `fit` that its runs share; refuses what is wrong with the command's own.

        Args:
            argv: Arguments of `fit` that the command line gives.
            jobs: Runs at a time, if somebody says so.
            folder: See `require_folder`.
            resume: See `require_folder`.

        Raises:
            ConfigError: E224, E225, E245 or E246.
        """
        require_jobs(jobs)
        self.require_folder(folder, resume)
        self.refuse_reserved(argv)
        return self.with_kept_config(argv, folder, resume)

    def require_folder(self, folder: Path | None, resume: bool) -> None:
        """Refuses to begin where the command has begun already, and to go on where it has not.

        Args:
            folder: The folder that the command line names.
            resume: Whether to go on in it.

        Raises:
            ConfigError: E245 or E246.
        """
        begun = folder is not None and self.kept_config(folder).is_file()
        if begun and not resume:
            raise ConfigError(
                f"the folder holds a {self.command}", str(folder), "pass --resume to go on with it", code=245
            )
        if resume and not begun:
            where = "no --folder" if folder is None else str(folder)
            fix = "give the --folder of one, or leave --resume out"
            raise ConfigError(f"no {self.command} to go on with", where, fix, code=246)

    def refuse_reserved(self, argv: Sequence[str]) -> None:
        """Refuses options that are not for the user.

        Args:
            argv: Arguments of `fit`.

        Raises:
            ConfigError: Naming the first one.
        """
        for argument in argv:
            name = argument.partition("=")[0]
            if any(name == option or name.startswith(f"{option}.") for option in self.reserved):
                raise self._not_for_users(name)

    def _not_for_users(self, name: str) -> ConfigError:
        return ConfigError(f"{name} is not for {self.command}", fix="each run gets its own: leave it out", code=225)

    def with_kept_config(self, argv: Sequence[str], folder: Path | None, resume: bool) -> list[str]:
        """The arguments of `fit`; where they name no configuration and a folder is resumed, with the folder's.

        Args:
            argv: Arguments of `fit`.
            folder: See `require_folder`.
            resume: See `require_folder`.
        """
        if folder is None or not resume or config_files(argv):
            return list(argv)
        return ["--config", str(self.kept_config(folder)), *argv]

    def parsed(self, argv: Sequence[str]) -> ForecastCLI:
        """The configuration of the runs: a wrong one is refused before anything is trained.

        Args:
            argv: Arguments of `fit`.

        Raises:
            ConfigError: If it names a checkpoint, or is wrong.
        """
        cli = forecast_cli.parsed(["fit", *argv])
        if cli.command_config.get("ckpt_path"):
            raise self._not_for_users("ckpt_path")
        what, fix = f"{self.command} of final fits", "leave it out, and fit the final model once, with fit"
        require(cli.command_config.data.fit_on == "train", what, "data.fit_on", fix)
        what, fix = f"{self.command} of trials, which leave no model", "leave it out; try one fit with it first"
        require(not cli.command_config.trainer.fast_dev_run, what, "trainer.fast_dev_run", fix, code=280)
        return cli

    def new_folder(self, cli: ForecastCLI) -> Path:
        """Makes a folder that nobody named, in the folder of all runs.

        Args:
            cli: The configuration of the runs.
        """
        name = cli.files[0].stem if cli.files else "fit"
        folder = f"{name}-{self.command}-{time.strftime('%Y%m%d-%H%M%S')}"
        return unused_folder(Path(cli.command_config.runs_dir) / folder)

    @contextmanager
    def locked(self, folder: Path) -> Iterator[int]:
        """Makes the folder and keeps others out of it; yields the lock, which the runs inherit.

        So the folder stays locked while a run of a command that was killed still works in it.

        Args:
            folder: The folder.

        Raises:
            ResourceError: E606, if it cannot be written.
            ConfigError: E243, if another command, or a run of one, is at work there.
        """
        will_make(folder)
        with take_folder(folder, self.command, self.command, self.option) as lock:
            yield lock.descriptor

    def require_same_configuration(
        self,
        folder: Path,
        text: str,
        first: Mapping[str, Callable[[], object]] | None = None,
        defaults: Callable[[], str] = defaults_of_fit,
    ) -> None:
        """Keeps the configuration in a new folder, and refuses a folder that was made of another one.

        Args:
            folder: The folder, locked.
            text: The configuration as YAML.
            first: What writes each file, by its name, that a folder has before it has a configuration: so a kill
                leaves no folder that can be gone on with and lacks one of them.
            defaults: Gives the configuration where nothing is said, as YAML.

        Raises:
            ConfigError: Naming each difference.
        """
        kept, first = self.kept_config(folder), first or {}
        if not kept.exists():
            ours = (LOCK, FORMER_LOCK, *(name for file in (*first, kept.name) for name in (file, f".{file}.*.partial")))
            if not all(any(fnmatchcase(path.name, name) for name in ours) for path in folder.iterdir()):
                what = "the folder holds something else"
                raise ConfigError(what, str(folder), f"choose a new {self.option}", code=242)
            for write in first.values():
                write()
            write_text_whole(kept, with_digest(text))
            return
        # a configuration of an earlier version names no ensemble
        before = self.settings_of({"ensemble": 1} | clean(read_config(kept)))
        after = self.settings_of(yaml.safe_load(text))
        if new := [key for key in after if key not in before]:
            usual = self.settings_of(yaml.safe_load(defaults()))
            # settings that came with a later version, and do nothing new
            after = {key: value for key, value in after.items() if key not in new or value != usual.get(key, ())}
        different = differences(before, after)
        if different:
            different.sort(key=lambda line: ": None -> " in line)  # what both say comes first
            raise ConfigError(
                f"the {self.command} folder was made of another configuration",
                f"{folder}: {'; '.join(different)}",
                f"choose a new {self.option}, or give what it was made of",
                code=242,
            )

    def settings_of(self, config: dict[str, Any]) -> dict[str, Any]:
        """Dotted keys and values of a configuration, without those that change no metric.

        Args:
            config: The configuration.
        """
        return {key: value for key, value in flattened(config).items() if key not in (*FREE_KEYS, *self.free)}


def require_jobs(jobs: int | None) -> None:
    """Refuses a number of runs at a time below 1.

    Raises:
        ConfigError: If it is.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--n_jobs {jobs}", fix="give at least 1", code=224)
