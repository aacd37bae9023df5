"""Files that are whole or unchanged, also after a power cut."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cnn_lstm.errors import ConfigError, ResourceError


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Replaces a file in one step: content to the disk, then the name, then the folder.

    Any other order can lose the old file and the new one in a power cut. Until then the content has a hidden name,
    which bears the id of the process; what a killed process has left under such a name is removed.

    Args:
        path: The file.
        write: Writes the content to the path that it is given, in the same folder.

    Raises:
        OSError: If the disk is full, the folder cannot be written or a flush fails; the old file stays, but for a
            flush of the folder, after which either file may come back from a power cut.
    """
    unfinished = partial_name(path)
    _remove_abandoned(path)
    try:
        write(unfinished)
        flush_file(unfinished)
        unfinished.replace(path)
        flush_folder(path.parent)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def partial_name(path: Path) -> Path:
    """What a file or folder is called while this process writes it.

    Example:
        >>> partial_name(Path("runs/config.yaml")).name == f".config.yaml.{os.getpid()}.partial"
        True
    """
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _remove_abandoned(path: Path) -> None:
    """Removes what killed processes have left of a file; a name without an id was given by older versions."""
    begin, end = f".{path.name}.", "partial"
    with suppress(OSError):
        for entry in os.scandir(path.parent):
            if entry.name.startswith(begin) and entry.name.endswith(end):
                writer = entry.name[len(begin) : -len(end)].rstrip(".")
                if not writer or (writer.isdecimal() and not _is_alive(int(writer))):
                    left = Path(entry.path)
                    shutil.rmtree(left) if entry.is_dir(follow_symlinks=False) else left.unlink()


def _is_alive(pid: int) -> bool:
    """Whether there is a process with this id; taken for granted where asking would end it."""
    if os.name != "posix" or pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it belongs to somebody else
        return True
    return True


def flush_file(path: Path) -> None:
    """Waits until the content of a file is on the disk.

    Raises:
        OSError: If it cannot be written there: what was written before may be lost then, and nothing says so later.
    """
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_folder(path: Path) -> None:
    """As `flush_file`, for the names in a folder.

    Raises:
        OSError: If they cannot be written.
    """
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    try:
        flush_file(path)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system without flushes of folders, as PostgreSQL's durable_rename
            raise


def flush_with_name(path: Path) -> None:
    """As `flush_file`, and for the name: a power cut may lose that of a new file, however often the file is flushed.

    Raises:
        OSError: If content or name cannot be written to the disk.
    """
    flush_file(path)
    flush_folder(path.parent)


def make_folder(path: Path, *, parents: bool = True) -> None:
    """Makes a folder where there is none; a power cut does not take it away, with all that is written into it later.

    Args:
        path: The folder.
        parents: Whether to make the folders that it lies in, too.

    Raises:
        OSError: If it cannot be made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     make_folder(Path(folder) / "runs" / "one")
        ...     print((Path(folder) / "runs" / "one").is_dir())
        True
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=parents, exist_ok=True)
    for folder in missing:
        with suppress(PermissionError):  # names may be added to a folder that cannot be read
            flush_folder(folder.parent)


def replace_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Replaces a folder: a kill leaves the old one, none, or the whole new one, and never a part.

    Args:
        path: The folder.
        write: Makes the folder that it is given, next to the old one, and writes all files in it.

    Raises:
        OSError: If the disk is full or cannot be written.
    """
    unfinished = partial_name(path)
    shutil.rmtree(unfinished, ignore_errors=True)
    _remove_abandoned(path)
    try:
        write(unfinished)
        for folder, _, names in os.walk(unfinished, topdown=False):
            for name in names:
                flush_file(Path(folder, name))
            flush_folder(Path(folder))
        shutil.rmtree(path, ignore_errors=True)
        unfinished.replace(path)
        flush_folder(path.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


UNITS = ("B", "KB", "MB", "GB")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def size_text(size: float) -> str:
    """A size in bytes, for people.

    Args:
        size: The size.

    Example:
        >>> size_text(0), size_text(1_234_567)
        ('0 B', '1.2 MB')
    """
    unit = 0
    while size >= 999.5 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.{int(unit > 0)}f} {UNITS[unit]}"


def room_text(path: Path, needed: int | None = None) -> str:
    """How much room is needed and free at a place, for a message; empty where nobody can say.

    Args:
        path: The file or folder that is written; it does not have to exist.
        needed: Size in bytes of what is written.

    Example:
        >>> room_text(Path("/"), 2_000_000).startswith("2.0 MB needed, ")
        True
    """
    parts = [] if needed is None else [f"{size_text(needed)} needed"]
    place = next((place for place in (path, *path.absolute().parents) if place.exists()), Path("/"))
    with suppress(OSError):
        parts.append(f"{size_text(shutil.disk_usage(place).free)} free")
    return ", ".join(parts)


def reason_text(error: OSError, path: Path, needed: int | None = None) -> str:
    """What the disk refuses, with the room that there is where it is a matter of room.

    Args:
        error: What it says.
        path: The file or folder that is written.
        needed: Size in bytes of what is written.
    """
    reason = error.strerror or str(error) or type(error).__name__
    room = room_text(path, needed) if error.errno in FULL else ""
    return f"{reason} ({room})" if room else reason


@contextmanager
def disk_errors_in_one_line(what: str, path: Path, fix: str) -> Iterator[None]:
    """Reports what the disk refuses.

    Args:
        what: What cannot be done.
        path: The file or folder.
        fix: What the user can do.

    Raises:
        ResourceError: E606, for an OSError.
    """
    try:
        yield
    except OSError as error:
        raise ResourceError(what, f"{path}: {reason_text(error, path)}", fix, code=606) from error


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `replace_file`, and reports what goes wrong in one line.

    Args:
        path: The file.
        write: Writes the content to the path that it is given, in the same folder.

    Raises:
        ResourceError: If the disk is full or the folder cannot be written.

    Example:
        >>> write_whole(Path("greeting.txt"), lambda partial: partial.write_text("hello"))  # doctest: +SKIP
    """
    with disk_errors_in_one_line("cannot write the file", path, "make room for it, or choose another folder"):
        replace_file(path, write)


def write_text_whole(path: Path, text: str) -> None:
    """Writes a text in UTF-8 by `write_whole`."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def refuse_input_as_output(output: Path, inputs: Iterable[str | Path]) -> None:
    """Refuses to write over a file that a command reads.

    Args:
        output: The file to write.
        inputs: Files to read; those that do not exist are passed over.

    Raises:
        ConfigError: E284.
    """
    for file in map(Path, inputs):
        if output.exists() and file.exists() and output.samefile(file):
            what, fix = "the output would replace a file that is read", "give --output another name"
            raise ConfigError(what, str(output), fix, code=284)
