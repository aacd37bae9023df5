"""All checks of the audit, and the short form that `test` runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.muted_warnings import muted_warnings
from cnn_lstm.evaluation.audit import decision_shift, invariance, labels, learning, lookahead, model_rows
from cnn_lstm.evaluation.audit.cuts import Cuts, cuts_of
from cnn_lstm.evaluation.audit.findings import FAILED, NO_CHECKPOINT, NOT_APPLICABLE, Result
from cnn_lstm.evaluation.audit.stages import Base, Pipeline, members
from cnn_lstm.inference.predictor import Predictor

SHORT_FORM = ("moved", "removed")  # its perturbations
MOST_LINES = 12


class AuditRecord(TypedDict):
    """What audit.json holds: whether all checks passed, the wall time, and each `Result` as a mapping."""

    passed: bool
    seconds: float
    checks: list[dict[str, Any]]


@dataclass(frozen=True)
class Audit:
    """The results of all checks.

    Attributes:
        results: Results in the order of the checks.
        seconds: Wall time of all of them.
    """

    results: tuple[Result, ...]
    seconds: float

    @property
    def failed(self) -> tuple[Result, ...]:
        """The checks that failed."""
        return tuple(part for part in self.results if part.outcome == FAILED)

    def to_plain(self) -> AuditRecord:
        """Plain values for audit.json."""
        return {
            "passed": not self.failed,
            "seconds": round(self.seconds, 2),
            "checks": [asdict(r) for r in self.results],
        }

    def __str__(self) -> str:
        width = max(len(part.name) for part in self.results)
        lines = []
        for part in self.results:
            lines.append(f"{part.name:<{width}}  {part.outcome:<14}  {part.compared}")
            lines += [f"  {finding}" for finding in part.findings[:MOST_LINES]]
            if len(part.findings) > MOST_LINES:
                lines.append(f"  ... {len(part.findings) - MOST_LINES} more columns")
        return "\n".join(lines)


def audit(
    data: MarketDataModule,
    predictor: Predictor | None = None,
    checkpoint: Mapping[str, Any] | None = None,
    seed: int = 0,
    warnings_fail: bool = False,
) -> Audit:
    """Runs every check on a data module's own prices, and on a checkpoint if there is one.

    Args:
        data: The data module; it is set up if it is not yet.
        predictor: The checkpoint, on the data module's features, targets and window.
        checkpoint: Its content as `read_checkpoint` gives it.
        seed: Seed of the random cuts.
        warnings_fail: Whether a warning is a failure.

    Example:
        >>> from cnn_lstm.data.datamodule import MarketDataModule
        >>> from cnn_lstm.data.sources import SampleBars
        >>> data = MarketDataModule(SampleBars(), ["IBM"], "2008-01-01", features=["log_return_1"], window=5)
        >>> [part.name for part in audit(data).failed]
        []
    """
    began = time.perf_counter()
    data.setup()
    with muted_warnings():
        results = tuple(_checks(data, predictor, checkpoint, seed, warnings_fail))
    return Audit(results, time.perf_counter() - began)


def _checks(
    data: MarketDataModule,
    predictor: Predictor | None,
    checkpoint: Mapping[str, Any] | None,
    seed: int,
    warnings_fail: bool,
) -> Iterator[Result]:
    loaded = data.source.load(data.symbols, data.start, data.end)
    table = loaded[loaded["symbol"].isin(data.panel.symbols)].reset_index(drop=True)
    base = Base(Pipeline(data, predictor), table)
    yield lookahead.prices_as_known(data, loaded)
    yield lookahead.future_perturbation(base, cuts_of(data, table, seed))
    yield learning.training_statistics(data, loaded)
    yield from _of_the_checkpoint(data, predictor)
    yield learning.purge(data)
    yield learning.part_rows(data, checkpoint)
    yield labels.label_alignment(data)
    yield invariance.adjustment(base, warnings_fail)
    yield invariance.start_up(base)
    yield invariance.symbol_isolation(base)
    yield model_rows.batch_independence(base)
    yield model_rows.streaming(base)
    yield decision_shift.shifted_decision(base, warnings_fail)
    yield invariance.determinism(base)


def _of_the_checkpoint(data: MarketDataModule, predictor: Predictor | None) -> Iterator[Result]:
    if predictor is None:
        yield from (Result(name, NOT_APPLICABLE, NO_CHECKPOINT) for name in (learning.REFIT, learning.CALIBRATION))
        return
    same = learning.trained_on(data, predictor.forecaster.contract)
    yield learning.refit(data, members(predictor.forecaster), same)
    yield learning.calibration(data, predictor, same)


def short_form(data: MarketDataModule) -> Result:
    """The future perturbation at a few cuts, without the model: what every `test` can afford.

    Args:
        data: A data module that has read its data.
    """
    test_time = np.sort(data.panel.time[data.parts.test])
    ends = [data.parts.boundaries.validation, test_time[len(test_time) // 2]]
    distinct = np.unique(data.panel.time)
    times = np.unique([distinct[np.searchsorted(distinct, end) - 1] for end in ends])
    with muted_warnings():
        base = Base(Pipeline(data, checked=True), data.prices)
        return lookahead.future_perturbation(base, Cuts(times, f"{len(times)} cuts"), SHORT_FORM)
