"""Keeps passwords, tokens and keys out of everything that a run prints or writes.

`without_credentials` cleans a text, `clean` a tree of plain values. Where a text can be read in two ways, more is taken
out rather than less: half a message can be read again, a password that was shown cannot be taken back.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

MASK = "***"
# last part of the name of a secret; the second group may mean something else in prose
SURE = (
    r"pass[_-]?wor[dt]|passwd|pwd|passphrase|secret|api[_-]?key|access[_-]?key(?:[_-]?id)?|account[_-]?key|"
    r"private[_-]?key|secret[_-]?key|shared[_-]?key|subscription[_-]?key|client[_-]?secret|access[_-]?token|"
    r"(?:auth|refresh|id|session|security|bearer|csrf|sas|bot)[_-]?token|credentials?"
)
LIKELY = r"token|auth|sig|signature|jwt|pass|cookie"
_PREFIX = r"(?:[A-Za-z0-9]+[_.-])*[A-Za-z0-9]*?"
_LIKELY_NAME = rf"(?:[A-Za-z0-9]+[_.-])*(?:{LIKELY})"
_SURE_NAME = rf"{_PREFIX}(?:{SURE})"
_NAME = rf"(?:{_SURE_NAME}|{_LIKELY_NAME})"
_START = r"(?<![\w.-])-{0,2}"
# a value in quotes, with their escapes, or in the braces of ODBC
_QUOTED = r"""'(?:[^'\\\n]|\\.|'')*'(?!\w)|"(?:[^"\\\n]|\\.|"")*"(?!\w)"""
_CLOSING = r"""'",)>\]}"""  # ends a value, unless it goes on
_BARE = rf"""(?:\\.|[^\s&;{_CLOSING}]|[{_CLOSING}](?=[^\s&;:.{_CLOSING}]))+"""
_NOTHING = r"(?!(?:null|none|true|false|~|\*\*\*)(?![^\s,}\]'\"]))"

_SCHEME = re.compile(r"(?<![A-Za-z])[A-Za-z][A-Za-z0-9+.-]*://")
# user and password of an address: up to the last @ before its path; else anything up to an @ after `user:`
_USER = re.compile(r"""(?:[^\s/'"]|(?<=\w)['"](?=\w))*@""")
_PASSWORD = re.compile(r"""[^\s/:@\[\]'"]*:(?!\d{1,5}(?:[/?#\s'",;)\]}>]|$))(?=\S).*@(?=[\w\[.-]|$)""")
_HEADER = re.compile(
    rf"((?:proxy-)?authorization['\"]?\s*[:=]\s*)(b?(?:{_QUOTED})|digest[^\n]*|(?:[^\n'\",}}]|['\"](?=\w))+)|"
    r"(\b(?:set-)?cookie:\s*)([^\n'\"]+)|(\bbearer\s+)([\w.~+/=-]{6,})",
    re.IGNORECASE,
)
_QUERY = re.compile(rf"([?&](?:{_NAME}|key|code)=)(?:[^\n&]*(?=&\w+=)|{_BARE.replace(';', '')})", re.IGNORECASE)
_WHOLE_QUERY = re.compile(rf"([?&](?:{_NAME}|key|code)=)[^&\n]*", re.IGNORECASE)
_BETWEEN_SEMICOLONS = re.compile(rf"((?:^|;)\s*{_NAME}\s*=\s*)(?:\{{[^}}\n]*\}}|[^;\n]*)(?=;|$)", re.I | re.M)
_EQUALS = re.compile(
    rf"({_START}{_NAME}['\"]?\]?\s?=\s?){_NOTHING}(?:b?(?:{_QUOTED})|\{{[^}}\n]*\}}|[^;\n]*(?=;\s*[\w ]+=)|{_BARE})",
    re.I,
)
_BLOCK = re.compile(
    rf"^([ \t]*(?:- )?['\"]?{_NAME}['\"]?\s*:\s*)[|>][-+0-9]*[ \t]*\n(?:([ \t]+)[^\n]*\n?)+", re.I | re.M
)
_LINE = re.compile(
    rf"^([ \t]*(?:- )?['\"]?{_NAME}['\"]?\s*:[ \t]+){_NOTHING}(?:{_QUOTED}|[^\s{{\[|>#&*'\"][^\n]*|[|>'\"&*#][^\n]+)",
    re.IGNORECASE | re.MULTILINE,
)
_INSIDE = re.compile(
    rf"((?:[{{,(]\s*|[{{,(\s]b?['\"]){_NAME}['\"]?\s*:\s*|{_START}{_SURE_NAME}['\"]?\s*:\s*){_NOTHING}"
    rf"(?:b?(?:{_QUOTED})|[^\s,{{}}\[\]'\"](?:[^\n,{{}}\]'\"]|['\"](?=[^\s,}}\]:)]))*)",
    re.IGNORECASE,
)
_OPTION = re.compile(rf"(--?{_NAME}\s+)(?!-)(?:{_QUOTED}|{_BARE})", re.IGNORECASE)

