"""safetensors: weights and statistics without any code, with what rebuilds the network. Needs the extra `export`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from cnn_lstm.inference.ensemble import model_from
from cnn_lstm.inference.export import Exported, Run
from cnn_lstm.model.forecaster import CHECKPOINT_KEY


def write(module: Exported, windows: Tensor, content: Mapping[str, Any], path: Path) -> Run:
    """Writes the tensors under the names of the checkpoint, and returns a model of what was read back.

    The metadata hold `hyper_parameters` (class paths and arguments of network and objective) and `recipe` as JSON.
    """
    parts = {"hyper_parameters": content["hyper_parameters"], "recipe": content[CHECKPOINT_KEY]["recipe"]}
    tensors: dict[str, Tensor] = {name: values.contiguous() for name, values in content["state_dict"].items()}
    save_file(tensors, path, metadata={name: json.dumps(part) for name, part in parts.items()})
    return Exported(model_from({**content, "state_dict": load_file(path)}))
