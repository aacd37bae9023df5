"""The words of the commands that are not Lightning's."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from cnn_lstm.errors import ConfigError
from cnn_lstm.hints import nearest


class OneLineParser(argparse.ArgumentParser):
    """Tells a wrong word in one line, with our exit code and the option or choice that was probably meant.

    Args:
        prog: What the user calls.
        description: What it does.
        epilog: What else is to be said.
    """

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        super().__init__(prog=prog, description=description, epilog=epilog, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Called by argparse.

        Raises:
            ConfigError: Always.
        """
        word = re.search(r"unrecognized arguments: (\S+)|invalid choice: '(.*?)' ", message)
        hint = word and nearest((word[1] or word[2]).partition("=")[0], self._known(option=bool(word[1])))
        raise ConfigError(message, self.prog, hint or f"see {self.prog} --help", code=225)

    def _known(self, option: bool) -> list[str]:
        if option:
            return list(self._option_string_actions)
        return [name for action in self._actions for name in action.choices or ()]
