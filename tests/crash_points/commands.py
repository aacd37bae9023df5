"""All commands that are crashed and killed, by name."""

from __future__ import annotations

from collections.abc import Callable

from tests.crash_points import judged, scenarios, service
from tests.crash_points.scenarios import Scenario

SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "fit": scenarios.Fit,
    "tracked-fit": scenarios.TrackedFit,
    "test": scenarios.Test,
    "predict": scenarios.Predict,
    "repeat": scenarios.Repeat,
    "walk-forward": scenarios.WalkForward,
    "cross-validate": judged.CrossValidate,
    "sweep": scenarios.Sweep,
    "stream": scenarios.Streamed,
    "export": scenarios.Export,
    "explain": judged.Explain,
    "judge": judged.Judge,
    "compare": judged.Compare,
    "rl": scenarios.Agents,
    "sync-tracking": scenarios.SyncTracking,
    "update": service.Update,
    "monitor": service.Monitor,
    "roll": service.Roll,
}
