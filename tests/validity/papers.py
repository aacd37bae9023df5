"""Published protocols, five seeds each: the model next to the last value, ridge and the published numbers.

A script: `python -m tests.validity.papers --folder runs/papers --exchange_rate FILE.txt --acl18 FILE.parquet
--realised_variance FILE.csv` runs what files are given for, and prints a table per protocol. A seed whose report is in
the folder already is not trained again. Without a file, CNN_LSTM_BENCHMARKS names a folder of them, see
tests/benchmark_data.py. It opens the test part: tune on validation first.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, matthews_corrcoef

from cnn_lstm.evaluation.forecasts import NAMES
from cnn_lstm.evaluation.formatting import aligned
from tests import benchmark_data
from tests.experiments import fit, run

CONFIGS = Path(__file__).parents[2] / "configs" / "papers"
SEEDS = (42, 43, 44, 45, 46)
QUIET = ("--mlflow", "false", "--tensorboard", "false", "--history_plot.enabled", "false", "--quiet", "true")
Scores = dict[str, dict[str, float]]  # forecaster -> metric -> value


@dataclass(frozen=True)
class Protocol:
    """One published protocol.

    Attributes:
        config: Name of the configuration.
        file: Which data file it needs: an option of this script.
        scores: Metrics of a run folder that has been tested.
        published: The same metrics as papers state them.
    """

    config: str
    file: str
    scores: Callable[[Path], Scores]
    published: Mapping[str, Mapping[str, float]]


def pooled_scores(run_dir: Path) -> Scores:
    """RSE and CORR of all series together; the largest ratio of a series' squared error to that of its last value."""
    report = _report(run_dir)
    ((_, pooled),) = report["pooled"].items()
    scores = {name: dict(metrics) for name, metrics in pooled["forecasts"].items()}
    for name, of_name in scores.items():
        series = [target["forecasts"] for target in report["targets"].values()]
        of_name["worst"] = max((one[name]["rmse"] / one["last value"]["rmse"]) ** 2 for one in series)
    return scores


def class_scores(run_dir: Path) -> Scores:
    """Accuracy and MCC of every forecaster where the label is known, and the accuracy's error, clustered by day."""
    table = pd.read_parquet(run_dir / "predictions.parquet").dropna(subset="y_true")
    scores: Scores = {}
    for column in [str(name) for name in table if str(name).startswith("y_") and name != "y_true"]:
        rows = table.dropna(subset=column)
        true, chosen = rows["y_true"].astype(int), rows[column].astype(int)
        scores[NAMES.get(column, column[2:])] = {
            "accuracy": 100 * float(accuracy_score(true, chosen)),
            "mcc": float(matthews_corrcoef(true, chosen)),
            "day error": 100 * clustered_error(true == chosen, rows["as_of"]),
        }
    return scores


def clustered_error(right: pd.Series, date: pd.Series) -> float:
    """Standard error of a share whose rows depend on each other within a date.

    Source:
        Cameron, Miller (2015), A Practitioner's Guide to Cluster-Robust Inference.

    Example:
        >>> clustered_error(pd.Series([1.0, 1.0, 0.0, 0.0]), pd.Series(["a", "a", "b", "b"]))
        0.5
    """
    sums = (right - right.mean()).groupby(date).sum()
    dates = len(sums)
    return float(np.sqrt((sums**2).sum() * dates / (dates - 1)) / len(right))


def volatility_scores(run_dir: Path) -> Scores:
    """QLIKE and RMSE of the only target."""
    (target,) = _report(run_dir)["targets"].values()
    return {name: {key: one[key] for key in ("qlike", "rmse")} for name, one in target["forecasts"].items()}


