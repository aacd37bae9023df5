"""The kinds of files, how each is made and read, and what a reader may make of a damaged one.

A kind may be silent by one rule: a user writes it, and its format has no checksum. Text of that sort, and Parquet
without checksums of its pages, say nothing of a digit that became another digit.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from optuna.trial import TrialState

from cnn_lstm.data.mapped_files import State
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.data.sources.yahoo import read_entry, write_entry
from cnn_lstm.data.stored_tables import read_table
from cnn_lstm.evaluation.ledger import count_use, uses
from cnn_lstm.evaluation.loss_ledger import keep, kept_series
from cnn_lstm.files import read_json, write_json_whole
from cnn_lstm.inference.export import FORMATS
from cnn_lstm.inference.exported import read_export
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import Contract
from cnn_lstm.notebook.report import TestReport
from cnn_lstm.notebook.several import Repeat
from cnn_lstm.rl.agents import load_agent
from cnn_lstm.rl.job import Job, job_of, saved_config
from cnn_lstm.runs.forecast_cli import parsed
from cnn_lstm.runs.members import Member, read_report
from cnn_lstm.runs.walk_forward import read_sheet
from cnn_lstm.service.champion import write_champion
from cnn_lstm.service.contest import Contest, Decision
from cnn_lstm.service.live import read_live
from cnn_lstm.service.roll_plan import Plan as RollPlan
from cnn_lstm.sweeps.report import trials_csv
from cnn_lstm.sweeps.search import KEPT, SweepOptions
from cnn_lstm.sweeps.study import Plan, join, keep_checksum, require_study
from cnn_lstm.training.history import read_history
from cnn_lstm.training.run_folder import RunFolder
from cnn_lstm.training.tracking.delivery import Delivery
from cnn_lstm.training.tracking.journal import Journal
from cnn_lstm.training.tracking.parent import name_parent, parent_of
from tests import experiments
from tests.markets import market

Read = Callable[[Path], str]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: Its name.
        file: The file of a run, relative to the folder.
        read: What is read of the folder, as text that compares.
        grows: Whether lines are added to it: cut at the end of a line, it is the file of an earlier time.
        silent: Whether a flip can pass without a word: a user writes the file, in a format without checksums.
    """

    name: str
    file: str
    read: Read
    silent: bool = False
    grows: bool = False


def make(folder: Path) -> None:
    """A run with all that it writes, and the files around it."""
    config = experiments.experiment(folder, market(110, gaps=False))
    run = experiments.fit(config, folder / "run", "--mlflow", "true")
    experiments.predict(run)
    assert experiments.run("test", "--config", run / "config.yaml", "--ckpt_path", "best") == 0
    for number in range(8):
        count_use(run, "rows", f"model {number}")
        dates = pd.DatetimeIndex(pd.bdate_range("2020-01-01", periods=5 + 5 * number))
        keep(run, "series", f"model {number}", pd.DataFrame({"zero": 0.5 + np.arange(len(dates))}, dates))
    prices = pd.read_parquet(folder / "prices.parquet")
    prices.to_csv(folder / "prices.csv", index=False)
    predictor = Predictor.from_checkpoint(run / "checkpoints" / "best.ckpt")
    predictor.stream(prices).save(folder / "state.npz")
    best = run / "checkpoints" / "best.ckpt"
    for ending in FORMATS:
        assert experiments.run("export", "--ckpt_path", best, "--format", ending, "--output", f"model.{ending}") == 0
    _serve(folder, run)
    SweepOptions(n_trials=50, n_jobs=2, study_name="tested").write(folder)
    name_parent(folder)
    write_entry(folder / "entry", prices.head(50), {"symbol": "AAA"})
    _make_study(folder)
    _make_agents(run)


def _serve(folder: Path, run: Path) -> None:
    """What a model in service leaves: forecasts, looks, and the records of a roll."""
    assert experiments.run("update", run, "--since", "2010-05-20") == 0
    assert experiments.run("monitor", run, "--now", "2010-06-10", "--exit_zero") == 0
    rolled = folder / "rolled"
    shutil.copytree(run / "checkpoints", rolled / "step_0" / "checkpoints")
    write_champion(rolled, Member("step", 0, rolled, []), "2020-09-01")
    plan = RollPlan("3mo", "1mo", "1mo", "2020-05-01", None, 30, False)
    write_json_whole(rolled / "plan.json", plan.to_plain())
    contest = Contest("MSE", 30, 30, 0.5, 0.4, 0.2, 0.01, 0.01, wins=True, loses=False)
    decision = Decision(1, "2020-05-01", "2020-04-01", 0, True, "it is better", targets={"return_1": contest})
    decision.write(rolled)
    write_json_whole(folder / "repeat.json", {"seeds": [1, 2], "failed": [], "targets": {"return_1": {"claim": False}}})
    (folder / "panel").mkdir()
    State({"key": "abc"}, ["AAA"], 3, {"time": {"dtype": "int64", "rows": 5, "columns": 1}}).write(
        folder / "panel" / "panel.json"
    )


