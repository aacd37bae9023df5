"""Texts that are bounded before they are parsed: a file may come from a stranger, and parsers recurse without a limit.

A YAML text of 100,000 brackets ends the process: its parser is written in C, and its stack overflows.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)
CHECKSUM = "crc32"
DIGEST = "sha256 of the lines below: "
MAX_DEPTH = 100  # of a text; a configuration has 8 levels
# the parser of PyYAML 6.0.4 and later ends at 1,000 levels itself, before its first event
PARSERS_OWN_LIMITS = ("while increasing flow level", "while increasing block level")


class TooDeepError(ValueError):
    """A text whose lists and mappings are nested deeper than any file of ours."""


class PackedError(ValueError):
    """A zip file that says it holds more than its own size."""


def require_stored(archive: zipfile.ZipFile, size: int) -> None:
    """Refuses a zip file with packed or overlapping members: those that we write are stored one after another.

    Args:
        archive: The zip file, open.
        size: Its bytes.

    Raises:
        PackedError: If it is one.
    """
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise PackedError("its content is packed")
    if sum(member.file_size for member in members) > size:
        raise PackedError("its content is larger than the file")


def require_shallow(text: str) -> None:
    """Refuses a YAML text that is nested too deep. Its events come one by one, so that no stack grows.

    Args:
        text: A YAML text.

    Raises:
        TooDeepError: If it is.
        yaml.YAMLError: If it is not YAML.

    Example:
        >>> require_shallow("[" * 100_000)
        Traceback (most recent call last):
        cnn_lstm.bounded.TooDeepError: nested deeper than 100 levels, at line 1
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.events.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.events.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:
                raise _too_deep(event.start_mark)
    except yaml.MarkedYAMLError as error:
        if error.context in PARSERS_OWN_LIMITS:
            raise _too_deep(error.problem_mark) from None
        raise


def _too_deep(mark: Any) -> TooDeepError:
    """The error at a mark of PyYAML, whose two parsers have marks of their own."""
    return TooDeepError(f"nested deeper than {MAX_DEPTH} levels, at line {mark.line + 1 if mark else 1}")


def load_yaml_values(text: str) -> Any:
    """Plain values of a YAML file of ours.

    Raises:
        TooDeepError: If it is nested too deep.
        yaml.YAMLError: If it is not plain YAML.

    Example:
        >>> load_yaml_values("{window: 60}")
        {'window': 60}
    """
    import yaml

    require_shallow(text)
    return yaml.safe_load(text)


def load_json(text: str | bytes) -> Any:
    """Plain values of a JSON text of ours.

    Raises:
        ValueError: If it is not JSON, or nested too deep.

    Example:
        >>> load_json('{"window": 60}')
        {'window': 60}
        >>> load_json("[" * 100_000)
        Traceback (most recent call last):
        cnn_lstm.bounded.TooDeepError: nested too deep
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise TooDeepError("nested too deep") from error


def with_checksum(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a JSON object, and the CRC-32 of their text.

    Example:
        >>> without_checksum(with_checksum({"kind": "resume"}))
        {'kind': 'resume'}
    """
    return dict(fields) | {CHECKSUM: zlib.crc32(json.dumps(dict(fields)).encode())}


def without_checksum(fields: Any) -> dict[str, Any]:
    """The values alone; those that an older version wrote have no checksum.

    Args:
        fields: What a JSON text holds.

    Raises:
        ValueError: If it is not an object, or does not have its checksum.
    """
    if not isinstance(fields, dict):
        raise ValueError("not an object")
    plain = {name: value for name, value in fields.items() if name != CHECKSUM}
    if CHECKSUM in fields and with_checksum(plain)[CHECKSUM] != fields[CHECKSUM]:
        raise ValueError("the content does not have its checksum")
    if CHECKSUM not in fields and _has_hidden_checksum(plain):
        raise ValueError("the name of the checksum is damaged")
    return plain


def _has_hidden_checksum(fields: Mapping[str, Any]) -> bool:
    """Whether the last value is the checksum of the others under another name, as a flipped bit leaves it."""
    *names, last = fields or [""]
    return bool(names) and fields[last] == with_checksum({name: fields[name] for name in names})[CHECKSUM]


def with_digest(text: str) -> str:
    r"""A YAML text of ours with its digest in a comment, after the comments that it begins with.

    At the end of the text, a cut would take the digest away together with the keys before it.

    Args:
        text: The text; a digest that it has already is replaced.

    Example:
        >>> print(with_digest("# of a run\nwindow: 60\n"), end="")  # doctest: +ELLIPSIS
        # of a run
        # sha256 of the lines below: ...
        window: 60
    """
    text = without_digest(text)
    lines = text.splitlines(keepends=True)
    comments = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    # with the line end before them, without which the first of them would belong to the comment
    head, rest = "".join(lines[:comments]), "\n" + "".join(lines[comments:])
    return f"{head}# {DIGEST}{hashlib.sha256(rest.encode()).hexdigest()}{rest}"


def without_digest(text: str) -> str:
    r"""The text that `with_digest` was given.

    Example:
        >>> without_digest(with_digest("window: 60\n"))
        'window: 60\n'
    """
    return re.sub(rf"^# {DIGEST}[0-9a-f]{{64}}\n", "", text, count=1, flags=re.MULTILINE)


def has_its_digest(text: str) -> bool:
    r"""Whether a text is as a command wrote it; one without a digest is taken as it is.

    Args:
        text: Content of a file, whose line ends may have been translated.

    Example:
        >>> text = with_digest("window: 60\n")
        >>> has_its_digest(text), has_its_digest(text.replace("60", "61")), has_its_digest("window: 61")
        (True, False, True)
    """
    found = re.search(rf"{DIGEST}([0-9a-f]{{64}})", text)
    return found is None or hashlib.sha256(text[found.end() :].encode()).hexdigest() == found[1]


def warn_if_changed(text: str, file: object) -> None:
    """Warns of a configuration that is not as a command wrote it: damaged, or edited, which is allowed.

    Args:
        text: Its content.
        file: Its name.
    """
    if not has_its_digest(text):
        what, fix = "the configuration was changed after a command wrote it", "if that was you, delete its line sha256"
        log.warning("[W383] %s — %s — %s", what, file, fix)
