"""One run, one folder: where its files lie, which folder a command works in, what `best` and `last` mean."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from cnn_lstm.bounded import without_digest
from cnn_lstm.errors import CheckpointError, ConfigError, interruption
from cnn_lstm.files import disk_errors_in_one_line, flush_folder, make_folder, read_json
from cnn_lstm.locks import LOCK, Lock, take_folder
from cnn_lstm.model.checkpoints import candidates, plain_members, read_checkpoint, require_single
from cnn_lstm.model.contract import refuse_differences
from cnn_lstm.plain_values import differences
from cnn_lstm.specs import class_path, imported
from cnn_lstm.training.launchers import is_first_process, name_of_launch

ENVIRONMENT_KEY = "CNN_LSTM_RUN_DIR"
SAVED = "# lightning.pytorch=="  # how the configuration of a run begins
LEVELS = 3  # of folders, within a run, that commands write files into
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

    def read_summary(self) -> dict[str, Any]:
        """What summary.json holds.

        Raises:
            DataError: E339, if it is damaged.
        """
        return read_json(self.summary, "summary of a fit")

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

    def model_file(self, checkpoint: str | Path | None = None) -> Path:
        """The checkpoint file that a user means.

        Args:
            checkpoint: `best`, `last`, or a file; None is the best one, or the last one of a fit without validation.

        Raises:
            CheckpointError: If the run has no such file.
        """
        if checkpoint is None:
            best = self.checkpoints / "best.ckpt"
            return best if best.is_file() else self.checkpoint("last")
        return self.checkpoint(str(checkpoint)) if str(checkpoint) in ("best", "last") else Path(checkpoint)


@final
class OneWriter:
    """Keeps other writers out of the run folder that a command works in, until the end of the `with` block.

    Of the processes of a distributed strategy the first one holds the lock, since it alone writes.

    Args:
        command: Name of the command.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.lock: Lock | None = None

    def __enter__(self) -> OneWriter:
        """Holds nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Lets others write."""
        if self.lock is not None:
            self.lock.release()

    @property
    def descriptor(self) -> int | None:
        """What processes that work in the folder have to inherit to hold the lock too; None if nothing is held."""
        return None if self.lock is None else self.lock.descriptor

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Says of what fails in here that the folder is gone, if it is: files that are open meet that in many ways.

        Raises:
            ResourceError: E606.
        """
        try:
            yield
        except Exception:
            self.require_in_place()
            raise

    def require_in_place(self) -> None:
        """Refuses to go on where the folder was moved or removed meanwhile: what is written would lie elsewhere.

        Raises:
            ResourceError: E606.
        """
        if self.lock is not None:
            self.lock.require_in_place()

    def take(self, folder: Path) -> None:
        """Makes the folder where there is none, and locks it, before anything is read or written there.

        Args:
            folder: The folder.

        Raises:
            ConfigError: E243, if another command writes there.
            ResourceError: E606, if it cannot be written.
        """
        if is_first_process():
            self.lock = take_folder(folder, self.command, "run", "--run_dir")


def new_run(explicit: str | None, root: str, name: str, writer: OneWriter) -> RunFolder:
    """A folder for a new fit: the given one, or `root/name-date-time`.

    Processes that a distributed strategy starts from this one share the folder through the environment; those that
    a launcher has started have the name of the launch in place of the time.

    Args:
        explicit: The given one.
        root: Where a folder is made that nobody named.
        name: What it is called after.
        writer: Takes the folder.

    Raises:
        ConfigError: If the given folder holds a run already, or another command writes there.
        ResourceError: If the folder cannot be made.
    """
    shared = os.environ.get(ENVIRONMENT_KEY)
    if shared and "LOCAL_RANK" in os.environ:
        return RunFolder(Path(shared))
    launch = None if explicit else name_of_launch(os.environ)
    if explicit or launch:
        path = Path(explicit or Path(root) / f"{name}-{launch}")
        will_make(path)
    else:
        path = unused_folder(Path(root) / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    writer.take(path)
    run = RunFolder(path)
    if any(run.checkpoints.glob("*.ckpt")) or run.members.is_dir():
        fix = f"choose another --run_dir, or continue it with --ckpt_path {run.newest}"
        raise ConfigError("the run folder holds a run already", str(path), fix, code=206)
    _current.set(path)
    os.environ[ENVIRONMENT_KEY] = str(path)
    return run


def unused_folder(path: Path) -> Path:
    """Makes a folder that nobody has yet, of this name or with a number behind it.

    Commands that begin in the same second get different ones.

    Args:
        path: The folder.

    Raises:
        ResourceError: E606, if it cannot be made.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    number, unused = 1, path
    with disk_errors_in_one_line("cannot write the run folder", path, "choose another --run_dir"):
        make_folder(path.parent)
        while True:
            try:
                unused.mkdir()
            except FileExistsError:
                number += 1
                unused = path.with_name(f"{path.name}-{number}")
            else:
                with suppress(PermissionError):  # as in `make_folder`
                    flush_folder(path.parent)
                _made.set((unused, *missing))
                return unused


