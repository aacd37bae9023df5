"""Metrics of the machine while a run goes on, by MLflow's own collectors: CPU, memory, disk, network, GPU."""

from __future__ import annotations

import time
from contextlib import suppress

from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

COLLECTORS: list[type[BaseMetricsMonitor]] = []
with suppress(ImportError):  # psutil does not know this system
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    COLLECTORS += [CPUMonitor, DiskMonitor, NetworkMonitor]


class Machine:
    """Samples the machine.

    Args:
        every: Seconds between two samples.
    """

    def __init__(self, every: float = 10.0) -> None:
        self.every = every
        self._next = 0.0
        self._collectors: list[BaseMetricsMonitor] = [collector() for collector in COLLECTORS]
        with suppress(ImportError, RuntimeError):  # no NVIDIA library, or no such GPU
            self._collectors.append(GPUMonitor())

    def sample(self, now: bool = False) -> dict[str, float]:
        """The metrics of now; none before it is time.

        Args:
            now: Whether it is time in any case.
        """
        if time.monotonic() < self._next and not now:
            return {}
        self._next = time.monotonic() + self.every
        metrics: dict[str, float] = {}
        for collector in self._collectors:
            collector.collect_metrics()
            metrics |= {name: float(value) for name, value in collector.aggregate_metrics().items()}
            collector.clear_metrics()
        return metrics
