"""Judgement of agents: what they earn after costs on dates that nothing was fitted to, next to simple rules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cnn_lstm.data.stored_tables import write_table
from cnn_lstm.errors import ConfigError
from cnn_lstm.evaluation.json_types import Uses
from cnn_lstm.evaluation.ledger import count_use, rows_key
from cnn_lstm.evaluation.report import json_values
from cnn_lstm.files import write_text_whole
from cnn_lstm.hints import first_names
from cnn_lstm.locks import take_folder
from cnn_lstm.rl.agent_inputs import predictor_of
from cnn_lstm.rl.agents import agent_file, load_agent, play_agent
from cnn_lstm.rl.episodes import Episodes
from cnn_lstm.rl.job import Job, job_of, saved_config
from cnn_lstm.rl.market import market_of
from cnn_lstm.rl.market_data import Floats, MarketData
from cnn_lstm.rl.metrics import claim_of, metrics_of
from cnn_lstm.rl.record import recorded
from cnn_lstm.rl.report import ALL_SEEDS, FORECASTS, EvaluationReport, evaluation_page, evaluation_text
from cnn_lstm.rl.track_records import at_random_times, joint_track_record, laddered, track_record_of_rule
from cnn_lstm.runs.config import is_of_fit, read_config

Records = Mapping[str, pd.DataFrame]  # track records by the name of the agent or rule


class EvaluationFiles(NamedTuple):
    """The files of an evaluation, in the folder of the agents.

    Attributes:
        returns: Returns of each bar, from which the returns of the report can be recomputed.
        text: The evaluation for a terminal.
        page: The evaluation for a browser.
        report: The evaluation as plain values, see `EvaluationReport`.
    """

    returns: Path
    text: Path
    page: Path
    report: Path


FILES = EvaluationFiles(Path("bars.parquet"), Path("evaluation.txt"), Path("report.html"), Path("evaluation.json"))


def evaluate(folder: Path) -> EvaluationFiles:
    """Judges the agents of a folder on the test part of their forecaster, and counts this use of it.

    Args:
        folder: A folder of `rl train`.

    Returns:
        The files that are written.

    Raises:
        ConfigError: E270, if a model was trained on test dates; E273, if the folder is not one of `rl train`, or agents
            are missing or damaged; E243, if another command writes there.
    """
    _require_agents(folder)
    with take_folder(folder, "rl evaluate", "agents"):
        return _evaluated(folder)


def _evaluated(folder: Path) -> EvaluationFiles:
    """Plays the agents, and writes what they earn."""
    job = job_of(saved_config(folder, "rl evaluate"))
    seeds = job.config.agent.seeds
    models = [agent_file(folder, seed) for seed in seeds]
    missing = [file.name for file in models if not file.is_file()]
    if missing:
        fix = "go on with rl train --resume --folder"
        raise ConfigError(f"no {', '.join(missing)}", str(folder), fix, code=273)
    env = job.checked_env("test")
    agents = {
        f"seed {seed}": play_agent(env, load_agent(file, job.learner, env))
        for seed, file in zip(seeds, models, strict=True)
    }
    uses = _count_uses(job, models)
    episodes = market_of(env).episodes
    joint, rules = joint_track_record(list(agents.values())), _simple_rules(episodes, job)
    report = _report(episodes, job, uses, agents, joint, rules)
    files = EvaluationFiles(*(folder / name for name in FILES))
    with recorded(job.home, folder, (folder / "config.yaml").read_text(encoding="utf-8"), "evaluate") as record:
        _write(files, report, {**agents, ALL_SEEDS: joint, **rules})
        metrics = {name: getattr(report.together, name) for name in ("net_annual_return", "sharpe", "max_drawdown")}
        metrics["evidence"] = float(report.claim.evidence)
        record.log({f"test_{name}": value for name, value in metrics.items()})
        record.keep(*files)
    return files


def _require_agents(folder: Path) -> None:
    """Refuses a folder that is not one of `rl train`, and names the agents within it."""
    keys = read_config(folder / "config.yaml")
    if is_of_fit(keys):
        what = "a forecaster's run, not agents of rl train"
        raise ConfigError(what, str(folder), _agents_in(folder, "rl/") or "train some first: rl train", code=273)
    if "agent" not in keys or "ckpt_path" not in keys:
        fix = _agents_in(folder) or "give the folder that rl train printed"
        raise ConfigError("no agents of rl train", str(folder), fix, code=273)


def _agents_in(folder: Path, below: str = "") -> str:
    """Advice that names the folders of agents within a folder; empty without any."""
    files = sorted(file for file in folder.glob(f"{below}*/config.yaml") if "agent" in read_config(file))
    names = [file.parent.relative_to(folder).as_posix() for file in files]
    return f"give one of its folders of agents: {first_names(names, 5)}" if names else ""


def _count_uses(job: Job, models: Sequence[Path]) -> Uses:
    """Counts this use of the test rows among the uses by `test`: each agent is one model."""
    days = job.data.panel.time[job.data.parts.test]
    first, last = str(days.min())[:10], str(days.max())[:10]
    rows = rows_key(job.data.fingerprint, first, last, [target.name for target in job.data.targets])
    return [count_use(job.home.path, rows, hashlib.sha256(file.read_bytes()).hexdigest()) for file in models][-1]


def _simple_rules(episodes: Episodes, job: Job) -> dict[str, pd.DataFrame]:
    """Track records of the rules that an agent has to beat, in the same market under the same delay and costs."""
    data, terms, part = episodes.data, episodes.terms, 1 / len(episodes.data.symbols)
    rules = {
        "buy and hold": track_record_of_rule(data, terms, lambda _: np.full(len(data.symbols), part)),
        "flat": track_record_of_rule(data, terms, lambda _: np.zeros(len(data.symbols))),
    }
    traded = next((target for target in job.data.targets if target.traded), None)
    if traded is not None:
        signs = _signs(job, data, traded.name, max(traded.classes - 1, 0) / 2)
        held = laddered(data, signs, traded.horizon)
        rules[f"{FORECASTS}{traded.name}"] = track_record_of_rule(data, terms, lambda at: held[at] * part)
    return rules


def _signs(job: Job, data: MarketData, target: str, middle: float) -> Floats:
    """Sign of the checkpoint's forecasts, less the middle class, on the dates of a market, (D, S)."""
    table = predictor_of(job.checkpoint, job.tables).predict(job.data.prices)
    table = table[table["target"] == target]
    wide = table.pivot(index="as_of", columns="symbol", values="y_pred") - middle
    dates = pd.DatetimeIndex(data.dates, tz="UTC")
    known = wide.reindex(index=dates, columns=list(data.symbols)).fillna(0.0)
    return np.asarray(np.sign(known.to_numpy(dtype=np.float64)))


