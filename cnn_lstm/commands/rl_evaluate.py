"""`cnn-lstm rl evaluate`: what agents earn after costs on dates that nothing was fitted to, beside simple rules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cnn_lstm.errors import ConfigError
from cnn_lstm.evaluation.ledger import count_use, rows_key
from cnn_lstm.evaluation.report import plain_values
from cnn_lstm.files import write_text_whole, write_whole
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.rl.agents import agent_file, load_agent, play_agent
from cnn_lstm.rl.bars import Bars, Floats
from cnn_lstm.rl.job import Job, job_of, saved
from cnn_lstm.rl.judging import at_random, claim, laddered, metrics_of, rule, together
from cnn_lstm.rl.market import MarketEnv
from cnn_lstm.rl.record import keep, recorded
from cnn_lstm.rl.report import TOGETHER, evaluation_page, evaluation_text
from cnn_lstm.runs.config import is_of_fit, read_config


def run(words: list[str]) -> None:
    """Judges the agents of a folder on the test part of their forecaster.

    Args:
        words: The folder.
    """
    folder = _folder_of(words)
    job = job_of(saved(folder, "rl evaluate"))
    files = [agent_file(folder, seed) for seed in job.agent.seeds]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ConfigError(f"no {', '.join(missing)}", str(folder), "go on with rl train --resume --folder", code=273)
    env = job.unseen_env("test")
    agents = {
        f"seed {seed}": play_agent(env, load_agent(file, job.learner, env))
        for seed, file in zip(job.agent.seeds, files, strict=True)
    }
    uses = _count(job, files)
    market: MarketEnv = env.unwrapped  # type: ignore[assignment]
    rules = _simple_rules(market, job)
    joined = together(list(agents.values()))
    report = _report(market, agents, joined, rules, uses["models"])
    report |= {
        "test_rows_used": uses,
        "in_sample_rows": job.in_sample_rows(),
        "settings": {"market": asdict(job.market), "agent": asdict(job.agent)},
    }
    with recorded(job.home, folder, (folder / "config.yaml").read_text(encoding="utf-8"), "evaluate") as tracker:
        files = _write(folder, report, {**agents, TOGETHER: joined, **rules})
        own = report["together"]
        metrics = {f"test_{name}": own[name] for name in ("net_annual_return", "sharpe", "max_drawdown")}
        keep(tracker, plain_values(metrics | {"test_evidence": float(report["claim"]["evidence"])}), *files)


def _folder_of(words: list[str]) -> Path:
    """The one word of the command, a folder of agents.

    Raises:
        ConfigError: E225, if there are other words; E273, if it is no folder of agents.
    """
    option = next((word for word in words if word.startswith("-")), None)
    if option:
        fix = "it takes the folder alone; all settings are those that the agents learnt with"
        raise ConfigError(f"unknown option {option}", "rl evaluate", fix, code=225)
    if len(words) != 1:
        what = "several folders" if words else "no agents of rl train"
        raise ConfigError(what, f"rl evaluate {' '.join(words)}".strip(), "give one folder of rl train", code=273)
    folder = Path(words[0])
    keys = read_config(folder / "config.yaml")
    if is_of_fit(keys):
        what = "a forecaster's run, no agents of rl train"
        raise ConfigError(what, str(folder), _agents_in(folder / "rl") or "train some first: rl train", code=273)
    if "agent" not in keys or "ckpt_path" not in keys:
        fix = _agents_in(folder) or "give the folder that rl train printed"
        raise ConfigError("no agents of rl train", str(folder), fix, code=273)
    return folder


def _agents_in(folder: Path) -> str:
    """Advice that names the agents within a folder; nothing without any."""
    found = sorted(file.parent for file in folder.glob("*/config.yaml") if "agent" in read_config(file))
    return f"its agents are in {', '.join(map(str, found))}" if found else ""


def _count(job: Job, files: Sequence[Path]) -> dict[str, int]:
    """Counts this use of the test rows among those of `test`."""
    days = job.data.panel.time[job.data.parts.test]
    first, last = str(days.min())[:10], str(days.max())[:10]
    rows = rows_key(job.data.fingerprint, first, last, [target.name for target in job.data.targets])
    for file in files:  # each agent is a model that was judged on them
        uses = count_use(job.home.path, rows, hashlib.sha256(file.read_bytes()).hexdigest())
    return asdict(uses)


def _simple_rules(market: MarketEnv, job: Job) -> dict[str, pd.DataFrame]:
    """Bars of the rules that an agent has to beat, on the same bars under the same delay and costs."""
    bars, rules = market.episodes.bars, market.episodes.rules
    part = 1 / len(bars.symbols)
    found = {
        "buy and hold": rule(bars, rules, lambda _: np.full(len(bars.symbols), part)),
        "flat": rule(bars, rules, lambda _: np.zeros(len(bars.symbols))),
    }
    traded = next((target for target in job.data.targets if target.traded), None)
    if traded is not None:
        signs = _signs(job, bars, traded.name, max(traded.classes - 1, 0) / 2)
        held = laddered(bars, signs, traded.horizon)
        found[f"sign of {traded.name}"] = rule(bars, rules, lambda at: held[at] * part)
    return found


def _signs(job: Job, bars: Bars, target: str, middle: float) -> Floats:
    """Sign of the checkpoint's own forecasts on the dates of a market, (D, S)."""
    table = Predictor.from_checkpoint(job.checkpoint).predict(job.data.prices)
    table = table[table["target"] == target]
    wide = table.pivot(index="as_of", columns="symbol", values="y_pred") - middle
    dates = pd.DatetimeIndex(bars.dates, tz="UTC")
    known = wide.reindex(index=dates, columns=list(bars.symbols)).fillna(0.0)
    return np.asarray(np.sign(known.to_numpy(dtype=np.float64)))


