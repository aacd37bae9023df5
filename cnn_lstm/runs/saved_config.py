"""The configuration as a run keeps it: without what belongs to one start, and sure to rerun."""

from __future__ import annotations

import re
import warnings
from itertools import zip_longest

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from cnn_lstm.errors import ConfigError
from cnn_lstm.runs.run_errors import one_line
from cnn_lstm.training.tracking.credentials import without_credentials

OF_ONE_START = ("ckpt_path:", "run_dir:", "csv:", "n_jobs:")
# what jsonargparse (4.4x) writes before a value that is text or a device where it expects an object
UNKNOWN = "Unable to serialize instance "
WHERE = "the configuration"


def saved_text(parser: LightningArgumentParser, config: Namespace) -> str:
    """A configuration as YAML text that reruns under every command.

    Args:
        parser: Parser of the command.
        config: What it has parsed.

    Raises:
        ConfigError: E225, if something in it has no form as text.
    """
    saved = config.clone()
    saved.run_dir = saved.ckpt_path = None  # on one line each, or dropping them would leave a part behind
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", f"(?s).*{UNKNOWN}")
            text = parser.dump(saved, skip_unset=False)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot be saved: {one_line(error)}", WHERE, code=225) from error
    text = re.sub(rf"(?<=: ){UNKNOWN}(?=[\w.:]+$)", "", text, flags=re.MULTILINE)
    lines = (line for line in text.splitlines(keepends=True) if not line.startswith(OF_ONE_START))
    return without_credentials("".join(lines))


def require_rerun(parser: LightningArgumentParser, text: str) -> None:
    """Refuses a configuration that would be another one, or none, when it is read from its file.

    Args:
        parser: Parser of the command.
        text: As `saved_text` returns it.

    Raises:
        ConfigError: E283, naming the first line that does not come back.
    """
    fix = "leave that object out, or write its arguments as numbers and texts"
    try:
        again = saved_text(parser, parser.parse_string(text))
    except (Exception, SystemExit) as error:  # anything that the class of an argument may raise
        reason = one_line(error)[:150] if isinstance(error, Exception) else "the parser refuses it"
        raise ConfigError(f"config.yaml would not rerun: {reason}", WHERE, fix, code=283) from error
    for before, after in zip_longest(text.splitlines(), again.splitlines(), fillvalue=""):
        if before != after:
            what = f"config.yaml would not rerun: {before.strip()[:80]!r} becomes {after.strip()[:80]!r}"
            raise ConfigError(what, WHERE, fix, code=283)