def _report(
    episodes: Episodes, job: Job, uses: Uses, agents: Records, joint: pd.DataFrame, rules: Records
) -> EvaluationReport:
    """All metrics, and the claim; the agents pay for all models that were judged on these rows, and for a sweep."""
    data, terms, trials = episodes.data, episodes.terms, uses["models"] + job.config.trials - 1
    together = metrics_of(data, terms, joint, ALL_SEEDS, trials)
    periods = np.nan if together.periods_per_year is None else together.periods_per_year
    random = at_random_times(data, terms, list(agents.values()))
    quantiles = np.quantile([record["net"].mean() * periods for record in random], (0.05, 0.5, 0.95))
    return EvaluationReport(
        symbols=list(data.symbols),
        bars=len(joint),
        first=str(joint.index[0]),
        last=str(joint.index[-1]),
        cost_bp=terms.cost * 1e4,
        trials=trials,
        claim=claim_of(joint, rules, together),
        agents={name: metrics_of(data, terms, record, name, trials) for name, record in agents.items()},
        together=together,
        rules={name: metrics_of(data, terms, record, name) for name, record in rules.items()},
        random={"net_annual_return": json_values(quantiles)},
        test_rows_used=uses,
        in_sample_rows=job.inputs.in_sample_rows(job.env(job.config.market.part)),
        dates_without_forecast=episodes.left_out,
        settings={"market": job.config.market, "agent": job.config.agent},
    )


def _write(files: EvaluationFiles, report: EvaluationReport, records: Records) -> None:
    """Writes returns, text, page and report; `records` are the track records of agents and rules, by name."""
    columns = [record[["gross", "turnover", "net"]].assign(who=name) for name, record in records.items()]
    returns = pd.concat(columns).reset_index()
    net = returns.pivot(index="date", columns="who", values="net")[list(records)]
    write_table(files.returns, returns)
    write_text_whole(files.text, evaluation_text(report))
    write_text_whole(files.page, evaluation_page(report, net, files.page.parent.name))
    plain = json_values(asdict(report))
    write_text_whole(files.report, json.dumps(plain, indent=2, allow_nan=False) + "\n")
