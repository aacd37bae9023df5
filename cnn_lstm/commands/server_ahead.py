"""For the command line: what the commands of several runs fork from begins to import before they do."""

from __future__ import annotations

from cnn_lstm.runs.processes import server_ahead

__all__ = ["server_ahead"]