def will_make(path: Path) -> None:
    """Notes a folder that is made next, for `empty_run_removed`; one that exists stays as it was noted.

    Args:
        path: The folder.
    """
    if not path.exists():
        _made.set(tuple(folder for folder in (path, *path.parents) if not folder.exists()))


@contextmanager
def empty_run_removed() -> Iterator[None]:
    """Removes the folders that `new_run` and the like make in here, if an error comes before anything lies in them."""
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


def run_of_checkpoint(file: Path) -> RunFolder:
    """The run that a checkpoint file belongs to: the folder above `checkpoints`, else the folder that it lies in.

    `repeat` keeps what belongs to its ensemble.ckpt in the folder `ensemble` next to it.
    """
    folder, named = file.resolve().parent, RunFolder(file.resolve().with_suffix(""))
    if folder.name == "checkpoints":
        return RunFolder(folder.parent)
    return named if named.config.is_file() else RunFolder(folder)


def run_around(file: Path) -> RunFolder | None:
    """The run that a file lies in, or is to lie in: the nearest folder above it that is one, or that is being written.

    Args:
        file: The file.
    """
    for folder in list(file.resolve().parents)[:LEVELS]:
        run = RunFolder(folder)
        if (folder / LOCK).exists() or (run.config.is_file() and run.checkpoints.is_dir()):
            return run
    return None


@contextmanager
def writing(file: Path | None, command: str) -> Iterator[None]:
    """Keeps other writers out of the run that a file is written into, if it lies in one.

    Args:
        file: The file; None if none is written.
        command: Name of the command.

    Raises:
        ConfigError: E243, if another command writes there.
    """
    run = None if file is None else run_around(file)
    if run is None:
        yield
        return
    with take_folder(run.path, command, "run", "--output"):
        yield


def resolve_run(
    command: str,
    config: Any,
    defaults: dict[str, dict[str, Any]],
    files: list[Path],
    writer: OneWriter | None,
) -> RunFolder:
    """The run folder of a command; sets `ckpt_path` to a file where a checkpoint is named.

    Args:
        command: Name of the command.
        config: Its configuration.
        defaults: Spec of each class that a configuration may leave out, by its key.
        files: Configuration files that the command line names.
        writer: Takes the folder; None for a command that only reads there.

    Raises:
        CheckpointError: If the command needs a checkpoint and none is named, it is of another model, or a fit is to go
            on from an ensemble.
        ConfigError: If another command writes in the folder.
    """
    given = config.get("ckpt_path")
    if given is None:
        if writer is None or command != "fit":
            raise CheckpointError(
                f"{command} needs a checkpoint",
                fix="add --ckpt_path RUN/checkpoints/best.ckpt, or best|last with --run_dir RUN",
                code=437,
            )
        return new_run(config.run_dir, config.runs_dir, name_of_run(files), writer)
    if str(given) in ("best", "last"):
        given = _run_with_checkpoints(config.run_dir, files).checkpoint(str(given))
    checkpoint = read_checkpoint(given)
    if command == "fit":
        require_single(checkpoint, given)
    require_same_model(checkpoint, config.model, defaults)
    config.ckpt_path = str(given)
    run = RunFolder(Path(config.run_dir)) if config.run_dir else run_of_checkpoint(Path(given))
    if writer is not None:
        writer.take(run.path)
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
    before = without_digest(run.config.read_text(encoding="utf-8", errors="replace"))
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
