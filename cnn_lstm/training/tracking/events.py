"""What a record holds: one class per kind of event, with the fields that the journal keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypedDict

CHALLENGER, CHAMPION = "challenger", "champion"
Status = Literal["FINISHED", "FAILED", "KILLED"]


class Parent(TypedDict):
    """The MLflow run that another one is shown under."""

    uid: str
    name: str


class Profile(TypedDict):
    """What a run was trained on; the dates are ISO dates, `windows` counts the windows of each part."""

    rows: int
    symbols: list[str]
    first: str
    last: str
    windows: dict[str, int]
    train_from: str
    validation_from: str
    test_from: str
    sha256: str


@dataclass(frozen=True)
class Start:
    """An MLflow run begins; `uri` is None for the database next to the run folder."""

    kind: ClassVar[str] = "start"
    uid: str
    name: str
    experiment: str
    tags: Mapping[str, str]
    parent: Parent | None = None
    uri: str | None = None


@dataclass(frozen=True)
class Resume:
    """A fit goes on from a checkpoint."""

    kind: ClassVar[str] = "resume"


@dataclass(frozen=True)
class End:
    """An MLflow run ends."""

    kind: ClassVar[str] = "end"
    status: Status


@dataclass(frozen=True)
class Params:
    """Parameters by name."""

    kind: ClassVar[str] = "params"
    values: Mapping[str, str]


@dataclass(frozen=True)
class Tags:
    """Tags by name."""

    kind: ClassVar[str] = "tags"
    values: Mapping[str, str]


@dataclass(frozen=True)
class Metrics:
    """Metrics of a step by name."""

    kind: ClassVar[str] = "metrics"
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Dataset:
    """What a run was trained on; `source` is the class and the arguments of its data source.

    `schema` names each column of the price table, with its type in MLflow.
    """

    kind: ClassVar[str] = "dataset"
    name: str
    source_type: str
    source: Mapping[str, Any]
    schema: list[dict[str, str]]
    profile: Profile


@dataclass(frozen=True)
class Artifact:
    """A file of the run folder, by its path within the folder, and the SHA-256 of its content when it was kept.

    What is sent is its content at that moment; journals of older versions have no SHA-256.
    """

    kind: ClassVar[str] = "artifact"
    file: str
    sha256: str | None = None


@dataclass(frozen=True)
class LoggedModel:
    """An MLflow model in the run folder; `register` is its name in the model registry, None if it has none.

    `alias` is what the version is called there; journals of older versions have none, and mean the challenger.
    """

    kind: ClassVar[str] = "model"
    folder: str
    digest: str
    step: int
    register: str | None
    alias: str = CHALLENGER


Content = Start | Resume | End | Params | Tags | Metrics | Dataset | Artifact | LoggedModel
KINDS: dict[str, type[Content]] = {
    content.kind: content for content in (Start, Resume, End, Params, Tags, Metrics, Dataset, Artifact, LoggedModel)
}
