"""Metrics of intervals, of class sets and of predictive distributions."""

import numpy as np
import pandas as pd
from recompute.heads import head
from scipy import special, stats


def ratio_p(counts: list, free: list, promised: list) -> float:
    """Likelihood ratio test of miss probabilities; counts of hits and misses, one row per state."""
    logs = [np.sum(special.xlogy(counts, np.column_stack([1 - np.array(p), p]))) for p in (free, promised)]
    return stats.chi2.sf(max(2 * (logs[0] - logs[1]), 0.0), 1)


def coverage(held: pd.Series, level: float) -> dict:
    """Coverage of intervals or class sets, tested as Kupiec (1995) does."""
    values = {"rows": len(held), "level": level, "coverage": held.mean()}
    counts = [[held.sum(), (~held).sum()]]
    return values | {"kupiec_p": ratio_p(counts, [(~held).mean()], [1 - level])}


def set_metrics(rows: pd.DataFrame, level: int) -> dict:
    """Coverage and size of class sets, each a text of one digit per class, or of numbers with blanks between them."""
    given = rows.dropna(subset=f"set_{level}")
    split = str.split if "p10" in rows else list
    pairs = list(zip(given["y_true"].astype(int).astype(str), given[f"set_{level}"].map(split), strict=True))
    values = coverage(pd.Series([true in drawn for true, drawn in pairs]), level / 100)
    return values | {"mean_size": np.mean([len(drawn) for _, drawn in pairs])}


def interval_metrics(rows: pd.DataFrame, level: int) -> dict:
    """Coverage, width, interval score, and whether misses cluster by time or by volatility."""
    rows = rows.dropna(subset=[f"lower_{level}", f"upper_{level}"]).sort_values(["symbol", "as_of"])
    y, lower, upper = rows["y_true"], rows[f"lower_{level}"], rows[f"upper_{level}"]
    held, outside = y.between(lower, upper), (lower - y).clip(lower=0) + (y - upper).clip(lower=0)
    values = coverage(held, level / 100) | {"mean_width": (upper - lower).mean()}
    values["winkler"] = (upper - lower + 2 / (1 - level / 100) * outside).mean()
    before = held.groupby(rows["symbol"]).shift()
    counts = np.array([[(before.eq(a) & held.eq(b)).sum() for b in (True, False)] for a in (True, False)])
    after, same = counts[:, 1] / np.maximum(counts.sum(axis=1), 1), counts[:, 1].sum() / counts.sum()
    values["christoffersen_p"] = ratio_p(counts, after, [same, same])
    known = rows.get("volatility", pd.Series(dtype=float)).dropna()  # labels of a column may have no price
    edges = np.quantile(known, [1 / 3, 2 / 3]) if len(known) else []
    third = sum(((known > edge).astype(int) for edge in edges), start=pd.Series(0, known.index))
    parts = [held[third.index[third == number]] for number in range(3)]
    names = [f"coverage_{name}_volatility" for name in ("low", "middle", "high")]
    values |= {name: part.mean() for name, part in zip(names, parts, strict=True)}
    dates = held.groupby(rows["as_of"]).agg(["sum", "size"]).rolling(250).sum()
    return values | {"lowest_rolling_coverage": (dates["sum"] / dates["size"]).min()}


def members(rows: pd.DataFrame, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """CRPS and PIT of each row, from the calibration scores of its fold."""
    error, scale = (rows["y_true"] - rows["y_pred"]).to_numpy(), rows["scale"].to_numpy()
    surprise = np.where(scale > 0, error / scale, np.where(error == 0, 0.0, np.copysign(np.inf, error)))
    spread = abs(scores[:, None] - scores).mean() / 2
    parts = [part[:, None] for part in np.array_split(surprise, len(surprise) // 1000 + 1)]
    distance = np.concatenate([abs(part - scores).mean(axis=1) for part in parts])
    rank = np.concatenate([((scores < part) + 0.0 + (scores <= part)).sum(axis=1) for part in parts])
    crps = np.where(scale > 0, scale * (distance - spread), abs(error))
    return crps, (rank + 1) / (2 * (len(scores) + 1))


def uniform(pit: np.ndarray) -> dict:
    """Whether probability integral transforms are uniform."""
    values = {"rows": len(pit), "histogram": (np.histogram(pit, 10, (0, 1))[0] / len(pit)).tolist()}
    tests = stats.kstest(pit, "uniform").pvalue, stats.cramervonmises(pit, "uniform").pvalue
    return values | dict(zip(("ks_p", "cramer_von_mises_p"), tests, strict=True))


def distribution(rows: pd.DataFrame, about: dict) -> dict:
    """CRPS and PIT of the members forecast + score * scale, and of the distribution of the model's head."""
    values = {}
    if "scores" in about and about["kind"] != "class":
        folds = about["scores"] if isinstance(about["scores"], dict) else {"0": about["scores"]}
        fold = rows["fold"] if isinstance(about["scores"], dict) else pd.Series(0, rows.index)
        parts = [members(rows[fold == int(number)], np.array(scores)) for number, scores in folds.items()]
        crps, pit = (np.concatenate(column) for column in zip(*parts, strict=True))
        values["crps"] = crps.mean()
        values["pit"] = uniform(pit)
    own = None if about["kind"] == "class" else head(rows)
    if own is not None:
        name, cdf, _, _, score = own
        true = rows["y_true"].to_numpy()
        values["head"] = {"name": name, "crps": score(true).mean(), "pit": uniform(cdf(true))}
        values |= {"crps_normal": values["head"]["crps"]} if name == "normal" else {}
    return values


def spreads(rows: pd.DataFrame) -> dict:
    """Mean of each epistemic spread, and whether it is larger where errors are."""
    error, given = (rows["y_true"] - rows["y_pred"]).abs(), [n for n in ("mc_std", "ensemble_std") if n in rows]
    return {n: {"mean": rows[n].mean(), "rank_correlation": rows[n].corr(error, "spearman")} for n in given}
