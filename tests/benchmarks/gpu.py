"""What a GPU makes of the networks: python -m tests.benchmarks.gpu [--seconds N]; under four minutes on one GPU.

The default network and one of a million weights (`model/reference.yaml`), at batches of 64 to 4,096, in single
precision without and with TF32, and with bf16: windows per second of a training loop that cuts its windows out of a
panel on the device and out of one in main memory, next to a loop over windows that are there already, and the share of
the time in which the device was busy. With `torch.compile`, and with its CUDA graphs, at one batch of each network.

Without a GPU it says so and ends with 0. `--device cpu` runs the same lines on a CPU, to try the script out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnn_lstm.data.batches import RowBatches, WindowDataset, make_loader
from cnn_lstm.model.network import CNNLSTM
from tests.benchmarks.network import LENGTH, REFERENCE

NETWORKS: dict[str, dict[str, Any]] = {"default": {"n_features": 14}, "reference": REFERENCE}
BATCHES = (64, 256, 1024, 4096)
COMPILED_BATCH = 256
PANEL_ROWS = 500_000
PRECISIONS = ("fp32", "tf32", "bf16")
MODES = {"eager": None, "compiled": "default", "CUDA graphs": "reduce-overhead"}


def loop(network: nn.Module, batches: Iterator[Tensor], precision: str, device: torch.device, seconds: float) -> float:
    """Windows per second of training steps, after three to warm up."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    count, since = 0, 0.0
    for step, x in enumerate(batches):
        if step == 3:
            _wait(device)
            count, since = 0, time.perf_counter()
        with _autocast(precision, device):
            loss = network(x.to(device, non_blocking=True)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        count += len(x)
        if step > 3 and time.perf_counter() - since > seconds:
            break
    _wait(device)
    return count / (time.perf_counter() - since)


def repeated(batch: int, features: int, device: torch.device) -> Iterator[Tensor]:
    """The same windows for ever."""
    x = torch.randn(batch, LENGTH, features, device=device)
    while True:
        yield x


def cut(batch: int, features: int, device: torch.device) -> Iterator[Tensor]:
    """Windows of a panel that lies on a device, in training order, epoch after epoch."""
    values, labels = torch.randn(PANEL_ROWS, features), torch.zeros(PANEL_ROWS, 1)
    batches = RowBatches(np.arange(LENGTH, PANEL_ROWS), batch, shuffle=True)
    loader = make_loader(WindowDataset(values.to(device), labels.to(device), LENGTH), batches)
    while True:
        for cut_out in loader:
            yield cut_out.x


def busy(work: Callable[[], object], device: torch.device) -> float:
    """Share of the time in which the device computed."""
    if device.type != "cuda":
        return float("nan")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        since = time.perf_counter()
        work()
        _wait(device)
        passed = time.perf_counter() - since
    return float(sum(event.self_device_time_total for event in profile.key_averages())) / 1e6 / passed


def main() -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each figure")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("skipped: this machine has no GPU")
        return 0
    device = torch.device(options.device)
    print(f"{torch.cuda.get_device_name() if device.type == 'cuda' else 'CPU'}, torch {torch.__version__}")
    print("network    precision  batch  bare windows/s  panel there  panel in main memory  device busy")
    for name, arguments in NETWORKS.items():
        for precision in PRECISIONS:
            for batch in options.batches:
                _print_row(name, arguments, precision, batch, device, options.seconds)
    print("network    way          batch  windows/s")
    for name, arguments in NETWORKS.items():
        for way, mode in MODES.items():
            _print_compiled(name, arguments, way, mode, device, options.seconds)
    return 0


def _print_row(
    name: str, arguments: dict[str, Any], precision: str, batch: int, device: torch.device, seconds: float
) -> None:
    features = arguments["n_features"]
    places = [
        repeated(batch, features, device),
        *(cut(batch, features, where) for where in (device, torch.device("cpu"))),
    ]
    rates = [loop(_network(arguments, device), place, precision, device, seconds) for place in places]
    network = _network(arguments, device)
    share = busy(lambda: loop(network, cut(batch, features, device), precision, device, seconds / 2), device)
    ratios = "".join(f"{rate / rates[0]:>{width}.0%}" for rate, width in zip(rates[1:], (13, 22), strict=True))
    print(f"{name:<10} {precision:<9} {batch:>6} {rates[0]:>15,.0f}{ratios} {share:>12.0%}", flush=True)


def _print_compiled(
    name: str, arguments: dict[str, Any], way: str, mode: str | None, device: torch.device, seconds: float
) -> None:
    network: Any = _network(arguments, device)
    try:
        network = network if mode is None else torch.compile(network, mode=mode)
        windows = repeated(COMPILED_BATCH, arguments["n_features"], device)
        rate = f"{loop(network, windows, 'bf16', device, seconds):,.0f}"
    except Exception as error:  # whatever a compiler may raise: it is one of the results
        rate = " ".join(f"failed: {type(error).__name__}: {error}".split())[:100]
    print(f"{name:<10} {way:<12} {COMPILED_BATCH:>5}  {rate}", flush=True)


def _network(arguments: dict[str, Any], device: torch.device) -> CNNLSTM:
    torch.manual_seed(0)
    return CNNLSTM(**arguments).to(device).train()


def _autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    raise SystemExit(main())
