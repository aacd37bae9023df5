"""What the verdict of `test` says where the truth is known: nothing on random walks, skill on planted signals.

A script too: `python -m tests.validity.controls --folder controls` prints a line a market and the counts, with
`--walk_forward` those of stitched folds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from cnn_lstm.evaluation.json_types import Report, TargetReport
from cnn_lstm.evaluation.report import evaluate
from tests.experiments import run, spec
from tests.markets import bars_of, days

SHARE = 0.3  # of the planted return's variance that the best forecast explains
START = "1990-01-01"
CONFIGS = Path(__file__).parents[2] / "configs"


@dataclass(frozen=True)
class Outcome:
    """What `test` said of one market.

    Attributes:
        evidence: The verdict.
        reason: Its sentence.
        r2: R2 of the model against the training mean, on the test rows.
        oracle_r2: The same of the best forecast that the market allows.
        ic: Correlation of forecast and truth.
    """

    evidence: bool
    reason: str
    r2: float
    oracle_r2: float
    ic: float


def random_walk(seed: int, rows: int = 1200) -> pd.DataFrame:
    """A price without any memory but in its volatility: GARCH(1,1) with t-distributed shocks, 1 % a day."""
    random = np.random.default_rng(seed)
    shocks = random.standard_t(4, rows) / np.sqrt(2.0)
    variance, returns = 1.0, np.zeros(rows)
    for row in range(rows):
        returns[row] = np.sqrt(variance) * shocks[row]
        variance = 0.05 + 0.08 * min(returns[row] ** 2, 25.0) + 0.87 * variance
    return bars_of(100 * np.exp(0.01 * np.cumsum(returns)), days(rows, START), "WALK", seed + 1)


def planted(seed: int, rows: int = 3000, symbols: tuple[str, ...] = ("AAA", "BBB")) -> pd.DataFrame:
    """Markets whose return after the next one follows the product of the last two: nothing that a line could see."""
    tables = [_planted(seed * 100 + number, rows, symbol) for number, symbol in enumerate(symbols)]
    return pd.concat(tables, ignore_index=True)


def _planted(seed: int, rows: int, symbol: str) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    returns = random.normal(0, 1, rows)
    for row in range(3, rows):
        returns[row] = np.sqrt(SHARE) * signal(returns, row - 2) + np.sqrt(1 - SHARE) * returns[row]
    return bars_of(100 * np.exp(0.01 * np.cumsum(returns)), days(rows, START), symbol, seed + 1)


def signal(returns: NDArray[np.float64], row: int) -> float:
    """Product of the returns of a row and the one before, each cut at two standard deviations; variance near 1."""
    now, before = np.clip(returns[row - 1 : row + 1], -2.0, 2.0)
    return float(now * before / 0.92)


def straight(seed: int, rows: int = 3000, share: float = 0.05) -> pd.DataFrame:
    """A market whose return after the next one follows the last: a line explains `share` of its variance."""
    random = np.random.default_rng(seed)
    returns = random.normal(0, 1, rows)
    for row in range(2, rows):
        returns[row] = np.sqrt(share) * returns[row - 2] + np.sqrt(1 - share) * returns[row]
    return bars_of(100 * np.exp(0.01 * np.cumsum(returns)), days(rows, START), "LINE", seed + 1)


def oracle(table: pd.DataFrame) -> pd.Series:
    """Best forecast of the next-day return behind a delay of one day, for each row of a planted market."""
    returns = np.log(table["close"]).groupby(table["symbol"]).diff() * 100
    cut = returns.clip(-2.0, 2.0)
    return pd.Series(0.01 * np.sqrt(SHARE) * cut * cut.groupby(table["symbol"]).shift() / 0.92)


def judge(
    folder: Path, table: pd.DataFrame, seed: int, settings: Mapping[str, Any] | None = None, **data: Any
) -> Outcome:
    """Fits, tests, and reads the report.

    Args:
        folder: Where to work.
        table: Prices.
        seed: Seed of the fit.
        settings: Sections of the configuration that are not the default ones.
        data: Keys of the section `data` to set next to the source.
    """
    config, run_dir = configured(folder, table, seed, settings, **data), folder / "run"
    assert run("fit", "--config", config, "--run_dir", run_dir) == 0
    assert run("test", "--config", run_dir / "config.yaml", "--ckpt_path", "best") == 0
    return outcome(run_dir, table)


def walk(folder: Path, table: pd.DataFrame, seed: int, folds: int = 3, **data: Any) -> Outcome:
    """`judge` of the stitched rows of a walk-forward."""
    config = configured(folder, table, seed, **data)
    assert run("walk-forward", "--config", config, "--folds", folds, "--n_jobs", 2, "--folder", folder / "walk") == 0
    return outcome(folder / "walk", table)


def null_of(folder: Path, seed: int) -> Outcome:
    """`judge` of a random walk."""
    return judge(folder, random_walk(seed), seed)


def signal_of(folder: Path, seed: int) -> Outcome:
    """`judge` of a planted signal."""
    return judge(folder, planted(seed), seed, window=20)


def line_of(folder: Path, seed: int) -> dict[str, bool]:
    """Whether the model, and ridge in its place, have evidence of skill over naive forecasts on a `straight` market.

    The settings are those of configs/volatility.yaml: with the default ones the network follows noise on such a market.
    """
    shipped = yaml.safe_load((CONFIGS / "volatility.yaml").read_text())
    settings = {name: shipped[name] for name in ("weight_averaging", "model", "trainer")}
    judge(folder, straight(seed), seed, settings, window=20)
    table = pd.read_parquet(folder / "run" / "predictions.parquet")
    fitted = ("y_linear", "y_ridge", "y_dlinear", "y_gbm")
    tables = {"model": table, "ridge": table.assign(y_pred=table["y_ridge"])}
    naive = {name: one.drop(columns=[column for column in fitted if column in one]) for name, one in tables.items()}
    return {name: _target(evaluate(one))["evidence"] for name, one in naive.items()}


def _target(report: Report) -> TargetReport:
    (target,) = report["targets"].values()
    return target


def null_over_folds(folder: Path, seed: int) -> Outcome:
    """`walk` of a random walk, with rows for the warm-up of the features in the first fold."""
    return walk(folder, random_walk(seed, rows=2000), seed)


def signal_over_folds(folder: Path, seed: int) -> Outcome:
    """`walk` of a planted signal: twice the rows, so that the first of two folds has as many as the fit of `judge`."""
    return walk(folder, planted(seed, rows=6000), seed, folds=2, window=20)


def configured(
    folder: Path, table: pd.DataFrame, seed: int, settings: Mapping[str, Any] | None = None, **data: Any
) -> Path:
    """Writes prices and the YAML of a fit; what is not given has its default."""
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "prices.parquet")
    config = {
        "seed_everything": seed,
        "mlflow": False,
        "tensorboard": False,
        "quiet": True,
        "history_plot": {"enabled": False},
        "trainer": {"accelerator": "cpu", "enable_model_summary": False},
        "data": {"source": spec("cnn_lstm.data.sources.PriceFiles", paths=str(folder / "prices.parquet")), **data},
        **(settings or {}),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml"


def outcome(run_dir: Path, table: pd.DataFrame) -> Outcome:
    """What the report in a folder says of its only target."""
    (report,) = json.loads((run_dir / "report.json").read_text())["targets"].values()
    model = report["forecasts"]["model"]
    best = _oracle_r2(table, pd.read_parquet(run_dir / "predictions.parquet"))
    return Outcome(report["evidence"], report["reason"], model["r2_mean"], best, model["ic"] or 0.0)


def _oracle_r2(table: pd.DataFrame, forecasts: pd.DataFrame) -> float:
    known = table.assign(best=oracle(table), as_of=table["timestamp"])[["symbol", "as_of", "best"]]
    rows = forecasts.merge(known, on=["symbol", "as_of"], validate="one_to_one")
    error, mean_error = rows["y_true"] - rows["best"], rows["y_true"] - rows["y_mean"]
    return float(1 - (error**2).sum() / (mean_error**2).sum())


def main() -> None:
    """Judges many markets and counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--walks", type=int, default=30)
    parser.add_argument("--planted", type=int, default=10)
    parser.add_argument("--straight", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path("controls"))
    parser.add_argument("--walk_forward", action="store_true")
    given = parser.parse_args()
    null, signal = (null_over_folds, signal_over_folds) if given.walk_forward else (null_of, signal_of)
    walks, signals = [], []
    for seed in range(given.walks):
        walks.append(null(given.folder / f"walk-{seed}", seed))
        print(f"walk {seed}: {walks[-1]}", flush=True)
    for seed in range(given.planted):
        signals.append(signal(given.folder / f"planted-{seed}", seed))
        print(f"planted {seed}: {signals[-1]}", flush=True)
    lines = []
    for seed in range(0 if given.walk_forward else given.straight):
        lines.append(line_of(given.folder / f"straight-{seed}", seed))
        print(f"straight {seed}: {lines[-1]}", flush=True)
    print(f"no evidence on {sum(not walk.evidence for walk in walks)} of {len(walks)} random walks")
    print(f"mean IC on random walks {np.mean([walk.ic for walk in walks] or [0.0]):+.4f}")
    enough = sum(one.evidence and one.r2 >= 0.5 * one.oracle_r2 for one in signals)
    print(f"evidence, with half of the oracle's R2, on {enough} of {len(signals)} planted signals")
    found = {name: sum(one[name] for one in lines) for name in ("model", "ridge")}
    print(f"linear signals found of {len(lines)}: {found}")


if __name__ == "__main__":
    main()
