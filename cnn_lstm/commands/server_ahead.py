"""The fork server that a command of several runs starts before its own imports, for the command line."""

from __future__ import annotations

from cnn_lstm.runs.processes import server_ahead

__all__ = ["server_ahead"]
