"""Which run a command works in, and which checkpoint `best` and `last` mean for it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from cnn_lstm.errors import CheckpointError
from cnn_lstm.model.checkpoints import read_checkpoint, require_single
from cnn_lstm.model.forecaster import refuse_differences
from cnn_lstm.training.runs import RunFolder, new_run, require_writable, run_of_checkpoint


def choose_run(command: str, config: Any, defaults: dict[str, dict[str, Any]]) -> RunFolder:
    """The run folder of a command; sets `ckpt_path` to a file where a checkpoint is named.

    Args:
        command: Name of the command.
        config: Its configuration.
        defaults: Spec of each class that a configuration may leave out, by its key.

    Raises:
        CheckpointError: If the command needs a checkpoint and none is named, or it is of another model or an ensemble.
    """
    given = config.get("ckpt_path")
    files = [Path(str(file)) for file in config.get("config") or []]
    if given is None:
        if command != "fit":
            raise CheckpointError(
                f"{command} needs a checkpoint",
                fix="add --ckpt_path RUN/checkpoints/best.ckpt, or best|last with --run_dir RUN",
                code=437,
            )
        return new_run(config.run_dir, config.runs_dir, _name(files))
    if str(given) in ("best", "last"):
        folder = RunFolder(Path(config.run_dir)) if config.run_dir else _run_of_config(files)
        given = folder.checkpoint(str(given))
    checkpoint = read_checkpoint(given)
    require_single(checkpoint, given)
    _require_same_model(checkpoint, config.model, defaults)
    config.ckpt_path = str(given)
    run = RunFolder(Path(config.run_dir)) if config.run_dir else run_of_checkpoint(Path(given))
    require_writable(run.path)
    return run


def _name(files: list[Path]) -> str:
    return files[0].stem if files and files[0].name != "config.yaml" else "fit"


def _run_of_config(files: list[Path]) -> RunFolder:
    """The run whose config.yaml was given."""
    for file in files:
        if file.name == "config.yaml":
            return RunFolder(file.resolve().parent)
    raise CheckpointError("best|last of which run?", fix="add --run_dir RUN, or use --config RUN/config.yaml", code=437)


def _require_same_model(checkpoint: dict[str, Any], model: Any, defaults: dict[str, dict[str, Any]]) -> None:
    """Refuses a checkpoint whose network or objective is not what the configuration says."""
    saved = checkpoint["hyper_parameters"]
    for part in ("network", "objective"):
        before = saved[part]
        now: dict[str, Any] = model[part].as_dict() if model[part] else dict(defaults[f"model.{part}"])
        arguments = {key: value for key, value in before["init_args"].items() if key != "n_features"}
        refuse_differences(
            {f"model.{part}": before["class_path"], **{f"model.{part}.{k}": v for k, v in arguments.items()}},
            {f"model.{part}": _canonical(now["class_path"]), **_flat(part, now.get("init_args") or {}, arguments)},
        )


def _canonical(path: str) -> str:
    """Where a class is defined; YAML may name it where it is re-exported."""
    module, _, name = path.rpartition(".")
    cls = getattr(importlib.import_module(module), name)  # the parser has imported it already
    return f"{cls.__module__}.{cls.__qualname__}"


def _flat(part: str, given: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
    return {f"model.{part}.{key}": values.get(key, saved.get(key)) for key in {*values, *saved} - {"n_features"}}