def _make_study(folder: Path) -> None:
    """Six trials of a sweep; their fits are made up."""
    study = join(_plan(folder))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat")
        for number in range(6):
            trial = study.ask()
            rate = trial.suggest_float("model.optimizer.lr", 1e-4, 1e-1, log=True)
            pooling = trial.suggest_categorical("model.network.pooling", ["mean", "last"])
            for epoch in range(3):
                trial.report(rate * (epoch + 1), epoch)
            trial.set_user_attr("best_epoch", len(pooling))
            keep_checksum(study, trial, [rate / 3] if number else None)
            study.tell(trial, rate / 3 if number else None, TrialState.COMPLETE if number else TrialState.PRUNED)


def _plan(folder: Path) -> Plan:
    described = {"space": {"model.optimizer.lr": {"float": [1e-4, 1e-1], "log": True}}}
    storage = f"sqlite:///{folder / 'study.db'}"
    return Plan(folder, ["--config", "x.yaml"], described, "abc", 6, storage, "tested", 7, 1, {})


def _make_agents(run: Path) -> None:
    small = ["--agent.steps", "16", "--agent.n_envs", "1", "--agent.seeds", "[0]", "--market.part", "validation"]
    sizes = ["--agent.arguments", "{n_steps: 8, batch_size: 8, n_epochs: 1}", "--market.episode_length", "8"]
    best = ["--ckpt_path", run / "checkpoints" / "best.ckpt"]
    assert experiments.run("rl", "train", *best, *small, *sizes, "--folder", "small") == 0


