"""`fit --ensemble N`: members that differ in their seed, and their average as the best checkpoint of the run.

The members are ordinary runs below the run's folder, in processes of their own:

    RUN/config.yaml            the configuration, with `ensemble: N`
    RUN/members/seed_42/ ...   a run, and seed_42.log, its output
    RUN/checkpoints/best.ckpt  the average of their best checkpoints
    RUN/summary.json, history.png
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import torch
import yaml

from cnn_lstm.bounded import with_digest
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.errors import CheckpointError, ConfigError, require
from cnn_lstm.files import make_folder, write_json_whole, write_text_whole
from cnn_lstm.inference.ensemble import Ensemble
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecast_model import ForecastModel
from cnn_lstm.model.metrics import forecast_metrics
from cnn_lstm.runs.average import write_average
from cnn_lstm.runs.beginning import Beginning
from cnn_lstm.runs.forecast_cli import ForecastCLI
from cnn_lstm.runs.members import Member, leave_with, left_nothing, train_all
from cnn_lstm.runs.messages import progress
from cnn_lstm.runs.multi_run import MultiRunCommand
from cnn_lstm.runs.outcome import print_places
from cnn_lstm.runs.tracking import keep_model, record_of_run, recorded_fit
from cnn_lstm.training.console import Totals, totals_line
from cnn_lstm.training.history import PLOT_FILE
from cnn_lstm.training.history_plot import draw_history
from cnn_lstm.training.run_folder import OneWriter, RunFolder, keep_config_of_user, name_of_run, named_run, new_run
from cnn_lstm.training.tracking.events import Parent
from cnn_lstm.training.tracking.parent import write_parent
from cnn_lstm.training.tracking.record import Record

log = logging.getLogger(__name__)
ENSEMBLE = MultiRunCommand("fit", reserved=(), free=("ensemble",), option="--run_dir", kept="config.yaml")
COMPARED = ("rmse", "accuracy")  # the metric that is printed: of numbers, of classes


@dataclass(frozen=True)
class EnsembleFit:
    """A fit of several members.

    Attributes:
        cli: Its configuration.
        run: Its run folder.
        members: The runs of its members.
        record: Its MLflow record, the parent of theirs.
        beginning: It begins the record when a member begins its training.
    """

    cli: ForecastCLI
    run: RunFolder
    members: Sequence[Member]
    record: Record
    beginning: Beginning

    def begin(self, data: MarketDataModule) -> None:
        """Begins the record, unless it has begun.

        Args:
            data: What the members are trained on.
        """
        if not self.beginning.begun:
            self.beginning.begin()
            self.record.dataset(data, yaml.safe_load(self.cli.config_text)["data"]["source"])

    @property
    def advice(self) -> str:
        """How to go on after an interruption."""
        return f"cnn-lstm fit --config {self.run.config} --ckpt_path last"


def fit_ensemble(cli: ForecastCLI, argv: Sequence[str]) -> None:
    """Trains the members, and writes their average.

    A member that is done stays; the others go on from their last checkpoint. Without one of its members an ensemble
    would be another one, so none is written then.

    Args:
        cli: The configuration, parsed.
        argv: Arguments of `fit` that it was parsed from.

    Raises:
        ConfigError: If a setting does not go with an ensemble, or a run that goes on has another configuration.
        CheckpointError: If there is no run to go on with.
        SystemExit: With the exit code of the first member that failed.
    """
    with OneWriter("fit") as writer:
        run, resumed = _run_folder(cli, writer)
        keep_config_of_user(run, cli.config_text, cli.files)
        data = cli.build_data()
        data.setup()  # before anything is written: bad data leaves nothing behind
        record, before = record_of_run(run, "fit", cli.command_config), [path.name for path in run.path.iterdir()]
        beginning = Beginning(run, record, cli.config_text, resumed)
        fit = EnsembleFit(cli, run, _members(cli, argv, run, record), record, beginning)
        ENSEMBLE.require_same_configuration(run.path, cli.config_text)
        write_text_whole(run.config, with_digest(cli.config_text))  # with the number of members that is asked for now
        with recorded_fit(beginning, lambda: False):
            failed = _train(fit, data, writer.descriptor)
            if failed and (resumed or not left_nothing(fit.members, failed)):
                seeds = ", ".join(f"seed {seed}" for seed in failed)
                print(f"no average without {seeds}; to go on: {fit.advice}", file=sys.stderr)
            leave_with(fit.members, failed, None if resumed else run.path, before)
            fit.begin(data)
            _conclude(fit, data)


def _run_folder(cli: ForecastCLI, writer: OneWriter) -> tuple[RunFolder, bool]:
    """The folder of the run, locked, and whether an earlier one goes on in it."""
    config = cli.command_config
    seed, given = config.seed_everything, config.get("ckpt_path")
    fix = "give a number; the members have it and those after it"
    require(not isinstance(seed, bool), f"seed_everything={str(seed).lower()}", f"ensemble={config.ensemble}", fix)
    fix = "start one process; the members start those that their trainer asks for"
    require("LOCAL_RANK" not in os.environ, "an ensemble inside a distributed launch", "LOCAL_RANK is set", fix)
    if given is None:
        return new_run(config.run_dir, config.runs_dir, name_of_run(cli.files), writer), False
    if str(given) != "last":
        fix = "give --ckpt_path last, or --ensemble 1 to train one member"
        raise ConfigError(f"--ckpt_path {given}", "an ensemble goes on as a whole", fix, code=224)
    run = named_run(config.run_dir, cli.files)
    if not run.members.is_dir():
        fix = "leave --ckpt_path out for a new run, or give --ensemble 1"
        raise CheckpointError("no ensemble to go on with", str(run.members), fix, code=437)
    writer.take(run.path)
    return run, True


def _members(cli: ForecastCLI, argv: Sequence[str], run: RunFolder, record: Record) -> list[Member]:
    """The runs of the members: the arguments of the fit, and what each has of its own."""
    config = cli.command_config
    own = ["--ensemble=1", "--ckpt_path=null", "--register_model=null"]
    if record.enabled and record.delivery.default:  # else each would look for the database next to its own folder
        own.append(f"--tracking_uri={record.delivery.uri}")
    seeds = range(config.seed_everything, config.seed_everything + config.ensemble)
    return [
        Member("seed", seed, run.members, [*argv, *own, f"--seed_everything={seed}"], tested=False) for seed in seeds
    ]


def _train(fit: EnsembleFit, data: MarketDataModule, lock: int | None) -> dict[int, int]:
    """Trains what is missing; returns the exit codes of the members that failed."""
    make_folder(fit.run.members)
    if fit.record.enabled:
        start = fit.record.journal.start() if fit.beginning.resumed else None
        uid, name = (start.uid, start.name) if start else (fit.record.uid, fit.run.path.resolve().name)
        write_parent(fit.run.members, Parent(uid=uid, name=name))
    progress(f"run folder: {fit.run.path}\nmembers: {fit.run.members}, each with its output in a .log")
    jobs = fit.cli.command_config.n_jobs
    return train_all(fit.members, jobs, lock, fit.advice, at_begin=lambda: fit.begin(data))


# -- the end of it -----------------------------------------------------------------------------------------------------


def _conclude(fit: EnsembleFit, data: MarketDataModule) -> None:
    """Writes the average, compares it with the members on the validation part, and prints where everything lies."""
    best = [member.run.checkpoint("best") for member in fit.members]
    ensemble = write_average(best, fit.run.checkpoints / "best.ckpt", data)
    keep_model(fit.record)
    _draw(fit)
    average, members = _validation(ensemble, data), [_validation(model, data) for model in ensemble.forecasters]
    fit.record.log({f"val_{name}": value for name, value in average.items()}, step=len(members))
    summaries = {member.number: member.run.read_summary() for member in fit.members}
    for seed, summary in summaries.items():
        if "best" in summary:
            print(f"seed {seed}: best {summary['monitor']} {summary['best']:.5f} at epoch {summary['best_epoch']}")
    name = next(name for name in COMPARED if name in average)
    values = [of_member[name] for of_member in members]
    print(
        f"validation {name}: average of {len(values)} {average[name]:.5g}, "
        f"each alone {min(values):.5g} to {max(values):.5g}, mean {fmean(values):.5g}"
    )
    totals = _totals(list(summaries.values()))
    print(totals_line(totals))
    content = {"members": summaries, "validation": average, **totals}
    write_json_whole(fit.run.summary, content)  # last: it says that the fit is done
    fit.record.keep(fit.run.summary)
    print_places(fit.run, fit.record, fit.run.members, {"members": fit.run.members})


def _draw(fit: EnsembleFit) -> None:
    """Draws the members' histories into one plot."""
    if not fit.cli.command_config.history_plot.enabled:
        return
    try:
        draw_history([member.run.path for member in fit.members], fit.run.path / PLOT_FILE)
    except Exception as error:  # hours of training are worth more than a plot
        log.warning("%s was not drawn: %s", PLOT_FILE, " ".join(str(error).split()))


def _validation(model: ForecastModel | Ensemble, data: MarketDataModule) -> dict[str, float]:
    """Metrics of a model on the validation part."""
    rows, names = data.parts.validation, [target.name for target in data.targets]
    forecast = Predictor(model).forecast_rows(data.panel, rows)["y_pred"]
    return forecast_metrics(forecast, data.panel.labels[torch.from_numpy(rows)], data.targets[0].classes, names)


def _totals(summaries: Sequence[Mapping[str, Any]]) -> Totals:
    """What the fits of all members took together."""
    totals: Totals = {
        "epochs": sum(one["epochs"] for one in summaries),
        "seconds": sum(one["seconds"] for one in summaries),
        "windows_per_s": median(one["windows_per_s"] for one in summaries),
        "started": min(one["started"] for one in summaries),
        "ended": max(one["ended"] for one in summaries),
    }
    if peaks := [one["peak_memory_mib"] for one in summaries if "peak_memory_mib" in one]:
        totals["peak_memory_mib"] = max(peaks)
    return totals
