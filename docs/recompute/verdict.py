"""Which baselines are compared on which rows, which one is the best, and the verdict with its two questions."""

import math

import numpy as np
import pandas as pd
from arch.bootstrap import StationaryBootstrap
from recompute.forecasts import VOLATILITIES, probabilities, variances
from recompute.significance import compare, holds_up
from scipy import special, stats

NAIVE = ("zero", "training mean", "prior", "last value", "seasonal naive")


def compare_all(rows: pd.DataFrame, loss: dict, horizon: int, settings: dict) -> dict:
    """The model against each baseline on the rows that the baseline knows; those of equal rows share their draws."""
    tests = {}
    for known in {
        one.notna().to_numpy().tobytes(): one.notna() for name, one in loss.items() if name != "model"
    }.values():
        names = ["model", *(name for name, one in loss.items() if name != "model" and one.notna().equals(known))]
        date, table = rows.loc[known, "as_of"], pd.DataFrame({name: loss[name][known] for name in names})
        count = date.nunique()
        daily = table.groupby(date).sum().to_numpy() * count / len(table)
        bootstrap = StationaryBootstrap(max(2 * horizon, round(count ** (1 / 3))), daily, seed=settings["seed"])
        draws = bootstrap.apply(lambda drawn: drawn.mean(axis=0), settings["resamples"])
        for i, name in enumerate(names[1:], 1):
            tests[name] = compare(daily[:, [0, i]], draws[:, [0, i]], horizon)
            tests[name] |= {"rows": len(table), "dates": count}
    return tests


def divergence(known: pd.DataFrame, column: str, about: dict) -> float:
    """Expected saving of the model over a baseline if the model is right, on the rows that the baseline knows."""
    if about["kind"] == "class":
        p, q = (np.maximum(probabilities(known, name, about["classes"]), 2.0**-52) for name in ("y_pred", column))
        return float(special.rel_entr(p, q).sum(axis=1).mean())
    if about["kind"] not in VOLATILITIES:
        return float(((known["y_pred"] - known[column]) ** 2).mean())
    model, baseline = (variances(known, name, about["kind"]) for name in ("y_pred", column))
    ratio = np.maximum(model / baseline, 1e-4)
    return float((ratio - np.log(ratio) - 1).mean())


def smallest_skill(test: dict, saving: float, level: float) -> float:
    """Skill of a right forecast that is found in 8 of 10 such tables."""
    saving = max(saving, test["loss_baseline"] - test["loss_model"])
    if not min(saving, test["standard_error"], test["loss_baseline"]) > 0:
        return math.nan
    needed = stats.t.isf([level / 2, 0.2], test["dates"] - 1).sum()
    return min(1.0, (needed * test["standard_error"]) ** 2 / saving / test["loss_baseline"])


def conclusion(tests: dict, rows: int, horizon: int, settings: dict, failed: list) -> dict:
    """The best of all baselines with the verdict over it, and that over the best naive and the best fitted one."""

    def best(names: list) -> dict | None:
        known = [name for name in names if tests[name]["rows"] >= rows / 2] or names
        if not known:
            return None
        skill = {name: tests[name]["skill"] if tests[name]["loss_baseline"] else -math.inf for name in known}
        name = min(known, key=lambda one: (skill[one], tests[one]["loss_baseline"]))
        enough = not failed and tests[name]["dates"] >= max(30, 5 * horizon)
        return {"best_baseline": name, "evidence": enough and holds_up(tests[name], settings["level"])}

    of_all = best(list(tests))
    parts = {"over_naive": [n for n in tests if n in NAIVE], "over_fitted": [n for n in tests if n not in NAIVE]}
    answers = {key: one | tests[one["best_baseline"]] if (one := best(names)) else None for key, names in parts.items()}
    return of_all | answers | {"verdict": "EVIDENCE OF SKILL" if of_all["evidence"] else "NO EVIDENCE OF SKILL"}