def _report(
    market: MarketEnv,
    agents: Mapping[str, pd.DataFrame],
    joined: pd.DataFrame,
    rules: Mapping[str, pd.DataFrame],
    trials: int,
) -> dict[str, Any]:
    bars, costs = market.episodes.bars, market.episodes.rules
    seeds = {name: metrics_of(bars, costs, played, name, trials) for name, played in agents.items()}
    own = metrics_of(bars, costs, joined, TOGETHER, trials)
    chance = [
        metrics["net"].mean() * own["periods_per_year"] for metrics in at_random(bars, costs, list(agents.values()))
    ]
    return {
        "symbols": list(bars.symbols),
        "bars": len(joined),
        "first": str(joined.index[0]),
        "last": str(joined.index[-1]),
        "cost_bp": costs.cost * 1e4,
        "trials": trials,
        "claim": claim(joined, rules, own),
        "agents": seeds,
        "together": own,
        "rules": {name: metrics_of(bars, costs, played, name) for name, played in rules.items()},
        "random": {"net_annual_return": [float(value) for value in np.quantile(chance, (0.05, 0.5, 0.95))]},
    }


def _write(folder: Path, report: dict[str, Any], played: Mapping[str, pd.DataFrame]) -> list[Path]:
    """Writes metrics, bars, text and page, and prints what was found; returns the files."""
    plain = plain_values(report)
    columns = [frame[["gross", "turnover", "net"]].assign(who=name) for name, frame in played.items()]
    bars = pd.concat(columns).reset_index()
    text = evaluation_text(plain)
    page = evaluation_page(plain, bars.pivot(index="date", columns="who", values="net")[list(played)], folder.name)
    files = [folder / name for name in ("bars.parquet", "evaluation.txt", "report.html", "evaluation.json")]
    write_whole(files[0], lambda partial: bars.to_parquet(partial, index=False))
    write_text_whole(files[1], text)
    write_text_whole(files[2], page)
    write_text_whole(files[3], json.dumps(plain, indent=2, allow_nan=False) + "\n")
    print(text, end="")
    print(f"evaluation: {files[3]}\nreport: {files[2]}")
    return files
