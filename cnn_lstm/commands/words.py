"""The words of the commands that are not Lightning's."""

from __future__ import annotations

import argparse
from typing import NoReturn

from cnn_lstm.errors import ConfigError


class OneLineParser(argparse.ArgumentParser):
    """Tells a wrong word in one line, with our exit code."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(message, self.prog, f"see {self.prog} --help", code=225)
