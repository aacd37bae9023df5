"""Freed memory stays with a training on a CPU, and goes back at its end."""

from __future__ import annotations

import resource
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from cnn_lstm.training import allocator as module
from cnn_lstm.training.allocator import CHOSEN, DEFAULTS, KEEP, Allocator, _library

FAULTS = """
import resource
from types import SimpleNamespace
import torch
from cnn_lstm.training.allocator import Allocator

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(40 << 18)  # 40 MiB, as the activations of a large batch
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

module = SimpleNamespace(device=torch.device("cpu"))
callback = Allocator()
system, empty = faults(), resident()
callback.on_train_start(None, module)
faults()
kept, full = faults(), resident()
callback.on_train_end(None, module)
print(system, kept, full - empty, resident() - empty, faults())
"""


def of_device(kind: str) -> Any:
    return SimpleNamespace(device=SimpleNamespace(type=kind))


class Recorder:
    """In place of the C library."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def mallopt(self, setting: int, value: int) -> None:
        self.calls.append((setting, value))

    def malloc_trim(self, pad: int) -> None:
        self.calls.append("trim")


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(module, "_library", lambda: recorder)
    for name in CHOSEN:
        monkeypatch.delenv(name, raising=False)
    return recorder


@pytest.mark.skipif(_library() is None, reason="the allocator is not glibc's")
def test_the_next_step_takes_what_a_step_has_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CHOSEN:
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    system, kept, full, left, again = map(int, done.stdout.split())
    pages = 40 * (1 << 20) // resource.getpagesize()
    assert system > pages  # more than one of the ten blocks came from the system
    assert kept < pages / 10
    assert full >= 35
    assert left < 10
    assert again > pages


@pytest.mark.parametrize("end", ["on_train_end", "on_exception"])
def test_start_and_end(end: str, recorder: Recorder) -> None:
    callback = Allocator()
    callback.on_train_start(of_device("cpu"), of_device("cpu"))
    assert recorder.calls == list(KEEP.items())
    recorder.calls.clear()
    getattr(callback, end)(None, of_device("cpu"), *([ValueError()] if end == "on_exception" else []))
    assert recorder.calls == [*DEFAULTS.items(), "trim"]


@pytest.mark.parametrize("case", ["gpu", "off", *CHOSEN])
def test_elsewhere_nothing_changes(case: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    if case in CHOSEN:
        monkeypatch.setenv(case, "1")
    callback, model = Allocator(keep_freed=case != "off"), of_device("cuda" if case == "gpu" else "cpu")
    callback.on_train_start(model, model)
    callback.on_train_end(model, model)
    assert recorder.calls == []


def test_a_system_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_library", lambda: None)
    Allocator().on_train_start(of_device("cpu"), of_device("cpu"))
