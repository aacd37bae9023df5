"""Windows that were scaled before they reached an encoder, which scales raw features itself.

Shapes: B batch, T window length, F features.
"""

from __future__ import annotations

import inspect
import logging

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from cnn_lstm.errors import ConfigError

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
FEWEST_ROWS = 256  # of fewer rows a standard deviation says little
MOST_ROWS = 1 << 17  # a scaler in front of the encoder shows long before
# squared logarithms of ratios of standard deviations: all features together, and on average
EVIDENCE, MEAN_EVIDENCE = 6.0, 2.0
NEAR_ONE = np.log(3.0) ** 2


def refuse_vec_normalize(key: str) -> None:
    """Refuses `VecNormalize` in front of an encoder that is being built for an agent.

    An extractor is handed the observation space alone, and `VecNormalize` leaves the space as it is. So the agent is
    looked for among the callers.

    Args:
        key: Entry of the observation that holds the windows.

    Raises:
        ConfigError: E261.
    """
    agent = _calling_agent()
    env = None if agent is None else agent.get_vec_normalize_env()
    if env is None or not env.norm_obs:
        return
    scaled = [key] if env.norm_obs_keys is None else list(env.norm_obs_keys)  # None: the observation is the windows
    if key not in scaled:
        return
    rest = [name for name in scaled if name != key]
    argument = f"norm_obs_keys={rest}" if rest else "norm_obs=False"
    what = "VecNormalize scales the windows, and the encoder scales raw features itself"
    fix = f"pass {argument} to VecNormalize, or in the normalize of RL Zoo"
    raise ConfigError(what, "the environment of the agent", fix, code=261)


def _calling_agent() -> BaseAlgorithm | None:
    """The agent whose policy is being built, if one is."""
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, BaseAlgorithm):
            return caller
        frame = frame.f_back
    return None


class ScaleWatch:
    """Looks at the first windows that reach an encoder, and warns once if they seem to be standardised already.

    Raw features have about the scale of the training rows; standardised ones have a standard deviation of about 1.
    Where these are the same, a second scaling does no harm, and nothing can be said.

    Args:
        names: Names of the features, F.
        scale: Scale of each feature in the training rows, (F,); NaN for a feature that is not compared.

    Example:
        >>> watch = ScaleWatch(["log_return_1"], np.array([0.01]))
        >>> windows = torch.randn(64, 10, 1, generator=torch.Generator().manual_seed(0))
        >>> watch.see(0.01 * windows), watch.see(windows), watch.warned
        (None, None, True)
    """

    def __init__(self, names: list[str], scale: Floats) -> None:
        self.names, self.scale = names, scale
        self.warned = self.done = False
        self._rows, self._next = 0, FEWEST_ROWS
        self._sums: Floats = np.zeros((2, len(names)))

    def see(self, windows: Tensor) -> None:
        """Counts the rows of windows, (B, T, F), in; judges when their number has doubled."""
        if self.done:
            return
        rows = windows.detach().reshape(-1, len(self.names)).double()
        self._sums = self._sums + torch.stack([rows.sum(dim=0), rows.square().sum(dim=0)]).cpu().numpy()
        self._rows += len(rows)
        if self._rows >= self._next:
            self._judge()
            self.done = self.warned or self._next >= MOST_ROWS
            # the rows are forgotten: a scaler that learns on the way begins with other scales
            self._next, self._rows, self._sums = 2 * self._next, 0, np.zeros_like(self._sums)

    def _judge(self) -> None:
        mean = self._sums[0] / self._rows
        deviation = np.sqrt(np.maximum(self._sums[1] / self._rows - mean**2, 0.0))
        known = np.isfinite(self.scale) & (self.scale > 0) & (deviation > 0)
        if not known.any():
            return
        from_one = np.log(deviation[known]) ** 2
        from_raw = np.log(deviation[known] / self.scale[known]) ** 2
        evidence = from_raw - from_one
        if evidence.sum() < EVIDENCE or evidence.mean() < MEAN_EVIDENCE or from_one.mean() > NEAR_ONE:
            return
        self.warned = True
        k = int(np.flatnonzero(known)[evidence.argmax()])
        log.warning(
            "[W261] the windows of the agent look standardised already, and the encoder scales raw features itself — "
            "%s has the standard deviation %.3g, in the training rows %.3g — leave them raw: VecNormalize(..., "
            "norm_obs_keys=['account']), and no other scaler",
            self.names[k],
            deviation[k],
            self.scale[k],
        )
