"""Who a run is: its parameters, its data, the code and the versions it ran with."""

from __future__ import annotations

import getpass
import json
import math
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cnn_lstm.credentials import without_credentials
from cnn_lstm.data.market_data import MarketData
from cnn_lstm.plain_values import flattened
from cnn_lstm.training.tracking.events import Dataset, Profile

GIT_SECONDS = 5
DIFF_BYTES = 5_000_000
TYPES = {"f": "double", "i": "long", "M": "datetime"}  # of columns in MLflow, by numpy's kind; else "string"
PACKAGES = ("cnn-lstm", "torch", "lightning")


def parameters(config: str) -> dict[str, str]:
    """Every value of a configuration by its dotted name.

    Args:
        config: YAML text.

    Example:
        >>> parameters("data: {window: 60, targets: [{class_path: A}, {class_path: B}]}")
        {'data.window': '60', 'data.targets.0.class_path': 'A', 'data.targets.1.class_path': 'B'}
    """
    return {name: str(value) for name, value in hyperparameters(config).items()}


def hyperparameters(config: str) -> dict[str, int | float | str]:
    """The same with numbers as numbers, for programs that sort runs by them.

    Args:
        config: YAML text.

    Example:
        >>> hyperparameters("{lr: 0.001, csv: true, channels: [16, 32], csv_file: null}")
        {'lr': 0.001, 'csv': 'true', 'channels': '[16, 32]', 'csv_file': 'null'}
    """
    values = flattened(yaml.safe_load(config), into=lambda items: any(isinstance(item, Mapping) for item in items))
    return {name: value if _is_plain(value) else json.dumps(value, default=str) for name, value in values.items()}


def _is_plain(value: Any) -> bool:
    """Whether a value is a text, or a number whose text is the same in JSON and in Python."""
    finite = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return finite or isinstance(value, str)


def dataset(data: MarketData, source: Mapping[str, Any]) -> Dataset:
    """What the run was trained on: source, dates, rows, SHA-256.

    Args:
        data: A data module that has read its data.
        source: Class and arguments of its source, as the configuration says.
    """
    panel, edges = data.panel, data.parts.boundaries
    name = type(data.source).__name__
    return Dataset(
        name=name,
        source_type=name,
        source=dict(source),
        schema=[{"name": name, "type": TYPES.get(kind, "string")} for name, kind in data.column_kinds.items()],
        profile=Profile(
            rows=len(panel),
            symbols=list(panel.symbols),
            first=_day(panel.time.min()),
            last=_day(panel.time.max()),
            windows={part: len(getattr(data.parts, part)) for part in ("train", "validation", "test")},
            train_from=_day(edges.train),
            validation_from=_day(edges.validation),
            test_from=_day(edges.test),
            sha256=data.fingerprint,
        ),
    )


def dataset_tags(dataset: Dataset) -> dict[str, str]:
    """The identity of a dataset as tags, by which runs can be searched.

    Args:
        dataset: The dataset.
    """
    profile = dataset.profile
    return {
        "data.source": dataset.name,
        "data.symbols": ", ".join(profile["symbols"]),
        "data.rows": str(profile["rows"]),
        "data.first": profile["first"],
        "data.last": profile["last"],
        "data.sha256": profile["sha256"],
    }


def _day(time: Any) -> str:
    return str(np.datetime64(time, "D"))


def code_tags(folder: Path, command: str) -> dict[str, str]:
    """Versions, user, and the commit of the repository that a folder lies in, under the names that MLflow shows.

    Args:
        folder: The current folder.
        command: Name of the command.
    """
    tags = {f"version.{name}": version(name) for name in PACKAGES} | {"version.python": platform.python_version()}
    tags |= {"mlflow.source.name": f"cnn-lstm {command}", "mlflow.source.type": "LOCAL", "mlflow.user": _user()}
    commit = _git(folder, "rev-parse", "HEAD").strip()
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["git.dirty"] = "true" if _git(folder, "status", "--porcelain") else "false"
        branch, url = ("rev-parse", "--abbrev-ref", "HEAD"), ("config", "--get", "remote.origin.url")
        for name, arguments in (("branch", branch), ("repoURL", url)):
            if value := _git(folder, *arguments).strip():
                tags[f"mlflow.source.git.{name}"] = value
    return tags


def uncommitted(folder: Path) -> dict[str, str]:
    """What the repository of a folder holds that its last commit does not, by file name; empty where it is clean.

    Args:
        folder: The current folder.
    """
    diff = _git(folder, "diff", "--no-ext-diff", "--no-textconv", "HEAD")
    files = {"git.diff": diff[:DIFF_BYTES], "git_status.txt": _git(folder, "status", "--porcelain")}
    return {name: text for name, text in files.items() if text}


def _git(folder: Path, *arguments: str) -> str:
    """What git prints, without credentials; empty without git or outside of a repository."""
    try:
        done = subprocess.run(
            # a repository may name a program that git starts to look for changes
            ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return without_credentials(done.stdout.decode(errors="replace"))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return "unknown"
