"""One run, one folder: where its files lie, which folder a command works in, what `best` and `last` mean."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_lstm.errors import CheckpointError, ConfigError, interruption
from cnn_lstm.files import disk_errors_in_one_line
from cnn_lstm.model.checkpoints import candidates, plain_members, read_checkpoint, require_single
from cnn_lstm.model.contract import refuse_differences
from cnn_lstm.plain_values import differences
from cnn_lstm.specs import class_path, imported

ENVIRONMENT_KEY = "CNN_LSTM_RUN_DIR"
SAVED = "# lightning.pytorch=="  # how the configuration of a run begins
_made: ContextVar[tuple[Path, ...]] = ContextVar(
    "folders that were made for a run, the innermost one first", default=()
)
_current: ContextVar[Path | None] = ContextVar("folder of the run that is at work", default=None)


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run.

    Attributes:
        path: The folder.
        made: Folders that were made for it, the outermost one first.
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of best.ckpt and last.ckpt."""
        return self.path / "checkpoints"

    @property
    def members(self) -> Path:
        """Folder of the runs of an ensemble's members; only a fit of an ensemble makes it."""
        return self.path / "members"

    @property
    def config(self) -> Path:
        """The configuration that reruns the run."""
        return self.path / "config.yaml"

    @property
    def summary(self) -> Path:
        """Best epoch, and what the fit took."""
        return self.path / "summary.json"

    @property
    def validation(self) -> Path:
        """Forecasts of the validation part; a trial of a sweep writes them."""
        return self.path / "validation.parquet"

    @property
    def tracking(self) -> Path:
        """Folder of the MLflow record."""
        return self.path / "tracking"

    @property
    def model(self) -> Path:
        """The best checkpoint as an MLflow model."""
        return self.path / "model"

    @property
    def newest(self) -> str:
        """Which checkpoint a fit goes on from: `best` where it was killed before the first `last` was written."""
        written = [alias for alias in ("last", "best") if (self.checkpoints / f"{alias}.ckpt").is_file()]
        return written[0] if written else "last"

    def checkpoint(self, alias: str) -> Path:
        """The file that `best` or `last` means.

        Raises:
            CheckpointError: If the run has no such file.
        """
        file = self.checkpoints / f"{alias}.ckpt"
        if not file.is_file():
            raise CheckpointError(f"no {alias} checkpoint", str(file), candidates(file), code=437)
        return file