# most texts hold none of these, and are done
_NAMED = re.compile(rf"(?:{SURE}|{LIKELY}|authorization)['\"]?\]?\s*[:=]|bearer\s|--?{_NAME}\s", re.IGNORECASE)


class TrackingUri(str):
    """Address of a tracking server; a configuration is saved without its credentials."""

    __slots__ = ()


def without_credentials(text: str) -> str:
    """A text without user and password of each address, and with `***` for each secret that is named in it.

    Secrets are the values of names such as `password`, `token`, `api_key` or `X-Amz-Signature`: in the query of an
    address, between blanks or semicolons as a database's driver has them, in YAML, JSON and Python's form of a
    dictionary, after an option, and in the headers `Authorization` and `Cookie`.

    Args:
        text: A text of any length, such as a message, a YAML text or one address.

    Example:
        >>> without_credentials("uri: https://me:pass@mlflow.example.org/x")
        'uri: https://mlflow.example.org/x'
        >>> without_credentials("postgresql://host/db?user=me&password=pass")
        'postgresql://host/db?user=me&password=***'
        >>> without_credentials("refused: Authorization: Bearer abc.def")
        'refused: Authorization: ***'
    """
    if "://" in text:
        text = _without_users(text)
        text = (_WHOLE_QUERY if _SCHEME.match(text) and "\n" not in text else _QUERY).sub(rf"\1{MASK}", text)
    if not _NAMED.search(text):
        return text
    text = _HEADER.sub(lambda found: f"{found[1] or found[3] or found[5]}{MASK}", text)
    for pattern in (_BLOCK, _LINE, _BETWEEN_SEMICOLONS, _EQUALS, _INSIDE, _OPTION):
        text = pattern.sub(_masked, text)
    return text


def may_hold_secrets(text: str) -> bool:
    """Whether a text has an address, or a word that may name a secret; fast, for texts that mostly have none.

    Example:
        >>> may_hold_secrets("window: 60"), may_hold_secrets("api_key: abc")
        (False, True)
    """
    return "://" in text or _NAMED.search(text) is not None


def _masked(found: re.Match[str]) -> str:
    """The name of a secret with the mask for its value; quotes stay, so that YAML and JSON can still be read."""
    value = found[0][len(found[1]) :]
    if value.strip("\"'").startswith(MASK):
        return found[0]
    quote = value[0] if value[:1] in {'"', "'"} and value.endswith(value[:1]) else ""
    if not quote and found[1].rstrip().endswith(":"):  # a star begins an alias in YAML
        quote = '"'
    return f"{found[1]}{quote}{MASK}{quote}" + ("\n" if value.endswith("\n") else "")


def _without_users(text: str) -> str:
    """Takes user and password out of each address; an address ends where the next one begins, or the line."""
    parts, end = [], 0
    for found in _SCHEME.finditer(text):
        if found.start() < end:
            continue
        parts.append(text[end : found.end()])
        following = _SCHEME.search(text, found.end())
        rest = text[found.end() : following.start() if following else len(text)].split("\n", 1)[0]
        user = _PASSWORD.match(rest) or _USER.match(rest)
        end = found.end() + (user.end() if user else 0)
    return "".join([*parts, text[end:]])


def is_secret(name: str) -> bool:
    """Whether a name is that of a secret.

    Example:
        >>> is_secret("client_secret"), is_secret("X-Amz-Signature"), is_secret("window"), is_secret("tokens")
        (True, True, False, False)
    """
    return re.fullmatch(_NAME, name, re.IGNORECASE) is not None


def clean(value: Any) -> Any:
    """A copy of a tree of plain values in which every text is without credentials, and every secret is `***`.

    Args:
        value: Mappings, lists, texts and numbers.

    Example:
        >>> clean({"uri": "https://me:pass@host", "source": {"api_key": "abc", "window": 60}})
        {'uri': 'https://host', 'source': {'api_key': '***', 'window': 60}}
    """
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, Mapping):
        return {key: _cleaned(str(key), item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list | tuple) else value


def _cleaned(name: str, value: Any) -> Any:
    secret = isinstance(value, str) and value != "" and is_secret(name)
    number = type(value) in {int, float} and re.fullmatch(_SURE_NAME, name, re.IGNORECASE) is not None
    return MASK if secret or number else clean(value)


def keep_out_of_logs() -> None:
    """Lets no logger and no warning of this process, whoever calls it, print a secret."""
    before = logging.getLogRecordFactory()
    if getattr(before, "keeps_secrets", False):
        return

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made = before(*args, **kwargs)
        text = _message(made)
        if (cleaned := without_credentials(text)) != text:
            made.msg, made.args = cleaned, ()
        return made

    record.keeps_secrets = True  # type: ignore[attr-defined]  # a mark of ours on a record of logging
    logging.setLogRecordFactory(record)
    warnings.formatwarning = _clean_format(warnings.formatwarning)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # logging reports a caller's mistake itself
        return ""


def _clean_format(before: Callable[..., str]) -> Callable[..., str]:
    return lambda *args, **kwargs: without_credentials(before(*args, **kwargs))
