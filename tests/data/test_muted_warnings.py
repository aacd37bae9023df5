"""Loggers that are muted for a while."""

from __future__ import annotations

import logging

import pytest

from cnn_lstm.data.muted_warnings import muted_warnings


@pytest.mark.parametrize(("names", "muted"), [((), ["cnn_lstm"]), (("one", "other"), ["one", "other"])])
def test_warnings_are_held_back_and_levels_come_back(names: tuple[str, ...], muted: list[str]) -> None:
    loggers = [logging.getLogger(name) for name in muted]
    before = [logger.level for logger in loggers]
    with muted_warnings(*names):
        assert not any(logger.isEnabledFor(logging.WARNING) for logger in loggers)
        assert all(logger.isEnabledFor(logging.ERROR) for logger in loggers)
    assert [logger.level for logger in loggers] == before
