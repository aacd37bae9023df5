"""A parser that names the nearest of what it knows."""

from __future__ import annotations

import re
from typing import NoReturn

from cnn_lstm.commands.words import OneLineParser
from cnn_lstm.data.sources.base import nearest
from cnn_lstm.errors import ConfigError


class NearWordsParser(OneLineParser):
    """Tells a wrong word in one line, with the option or choice that was probably meant.

    Args:
        prog: What the user calls.
        description: What it does.
    """

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Called by argparse.

        Raises:
            ConfigError: Always.
        """
        word = re.search(r"unrecognized arguments: (\S+)|invalid choice: '(.*?)' ", message)
        if word is None:
            super().error(message)
        known = (
            self._option_string_actions if word[1] else [name for each in self._actions for name in each.choices or ()]
        )
        hint = nearest((word[1] or word[2]).partition("=")[0], known)
        raise ConfigError(message, self.prog, hint or f"see {self.prog} --help", code=225)
