"""A look at a run, and what is kept of it: monitor.json with its history, the page, the metrics in MLflow."""

from __future__ import annotations

import html
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from cnn_lstm.data.market_data import MarketData
from cnn_lstm.data.sources.base import stamp
from cnn_lstm.errors import DataError
from cnn_lstm.evaluation.report import json_values
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.files import read_json, write_json_whole, write_text_whole
from cnn_lstm.hints import counted
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.locks import take_folder
from cnn_lstm.model.contract import state_digest
from cnn_lstm.service.courses import TargetCourse
from cnn_lstm.service.health import MEANINGS, Verdict
from cnn_lstm.service.json_types import Monitored, PastLook
from cnn_lstm.service.live import LIVE, read_live
from cnn_lstm.service.look import Evidence, Look, look
from cnn_lstm.service.page import monitor_page

FILE, PAGE = "monitor.json", "monitor.html"
FORMAT = 1


@dataclass(frozen=True)
class MonitoredRun:
    """What a look has found, and where it is kept.

    Attributes:
        record: What monitor.json holds.
        look: The look itself.
        files: What was written now or, unchanged, at an earlier look.
    """

    record: Monitored
    look: Look
    files: list[Path]

    @property
    def verdict(self) -> Verdict:
        """Fine, watch or stale."""
        return self.record["verdict"]

    @property
    def day(self) -> int:
        """The day of the look, since 1970: the step of its metrics in a tracker."""
        return int(self.look.now.normalize().timestamp()) // 86_400

    @property
    def text(self) -> str:
        """The verdict with its first reason, and every sign, line by line."""
        width = max(len(sign["name"]) for sign in self.record["signs"])
        reason, *more = [MEANINGS["fine"]] if self.verdict == "fine" else self.record["reasons"]
        further = f" ({counted(len(more), 'more reason')} below)" if more else ""
        lines = [f"{self.verdict.upper()}: {reason}{further}", "", self.look.period]
        lines += [f"{sign['name']:<{width}}  {sign['verdict']:<5}  {sign['reason']}" for sign in self.record["signs"]]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"


def monitor_run(
    run: Path,
    predictor: Predictor,
    data: MarketData,
    settings: Evaluation,
    *,
    since: pd.Timestamp | None = None,
    now: pd.Timestamp | None = None,
    page: bool = False,
) -> MonitoredRun:
    """Looks at a run, and keeps the verdict in its folder. The same evening twice changes nothing.

    Args:
        run: The run folder, which is locked meanwhile.
        predictor: The model of the run.
        data: Data of its configuration, with the bars of today.
        settings: Season of the naive forecast, and seed.
        since: First moment that counts as service; by default the first that the fit knew nothing of.
        now: The moment of the look, UTC; the present one by default.
        page: Whether to write monitor.html.

    Raises:
        ConfigError: E243, if another command writes in the folder.
        CheckpointError: E436, if the data are of another recipe.
        DataError: If the prices are damaged; E339, if monitor.json or live.parquet is.
        ResourceError: If a file cannot be written.
    """
    now = pd.Timestamp.now("UTC").as_unit("us") if now is None else now
    with take_folder(run, "monitor", "run"):
        before = _history(run / FILE)
        live = read_live(run) if (run / LIVE).is_file() else None
        seen = look(data, predictor, settings, live, since, now)
        record = _record(seen, state_digest(predictor.forecaster.state_dict()), before)
        files = [run / FILE]
        if _kept(run / FILE) != record:
            write_json_whole(run / FILE, record)
        if page:
            text = monitor_page(run.resolve().name, seen, record["history"])
            if not (run / PAGE).is_file() or (run / PAGE).read_text(encoding="utf-8") != text:
                write_text_whole(run / PAGE, text)
            files.append(run / PAGE)
    return MonitoredRun(record, seen, files)


def moment_of(day: str | None, name: str) -> pd.Timestamp | None:
    """A day or moment that a user gives, in UTC.

    Args:
        day: The day, ISO; None stays None.
        name: What it is called, for the message.

    Raises:
        ConfigError: E224, if it is none.

    Example:
        >>> moment_of("2013-03-01", "now")
        Timestamp('2013-03-01 00:00:00+0000', tz='UTC')
    """
    return None if day is None else pd.Timestamp(stamp(day, name), tz="UTC")


