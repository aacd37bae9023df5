"""The encoder of a checkpoint as the features extractor of a Stable-Baselines3 agent.

Shapes: B batch, T window length, F features, S symbols, W width of the encoder's output.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, TypedDict

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from cnn_lstm.errors import ConfigError
from cnn_lstm.rl.encoder import Encoder, EncoderPlan
from cnn_lstm.rl.second_scaling import refuse_vec_normalize

NOTES = "encoder_plans"  # attribute of the observation space; saved agents hold it
PROCESS = uuid.uuid4().hex


class Note(TypedDict):
    """What an extractor leaves on the observation space: how to build its encoder, and the process that wrote this."""

    plan: EncoderPlan
    process: str


class CNNLSTMExtractor(BaseFeaturesExtractor):
    """Features of windows by a trained encoder, followed by the rest of the observation as it is.

    The observation is a `Box` of windows, or a `Dict` with such a box under `key`; the other values are flattened and
    appended in their order. Windows hold raw features, (T, F), or one window per symbol, (S, T, F): the same encoder
    reads them all.

    A saved agent loads without the checkpoint: its weights come from the zip, and the architecture from a note that
    the extractor leaves on the observation space, which Stable-Baselines3 saves.

    Args:
        observation_space: Observation space of the environment. If its windows carry the names of their `features`,
            these must be the checkpoint's.
        checkpoint: File written by `fit` or `write_ensemble`.
        key: Key of a `Dict` that holds the windows.
        frozen: Whether the weights stay as they are.
        lr_factor: Share of the agent's learning rate that a fine-tuned encoder gets.
        forecast: Appends the forecast of each target; see `Encoder`.
        uncertainty: Appends the uncertainty of each forecast; see `Encoder`.
        pretrained: False replaces the trained weights by random ones and keeps the scaling of the features.

    Raises:
        ConfigError: E260 to E263, if the observation space holds no windows or other windows than the checkpoint's,
            `VecNormalize` scales them, or an option does not fit the checkpoint.
        CheckpointError: If the file is missing, damaged, unsafe or of another program.

    Example:
        >>> from stable_baselines3 import PPO
        >>> options = dict(checkpoint="runs/quickstart/checkpoints/best.ckpt")
        >>> policy = dict(features_extractor_class=CNNLSTMExtractor, features_extractor_kwargs=options)
        >>> agent = PPO("MultiInputPolicy", "cnn_lstm/MarketEnv-v0", policy_kwargs=policy)  # doctest: +SKIP
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        checkpoint: str | Path,
        key: str = "window",
        frozen: bool = True,
        lr_factor: float = 1.0,
        forecast: bool = False,
        uncertainty: bool = False,
        pretrained: bool = True,
    ) -> None:
        windows = _windows(observation_space, key)
        options = {"frozen": frozen, "lr_factor": lr_factor, "forecast": forecast, "uncertainty": uncertainty}
        encoder = _encoder(observation_space, checkpoint, key, pretrained, options)
        _require_same(windows, encoder)
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {}
        rest = {name: part for name, part in parts.items() if name != key}
        symbols = 1 if len(windows.shape) == 2 else windows.shape[0]
        width = symbols * encoder.width + sum(get_flattened_obs_dim(space) for space in rest.values())
        super().__init__(observation_space, width)
        self.key, self.rest = key, tuple(rest)
        self.encoder = encoder

    def forward(self, observations: Tensor | dict[str, Tensor]) -> Tensor:
        """Features, (B, features_dim), of windows (B, T, F) or (B, S, T, F), or of a dictionary with them."""
        windows = observations[self.key] if isinstance(observations, dict) else observations
        encoded: Tensor = self.encoder(windows.reshape(-1, *windows.shape[-2:])).reshape(len(windows), -1)
        if not isinstance(observations, dict):
            return encoded
        return torch.cat([encoded, *(observations[name].flatten(1) for name in self.rest)], dim=1)


def _windows(space: spaces.Space[Any], key: str) -> spaces.Box:
    """The space of the windows, (T, F) or (S, T, F)."""
    if isinstance(space, spaces.Dict) and key not in space.spaces:
        what, where = f"the observation has no entry {key!r}", f"it has {', '.join(map(repr, space.spaces))}"
        raise ConfigError(what, where, "name the entry that holds the windows by key=...", code=260)
    windows = space[key] if isinstance(space, spaces.Dict) else space
    if not isinstance(windows, spaces.Box) or len(windows.shape) not in (2, 3):
        what = "the observation holds no windows of (rows, features)"
        fix = "observe windows, for example those of cnn_lstm/MarketEnv-v0"
        raise ConfigError(what, f"its space is {windows}", fix, code=260)
    return windows


def _encoder(
    space: spaces.Space[Any], path: str | Path, key: str, pretrained: bool, options: dict[str, Any]
) -> Encoder:
    """The encoder of a file, or one without weights by the note of a saved agent, whose zip holds the weights.

    In another process than the one that wrote the note, a saved agent is being loaded, and a file of that name there
    may be of any model.
    """
    notes: dict[str, Note] = space.__dict__.setdefault(NOTES, {})
    note = notes.get(str(path))
    if note is not None and (note["process"] != PROCESS or not Path(path).is_file()):
        return Encoder(note["plan"], **options)
    refuse_vec_normalize(key)
    encoder = Encoder.from_checkpoint(path, pretrained, **options)
    notes[str(path)] = {"plan": encoder.plan, "process": PROCESS}
    return encoder


def _require_same(windows: spaces.Box, encoder: Encoder) -> None:
    """Compares the windows of the observations with those of the checkpoint."""
    expected = (encoder.plan["window"], len(encoder.plan["features"]))
    if windows.shape[-2:] != expected:
        here, there = ("{} rows and {} features".format(*shape) for shape in (windows.shape[-2:], expected))
        what = f"observed windows of {here}, the checkpoint takes {there}"
        fix = "observe the window and the features of the checkpoint's recipe"
        raise ConfigError(what, "observation space", fix, code=261)
    observed = getattr(windows, "features", None) or encoder.plan["features"]
    for number, (here, there) in enumerate(zip(observed, encoder.plan["features"], strict=False), start=1):
        if here != there:
            what = f"feature {number} of the observed windows is {here}, the checkpoint takes {there}"
            raise ConfigError(
                what, "observation space", "observe the features of the checkpoint in its order", code=261
            )
