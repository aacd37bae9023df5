"""The model information sheet: what was trained on what, and the eight kinds of leakage with the test of each.

Source:
    Kapoor and Narayanan (2023), Leakage and the reproducibility crisis in machine-learning-based science.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.panel_checks import LEAK_CORRELATION, label_correlations, muted_features
from cnn_lstm.data.windows import Panel, Rows
from cnn_lstm.model.forecaster import Forecaster

PASSED, FAILED, NOTE = "passed", "failed", "note"


@dataclass(frozen=True)
class Check:
    """One kind of leakage, the test that covers it, and what came out.

    Attributes:
        kind: Number and name in Kapoor and Narayanan.
        test: What was tested on this run's own data.
        outcome: `passed`, `failed`, or `note` where a reader has to decide.
        found: The figures behind it.
    """

    kind: str
    test: str
    outcome: str
    found: str


def model_info(data: MarketDataModule, model: Forecaster, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The sheet, in plain values.

    Args:
        data: The data module of the test.
        model: The tested forecaster.
        checkpoint: What the checkpoint says of its data: `boundaries` and `fingerprint` as it was trained with.
    """
    return {
        "model": {
            "network": model.network.spec(),
            "objective": model.objective.spec(),
            "parameters": sum(weights.numel() for weights in model.parameters()),
        },
        "data": {
            "source": type(data.source).__name__,
            "sha256": data.fingerprint,
            "trained_on_sha256": checkpoint["fingerprint"],
            "rows": len(data.panel),
            "symbols": list(data.panel.symbols),
            "first": _day(data.panel.time.min()),
            "last": _day(data.panel.time.max()),
            "features": list(data.recipe.features),
            "targets": [dict(target) for target in data.recipe.targets],
            "window": data.recipe.window,
        },
        "split": {
            "purged_rows": data.parts.purged,
            **{name: _part(data.panel, getattr(data.parts, name)) for name in ("train", "validation", "test")},
        },
        "leakage": [asdict(check) for check in leakage_checks(data, model, checkpoint)],
    }


def _part(panel: Panel, rows: Rows) -> dict[str, Any]:
    time = panel.time[rows]
    return {"forecasts": len(rows), "first": _day(time.min()), "last": _day(time.max())}


def leakage_checks(data: MarketDataModule, model: Forecaster, checkpoint: Mapping[str, Any]) -> list[Check]:
    """Tests each kind of leakage on the data of this run.

    Args:
        data: The data module of the test.
        model: The tested forecaster, with the statistics of its checkpoint.
        checkpoint: `boundaries` and `fingerprint` that it was trained with.
    """
    edges = data.parts.boundaries
    same = checkpoint["fingerprint"] == data.fingerprint and checkpoint["boundaries"]["train"] == str(edges.train)
    same = same and checkpoint["boundaries"]["validation"] == str(edges.validation)
    past = Prefix(data, edges.validation)
    return [
        _separate_parts(data),
        _training_statistics(data, model, past, same),
        _feature_choice(data, past),
        _duplicates(data),
        _features_of_the_future(data, past),
        _order_of_time(data),
        _shared_dates(data),
        _test_population(data),
    ]


class Prefix:
    """The panel of a data module as it would have been, had the table ended at a date.

    Args:
        data: A data module that has read its data.
        end: First timestamp that is left out.
    """

    def __init__(self, data: MarketDataModule, end: np.datetime64) -> None:
        self.kept = data.panel.time < end
        self.panel = data.recipe.panel(data.prices[self.kept].reset_index(drop=True), data.targets)
        self._position = np.cumsum(self.kept) - 1

    def rows(self, rows: Rows) -> Rows:
        """Where rows of the whole panel stand in this one."""
        return self._position[rows]

    def moved_features(self, whole: Panel) -> list[int]:
        """Features that differ, in any bit, from those of the whole panel."""
        before = whole.values[torch.from_numpy(self.kept)]
        equal = (before == self.panel.values) | (before.isnan() & self.panel.values.isnan())
        return torch.nonzero(~equal.all(dim=0)).flatten().tolist()


def _separate_parts(data: MarketDataModule) -> Check:
    parts = data.parts
    everything = np.concatenate([parts.train, parts.validation, parts.test])
    shared = len(everything) - len(np.unique(everything))
    return _check(
        "L1.1 no separate test set",
        "no row is in two parts",
        shared == 0,
        f"{len(parts.train):,} training, {len(parts.validation):,} validation, {len(parts.test):,} test rows, "
        f"{shared} shared; fit and its choice of the best epoch see training and validation rows only",
    )


