"""What a record holds already, so that a resumed fit and a repeated test write no point twice."""

from __future__ import annotations

from collections.abc import Mapping

from cnn_lstm.training.tracking.events import Metrics, Params, Start
from cnn_lstm.training.tracking.journal import Journal


class KnownValues:
    """The last point of each metric, and the parameters.

    Args:
        fit: Whether a fit writes the record: when resumed, it repeats steps. Later commands may repeat a step with
            another value.
    """

    def __init__(self, fit: bool) -> None:
        self.fit = fit
        self._points: dict[str, tuple[int, float]] = {}  # step and value
        self._params: dict[str, str] = {}

    def recall(self, journal: Journal) -> None:
        """Reads what a journal holds.

        Args:
            journal: The journal of the record.
        """
        for event in journal.events():
            content = event.content
            if isinstance(content, Start):  # of a fit that began again in the folder
                self._points, self._params = {}, {}
            elif isinstance(content, Metrics):
                self._points |= {name: (content.step, value) for name, value in content.values.items()}
            elif isinstance(content, Params):
                self._params |= content.values

    def add_metrics(self, values: Mapping[str, float], step: int) -> dict[str, float]:
        """Adds metrics of a step; returns those that were missing.

        Args:
            values: Metrics by name.
            step: The step.
        """
        new = {name: value for name, value in values.items() if self._is_new(name, step, value)}
        self._points |= {name: (step, value) for name, value in new.items()}
        return new

    def _is_new(self, name: str, step: int, value: float) -> bool:
        last = self._points.get(name, (-1, 0.0))
        if self.fit:
            return step > last[0]
        return name != "epoch" and (step, value) != last  # Lightning counts no epochs then

    def add_params(self, values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """Adds parameters; returns the new ones, and `before -> now` of those that have another value.

        Args:
            values: Parameters by name.
        """
        new = {name: value for name, value in values.items() if name not in self._params}
        self._params |= new
        changed = {name: value for name, value in values.items() if self._params[name] != value}
        return new, {name: f"{self._params[name]} -> {value}" for name, value in changed.items()}

    def next_step(self, prefix: str) -> int:
        """The step after the last one of the metrics whose names begin with a prefix.

        Args:
            prefix: The prefix.
        """
        return 1 + max((step for name, (step, _) in self._points.items() if name.startswith(prefix)), default=-1)
