"""The script of a user who streams bars, as a program."""

from __future__ import annotations

from pathlib import Path

from tests.crash_points.scenarios import stream_on

if __name__ == "__main__":
    stream_on(Path.cwd(), restored=False)