def new_run(explicit: str | None, root: str, name: str) -> RunFolder:
    """A folder for a new fit: the given one, or `root/name-date-time`.

    Processes that a distributed strategy starts from this one share the folder through the environment.

    Raises:
        ConfigError: If the given folder holds a run already.
        ResourceError: If the folder cannot be made.
    """
    shared = os.environ.get(ENVIRONMENT_KEY)
    if shared and "LOCAL_RANK" in os.environ:
        return RunFolder(Path(shared))
    path = Path(explicit) if explicit else _unused(Path(root) / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    run = RunFolder(path)
    if any(run.checkpoints.glob("*.ckpt")) or run.members.is_dir():
        fix = f"choose another --run_dir, or continue it with --ckpt_path {run.newest}"
        raise ConfigError("the run folder holds a run already", str(path), fix, code=206)
    _current.set(path)
    _made.set(tuple(folder for folder in (path, *path.parents) if not folder.exists()))
    require_writable(path)
    os.environ[ENVIRONMENT_KEY] = str(path)
    return RunFolder(path)


@contextmanager
def empty_run_removed() -> Iterator[None]:
    """Removes the folders that `new_run` makes in here, if an error comes before anything lies in them."""
    token = _made.set(())
    try:
        yield
    except BaseException:
        for folder in _made.get():
            try:
                folder.rmdir()
            except OSError:  # something lies there, or somebody else removed it
                break
        raise
    finally:
        _made.reset(token)


@contextmanager
def interruption_with_advice() -> Iterator[None]:
    """Notes on an interruption how the fit in here goes on."""
    token = _current.set(None)
    try:
        yield
    except BaseException as error:
        path = _current.get()
        if path is not None and interruption(error) is not None:
            run = RunFolder(path)
            goes_on = run.members.is_dir() or any(run.checkpoints.glob("*.ckpt"))
            advice = f"continue with --ckpt_path {run.newest}" if goes_on else "no checkpoint was written, start again"
            error.add_note(advice)
        raise
    finally:
        _current.reset(token)


def require_writable(path: Path) -> None:
    """Makes a folder where there is none, and refuses one that cannot be written before any work is done.

    Raises:
        ResourceError: If it cannot be made or written.
    """
    with disk_errors_in_one_line("cannot write the run folder", path, "choose another --run_dir"):
        path.mkdir(parents=True, exist_ok=True)
        (path / ".writable").touch()
        (path / ".writable").unlink()


def _unused(path: Path) -> Path:
    number, unused = 2, path
    while unused.exists():
        unused, number = path.with_name(f"{path.name}-{number}"), number + 1
    return unused


def run_of_checkpoint(file: Path) -> RunFolder:
    """The run that a checkpoint file belongs to: the folder above `checkpoints`, else the folder that it lies in.

    `repeat` keeps what belongs to its ensemble.ckpt in the folder `ensemble` next to it.
    """
    folder, named = file.resolve().parent, RunFolder(file.resolve().with_suffix(""))
    if folder.name == "checkpoints":
        return RunFolder(folder.parent)
    return named if named.config.is_file() else RunFolder(folder)


def resolve_run(command: str, config: Any, defaults: dict[str, dict[str, Any]], files: list[Path]) -> RunFolder:
    """The run folder of a command; sets `ckpt_path` to a file where a checkpoint is named.

    Args:
        command: Name of the command.
        config: Its configuration.
        defaults: Spec of each class that a configuration may leave out, by its key.
        files: Configuration files that the command line names.

    Raises:
        CheckpointError: If the command needs a checkpoint and none is named, it is of another model, or a fit is to go
            on from an ensemble.
    """
    given = config.get("ckpt_path")
    if given is None:
        if command != "fit":
            raise CheckpointError(
                f"{command} needs a checkpoint",
                fix="add --ckpt_path RUN/checkpoints/best.ckpt, or best|last with --run_dir RUN",
                code=437,
            )
        return new_run(config.run_dir, config.runs_dir, name_of_run(files))
    if str(given) in ("best", "last"):
        given = _run_with_checkpoints(config.run_dir, files).checkpoint(str(given))
    checkpoint = read_checkpoint(given)
    if command == "fit":
        require_single(checkpoint, given)
    require_same_model(checkpoint, config.model, defaults)
    config.ckpt_path = str(given)
    run = RunFolder(Path(config.run_dir)) if config.run_dir else run_of_checkpoint(Path(given))
    require_writable(run.path)
    _current.set(run.path)
    return run


def name_of_run(files: list[Path]) -> str:
    """What the folder of a new run is called after: its configuration file."""
    return files[0].stem if files and files[0].name != "config.yaml" else "fit"


def named_run(run_dir: str | None, files: list[Path]) -> RunFolder:
    """The run that `best` or `last` belongs to: the given folder, or that of the config.yaml that was given.

    Args:
        run_dir: The given folder.
        files: Configuration files that the command line names.

    Raises:
        CheckpointError: If neither is given.
    """
    if run_dir:
        return RunFolder(Path(run_dir))
    run = _run_of_config(files)
    if run is not None:
        return run
    raise CheckpointError("best|last of which run?", fix="add --run_dir RUN, or use --config RUN/config.yaml", code=437)


def _run_with_checkpoints(run_dir: str | None, files: list[Path]) -> RunFolder:
    """`named_run`; where the given folder holds no checkpoints, it is for the results, and the config.yaml counts."""
    run = named_run(run_dir, files)
    return run if not run_dir or any(run.checkpoints.glob("*.ckpt")) else _run_of_config(files) or run


def _run_of_config(files: list[Path]) -> RunFolder | None:
    """The run whose config.yaml was given."""
    return next((RunFolder(file.resolve().parent) for file in files if file.name == "config.yaml"), None)


def keep_config_of_user(run: RunFolder, text: str, files: list[Path]) -> None:
    """Refuses a new run in a folder whose config.yaml the user wrote, since that of the run would replace it.

    A fit that failed before its first checkpoint has left a file too; it is ours unless the user gives it as input.

    Args:
        run: The folder.
        text: The configuration that the run would keep.
        files: Configuration files that the command line names.

    Raises:
        ConfigError: E284.
    """
    if not run.config.is_file() or any(run.checkpoints.glob("*.ckpt")) or run.members.is_dir():
        return
    before = run.config.read_text(encoding="utf-8", errors="replace")
    given = any(file.is_file() and file.samefile(run.config) for file in files)
    if before != text and (given or not before.startswith(SAVED)):
        what, fix = "fit would write its own config.yaml over this file", "choose another --run_dir, or rename the file"
        raise ConfigError(what, str(run.config), fix, code=284)


def require_same_model(checkpoint: dict[str, Any], model: Any, defaults: dict[str, dict[str, Any]]) -> None:
    """Refuses a checkpoint whose network, objective or linear path is not that of the configuration.

    Members of an ensemble may differ in their network: one of them has to be that of the configuration.

    Args:
        checkpoint: As `read_checkpoint` returns it.
        model: The section `model` of the configuration.
        defaults: Spec of each class that a configuration may leave out, by its key.

    Raises:
        CheckpointError: Naming each difference.
    """
    pairs = [_saved_and_asked(plain, model, defaults) for plain in plain_members(checkpoint)]
    if all(differences(*pair) for pair in pairs):
        refuse_differences(*pairs[0])


def _saved_and_asked(
    plain: Mapping[str, Any], model: Any, defaults: dict[str, dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Network, objective and linear path of a model in plain values, and those of a configuration, by dotted key."""
    values: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for part in ("network", "objective"):
        saved: dict[str, Any] = plain[part]
        asked: dict[str, Any] = model[part].as_dict() if model[part] else dict(defaults[f"model.{part}"])
        # an argument that the configuration does not name is the saved one
        arguments = saved["init_args"] | (asked.get("init_args") or {})
        values[0].update(_by_dotted_key(f"model.{part}", saved["class_path"], saved["init_args"]))
        # YAML may name a class where it is re-exported; the parser has imported it already
        values[1].update(_by_dotted_key(f"model.{part}", class_path(imported(asked["class_path"])), arguments))
    if "linear" in plain:  # older checkpoints do not say it, and have no line
        values[0]["model.linear"], values[1]["model.linear"] = plain["linear"], model.linear or "off"
    return values


def _by_dotted_key(part: str, class_path: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A class and its arguments, but for the number of features, which the data gives."""
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}
    return {part: class_path} | {f"{part}.{key}": value for key, value in plain.items() if key != "n_features"}
