"""One trial of a sweep of agents: the training of `rl train`, judged on dates of the validation part.

Nothing here reads a price from the first test date on: the job that trials share is cut there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import gymnasium
import optuna
import pandas as pd
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from cnn_lstm.agent_sweeps.definition import DIRECTION, AgentPlan
from cnn_lstm.bounded import with_digest
from cnn_lstm.data.stored_tables import write_table
from cnn_lstm.files import make_folder, write_text_whole
from cnn_lstm.rl.agent_inputs import read_inputs, require_used
from cnn_lstm.rl.agents import play_agent
from cnn_lstm.rl.job import Job, JobConfig, job_of, parse_config
from cnn_lstm.rl.market import market_of
from cnn_lstm.rl.metrics import metrics_of
from cnn_lstm.rl.record import TrackedMetrics, recorded
from cnn_lstm.rl.track_records import joint_track_record
from cnn_lstm.rl.training import learn
from cnn_lstm.runs.messages import set_up_messages
from cnn_lstm.sweeps.callbacks import PRUNED_AT
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.record import Record

COMMAND = "rl sweep"
Env = gymnasium.Env[Any, Any]


class Markets(NamedTuple):
    """Where agents learn, and where they are scored: later dates.

    Attributes:
        learning: Where they learn.
        scoring: Where they are scored.
    """

    learning: Env
    scoring: Env


def markets_of(job: Job, share: float) -> Markets:
    """The two markets of a job.

    Args:
        job: The job, cut before the test part.
        share: See `Scoring`.

    Raises:
        ConfigError: E270, if a model was trained on dates that it describes there.
        DataError: E361 or E362, if one of them is too short.
    """
    part, length = job.config.market.part, job.config.market.episode_length
    if part == "train":
        markets = Markets(job.checked_env(part, length), job.env("validation"))
    else:
        data = market_of(job.env(part)).episodes.data
        dates = data.dates[data.last >= 0]
        cut = str(dates[int(len(dates) * (1 - share))])
        markets = Markets(job.checked_env(part, length, (None, cut)), job.env(part, None, (cut, None)))
    job.inputs.require_out_of_sample(markets.scoring, "validation")  # `market.in_sample` is about the learning alone
    return markets


def changed(job: Job, config: JobConfig) -> Job:
    """The same forecaster and prices for other settings.

    Args:
        job: The job, cut before the test part.
        config: The other settings.
    """
    before = job.config
    require_used(config.market, config.agent)
    config = replace(config, ckpt_digest=before.ckpt_digest, forecasts_digest=before.forecasts_digest)
    inputs = job.inputs
    seen = [(of.market.see, of.market.uncertainty, of.agent.encoder) for of in (config, before)]
    if seen[0] != seen[1]:
        last = job.prices["timestamp"].max()
        inputs = read_inputs(config.market, config.agent, job.checkpoint, job.prices, job.tables)
        inputs = inputs.before(last + pd.Timedelta(microseconds=1))
    return replace(job, config=config, inputs=inputs)


@dataclass(frozen=True)
class AgentResult:
    """What the agents of a trial have reached.

    Attributes:
        metrics: Each metric by its name.
        steps: How many steps they took, all together.
    """

    metrics: Mapping[str, float]
    steps: int

    @property
    def attributes(self) -> dict[str, int]:
        """What the study keeps of it next to the metrics."""
        return {"steps": self.steps}


class Looks(BaseCallback):
    """Looks at an agent at even distances while it learns, each time before it collects further steps.

    So an algorithm with long rollouts is looked at less often, and never twice without an update in between.

    Args:
        steps: Steps that it learns for.
        count: Number of looks, the one at the end included, which this callback leaves to its caller.
        look: Called with the number of the look and the agent; whether the training is to end.
    """

    def __init__(self, steps: int, count: int, look: Callable[[int, BaseAlgorithm], bool]) -> None:
        super().__init__()
        self._steps, self._count, self._look = steps, count, look
        self._latest = 0
        self.ended = False

    def _on_rollout_start(self) -> None:
        number = min(self.model.num_timesteps * self._count // self._steps, self._count - 1)
        if number > self._latest:
            self._latest = number
            self.ended = self._look(number, self.model)

    def _on_step(self) -> bool:
        return not self.ended


class Scores:
    """The track records of a trial's agents on the scoring dates, and what all agents so far are worth together.

    Args:
        env: The scoring market.
    """

    def __init__(self, env: Env) -> None:
        self._env, self._finished = env, list[pd.DataFrame]()

    def metrics(self, agent: BaseAlgorithm, finished: bool = False) -> dict[str, float]:
        """Metrics of the finished agents and this one; one that does nothing has a Sharpe ratio of 0.

        Args:
            agent: The agent.
            finished: Whether it has learnt enough, and counts from now on.
        """
        records = [*self._finished, play_agent(self._env, agent)]
        if finished:
            self._finished = records
        episodes = market_of(self._env).episodes
        known = asdict(metrics_of(episodes.data, episodes.terms, joint_track_record(records), "agents"))
        undefined = {"psr": 0.5}
        return {
            f"val_{name}": undefined.get(name, 0.0) if known[name] is None else float(known[name]) for name in DIRECTION
        }

    def write(self, run: RunFolder) -> None:
        """Writes the joint track record into the folder of the trial."""
        joint = joint_track_record(self._finished)
        write_table(run.validation, joint[["gross", "turnover", "net"]].reset_index())


class AgentFits:
    """Runs trials: trains the agents of all seeds, one after the other, and scores them together.

    Args:
        plan: The plan of the sweep.
    """

    def __init__(self, plan: AgentPlan) -> None:
        self.plan = plan
        self._job = job_of(parse_config(plan.argv, COMMAND), before_test=True)
        self._kept: tuple[Any, Markets] | None = None

    def __call__(self, trial: optuna.Trial, options: Sequence[str]) -> AgentResult:
        """Trains and scores.

        Args:
            trial: The trial.
            options: Options of `rl train` that only this trial has.
        """
        with (
            self.plan.log(trial.number).open("a", encoding="utf-8", buffering=1) as output,
            redirect_stdout(output),
            redirect_stderr(output),
        ):
            try:
                job = changed(self._job, parse_config([*self.plan.argv, *options], COMMAND))
                return self._trained(trial, job)
            finally:
                set_up_messages()  # our warnings go to the worker's own output again

    def _trained(self, trial: optuna.Trial, job: Job) -> AgentResult:
        markets, run = self._markets(job), self.plan.run(trial.number)
        make_folder(run.path)
        # whoever judges the agents of a trial on the test part pays for all trials too
        config = replace(job.config, trials=self.plan.n_trials).to_yaml(run.path)
        write_text_whole(run.path / "config.yaml", with_digest(config))
        with recorded(job.home, run.path, config, "fit", trial=True) as record:
            return Training(self.plan, trial, job, run, record, markets).result()

    def _markets(self, job: Job) -> Markets:
        """The markets of a trial, which those of another one with the same settings shares."""
        settings = (job.config.market, job.config.agent.encoder)
        if self._kept is None or self._kept[0] != settings:
            self._kept = (settings, markets_of(job, self.plan.scoring.share))
        return self._kept[1]


@dataclass(frozen=True)
class Training:
    """The training of one trial.

    Attributes:
        plan: The plan of the sweep.
        trial: The trial.
        job: Its job.
        run: Its folder.
        record: Its MLflow record.
        markets: Where its agents learn, and are scored.
    """

    plan: AgentPlan
    trial: optuna.Trial
    job: Job
    run: RunFolder
    record: Record
    markets: Markets

    def result(self) -> AgentResult:
        """Trains one agent after the other, until all have learnt or the pruner ends the trial."""
        settings, count, steps = self.job.learner, self.plan.scoring.evaluations, 0
        scores, metrics = Scores(self.markets.scoring), dict[str, float]()
        for number, seed in enumerate(settings.seeds):
            before = number * count

            def look(at: int, agent: BaseAlgorithm, before: int = before) -> bool:
                return self._reported(before + at, scores.metrics(agent))

            looks = Looks(settings.steps, count, look)
            writers = [TrackedMetrics(self.record, seed)]
            self.record.keep(learn(settings, self.markets.learning, seed, self.run.path, writers, looks))
            steps += looks.model.num_timesteps
            metrics = scores.metrics(looks.model, finished=True)
            if looks.ended or self._reported(before + count, metrics, last=seed == settings.seeds[-1]):
                break
        scores.write(self.run)
        return AgentResult(metrics, steps)

    def _reported(self, at: int, metrics: Mapping[str, float], last: bool = False) -> bool:
        """Reports a look; whether the trial is to end there. Optuna takes no reports with several objectives."""
        self.record.log(dict(metrics), at)
        if len(self.plan.definition.objectives) > 1:
            return False
        self.trial.report(metrics[self.plan.monitor.metric], at)
        if last or not self.trial.should_prune():
            return False
        self.trial.set_user_attr(PRUNED_AT, at)
        return True
