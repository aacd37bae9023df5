"""The configuration as a run keeps it: without what belongs to one start, and sure to rerun."""

from __future__ import annotations

import re
import warnings
from itertools import zip_longest

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from cnn_lstm.credentials import MASK, clean, is_secret, may_hold_secrets
from cnn_lstm.errors import ConfigError
from cnn_lstm.plain_values import flattened
from cnn_lstm.runs.run_errors import one_line

OF_ONE_START = ("ckpt_path:", "run_dir:", "csv:", "n_jobs:")
# what jsonargparse (4.4x) writes before a value that is text or a device where it expects an object
UNKNOWN = "Unable to serialize instance "
WHERE = "the configuration"


def saved_text(parser: LightningArgumentParser, config: Namespace) -> str:
    """A configuration as YAML text that reruns under every command; a secret in it is `***`, and has to be given again.

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
    return _clean_text("".join(lines))


def _clean_text(text: str) -> str:
    """A YAML text without secrets; as it is if it holds none. Its values are cleaned, since a text may be folded."""
    if not may_hold_secrets(text):
        return text
    tree = yaml.safe_load(text)
    if (kept := clean(tree)) == tree and MASK not in text:  # else the same text comes from a masked configuration
        return text
    comments = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    return comments + str(yaml.safe_dump(kept, sort_keys=False))


def options_of_secrets(config: Namespace) -> list[str]:
    """The options that give a saved configuration its secrets again.

    Args:
        config: The configuration as it was parsed.
    """
    leaves = flattened(config.as_dict())
    return [f"--{key}={value}" for key, value in leaves.items() if isinstance(value, str) and _is_changed(key, value)]


def _is_changed(key: str, value: str) -> bool:
    name = key.rpartition(".")[2]
    return bool(clean({name: value}) != {name: value})


def refuse_masked(config: Namespace) -> None:
    """Refuses a secret that a saved configuration does not hold any more.

    An address of MLflow may still get it from the environment; `tracking_uri` of `training/tracking/delivery.py` sees
    to that.

    Args:
        config: The configuration as it was parsed.

    Raises:
        ConfigError: E295, naming the key.
    """
    for key, value in flattened(config.as_dict(), into=bool).items():
        if not isinstance(value, str) or MASK not in value or key == "tracking_uri":
            continue
        if (value == MASK and is_secret(key.rpartition(".")[2])) or ("://" in value and f"={MASK}" in value):
            fix = f"give it again: --{key}=..., or let the class read an environment variable"
            raise ConfigError(f"{key} is {MASK}: secrets are not saved", WHERE, fix, code=295)


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
