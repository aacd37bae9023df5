"""Keys of a configuration that only a fit uses, and plain values that its parser takes for sure.

Lightning's parser reads them from the signatures of its Trainer and callbacks, and to import these takes two seconds. A
value that is not listed may be right too: then the parser of the fit decides, and says what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Accepts = Callable[[Any], bool]


def flag(value: Any) -> bool:
    """Whether a value is true or false."""
    return isinstance(value, bool)


def nothing(value: Any) -> bool:
    """Whether a value is empty."""
    return value is None


def text(value: Any) -> bool:
    """Whether a value is a text, and not a path, an address or an option."""
    return isinstance(value, str) and value.replace("_", "").replace("-", "").isalnum() and not value.startswith("-")


def number(value: Any) -> bool:
    """Whether a value is a finite number, 0 or more."""
    return isinstance(value, int | float) and not flag(value) and math.isfinite(value) and 0 <= value < 1e9


def share(value: Any) -> bool:
    """Whether a value is a number between 0 and 1."""
    return isinstance(value, float) and 0 < value < 1


def whole(least: int) -> Accepts:
    """Whether a value is a whole number of at least this."""
    return lambda value: isinstance(value, int) and not flag(value) and least <= value < 2**31


def among(*choices: Any) -> Accepts:
    """Whether a value is one of these, of the same type."""
    return lambda value: any(value == choice and type(value) is type(choice) for choice in choices)


def either(*kinds: Accepts) -> Accepts:
    """Whether a value is of one of these kinds."""
    return lambda value: any(kind(value) for kind in kinds)


_batches = either(nothing, whole(1))
_flag = either(nothing, flag)
PLAIN: Mapping[str, Accepts] = {
    "seed_everything": either(flag, whole(0)),
    "trainer.accelerator": among("auto", "cpu", "gpu", "cuda", "mps"),
    "trainer.strategy": among("auto", "ddp"),
    "trainer.devices": either(among("auto"), whole(1)),
    "trainer.num_nodes": whole(1),
    "trainer.precision": either(nothing, among("auto", "32-true", "16-mixed", "bf16-mixed", "64-true")),
    "trainer.logger": _flag,
    "trainer.callbacks": nothing,
    "trainer.fast_dev_run": flag,
    "trainer.max_epochs": either(nothing, whole(-1)),
    "trainer.min_epochs": either(nothing, whole(0)),
    "trainer.max_steps": whole(-1),
    "trainer.min_steps": either(nothing, whole(0)),
    "trainer.max_time": nothing,
    "trainer.limit_train_batches": _batches,
    "trainer.limit_val_batches": _batches,
    "trainer.limit_test_batches": _batches,
    "trainer.limit_predict_batches": _batches,
    "trainer.overfit_batches": number,
    "trainer.val_check_interval": either(nothing, whole(1)),
    "trainer.check_val_every_n_epoch": whole(1),
    "trainer.num_sanity_val_steps": whole(0),
    "trainer.log_every_n_steps": whole(1),
    "trainer.enable_checkpointing": _flag,
    "trainer.enable_progress_bar": _flag,
    "trainer.enable_model_summary": _flag,
    "trainer.accumulate_grad_batches": whole(1),
    "trainer.gradient_clip_val": either(nothing, number),
    "trainer.gradient_clip_algorithm": either(nothing, among("norm", "value")),
    "trainer.deterministic": either(_flag, among("warn")),
    "trainer.benchmark": _flag,
    "trainer.inference_mode": flag,
    "trainer.use_distributed_sampler": flag,
    "trainer.profiler": nothing,
    "trainer.detect_anomaly": flag,
    "trainer.barebones": flag,
    "trainer.plugins": nothing,
    "trainer.sync_batchnorm": flag,
    "trainer.reload_dataloaders_every_n_epochs": whole(0),
    "trainer.default_root_dir": nothing,
    "trainer.enable_autolog_hparams": flag,
    "trainer.model_registry": nothing,
    "checkpoint.dirpath": nothing,
    "checkpoint.filename": text,
    "checkpoint.monitor": among("val_loss"),
    "checkpoint.verbose": flag,
    "checkpoint.save_last": _flag,
    "checkpoint.save_top_k": whole(-1),
    "checkpoint.save_on_exception": flag,
    "checkpoint.save_weights_only": flag,
    "checkpoint.mode": among("min"),
    "checkpoint.auto_insert_metric_name": flag,
    "checkpoint.every_n_train_steps": nothing,
    "checkpoint.train_time_interval": nothing,
    "checkpoint.every_n_epochs": nothing,
    "checkpoint.save_on_train_epoch_end": _flag,
    "checkpoint.enable_version_counter": flag,
    "early_stopping.monitor": among("val_loss"),
    "early_stopping.min_delta": number,
    "early_stopping.patience": whole(0),
    "early_stopping.verbose": flag,
    "early_stopping.mode": among("min"),
    "early_stopping.strict": flag,
    "early_stopping.check_finite": flag,
    "early_stopping.stopping_threshold": nothing,
    "early_stopping.divergence_threshold": nothing,
    "early_stopping.check_on_train_epoch_end": _flag,
    "early_stopping.log_rank_zero_only": flag,
    "early_stopping.smoothing": among(0, 0.0),
    "lr_monitor.logging_interval": either(nothing, among("step", "epoch")),
    "lr_monitor.log_momentum": flag,
    "lr_monitor.log_weight_decay": flag,
    "grad_norm.every_n_steps": whole(1),
    "grad_norm.per_module": flag,
    "tensorboard_plots.every_n_epochs": whole(1),
    "tensorboard_plots.windows": whole(1),
    "tensorboard_plots.histograms": flag,
    "tensorboard_plots.graph": flag,
    "history_plot.enabled": flag,
    "history_plot.every_n_epochs": whole(1),
    "starting_line.candidate": flag,
    "starting_line.min_gain": among(0.001),
    "weight_averaging.kind": among("off", "ema", False),
    "weight_averaging.decay": share,
    "weight_averaging.from_epoch": among(0),
    "allocator.keep_freed": flag,
    "run_dir": either(nothing, text),
    "runs_dir": text,
    "tensorboard": flag,
    "mlflow": flag,
    "tracking_uri": nothing,
    "tracking": among("lenient", "strict"),
    "experiment": either(nothing, text),
    "register_model": nothing,
    "quiet": flag,
    "csv": flag,
    "ensemble": whole(1),
    "n_jobs": whole(1),
    "calibration_from": nothing,
    "expires": either(nothing, text),
    "allow_expired": flag,
    "weights_from": nothing,
    "same_prices": flag,
    "ckpt_path": nothing,
}
