"""How fast the network trains: python -m tests.benchmarks.network [--rounds N].

The default network, as it is and with bf16, next to the same network of plain layers: all steps of the window look at
each other, PyTorch's own dropout, and the allocator as the system has it. And a network of a million weights
(`model/reference.yaml`) next to the speed of a matrix product, which no network exceeds.

One thread; windows of 60 bars. The rivals take turns within each round, and compared are medians of CPU time. The
script ends with 1 where a goal is missed; on a machine with other work the figures are lower. The goal of bf16 is one
of CPUs that compute with it natively: on others it is printed and not judged, and `precision: auto` does not choose it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn_lstm.model.layers import Dropout, SelfAttention
from cnn_lstm.model.network import CNNLSTM
from cnn_lstm.training.allocator import Allocator
from cnn_lstm.training.trainer import native_on_cpu

LENGTH = 60
STEPS = 4  # of a turn
REFERENCE: dict[str, Any] = {
    "n_features": 16,
    "channels": [64, 128],
    "conv_dropout": 0.2,
    "lstm_hidden": 128,
    "lstm_layers": 2,
    "bidirectional": True,
    "lstm_dropout": 0.2,
    "attention_heads": 8,
    "pooling": "attention",
}
SHARE, FASTER, FASTER_BF16 = 0.76, 1.45, 2.0


def plain_attention(self: SelfAttention, x: Tensor, last: bool = False) -> Tensor:
    """All steps look, by PyTorch's own attention."""
    drop = self.dropout.p if self.dropout.training else 0.0
    mixed = F.scaled_dot_product_attention(*self._split(x), dropout_p=drop)
    y: Tensor = self.norm(x + self.out(mixed.transpose(1, 2).reshape(x.shape)))
    return y


@contextmanager
def ours() -> Iterator[None]:
    """As a fit on a CPU trains."""
    allocator, model = Allocator(), SimpleNamespace(device=torch.device("cpu"))
    allocator.on_train_start(None, model)  # type: ignore[arg-type]  # it looks at the device alone
    yield
    allocator.on_train_end(None, model)  # type: ignore[arg-type]


@contextmanager
def plain() -> Iterator[None]:
    """Plain layers."""
    with patch.object(SelfAttention, "forward", plain_attention), patch.object(Dropout, "forward", nn.Dropout.forward):
        yield


@contextmanager
def ours_bf16() -> Iterator[None]:
    """As a fit with bf16-mixed."""
    with ours(), torch.autocast("cpu", torch.bfloat16):
        yield


class Rival:
    """A network in training.

    Args:
        way: What is around its steps.
        arguments: Of the network.
        batch: Windows of a batch, B.
    """

    def __init__(self, way: Any, arguments: dict[str, Any], batch: int) -> None:
        torch.manual_seed(0)
        self.way, self.seconds = way, list[float]()
        self.network = CNNLSTM(**arguments).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), fused=True)
        self.x = torch.randn(batch, LENGTH, arguments["n_features"])

    def steps(self, count: int) -> None:
        """Trains, and keeps the seconds of the steps."""
        around: AbstractContextManager[None] = self.way()
        with around:
            for _ in range(count):
                since = time.process_time()
                self.network(self.x).square().mean().backward()
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.seconds.append(time.process_time() - since)
        del self.seconds[-count]  # the first step of a turn fills the caches


_rival: Rival


def _prepare(way: Any, arguments: dict[str, Any], batch: int) -> None:
    global _rival
    torch.set_num_threads(1)
    _rival = Rival(way, arguments, batch)


def _train(steps: int) -> list[float]:
    _rival.steps(steps)
    return _rival.seconds


def race(arguments: dict[str, Any], batch: int, ways: Sequence[Any], rounds: int) -> list[float]:
    """Median seconds of a step of each way, each in a process of its own: what one does to memory slows no other."""
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = [stack.enter_context(spawn.Pool(1, _prepare, (way, arguments, batch))) for way in ways]
        seconds = [[pool.apply(_train, (STEPS,)) for pool in pools] for _ in range(rounds)][-1]
    return [median(of_rival) for of_rival in seconds]


def flops(network: dict[str, Any]) -> float:
    """Multiplications and additions of a training step for one window, three times those of the forward pass."""
    width: int = network["n_features"]
    total = 0.0
    for channels in network["channels"]:
        total, width = total + 2 * 3 * width * channels, channels
    hidden = network["lstm_hidden"]
    for _ in range(network["lstm_layers"]):
        total, width = total + 2 * 2 * 4 * hidden * (width + hidden), 2 * hidden
    total += 2 * width * 4 * width + 2 * 2 * LENGTH * width  # projections, and what the steps see of each other
    return 3 * total * LENGTH


def sgemm(size: int = 1024) -> float:
    """Multiplications and additions per second of a matrix product."""
    a, b, seconds = torch.randn(size, size), torch.randn(size, size), []
    for _ in range(20):
        since = time.process_time()
        torch.mm(a, b)
        seconds.append(time.process_time() - since)
    return 2.0 * size**3 / median(seconds)


def main() -> int:
    """Prints each figure next to its goal; 1 if one is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds, reached = parser.parse_args().rounds, True
    torch.set_num_threads(1)
    for batch in (64, 256):
        slow, fast, half = race({"n_features": 14}, batch, [plain, ours, ours_bf16], rounds)
        print(
            f"default network, batch {batch}: {1e3 * slow:.1f} ms a step of plain layers, {1e3 * fast:.1f} ms of ours"
        )
        for name, seconds, goal in (("fp32", fast, FASTER), ("bf16", half, FASTER_BF16)):
            judged = name == "fp32" or native_on_cpu()
            verdict = slow / seconds >= goal
            said = ("yes" if verdict else "NO") if judged else "not judged, this CPU has no instructions for it"
            print(f"  {name}: {slow / seconds:.2f}x (goal {goal}): {said}", flush=True)
            reached &= verdict or not judged
    for batch in (64, 256, 1024):
        limit = sgemm()
        (seconds,) = race(REFERENCE, batch, [ours], max(2, rounds * 64 // batch))
        share = flops(REFERENCE) * batch / seconds / median([limit, sgemm()])
        rate = f"{batch / seconds:,.0f} windows/s, {share:.0%} of a matrix product"
        print(
            f"reference network, batch {batch}: {rate} (goal {SHARE:.0%}): {'yes' if share >= SHARE else 'NO'}",
            flush=True,
        )
        reached &= share >= SHARE
    print(f"all goals are reached: {'yes' if reached else 'NO'}")
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
