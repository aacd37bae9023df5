"""Writes the options of every command into cnn_lstm/commands/options.json, which shell completion reads.

The parser of a fit takes seconds to build, and a shell asks at each TAB.

    python tools/options.py
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import cnn_lstm
from cnn_lstm.cli import COMMANDS, main
from cnn_lstm.commands.completion import LIKE_FIT

FILE = Path(cnn_lstm.__file__).parent / "commands" / "options.json"


def options_of(words: list[str]) -> list[str]:
    """Options that a command's help lists."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    found = {name.rstrip(".") for name in re.findall(r"--[A-Za-z][\w.]*", text.getvalue())}
    return sorted(name for name in found if not name.startswith("--no_") and not name.endswith((".KEY", ".help")))


def every_option() -> dict[str, list[str]]:
    """Options by command; those that have what `fit` has are left out."""
    return {name: options_of([name]) for name in COMMANDS if name == "fit" or name not in LIKE_FIT}


if __name__ == "__main__":
    FILE.write_text(json.dumps(every_option(), indent=1) + "\n", encoding="utf-8")
