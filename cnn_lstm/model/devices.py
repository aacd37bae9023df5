"""Devices of PyTorch that a user names."""

from __future__ import annotations

import torch

from cnn_lstm.errors import ConfigError


def require_device(name: str | int, where: str) -> None:
    """Refuses a device that is not there, which PyTorch reports in a way of its own for each kind.

    Args:
        name: Name of a device of PyTorch, such as cpu or cuda:1.
        where: The setting, for the message.

    Raises:
        ConfigError: E238.

    Example:
        >>> require_device("cpu", "device")
    """
    try:
        torch.zeros(1, device=name).item()
    except (AssertionError, RuntimeError, NotImplementedError, TypeError) as error:
        fix = "choose cpu, or a device that is there"
        raise ConfigError(f"no device {name} here", where, fix, code=238) from error
