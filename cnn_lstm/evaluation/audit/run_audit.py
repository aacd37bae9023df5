"""All checks of the audit, and the short form that `test` runs."""

from __future__ import annotations

import html
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_lstm.data.muted_warnings import muted_warnings
from cnn_lstm.errors import ValidityError
from cnn_lstm.evaluation.audit import (
    decision_shift,
    every_row,
    invariance,
    known_ahead,
    label_selection,
    labels,
    learning,
    lookahead,
    model_rows,
)
from cnn_lstm.evaluation.audit.findings import FAILED, NO_CHECKPOINT, NOT_APPLICABLE, Result
from cnn_lstm.evaluation.audit.lookahead import Cuts, cuts_of
from cnn_lstm.evaluation.audit.stages import Base, Pipeline, members
from cnn_lstm.evaluation.same_recipe import take_over
from cnn_lstm.files import write_text_whole
from cnn_lstm.hints import counted
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint

if TYPE_CHECKING:
    from cnn_lstm.data.datamodule import MarketDataModule

SHORT_FORM = ("moved", "removed")  # its perturbations
MOST_LINES = 12
WIDTH = len(learning.REFIT)  # of the longest name of a check
Check = Callable[[], Result]
Listener = Callable[[str, Result | None], None]


@dataclass(frozen=True, repr=False)
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

    def to_plain(self) -> dict[str, object]:
        """What audit.json holds: whether all checks passed, the wall time, and each `Result` as a mapping."""
        checks = [asdict(part) for part in self.results]
        return {"passed": not self.failed, "seconds": round(self.seconds, 2), "checks": checks}

    def __str__(self) -> str:
        return "\n".join(map(_lines, self.results))

    def __repr__(self) -> str:
        return f"{self}\n{self.seconds:.1f} s"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def _lines(part: Result) -> str:
    """A check in words, with its findings below."""
    lines = [f"{part.name:<{WIDTH}}  {part.outcome:<14}  {part.compared}"]
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
    listener: Listener | None = None,
) -> Audit:
    """Runs every check on a data module's own prices, and on a checkpoint if there is one.

    Args:
        data: The data module; it is set up if it is not yet.
        predictor: The checkpoint, on the data module's features, targets and window.
        checkpoint: Its content as `read_checkpoint` gives it.
        seed: Seed of the random cuts.
        warnings_fail: Whether a warning is a failure.
        listener: Is called with the name of each check when it begins and at each cut, and with its result at its end.

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
        loaded = data.load()
        table = loaded[loaded["symbol"].isin(data.panel.symbols)].reset_index(drop=True)
        base = Base(Pipeline(data, predictor), table)
        checks = {
            lookahead.SOURCE: lambda: lookahead.prices_as_known(data, loaded),
            lookahead.FUTURE: lambda: _future(base, cuts_of(data, table, seed), listener),
            **_of_known_facts(data),
            every_row.EVERY_ROW: lambda: every_row.own_features_at_every_row(data),
            learning.STATISTICS: lambda: learning.training_statistics(data, loaded),
            **_of_the_checkpoint(base),
            learning.PURGE: lambda: learning.purge(data),
            learning.PARTS: lambda: learning.part_rows(data, checkpoint),
            label_selection.SELECTION: lambda: label_selection.label_selection(data, warnings_fail),
            labels.ALIGNMENT: lambda: labels.label_alignment(data),
            invariance.ADJUSTMENT: lambda: invariance.adjustment(base, warnings_fail),
            invariance.START_UP: lambda: invariance.start_up(base),
            invariance.ISOLATION: lambda: invariance.symbol_isolation(base),
            model_rows.BATCH: lambda: model_rows.batch_independence(base),
            model_rows.STREAMING: lambda: model_rows.streaming(base),
            decision_shift.SHIFTED: lambda: decision_shift.shifted_decision(base, warnings_fail),
            invariance.DETERMINISM: lambda: invariance.determinism(base),
        }
        results = tuple(_run(checks, listener))
    return Audit(results, time.perf_counter() - began)


def _run(checks: Mapping[str, Check], listener: Listener | None) -> Iterator[Result]:
    for name, check in checks.items():
        if listener is not None:
            listener(name, None)
        result = check()
        if listener is not None:
            listener(name, result)
        yield result


def _future(base: Base, cuts: Cuts, listener: Listener | None) -> Result:
    """The longest of the checks, which says where it is."""

    def at(number: int) -> None:
        if listener is not None:
            listener(f"{lookahead.FUTURE}, cut {number} of {len(cuts.times)}", None)

    return lookahead.future_perturbation(base, cuts, at=at)


def _of_known_facts(data: MarketDataModule) -> dict[str, Check]:
    """The check of facts known ahead, which few data have."""
    check: dict[str, Check] = {known_ahead.KNOWN_AHEAD: partial(known_ahead.facts_known_ahead, data)}
    return check if data.recipe.known_future else {}


def _of_the_checkpoint(base: Base) -> dict[str, Check]:
    data, predictor, memory = base.pipeline.data, base.pipeline.predictor, base.pipeline.memory
    if predictor is None or memory is None:
        return {
            name: partial(Result, name, NOT_APPLICABLE, NO_CHECKPOINT)
            for name in (learning.REFIT, learning.CALIBRATION)
        }
    same = learning.trained_on(data, predictor.forecaster.contract)
    return {
        learning.REFIT: lambda: learning.refit(data, members(predictor.forecaster), same),
        learning.CALIBRATION: lambda: learning.calibration(data, memory, same),
    }


def joined(data: MarketDataModule, ckpt_path: str | Path) -> tuple[dict[str, Any], Predictor]:
    """A checkpoint and its predictor, for data that take over its dates.

    Args:
        data: The data module.
        ckpt_path: A checkpoint of the same features, targets and window.

    Raises:
        CheckpointError: If the checkpoint is of another recipe.
    """
    checkpoint, predictor = read_checkpoint(ckpt_path), Predictor.from_checkpoint(ckpt_path, allow_expired=True)
    take_over(data, predictor)
    return checkpoint, predictor


def audit_files(data: MarketDataModule, ckpt_path: str | None, output: Path | None, warnings_fail: bool) -> None:
    """Runs every check, prints and writes what it finds.

    Args:
        data: The data module.
        ckpt_path: A checkpoint of the same features, targets and window; None checks the data alone.
        output: Where to write the findings as JSON; None writes nothing.
        warnings_fail: Whether a warning is a failure.

    Raises:
        CheckpointError: If the checkpoint is of another recipe.
        ValidityError: If a check failed.
    """
    predictor = checkpoint = None
    if ckpt_path is not None:
        checkpoint, predictor = joined(data, ckpt_path)
    data.setup()
    own = sum(item.reads_all_rows for item in data.bound.features)
    print(
        f"auditing {len(data.prices):,} rows of {counted(len(data.panel.symbols), 'symbol')}, "
        f"{counted(data.n_features, 'feature')}, {own} of them your own",
        file=sys.stderr,
    )
    findings = audit(data, predictor, checkpoint, warnings_fail=warnings_fail, listener=_say)
    print(f"{findings.seconds:.1f} s")
    if output is not None:
        write_text_whole(output, json.dumps(findings.to_plain(), indent=2) + "\n")
        print(f"audit: {output}")
    if findings.failed:
        counts = ", ".join(f"{part.name} ({len(part.findings)})" for part in findings.failed)
        raise ValidityError(
            f"the audit failed: {counts}",
            str(findings.failed[0].findings[0]),
            "correct the first finding, the others may follow from it; see docs/audit.md",
            code=820,
        )


def _say(name: str, result: Result | None) -> None:
    """Prints each result as it comes; a terminal shows the check that runs, too, and the cut that it is at."""
    if result is not None:
        print(_lines(result), flush=True)
    elif sys.stdout.isatty():
        print(f"{name} ...", end="\r", flush=True)


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
