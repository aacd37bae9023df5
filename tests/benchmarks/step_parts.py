"""Where a training step of the tiny network spends its time: python -m tests.benchmarks.step_parts [--epochs N].

The parts of a step of `fit`, with all default callbacks and trackers, next to the same parts of a bare loop on the
same batches, on one thread. Bare epochs and those of the fit take turns. Shown are medians of wall time over all steps,
which a busy machine changes less than their sum; marks cost a microsecond each.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import statistics
import tempfile
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any
from unittest.mock import patch

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from cnn_lstm.data.batches import WindowDataset
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.runs.forecast_cli import ForecastCLI
from cnn_lstm.runs.messages import set_up_messages
from cnn_lstm.runs.yaml_guard import guard_parser
from tests.benchmarks.throughput import TINY

# hooks of a module that Lightning calls once in a step, and the part that lies between begin and end of each
PARTS = {
    "training_step": "outputs and loss; in a fit also the line, and forecasts for the metrics",
    "optimizer_zero_grad": "gradients set to none",
    "backward": "backward",
    "configure_gradient_clipping": "clipping",
}
UPDATE, BETWEEN, AROUND = "update of the weights", "between these: hooks", "batch, callbacks before and after"


class Marks:
    """Seconds of the parts of many steps."""

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = {}
        self.last = perf_counter()

    def until_now(self, part: str) -> None:
        """Since the last mark, this part ran."""
        now = perf_counter()
        self.parts.setdefault(part, []).append(now - self.last)
        self.last = perf_counter()

    def microseconds(self, steps: int) -> dict[str, float]:
        """Of a step, by part: the median, times how often a step has the part."""
        return {name: 1e6 * statistics.median(took) * len(took) / steps for name, took in self.parts.items()}


def marked(function: Callable[..., Any], part: str, marks: Marks) -> Callable[..., Any]:
    """The function, with a mark before and after it."""

    def run(*args: Any, **kwargs: Any) -> Any:
        marks.until_now(BETWEEN if part != PARTS["training_step"] else AROUND)
        result = function(*args, **kwargs)
        marks.until_now(part)
        return result

    run.__signature__ = getattr(function, "__signature__", None)  # type: ignore[attr-defined]  # as without marks
    return run


def updated(function: Callable[..., Any], marks: Marks) -> Callable[..., Any]:
    """The hook that all others of a step run in, with a mark behind it, where the weights are updated."""

    def run(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        marks.until_now(UPDATE)
        return result

    return run


class Rival(Callback):
    """A bare epoch before each epoch of the fit."""

    def __init__(self) -> None:
        self.marks, self.steps = Marks(), 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Forecaster)
        self.model = copy.deepcopy(pl_module)
        self.optimizer = self.model.optimizer(self.model.parameters())

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loader: Any = trainer.train_dataloader
        with contextlib.suppress(StopIteration):
            for rows in loader.sampler:
                self._step(loader.dataset, rows)

    def _step(self, dataset: WindowDataset, rows: torch.Tensor) -> None:
        model, mark = self.model, self.marks.until_now
        x, y, _ = dataset[rows]
        mark(AROUND)
        raw = model.head(model.network(x)).view(len(x), model.n_targets, -1)
        loss = model.objective.loss(raw, (y - model.y_loc) / model.y_scale)
        mark(PARTS["training_step"])
        self.optimizer.zero_grad()
        mark(PARTS["optimizer_zero_grad"])
        loss.backward()
        mark(PARTS["backward"])
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        mark(PARTS["configure_gradient_clipping"])
        self.optimizer.step()
        mark(UPDATE)
        self.steps += 1


@contextlib.contextmanager
def marks_of_a_fit() -> Iterator[Marks]:
    """Marks that each step of a fit makes."""
    marks = Marks()
    with contextlib.ExitStack() as stack:
        for name, part in PARTS.items():
            stack.enter_context(patch.object(Forecaster, name, marked(getattr(Forecaster, name), part, marks)))
        stack.enter_context(patch.object(Forecaster, "optimizer_step", updated(Forecaster.optimizer_step, marks)))
        yield marks


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    epochs, rival = parser.parse_args().epochs, Rival()
    torch.set_num_threads(1)
    set_up_messages()
    guard_parser()

    class WithRival(ForecastCLI):
        def before_fit(self) -> None:
            self.trainer.callbacks.insert(0, rival)  # type: ignore[attr-defined]  # set by Lightning's connectors

    with tempfile.TemporaryDirectory() as folder, marks_of_a_fit() as marks:
        words = ["fit", f"--runs_dir={folder}", "--trainer.accelerator=cpu", f"--trainer.max_epochs={epochs}"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            WithRival([*words, f"--early_stopping.patience={epochs}", "--data.batch_size=32", *TINY])
    bare, fit = (one.microseconds(rival.steps) for one in (rival.marks, marks))
    print(f"{'microseconds of a step':<76} bare   fit  more")
    for part in [*PARTS.values(), UPDATE, BETWEEN, AROUND]:
        row = bare.get(part, 0.0), fit[part]
        print(f"{part:<76} {row[0]:>4,.0f} {row[1]:>5,.0f} {row[1] - row[0]:>+5,.0f}")
    together = sum(bare.values()), sum(fit.values())
    print(f"{'together':<76} {together[0]:>4,.0f} {together[1]:>5,.0f} {together[1] - together[0]:>+5,.0f}")


if __name__ == "__main__":
    main()
