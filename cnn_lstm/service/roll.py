"""Refits as time goes on, and lets a new model take over only where it has shown on unseen dates that it is better.

All state is in the folder: the fits, one file per decision, and the champion. So a roll that was killed, or that is
started again when more prices are there, does what is missing and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.muted_warnings import muted_warnings
from cnn_lstm.data.predictions import ahead
from cnn_lstm.data.sources.base import stamp
from cnn_lstm.data.splits import day
from cnn_lstm.documents import hand_over
from cnn_lstm.errors import ConfigError, require
from cnn_lstm.evaluation.report import json_values
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.evaluation.verdict import dates_needed
from cnn_lstm.files import write_json_whole, write_text_whole
from cnn_lstm.runs.argv import word_of
from cnn_lstm.runs.cluster import Cluster
from cnn_lstm.runs.forecast_cli import ForecastCLI
from cnn_lstm.runs.members import Member, leave_with, train_all
from cnn_lstm.runs.messages import progress
from cnn_lstm.runs.multi_run import MultiRunCommand
from cnn_lstm.service.champion import Registry, write_champion
from cnn_lstm.service.champion_health import champion_health
from cnn_lstm.service.contest import Decision, contests, decide, first_decision
from cnn_lstm.service.fitted import FittedModels
from cnn_lstm.service.roll_plan import FILE, Plan, Step, Words, expiry_of, next_date, steps_due
from cnn_lstm.service.walk_result import does_it_pay, pay_text, plain_result, steps_text, write_walk
from cnn_lstm.training.run_folder import empty_run_removed
from cnn_lstm.training.tracking.parent import name_parent

ROLL = MultiRunCommand(
    command="roll",
    reserved=("--data.split", "--data.end", "--run_dir", "--ckpt_path", "--expires", "--weights_from"),
)


@dataclass(frozen=True)
class Roll:
    """A roll at work.

    Attributes:
        folder: Its folder.
        plan: What stays the same in all steps.
        steps: The steps that are due.
        members: The run of each.
        data: The data module of the whole prices, set up.
        settings: Evaluation settings.
    """

    folder: Path
    plan: Plan
    steps: Sequence[Step]
    members: Sequence[Member]
    data: MarketDataModule
    settings: Evaluation

    def undecided(self) -> list[int]:
        """Numbers of the steps that were not decided yet."""
        return [step.number for step in self.steps if Decision.read(self.folder, step.number) is None]


@empty_run_removed()
def roll(
    argv: Sequence[str],
    words: Words,
    jobs: int | None,
    folder: Path | None,
    resume: bool = False,
    address: str | None = None,
) -> None:
    """Does the steps of a roll that are due, judges what was forecast so far, and keeps the champion.

    Args:
        argv: Arguments of `fit`.
        words: What the command line says of the roll.
        jobs: Fits at a time; None for one, or as many as the cluster has room for. With a warm start it is one.
        folder: Folder of the roll; a new one by default.
        resume: Whether to go on in the folder, where a roll was begun there.
        address: Address of a Ray cluster; None to train on this machine.

    Raises:
        ConfigError: If an option is wrong, before anything is trained.
        SystemExit: With the exit code of the first fit that failed.
    """
    # the same line begins, and goes on the next evening
    resume = resume and (folder is None or ROLL.kept_config(folder).is_file())
    argv = ROLL.argv_of_fit(argv, jobs, folder, resume)
    cli = ROLL.parsed(argv)
    cluster = Cluster.of(address, cli.command_config.trainer)
    work = _prepared(cli, argv, words, folder, resume)
    with ROLL.locked(work.folder) as lock:
        plan = {FILE: lambda: write_json_whole(work.folder / FILE, work.plan.to_plain())}
        ROLL.require_same_configuration(work.folder, cli.config_text, plan)
        name_parent(work.folder)
        progress(f"roll folder: {work.folder}")
        failed = _train(work, jobs, lock, cluster)
        leave_with(work.members, failed, new=None if resume else work.folder)
        _conclude(work, cli)


def _prepared(cli: ForecastCLI, argv: Sequence[str], words: Words, folder: Path | None, resume: bool) -> Roll:
    """What is due; refuses what is wrong before anything is written."""
    data = cli.build_data()
    with muted_warnings():  # the fits warn for themselves
        data.setup()
    plan = _plan(words, data, folder if resume else None)
    what, fix = "an ensemble has no weights for a warm start", "leave out --warm_start, or --ensemble"
    require(not (plan.warm_start and cli.makes_ensemble), what, "--warm_start", fix, code=237)
    steps = steps_due(plan, data.times, None if words.until is None else stamp(words.until, "--until"))
    new = [step for step in steps if folder is None or Decision.read(folder, step.number) is None]
    _require_judgeable(plan, new, data)
    folder = folder or ROLL.new_folder(cli)
    members = [_member(plan, step, data, folder, _argv_of_all(cli, argv)) for step in steps]
    return Roll(folder, plan, steps, members, data, cli.evaluation)


def _plan(words: Words, data: MarketDataModule, folder: Path | None) -> Plan:
    """The plan of the folder where a roll goes on; else a new one."""
    if folder is None:
        return Plan.of(words, data.parts.boundaries, data.times)
    plan = Plan.read(folder)
    plan.require_same(words, folder)
    return plan


def _require_judgeable(plan: Plan, steps: Sequence[Step], data: MarketDataModule) -> None:
    """Refuses steps on which no challenger could win, and parts that a fit could not be trained on, before any is."""
    needed = max(dates_needed(target.horizon) for target in data.targets)
    decisions = data.panel.time[data.windows]
    ends = ahead(data.panel, data.windows, data.bound.reach)
    for step in steps:
        judged = (decisions >= step.judged_from) & (ends < step.date)  # one that is not known is not before anything
        dates = len(np.unique(decisions[judged]))
        if dates < needed:
            what = f"{dates} dates with a known outcome to judge the step of {day(step.date)} on, {needed} are needed"
            raise ConfigError(what, f"--judge_on {plan.judge_on}", "give a longer --judge_on", code=237)
    with muted_warnings():
        for step in steps:
            data.require_sound(data.parts_of(step.split_until_date()))


def _argv_of_all(cli: ForecastCLI, argv: Sequence[str]) -> list[str]:
    """Arguments of `fit` that all steps share: dates and registration are the roll's."""
    config = cli.command_config
    short = [f"--data.{name}=null" for name in ("validation", "test") if config.data.get(name) is not None]
    return [*argv, *short, "--register_model=null"]