def _text(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def _checkpoint(folder: Path) -> str:
    state = read_checkpoint(folder / "run/checkpoints/best.ckpt")["state_dict"]
    return _text([(name, values.tolist()) for name, values in state.items()])


def _table(folder: Path) -> str:
    return _text(read_table(folder / "run" / "forecasts.parquet").to_csv())


def _config(folder: Path) -> str:
    config = folder / "run" / "config.yaml"
    return parsed(["predict", "--config", str(config), "--ckpt_path", "best"]).config_text


def _history(folder: Path) -> str:
    history = read_history(folder / "run")
    return _text([(name, values.tolist()) for name, values in history.metrics.items()])


def _journal(folder: Path) -> str:
    journal = Journal(folder / "run" / "tracking")
    journal.end_broken_line()  # as sync-tracking does
    events = list(journal.events())
    if not journal.has_ended():  # a cut looks as what a kill leaves
        logging.getLogger().warning("the record has no end: sync-tracking would end it as KILLED")
    return _text(events)


def _sent(folder: Path) -> str:
    return _text(Delivery.of_run(folder / "run", None).run_id)


def _prices(name: str) -> Read:
    def read(folder: Path) -> str:
        return _text(PriceFiles(str(folder / name)).load(None, None, None).to_csv())

    return read


def _state(folder: Path) -> str:
    predictor = Predictor.from_checkpoint(folder / "run/checkpoints/best.ckpt")
    stream = predictor.stream(state=folder / "state.npz")
    stream.save(folder / "again.npz")
    content = read_state_text(folder / "again.npz")
    (folder / "again.npz").unlink()
    return content


def read_state_text(path: Path) -> str:
    """The content of a state, without the zip around it."""
    with np.load(path) as arrays:
        return _text([(name, arrays[name].tolist()) for name in sorted(arrays)])


def _agent(folder: Path) -> str:
    job, env = _job(folder)
    weights = load_agent(folder / "run/rl/small/agent_seed0.zip", job.learner, env).policy.state_dict()
    return _text([(name, values.tolist()) for name, values in weights.items()])


@cache
def _job(folder: Path) -> tuple[Job, Any]:
    job = job_of(saved_config(folder / "run/rl/small", "rl evaluate"))
    return job, job.checked_env("test")


def _agents_config(folder: Path) -> str:
    return yaml.safe_dump(asdict(saved_config(folder / "run/rl/small", "rl evaluate")))


def _export(name: str) -> Read:
    def read(folder: Path) -> str:
        found = read_export(folder / name)
        return _text((found.content, sorted(found.description.items())))

    return read


def _study(folder: Path) -> str:
    require_study(_plan(folder))
    return trials_csv(join(_plan(folder)).trials, ["val_loss"])


def _settings(folder: Path) -> str:
    argv = dict.fromkeys(("space", "timeout", *KEPT))
    return _text(SweepOptions.of(argv | {"folder": folder, "resume": True}))


def _again(read: Callable[[Path], Any], what: str) -> Read:
    """A file that is made again where it is damaged, without a word."""

    def text(folder: Path) -> str:
        found = read(folder)
        return f"refused: {what}" if found is None else _text(repr(found))

    return text


def _champion(folder: Path) -> str:
    contract, state = Contract.of(read := read_checkpoint(folder / "rolled/champion.ckpt")), read["state_dict"]
    return _text([contract.expires, *((name, values.tolist()) for name, values in state.items())])


def _panel(folder: Path) -> str:
    state = State.read(folder / "panel/panel.json")
    return "refused: built again" if state is None else _text(vars(state))


def _losses(folder: Path) -> str:
    return _text(kept_series(folder / "test_losses.jsonl", "series").to_csv())


def _yaml(folder: Path) -> str:
    return parsed(["fit", "--config", str(folder / "experiment.yaml")]).config_text


KINDS = (
    Kind("checkpoint", "run/checkpoints/best.ckpt", _checkpoint),
    Kind(
        "table of ours",
        "run/forecasts.parquet",
        lambda folder: _text(read_table(folder / "run/forecasts.parquet").to_csv()),
    ),
    Kind("stream state", "state.npz", _state),
    Kind("journal.jsonl", "run/tracking/journal.jsonl", _journal, grows=True),
    Kind("sent.json", "run/tracking/sent.json", _sent),
    Kind("ledger", "test_uses.jsonl", lambda folder: _text(uses(folder / "test_uses.jsonl", "rows")), grows=True),
    Kind("losses", "test_losses.jsonl", _losses, grows=True),
    Kind("live.parquet", "run/live.parquet", lambda folder: _text(read_live(folder / "run").to_csv())),
    Kind("looks", "run/monitor.json", lambda folder: _text(read_json(folder / "run/monitor.json", "look at a run"))),
    Kind("plan of a roll", "rolled/plan.json", lambda folder: repr(RollPlan.read(folder / "rolled"))),
    Kind(
        "decision of a roll", "rolled/decisions/step_1.json", lambda folder: repr(Decision.read(folder / "rolled", 1))
    ),
    Kind("champion of a roll", "rolled/champion.ckpt", _champion),
    Kind("repeat.json", "repeat.json", lambda folder: _text(Repeat(folder).result)),
    Kind("report, in a notebook", "run/report.json", lambda folder: _text(TestReport.from_run(folder / "run").report)),
    Kind("panel in files", "panel/panel.json", _panel),
    Kind("config.yaml", "run/config.yaml", _config),
    Kind("metrics.csv", "run/metrics.csv", _history),
    Kind("its checksums", "run/.metrics.csv.crc32", _history),
    Kind("summary.json", "run/summary.json", lambda folder: _text(RunFolder(folder / "run").read_summary())),
    Kind("report.json", "run/report.json", _again(lambda folder: read_report(folder / "run"), "tested again")),
    Kind("model_info.json", "run/model_info.json", lambda folder: _text(read_sheet(folder / "run"))),
    Kind("agent", "run/rl/small/agent_seed0.zip", _agent),
    Kind("agents' config", "run/rl/small/config.yaml", _agents_config),
    *(Kind(f"export {ending}", f"model.{ending}", _export(f"model.{ending}")) for ending in FORMATS),
    Kind("its description", "model.onnx.json", _export("model.onnx")),
    Kind("study", "study.db", _study),
    Kind("sweep settings", "settings.json", _settings),
    Kind("parent_run.json", "parent_run.json", lambda folder: _text(parent_of(folder / "run"))),
    Kind("cache", "entry.parquet", _again(lambda folder: read_entry(folder / "entry"), "fetched again")),
    Kind("its digest", "entry.json", _again(lambda folder: read_entry(folder / "entry"), "fetched again")),
    Kind("user's YAML", "experiment.yaml", _yaml, silent=True),
    Kind("prices.csv", "prices.csv", _prices("prices.csv"), silent=True),
    Kind("prices.parquet", "prices.parquet", _prices("prices.parquet"), silent=True),
)