def _training_statistics(data: MarketDataModule, model: Forecaster, past: Prefix, same: bool) -> Check:
    kind = "L1.2 preprocessing on training and test data"
    test = "means and scales computed from a table that ends before the validation part equal the checkpoint's"
    if not same:
        return Check(kind, test, NOTE, "the checkpoint was trained on other data or dates than those of this test")
    found = data.statistics_of(past.panel, past.rows(data.parts.train))
    standardize = model.network.standardize
    pairs = {
        "feature means": (found.x_loc, standardize.loc),
        "feature scales": (found.x_scale, standardize.scale),
        "target means": (found.y_loc, model.y_loc),
        "target scales": (found.y_scale, model.y_scale),
    }
    different = [name for name, (one, other) in pairs.items() if not torch.equal(one, other.cpu())]
    return _check(
        kind, test, not different, f"different: {', '.join(different)}" if different else "equal in every bit"
    )


def _feature_choice(data: MarketDataModule, past: Prefix) -> Check:
    names = data.recipe.features
    found = muted_features(data.statistics_of(past.panel, past.rows(data.parts.train)), names)
    used = muted_features(data.statistics, names)
    return _check(
        "L1.3 feature selection on training and test data",
        "features are named in the configuration; which of them are muted follows from training rows alone",
        found == used,
        f"{len(names)} features, muted: {', '.join(used) or 'none'}",
    )


def _duplicates(data: MarketDataModule) -> Check:
    """Rows whose features are equal in every bit make equal last rows of windows."""
    values = data.panel.values.numpy()
    train, test = ({values[row].tobytes() for row in rows} for rows in (data.parts.train, data.parts.test))
    doubled = len(train & test)
    return Check(
        "L1.4 duplicates in the data",
        "no symbol has a date twice, and no test row has the features of a training row",
        NOTE if doubled else PASSED,  # features of few values, such as the day of the week, repeat by nature
        f"{doubled} of {len(test):,} test rows have them",
    )


def _features_of_the_future(data: MarketDataModule, past: Prefix) -> Check:
    names = data.recipe.features
    test_time = data.panel.time[data.parts.test]
    later = Prefix(data, np.sort(test_time)[len(test_time) // 2])
    moved = sorted({names[k] for prefix in (past, later) for k in prefix.moved_features(data.panel)})
    highest = max(
        float(values.abs().max()) for values in label_correlations(data.panel, data.parts.train, data.targets).values()
    )
    return _check(
        "L2 features that are not legitimate",
        "features do not change in any bit when all later rows are removed, at the first validation date and in the "
        f"middle of the test part; none correlates above {LEAK_CORRELATION} with a label",
        not moved,
        f"{'changed: ' + ', '.join(moved) if moved else 'none changed'}; highest correlation {highest:.3f}",
    )


def _order_of_time(data: MarketDataModule) -> Check:
    panel, parts = data.panel, data.parts
    reach = max(target.reach for target in data.targets)
    gaps = []
    for before, after in ((parts.train, parts.validation), (parts.validation, parts.test)):
        gaps.append(bool(panel.time[before + reach].max() < panel.time[after].min()))
    return _check(
        "L3.1 temporal leakage",
        "the last label of each part ends before the first decision of the next one",
        all(gaps),
        f"labels end {_day(panel.time[parts.train + reach].max())} and "
        f"{_day(panel.time[parts.validation + reach].max())}, the next decisions are of "
        f"{_day(panel.time[parts.validation].min())} and {_day(panel.time[parts.test].min())}; "
        f"{parts.purged} rows purged",
    )


def _shared_dates(data: MarketDataModule) -> Check:
    dates = [set(data.panel.time[rows].tolist()) for rows in (data.parts.train, data.parts.validation, data.parts.test)]
    shared = sum(map(len, dates)) - len(set().union(*dates))
    return _check(
        "L3.2 training and test samples that depend on each other",
        "the parts are cut by date over all symbols, so that no date is in two parts; tests cluster by date",
        shared == 0,
        f"{shared} shared dates, {len(data.panel.symbols)} symbols",
    )


def _test_population(data: MarketDataModule) -> Check:
    panel, parts = data.panel, data.parts
    trained, tested = set(panel.symbol[parts.train].tolist()), set(panel.symbol[parts.test].tolist())
    in_test = (panel.time >= parts.boundaries.test) & (panel.time < parts.boundaries.end)
    return Check(
        "L3.3 a test set that is not the population of interest",
        "which rows and symbols the test part holds; whether they are the market of interest is for the reader to say",
        NOTE,
        f"{len(parts.test) / max(int(in_test.sum()), 1):.1%} of the rows after the test date; "
        f"{len(trained - tested)} symbols end before it, {len(tested - trained)} begin after training",
    )


def _check(kind: str, test: str, passed: bool, found: str) -> Check:
    return Check(kind, test, PASSED if passed else FAILED, found)


def _day(time: Any) -> str:
    return str(np.datetime64(time, "D"))