def _member(plan: Plan, step: Step, data: MarketDataModule, folder: Path, argv: Sequence[str]) -> Member:
    """The run of a step: on the prices before its date alone."""
    own = [
        f"--data.end={step.date}",
        f"--data.split={json.dumps(step.split().spec())}",
        f"--expires={expiry_of(plan, step, data.times)}",
    ]
    if plan.warm_start and step.number:
        before = Member("step", step.number - 1, folder, []).run.checkpoints / "best.ckpt"
        own.append(f"--weights_from={word_of(before)}")
    return Member("step", step.number, folder, [*argv, *own], tested=False)


def _train(work: Roll, jobs: int | None, lock: int | None, cluster: Cluster | None) -> dict[int, int]:
    """Trains what is missing; with a warm start one after the other."""
    missing = [work.members[number] for number in work.undecided()]
    groups = [[member] for member in missing] if work.plan.warm_start else [missing] if missing else []
    for group in groups:
        if failed := train_all(group, jobs, lock, cluster=cluster):
            return failed
    return {}


def _decided(work: Roll, models: FittedModels) -> list[Decision]:
    """The decision of each step; those that are missing are made, in their order."""
    decisions: list[Decision] = []
    for step in work.steps:
        decision = Decision.read(work.folder, step.number)
        if decision is None:
            before = decisions[-1].champion if decisions else None
            decision = _decision(work, models, step, before)
            decision.write(work.folder)
            progress(f"step {step.number}, {day(step.date)}: {decision.reason}")
        decisions.append(decision)
    return decisions


def _decision(work: Roll, models: FittedModels, step: Step, before: int | None) -> Decision:
    if before is None:
        return first_decision(step.date, step.judged_from)
    challenger, champion = (models.plain(k, step.judged_from, step.date) for k in (step.number, before))
    targets = contests(challenger, champion, step.date, work.settings)
    began = work.steps[before]
    chosen = began.date if before else began.judged_from  # nothing has chosen the first model
    health = champion_health(models.judged(before), chosen, step.date, work.settings.seed)
    return decide(step.number, step.date, step.judged_from, before, targets, health)


def _conclude(work: Roll, cli: ForecastCLI) -> None:
    """Decides, writes the champion and the walk's result, and prints them."""
    models = FittedModels(work.members, work.data, work.settings)
    decisions = _decided(work, models)
    last, champion = work.steps[-1], work.members[decisions[-1].champion]
    expires = str(expiry_of(work.plan, last, work.data.times))
    file = write_champion(work.folder, champion, expires)
    config = cli.command_config
    if config.register_model and config.mlflow:
        registry = Registry(config.register_model, config.tracking_uri)
        registry.announce(work.folder, champion, work.members[-1], expires)
    judgement = write_walk(work.folder, models, work.steps, decisions, work.settings)
    compared = does_it_pay(models, work.steps, decisions, work.settings)
    text = f"{steps_text(work.steps, decisions)}\n\n{pay_text(compared, decisions)}\n"
    write_text_whole(work.folder / "roll.txt", text)
    result = json_values(plain_result(compared, decisions))
    write_json_whole(work.folder / "roll.json", result)
    hand_over(result)
    print("" if judgement is None else f"{judgement.text}\n", text, sep="", end="")
    due = next_date(work.plan, last, work.data.times)
    print(f"champion: {champion.name}, {file}, until {expires[:10]}\nnext step: {day(due)}\nroll folder: {work.folder}")
    if judgement is not None:
        print(f"report: {judgement.page}")
