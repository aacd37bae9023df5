"""What was probably meant by an unknown name, and what is called differently now: the last part of an error's line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from cnn_lstm.errors import ConfigError

# words of other programs for our keys; spelling alone would find another key, as min_epochs for epochs
CALLED_ELSEWHERE = {
    "trainer.max_epochs": "epochs epoch n_epochs num_epochs nb_epochs nb_epoch num_train_epochs total_epochs",
    "trainer.max_steps": "steps n_steps num_steps total_steps iterations n_iter num_iterations",
    "trainer.devices": "gpu gpus num_gpus n_gpus n_devices device_ids",
    "trainer.accelerator": "device cuda cpu",
    "trainer.precision": "fp16 bf16 amp half dtype",
    "trainer.gradient_clip_val": "clip grad_clip gradient_clip clip_norm clip_grad_norm max_grad_norm clipnorm",
    "data.batch_size": "batch batchsize bs train_batch_size per_device_train_batch_size minibatch",
    "data.window": "window_size lookback look_back lookback_window seq_len seq_length sequence_length context_length "
    "input_size input_length input_chunk_length timesteps time_steps n_steps_in history_length",
    "data.targets.horizon": "horizon h forecast_horizon prediction_length pred_len output_chunk_length",
    "data.targets": "target label labels y",
    "data.features": "feature columns covariates inputs indicators",
    "data.known_future": "future_covariates futr_exog_list time_varying_known_reals known_covariates known_reals",
    "data.static": "static_covariates stat_exog_list static_categoricals static_features",
    "data.symbols": "symbol ticker tickers tic stock stocks assets instruments universe pairs pair",
    "data.start": "start_date from_date date_from since",
    "data.end": "end_date to_date date_to until",
    "data.split": "train_size test_size val_size train_ratio test_ratio val_ratio validation_split val_split",
    "data.scaling": "scaler normalize normalization standardize",
    "data.source.init_args.paths": "file files path paths csv_path csv_file data_path data_file filename",
    "model.optimizer.init_args.lr": "lr learning_rate learningrate base_lr init_lr eta alpha",
    "model.optimizer.init_args.weight_decay": "weight_decay wd l2 decay",
    "model.optimizer": "optimizer optim solver",
    "model.scheduler": "scheduler lr_scheduler lr_schedule",
    "model.objective": "loss criterion loss_fn loss_function objective task",
    "model.network.init_args.lstm_hidden": "hidden hidden_size hidden_dim hidden_units units lstm_units lstm_size",
    "model.network.init_args.lstm_layers": "layers num_layers n_layers lstm_num_layers",
    "model.network.init_args.attention_heads": "heads num_heads n_heads nhead attention_head",
    "model.network.init_args.channels": "filters n_filters conv_channels conv_filters out_channels",
    "model.network.init_args.kernel_sizes": "kernel kernels kernel_size",
    "model.network.init_args.lstm_dropout": "dropout drop dropout_rate drop_rate",
    "early_stopping.patience": "patience early_stop early_stopping_patience early_stopping_rounds",
    "seed_everything": "seed random_seed random_state rng_seed",
    "ckpt_path": "checkpoint_path ckpt resume resume_from resume_from_checkpoint model_path weights weights_path load",
    "run_dir": "output output_dir out out_dir outdir save_dir save_path log_dir logdir result_dir folder",
    "tracking_uri": "mlflow_uri mlflow_tracking_uri",
    "experiment": "experiment_name exp_name project",
    "ensemble": "members n_members num_models n_models",
    "quiet": "verbose verbosity silent",
}


def nearest(word: object, known: Iterable[str]) -> str:
    """The question that names the closest known word, or nothing.

    Args:
        word: What was asked for.
        known: What exists.

    Example:
        >>> nearest("clsoe", ["open", "close"])
        'did you mean close?'
    """
    matches = difflib.get_close_matches(str(word), list(known), n=1)
    return f"did you mean {matches[0]}?" if matches else ""


def _called_here(word: str, known: Collection[str]) -> str | None:
    """The key for what other programs call by this word, if the command has its section."""
    key = next((key for key, words in CALLED_ELSEWHERE.items() if word in words.split()), None)
    return key if key and any(key.startswith(name) for name in known if "." in name or name == key) else None


def nearest_key(key: str, known: Collection[str]) -> str:
    """The question that names the known dotted key that is closest, by its whole path or else by its last part.

    Args:
        key: What was asked for.
        known: Dotted keys that exist.

    Example:
        >>> nearest_key("windw", ["data.window", "trainer"]), nearest_key("x", ["data.window"])
        ('did you mean data.window?', 'see --help')
    """
    known = [name for name in known if name.rpartition(".")[2] != "help"]
    by_name = {name.rpartition(".")[2]: name for name in known}
    word = key.rpartition(".")[2].lower().replace("-", "_")
    exact = _called_here(word, known) or by_name.get(word)
    if exact:
        return f"did you mean {exact}?"
    matches = difflib.get_close_matches(word, by_name, n=1)
    return nearest(key, known) or nearest(by_name[matches[0]] if matches else "", known) or "see --help"


def one_of(word: object, known: Collection[str]) -> str:
    """The question that names the closest known word, or all of them.

    Args:
        word: What was asked for.
        known: What exists.

    Example:
        >>> one_of("medain", ["median", "none"]), one_of("x", ["median", "none"])
        ('did you mean median?', 'one of median, none')
    """
    return nearest(word, known) or f"one of {', '.join(known)}"


def refuse_renamed(argv: Sequence[str], renamed: Mapping[str, str], command: str) -> None:
    """Refuses options that had another name in earlier versions.

    Args:
        argv: Arguments of a command.
        renamed: The new option by the old one.
        command: What the user called.

    Raises:
        ConfigError: E225, which names the new option.
    """
    for argument in argv:
        name = argument.partition("=")[0]
        for old, new in renamed.items():
            if name == old or name.startswith(f"{old}."):
                raise ConfigError(f"{name} has a new name", command, f"write {new}{name[len(old) :]}", code=225)


def first_names(names: Sequence[str], most: int = 10) -> str:
    """A list of names for a message, cut off behind the first ones.

    Example:
        >>> first_names(["A", "B", "C"], most=2)
        'A, B and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def counted(number: float, noun: str) -> str:
    """A number and what it counts, which has an s unless it is one.

    Args:
        number: The number.
        noun: What it counts, one of it: with the plural in s, or batch.

    Example:
        >>> counted(1, "gap"), counted(0, "epoch"), counted(2500, "batch")
        ('1 gap', '0 epochs', '2,500 batches')
    """
    plural = "es" if noun.endswith("batch") else "s"
    return f"{number:,.0f} {noun}{'' if number == 1 else plural}"


def without_operands(text: str) -> str:
    """Python's text on an operation that two values do not have, in the words of who gave the values.

    Example:
        >>> without_operands("'>=' not supported between instances of 'NoneType' and 'int'")
        'a value is empty'
        >>> without_operands("unsupported operand type(s) for -: 'float' and 'str'")
        'a value is of the wrong kind'
    """
    pattern = r"(?:'\S+' not supported between instances of|unsupported operand type\(s\) for \S+:) '(\w+)' and '(\w+)'"
    return re.sub(pattern, lambda m: f"a value is {'empty' if 'NoneType' in m.groups() else 'of the wrong kind'}", text)