def _kept(file: Path) -> dict[str, Any]:
    """What monitor.json holds; nothing before the first look."""
    return read_json(file, "look at a run") if file.is_file() else {}


def _history(file: Path) -> list[PastLook]:
    """The evenings that are known already."""
    known = _kept(file)
    if not known:
        return []
    if known.get("format") != FORMAT or not isinstance(known.get("history"), list):
        fix = "move it away, and the next look begins another history"
        raise DataError("monitor.json is of another version", str(file), fix, code=339)
    if not all(_is_look(past) for past in known["history"]):
        fix = "restore it from a backup; or move it away, and the next look begins another history"
        raise DataError("a look in the history is damaged", str(file), fix, code=339)
    history: list[PastLook] = known["history"]
    return history


def _is_look(past: object) -> bool:
    """Whether an entry of the history has the fields of one: the file may be a stranger's."""
    if not isinstance(past, dict) or not isinstance(past.get("metrics"), dict):
        return False
    texts = all(isinstance(past.get(name), str) for name in ("checked", "last_bar", "model"))
    metrics = all(isinstance(value, float | None) for value in past["metrics"].values())
    return texts and metrics and past.get("verdict") in get_args(Verdict)


def _record(seen: Look, model: str, before: list[PastLook]) -> Monitored:
    """What monitor.json holds; a second look of a day takes the place of the first one."""
    metrics = metrics_of(seen)
    evening: PastLook = json_values(
        {
            "checked": f"{seen.now:%Y-%m-%d}",
            "last_bar": max(age.last for age in seen.ages).isoformat(),
            "model": model,
            "verdict": seen.health.verdict,
            "metrics": metrics,
        }
    )
    history = [past for past in before if past["checked"] != evening["checked"]] + [evening]
    record: Monitored = json_values(
        {
            "format": FORMAT,
            **evening,
            "reasons": seen.health.reasons,
            "service_since": seen.end.isoformat(),
            "signs": [
                {"name": sign.name, "verdict": sign.verdict, "reason": sign.reason} for sign in seen.health.signs
            ],
            "losses": {course.target: course.losses for course in seen.courses},
            "features": {one.feature: (one.index, one.usual) for one in seen.features},
            "history": sorted(history, key=lambda past: past["checked"]),
        }
    )
    plain: Monitored = json.loads(json.dumps(record))  # as it is read again
    return plain


def metrics_of(seen: Look) -> dict[str, float]:
    """The metrics of a look, by the name that a tracker shows."""
    metrics: dict[str, float] = {"monitor_novelty": seen.distances.far}
    metrics["monitor_features_moved"] = float(sum(one.drifted for one in seen.features))
    metrics["monitor_age"] = float(max(age.age for age in seen.ages))
    for course in seen.courses:
        values = _of_target(course, seen.evidence.get(course.target))
        metrics |= {f"monitor_{name}_{course.target}": value for name, value in values.items()}
    for sign in seen.health.signs:
        if sign.detection is not None and math.isfinite(sign.detection.threshold):
            metrics[f"monitor_alarm_level_{sign.name.replace(' of ', '_')}"] = sign.detection.share
    return metrics


def _of_target(course: TargetCourse, evidence: Evidence | None) -> dict[str, float]:
    values = {"dates": float(len(course.lead.service)), "lead_test": _mean(course.lead.reference)}
    if evidence is not None:
        low, high = (float(ends[-1]) for ends in (evidence.sequence.low, evidence.sequence.high))
        values |= {"lead": _mean(course.lead.service), "lead_low": low, "lead_high": high}
    if course.missed is not None:
        values["coverage_test"] = 1 - _mean(course.missed.reference)
        values["coverage"] = 1 - _mean(course.missed.service)
    return values


def _mean(values: object) -> float:
    series = pd.Series(values, dtype="float64")
    return float(series.mean())
