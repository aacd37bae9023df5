"""The form of monitor.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from cnn_lstm.service.health import Verdict


class SignRecord(TypedDict):
    """A sign in monitor.json."""

    name: str
    verdict: Verdict
    reason: str


class PastLook(TypedDict):
    """One evening in the history of monitor.json."""

    checked: str
    last_bar: str
    model: str
    verdict: Verdict
    metrics: Mapping[str, float | None]


class Monitored(TypedDict):
    """What monitor.json holds; the last look, and one line for each evening before."""

    format: int
    checked: str
    last_bar: str
    model: str
    verdict: Verdict
    metrics: Mapping[str, float | None]
    reasons: list[str]
    service_since: str
    signs: list[SignRecord]
    losses: Mapping[str, Mapping[str, tuple[float | None, float | None]]]
    features: Mapping[str, tuple[float, float | None]]
    history: list[PastLook]
