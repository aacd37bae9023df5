"""Trains and tests one configuration on several splits, and concludes from all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.muted_warnings import muted_warnings
from cnn_lstm.data.splits import Split
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.runs.cluster import Cluster
from cnn_lstm.runs.members import Member, leave_with, train_all
from cnn_lstm.runs.messages import progress
from cnn_lstm.runs.multi_run import MultiRunCommand
from cnn_lstm.training.tracking.parent import name_parent

AnySplit = TypeVar("AnySplit", bound=Split)


@dataclass(frozen=True)
class OnSplits(Generic[AnySplit]):
    """A command that makes one run per split.

    Attributes:
        command: What it shares with other commands that make several runs.
        noun: What it makes, for messages.
        kind: What sets its runs apart, such as `fold`.
        conclude: Called once all runs are tested, with the runs, their splits, a data module and the settings.
    """

    command: MultiRunCommand
    noun: str
    kind: str
    conclude: Callable[[Sequence[Member], Sequence[AnySplit], MarketDataModule, Evaluation], None]

    def run(
        self,
        argv: Sequence[str],
        splits: Sequence[AnySplit],
        jobs: int | None,
        folder: Path | None,
        resume: bool,
        address: str | None,
    ) -> None:
        """Trains and tests what is missing, and concludes.

        Args:
            argv: Arguments of `fit`.
            splits: The split of each run.
            jobs: Runs at a time; None for one, or as many as the cluster has room for.
            folder: Folder of all runs; a new one by default.
            resume: Whether to go on in the folder.
            address: Address of a Ray cluster; None to train on this machine.

        Raises:
            ConfigError: If an option is wrong, before anything is trained.
            SystemExit: With the exit code of the first run that failed.
        """
        argv = self.command.argv_of_fit(argv, jobs, folder, resume)
        arguments = [[*argv, f"--data.split={json.dumps(split.spec())}"] for split in splits]
        cli = self.command.parsed(arguments[0])
        cluster = Cluster.of(address, cli.command_config.trainer)
        _require_sound(cli.build_data(), splits)
        data, folder = cli.build_data(), folder or self.command.new_folder(cli)
        members = [Member(self.kind, number, folder, of_run) for number, of_run in enumerate(arguments)]
        with self.command.locked(folder) as lock:
            self.command.require_same_configuration(folder, cli.config_text)
            name_parent(folder)
            progress(f"{self.noun} folder: {folder}")
            failed = train_all(members, jobs, lock, cluster=cluster)
            if not failed:
                self.conclude(members, splits, data, cli.evaluation)
            leave_with(members, failed, new=None if resume else folder)


def _require_sound(data: MarketDataModule, splits: Sequence[Split]) -> None:
    """Refuses prices or parts that a run could not be trained on, before any is; the runs warn for themselves."""
    with muted_warnings():
        data.setup()
        for split in splits:
            data.require_sound(data.parts_of(split))
