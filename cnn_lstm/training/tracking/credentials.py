"""Keeps passwords out of everything that a run writes."""

from __future__ import annotations

import re

_USER = re.compile(r"([A-Za-z][\w+.-]*://)[^\s/'\"]*@")
_SECRET = re.compile(r"([?&](?:password|passwd|pwd|token|secret|api_key|access_key)=)[^&\s'\"#]*", re.IGNORECASE)


class TrackingUri(str):
    """Address of a tracking server; a configuration is saved without its credentials."""

    __slots__ = ()


def without_credentials(text: str) -> str:
    """A text with the user, password and secret parameters of each address in it taken out.

    Args:
        text: Anything that may hold an address.

    Example:
        >>> without_credentials("uri: https://me:pass@mlflow.example.org/x")
        'uri: https://mlflow.example.org/x'
        >>> without_credentials("postgresql://host/db?user=me&password=pass")
        'postgresql://host/db?user=me&password=***'
    """
    return _SECRET.sub(r"\1***", _USER.sub(r"\1", text))
