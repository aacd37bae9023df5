"""Devices that a checkpoint can be asked to compute on."""

from __future__ import annotations

import torch

from cnn_lstm.errors import ConfigError


def require_device(name: str, where: str) -> None:
    """Refuses a device that is not there, in place of PyTorch's assertion or a silent change to the CPU.

    Args:
        name: Name of a device of PyTorch, such as cpu or cuda:0.
        where: Where it was given, for the message.

    Raises:
        ConfigError: E238.

    Example:
        >>> require_device("gpu", "Predictor")
        Traceback (most recent call last):
        cnn_lstm.errors.ConfigError: error[E238]: no device gpu here — Predictor — choose cpu, or a device that is there
    """
    try:
        torch.zeros(1, device=name).item()
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        fix = "choose cpu, or a device that is there"
        raise ConfigError(f"no device {name} here", where, fix, code=238) from error