def _report(run_dir: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((run_dir / "report.json").read_text())
    return report


def _rows(metrics: tuple[str, ...], **rows: tuple[float, ...]) -> dict[str, dict[str, float]]:
    return {name.replace("_", " "): dict(zip(metrics, values, strict=True)) for name, values in rows.items()}


# sources of all values: docs/papers.md
RSE = ("rse", "corr")
PROTOCOLS = (
    Protocol(
        "exchange_rate_h3", "exchange_rate", pooled_scores,
        _rows(RSE, AR=(0.0228, 0.9734), RNN_GRU=(0.0192, 0.9786), LSTNet=(0.0226, 0.9735), TPA_LSTM=(0.0174, 0.9790),
              MTGNN=(0.0194, 0.9786)),
    ),
    Protocol(
        "exchange_rate_h12", "exchange_rate", pooled_scores,
        _rows(RSE, AR=(0.0353, 0.9526), RNN_GRU=(0.0408, 0.9531), LSTNet=(0.0356, 0.9511), TPA_LSTM=(0.0341, 0.9564),
              MTGNN=(0.0349, 0.9551)),
    ),
    Protocol("exchange_rate_h96", "exchange_rate", pooled_scores, {}),
    Protocol(
        "acl18", "acl18", class_scores,
        _rows(("accuracy", "mcc"), LSTM=(53.18, 0.0674), ALSTM=(54.90, 0.1043), Adv_ALSTM=(57.20, 0.1483)),
    ),
    Protocol("realised_variance", "realised_variance", volatility_scores, {}),
)  # fmt: skip


def seeds_of(protocol: Protocol, file: Path, folder: Path, seeds: tuple[int, ...], *argv: str) -> list[Scores]:
    """The metrics of each seed; a seed that has been tested already is read."""
    found = []
    for seed in seeds:
        run_dir = folder / protocol.config / f"seed_{seed}"
        if not (run_dir / "report.json").is_file():
            config = CONFIGS / f"{protocol.config}.yaml"
            words = ("--data.source.init_args.paths", str(file), "--seed_everything", str(seed), *QUIET, *argv)
            with redirect_stdout(StringIO()):
                fit(config, run_dir, *words)
                assert run("test", "--config", run_dir / "config.yaml", "--ckpt_path", "best") == 0
        found.append(protocol.scores(run_dir))
    return found


def table_of(protocol: Protocol, found: list[Scores]) -> str:
    """Mean and standard deviation over the seeds of each forecaster, then the published rows."""
    metrics = list(found[0]["model"])
    lines = [[protocol.config, *metrics]]
    for name in found[0]:
        values = np.array([[scores[name][key] for key in metrics] for scores in found], dtype=np.float64)
        spread = values.std(axis=0, ddof=1) if len(found) > 1 else np.zeros(len(metrics))
        pairs = zip(values.mean(axis=0), spread, strict=True)
        lines.append([name, *(f"{mean:.4g}" + (f" +- {std:.2g}" if std > 1e-9 else "") for mean, std in pairs)])
    for name, published in protocol.published.items():
        lines.append([f"{name}, published", *(f"{published[key]:.4g}" if key in published else "" for key in metrics)])
    return f"{aligned(lines, left=1)}\nseeds: {len(found)}\n"


def main() -> None:
    """Runs every protocol that there is a file for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/papers"))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--only", nargs="+", default=[protocol.config for protocol in PROTOCOLS])
    for name in ("exchange_rate", "acl18", "realised_variance"):
        parser.add_argument(f"--{name}", type=Path, default=None)
    options, argv = parser.parse_known_args()  # the rest goes to fit, for example --trainer.max_epochs 1
    files: dict[str, Path | None] = {}
    files["exchange_rate"] = options.exchange_rate or benchmark_data.exchange_rate(options.folder / "data")
    files["acl18"] = options.acl18 or benchmark_data.acl18(options.folder / "data")
    files["realised_variance"] = options.realised_variance
    for protocol in PROTOCOLS:
        file = files[protocol.file]
        if protocol.config not in options.only:
            continue
        if file is None:
            print(f"{protocol.config}: no file, give --{protocol.file}\n")
        else:
            print(table_of(protocol, seeds_of(protocol, file, options.folder, tuple(options.seeds), *argv)), flush=True)


if __name__ == "__main__":
    main()
