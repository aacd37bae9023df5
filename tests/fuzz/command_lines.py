"""Command lines with random faults: words that are missing, twice, misspelt, of another command, or without a value."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests import experiments
from tests.fuzz.configurations import LONG
from tests.fuzz.judged import Outcome, judged, shortened

WORDS = [
    *(
        "",
        " ",
        "--",
        "-",
        "-x",
        "--help",
        "--x",
        "--epochs",
        "5",
        "--lr",
        "0.1",
        "--config",
        "--ckpt_path",
        "best",
        "last",
    ),
    *("--run_dir", "--quiet", "--no_quiet", "--quiet=x", "--data.features+", "rsi_14", "--data.symbols", "[A", "[A,B]"),
    *("--data.window=1e30", "--n_jobs", "-3", "0", "1e30", LONG, "nowhere.yaml", ".", "/", "é", "--debug", "--version"),
    *(
        "--trust-imports",
        "--trust-imports=",
        "--data.split.help",
        "--data.source.help",
        "fit",
        "data",
        "check",
        "--seeds",
    ),
    *(
        "--folder",
        "--resume",
        "--output",
        "--format",
        "--market.fee_bp",
        "x",
        "null",
        "[]",
        "{}",
        "=",
        "--=1",
        "--.x=1",
    ),
    *(
        "--since",
        "2010-06-01",
        "--now",
        "--every",
        "3mo",
        "--from",
        "--judge_on",
        "--groups",
        "--test_groups",
        "--list",
    ),
    *(
        "--prices",
        "--columns",
        "symbol=x",
        "--model",
        "--cutoff",
        "--issued",
        "--html",
        "--exit_zero",
        "--rows",
        "CPCV",
    ),
    *("--data.split", "--data.known_future", "--data.static", "--data.exchange", "XNYS", "--warm_start", "--symbol"),
    *("--data.targets.horizon", "--model.network.init_args.help", "--tracking_uri", "--runs_dir", "--seed_everything"),
]


def lines(run: Path, config: Path) -> list[list[str]]:
    """What each command is usually called with; none of them trains for long. Writes forecasts into the run.

    Args:
        run: A run folder.
        config: A configuration of one epoch.
    """
    experiments.predict(run, "--csv", "true")
    shutil.copy(run / "forecasts.csv", run / "others.csv")
    foreign = [str(run / name) for name in ("forecasts.csv", "others.csv")]
    best, kept = str(run / "checkpoints/best.ckpt"), str(run / "config.yaml")
    return [
        ["fit", "--config", str(config), "--trainer.max_epochs", "0"],
        ["validate", "--config", kept, "--ckpt_path", "best"],
        ["test", "--config", kept, "--ckpt_path", best],
        ["predict", "--config", kept, "--ckpt_path", "last", "--csv"],
        ["repeat", "--config", str(config), "--seeds", "x"],
        ["walk-forward", "--config", str(config), "--folds", "x"],
        ["sweep", "--config", str(config), "--space", "nowhere.yaml", "--n_trials", "1"],
        ["rl", "train", "--ckpt_path", best, "--market.fee_bp", "x"],
        ["rl", "evaluate", str(run / "rl" / "none")],
        ["plot", str(run), "--output", "plot.png"],
        ["sync-tracking", str(run)],
        ["encode", "--ckpt_path", best, "--config", kept],
        ["export", "--ckpt_path", best, "--format", "safetensors"],
        ["update", str(run), "--since", "2010-06-01"],
        ["monitor", str(run), "--now", "2010-08-01"],
        ["judge", foreign[0], "--config", str(config), "--folder", "runs/judged"],
        ["judge", *foreign, "--config", str(config), "--folder", "runs/compared"],
        ["explain", "--config", kept, "--ckpt_path", best, "--rows", "20", "--repeats", "1"],
        ["roll", "--config", str(config), "--every", "x"],
        ["cross-validate", "--config", str(config), "--groups", "x"],
        ["init", "runs/mine", "quickstart"],
        ["data", "describe", "--config", kept],
        ["data", "check", "--config", kept],
    ]


def case(number: int, seed: int, known: Sequence[Sequence[str]], folder: Path) -> tuple[Outcome, str]:
    """Runs the command line of a number.

    Args:
        number: Its number.
        seed: Seed of all.
        known: As `lines` returns it.
        folder: The current folder, for new runs.
    """
    chance = random.Random(f"{seed} line {number}")
    words = list(chance.choice(list(known)))
    for _ in range(chance.choice((1, 1, 2, 3))):
        place, kind = chance.randrange(len(words) + 1), chance.randrange(5)
        if kind == 0 and place < len(words):
            del words[place]
        elif kind == 1 and words:
            words.append(chance.choice(words))
        elif kind == 2 and place < len(words) and words[place]:
            cut = chance.randrange(len(words[place]))
            words[place] = words[place][:cut] + words[place][cut + 1 :]
        else:
            words.insert(place, chance.choice(WORDS))
    try:
        return judged(*words), " ".join(shortened(word) for word in words)
    finally:
        shutil.rmtree(folder / "runs", ignore_errors=True)
