"""fit, validate, test and predict: LightningCLI with our defaults, one run folder, and no silent fallback."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import Namespace
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.errors import ConfigError
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.hints import refuse_renamed
from cnn_lstm.inference.ensemble import ensemble_from
from cnn_lstm.inference.ensemble_module import EnsembleModule, for_trainer
from cnn_lstm.model.checkpoints import is_ensemble, plain_members, read_checkpoint
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.runs.appended import with_meant_lists
from cnn_lstm.runs.argv import config_files, explicit_flags, flags_of
from cnn_lstm.runs.beginning import Beginning
from cnn_lstm.runs.config import CLASS_DEFAULTS, RENAMED, check_values
from cnn_lstm.runs.config_files import check_keys, sections_of, with_read_files
from cnn_lstm.runs.final_fit import (
    CalibrationOfFit,
    check_final,
    is_final,
    leave_validation_out,
    require_rate_without_validation,
    without_validation,
)
from cnn_lstm.runs.messages import say_errors_only, set_up_messages
from cnn_lstm.runs.named_code import require_declared
from cnn_lstm.runs.outcome import Outcome
from cnn_lstm.runs.own_model import KEYS, long_text, model_class, require_same_class, short_options, short_texts
from cnn_lstm.runs.parser_errors import one_line_errors
from cnn_lstm.runs.run_errors import constructing, one_line, run_errors_in_one_line
from cnn_lstm.runs.saved_config import refuse_masked, require_rerun, saved_text
from cnn_lstm.runs.symbols_text import with_listed_symbols
from cnn_lstm.runs.tracking import ENVIRONMENT, add_tracking_arguments, record_of_run, recorded_fit, recording
from cnn_lstm.runs.trainer_settings import callbacks_of_user, without_doubles
from cnn_lstm.runs.yaml_guard import guard_parser, read_nothing
from cnn_lstm.training.allocator import Allocator
from cnn_lstm.training.averaging import WeightAveraging
from cnn_lstm.training.callbacks import FolderStays, GradientNorm, LastCheckpoint, guards
from cnn_lstm.training.console import ConsoleLogger, ProgressBar, Resources
from cnn_lstm.training.durable import DurableCheckpointIO
from cnn_lstm.training.earlier_weights import EarlierWeights, check_earlier_weights
from cnn_lstm.training.early_stopping import SmoothedEarlyStopping
from cnn_lstm.training.expiry import Expiry
from cnn_lstm.training.history_callback import HistoryPlot
from cnn_lstm.training.interrupts import InterruptBetweenBatches
from cnn_lstm.training.loggers import MLflowTracker, TrackedData, build_loggers
from cnn_lstm.training.plan import TrainingPlan, require_processes_that_stay
from cnn_lstm.training.requeue import RequeueBetweenBatches
from cnn_lstm.training.run_folder import (
    ENVIRONMENT_KEY,
    OneWriter,
    empty_run_removed,
    interruption_with_advice,
    keep_config_of_user,
    resolve_run,
)
from cnn_lstm.training.settings_of_run import SettingsOfRun
from cnn_lstm.training.starting_line import StartingLine
from cnn_lstm.training.tensorboard import TensorBoardPlots
from cnn_lstm.training.trainer import ForecastTrainer

TRAINER_DEFAULTS = {
    "max_epochs": 100,
    # one of 40 to 100 steps; a norm of 1 cut every second one down to the same size, see docs/training.md
    "gradient_clip_val": 5.0,
    "log_every_n_steps": 50,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,  # the loaders shard their row numbers themselves, without repeating any
}
CALLBACK_DEFAULTS = {
    "checkpoint.monitor": "val_loss",
    "checkpoint.filename": "best",
    "checkpoint.enable_version_counter": False,
    "early_stopping.monitor": "val_loss",
    "early_stopping.patience": 15,
    "lr_monitor.logging_interval": "epoch",
}
# options of earlier versions, and what they are called now
RENAMED_OPTIONS = {f"--{old}": f"--{new}" for old, new in RENAMED.items()}


class ForecastCLI(LightningCLI):
    """LightningCLI for `Forecaster` and `MarketDataModule`.

    Args:
        args: The command and its arguments.
        run: Whether to run the command, or stop once its configuration is parsed.
        trial: Callbacks of a fit that is a trial of a sweep, which makes no MLflow model.
    """

    def __init__(self, args: list[str], run: bool = True, trial: Sequence[Callback] = ()) -> None:
        set_up_messages()
        guard_parser()
        self._command, self._runs, self._trial = args[0], run, trial
        self._kind = model_class(args)
        with OneWriter(args[0]) as self._writer:
            super().__init__(
                self._kind,
                MarketDataModule,
                save_config_callback=None,
                trainer_class=ForecastTrainer,
                seed_everything_default=42,
                trainer_defaults=dict(TRAINER_DEFAULTS),
                parser_kwargs={"exit_on_error": False, "allow_abbrev": False},
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                args=short_options(args),
            )

    # -- parser --------------------------------------------------------------------------------------------------

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning's is static
        """The command alone, since a parser of each takes time, and the Trainer's arguments that are not offered."""
        hidden = {"model", "datamodule", "dataloaders", "train_dataloaders", "val_dataloaders"}
        return {self._command: {*hidden, "weights_only", "verbose", "return_predictions"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Our callbacks, each under a key; the run folder; and the two numbers that the model takes from the data."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(SmoothedEarlyStopping, "early_stopping")
        parser.add_lightning_class_args(LearningRateMonitor, "lr_monitor")
        parser.add_lightning_class_args(GradientNorm, "grad_norm")
        parser.add_lightning_class_args(TensorBoardPlots, "tensorboard_plots")
        parser.add_lightning_class_args(HistoryPlot, "history_plot")
        parser.add_lightning_class_args(StartingLine, "starting_line")
        parser.add_lightning_class_args(Allocator, "allocator")
        # the last one, so that the plots of a validation show its weights
        parser.add_lightning_class_args(WeightAveraging, "weight_averaging")
        parser.set_defaults(CALLBACK_DEFAULTS | CLASS_DEFAULTS)
        add_run_arguments(parser)
        parser.add_class_arguments(Evaluation, "evaluation")
        parser.link_arguments("data.n_features", "model.network.init_args.n_features", apply_on="instantiate")
        parser.link_arguments("data.n_targets", "model.n_targets", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses; Lightning's own version warns about arguments that are not those of the process."""
        refuse_renamed(args, RENAMED_OPTIONS, self._command)
        read_nothing(self._subcommand_parsers[self._command])
        self.files = config_files(args)
        check_keys(self.files, self._known_keys() | KEYS)
        with self._one_line_errors():
            explicit = explicit_flags(with_listed_symbols(args), flags_of(self._subcommand_parsers[self._command]))
            read = short_texts(with_read_files(explicit, sections_of(self._known_keys())))
            self.config = parser.parse_args(with_meant_lists(read, partial(_value, parser, self._command)))
        require_declared(self.command_config)
        check_values(self.command_config)
        refuse_masked(self.command_config)
        if self._command == "fit":
            check_final(self.command_config, CLASS_DEFAULTS)
            check_earlier_weights(self.command_config, CLASS_DEFAULTS)

    def _known_keys(self) -> set[str]:
        return {action.dest for action in self._subcommand_parsers[self._command]._actions}

    def _one_line_errors(self) -> AbstractContextManager[None]:
        return one_line_errors(self._command, self._known_keys())

    def _parse_ckpt_path(self) -> None:
        """Resolves the checkpoint and the run folder, and refuses a checkpoint of another model.

        Lightning's version lets the checkpoint overrule the command line without a message.
        """
        config = self.command_config
        self._runs = self._runs and not self.makes_ensemble
        if self._runs:
            self.run_folder = resolve_run(self._command, config, CLASS_DEFAULTS, self.files, self._writer)
        parser = self._parser(self._command)
        self.config_text = saved_text(parser, config)
        if self._runs and self._command == "fit":
            require_rerun(parser, self.config_text)
        self.config_text = long_text(self.config_text, self._kind)
        if self._runs and self._command == "fit":
            keep_config_of_user(self.run_folder, self.config_text, self.files)

    def _set_seed(self) -> None:
        seed = self.command_config.seed_everything
        if self.command_config.quiet:
            say_errors_only()
        if self._runs and seed is not False:
            seed_everything(None if seed is True else seed, workers=True, verbose=False)

    # -- objects -------------------------------------------------------------------------------------------------

    def instantiate_classes(self) -> None:
        """Builds the objects, unless only the configuration was wanted."""
        if not self._runs:
            return
        config = self.command_config
        config.checkpoint.dirpath = str(self.run_folder.checkpoints)
        config.trainer.default_root_dir = str(self.run_folder.path)
        leave_validation_out(config, self._command)
        with constructing(), self._one_line_errors():
            super().instantiate_classes()
            if self._command == "fit":  # refuses a wrong setting of optimiser or scheduler before any data is read
                configured = self.model.configure_optimizers()
                if is_final(config):
                    require_rate_without_validation(configured)
            else:
                self.model = _of_checkpoint(self.model, self.datamodule, config.ckpt_path)
            self.model.refuse_other_prices = config.same_prices

    @property
    def makes_ensemble(self) -> bool:
        """Whether this is a fit of several members, whose runs have processes of their own."""
        config = self.command_config
        tried = config.trainer.fast_dev_run or config.trainer.max_epochs == 0  # nothing is trained to its end
        return self._command == "fit" and config.ensemble > 1 and not tried

    @property
    def command_config(self) -> Namespace:
        """The configuration of the command, as it was parsed."""
        config: Namespace = self.config[self._command]
        return config

    @property
    def evaluation(self) -> Evaluation:
        """The settings of the evaluation."""
        return Evaluation(**self.command_config.evaluation.as_dict())

    def built(self) -> Any:
        """The objects of a configuration that was only parsed, by section; no trainer among them."""
        with constructing(), self._one_line_errors():
            return self.parser.instantiate_classes(self.config)[self._command]

    def build_data(self) -> MarketDataModule:
        """The data module alone, of a configuration that was only parsed."""
        data: MarketDataModule = self.built().data
        return data

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Trainer with our loggers before the user's and our callbacks after them."""
        config = self.config_init[self._command]
        self.record = record_of_run(self.run_folder, self._command, config)
        console = ConsoleLogger(config.trainer.max_epochs, config.checkpoint.monitor, config.checkpoint.mode)
        loggers = self._loggers(config, console)
        of_user, bar = callbacks_of_user(config.trainer, config.quiet, _is_terminal())
        bars = [ProgressBar(console, config.trainer.log_every_n_steps)] if bar else []
        config.trainer.callbacks = [*self._first_callbacks(), *of_user, *self._callbacks(), *bars]
        config.trainer.plugins = [*(config.trainer.plugins or []), DurableCheckpointIO()]
        try:
            trainer: Trainer = super().instantiate_trainer(logger=loggers)
        except Exception as error:  # anything that Lightning, a strategy or a plugin may raise
            raise ConfigError(one_line(error), "trainer", "choose another setting or device", code=238) from error
        require_processes_that_stay(trainer)
        # after the best one, so that it holds that one's newest state
        trainer.callbacks.append(LastCheckpoint(self.run_folder.checkpoints))  # type: ignore[attr-defined]
        trainer.callbacks.append(RequeueBetweenBatches(self.run_folder.checkpoints))  # type: ignore[attr-defined]  # set by Lightning's connectors
        return trainer

    def _loggers(self, config: Namespace, console: ConsoleLogger) -> list[Logger] | Literal[False]:
        """Our loggers, then the user's; false where the user wants none."""
        of_user = config.trainer.logger
        if of_user is False:
            return False
        loggers = build_loggers(self.run_folder, self._command, config.tensorboard, self.record)
        if self._command == "fit" and not config.quiet:
            loggers.append(console)
        if isinstance(of_user, list):
            return [*loggers, *of_user]
        return loggers if of_user in (None, True) else [*loggers, of_user]

    def _first_callbacks(self) -> list[Callback]:
        """What comes before the callbacks of the user."""
        if self._command != "fit":
            return []
        resumed = bool(self.command_config.get("ckpt_path"))
        self._beginning = Beginning(self.run_folder, self.record, self.config_text, resumed)
        return [self._beginning, FolderStays(self._writer), TrainingPlan(self.command_config.checkpoint.monitor)]

    def _callbacks(self) -> list[Callback]:
        callbacks = [InterruptBetweenBatches(), *guards(self.run_folder.checkpoints), Resources(), *self._trial]
        if self._command == "fit":
            if is_final(self.command_config):
                callbacks.append(CalibrationOfFit(self.command_config.calibration_from))
            callbacks += _of_life(self.command_config)
            callbacks.append(TrackedData(self.record, yaml.safe_load(self.config_text)["data"]["source"]))
            callbacks.append(SettingsOfRun(self.config_text))
        return callbacks

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        if self._command == "fit" and is_final(self.command_config):
            callbacks = without_validation(callbacks)
        callbacks = without_doubles(callbacks, config["callbacks"])
        if config["logger"] is False:  # nobody could write down the learning rate
            callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
        trainer: Trainer = super()._instantiate_trainer(config, callbacks)
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        if not self._runs:
            return
        # without loggers, as under `fast_dev_run`, nothing is kept
        self.record.enabled = any(isinstance(logger, MLflowTracker) for logger in self.trainer.loggers)
        if subcommand == "fit":
            recorded = recorded_fit(self._beginning, lambda: self.trainer.received_sigterm)
        else:
            recorded = recording(self.record, self.config_text, resumed=True)
        with recorded, self._writer.in_place(), run_errors_in_one_line():
            super()._run_subcommand(subcommand)
            self._conclude()

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        arguments: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
        arguments["weights_only"] = True
        if subcommand == "predict":
            arguments["return_predictions"] = False
        if subcommand in ("validate", "test"):
            arguments["verbose"] = False
        if isinstance(self.model, EnsembleModule):  # it has its weights already
            arguments["ckpt_path"] = None
        return arguments

    # -- at the end --------------------------------------------------------------------------------------------------

    @rank_zero_only
    def _conclude(self) -> None:
        """Writes and prints what the command leaves behind."""
        self._writer.require_in_place()
        outcome = Outcome(self.run_folder, self.record, self.trainer, self.model, self.datamodule)
        config = self.config_init[self._command]
        if config.trainer.fast_dev_run:
            outcome.trial(self._command)
        elif self._command == "fit":
            outcome.fit(model=not self._trial)
        elif self._command == "validate":
            outcome.validate()
        elif self._command == "test":
            outcome.test(config.evaluation, Path(config.ckpt_path))
        else:
            outcome.predict(config.csv, config.allow_expired)


def add_run_arguments(parser: LightningArgumentParser) -> None:
    """Options of a run that are those of no class.

    Args:
        parser: Parser of a command.
    """
    parser.add_argument("--run_dir", type=str | None, default=None, help="Folder of the run; fit makes a new one.")
    parser.add_argument("--runs_dir", type=str, default="runs", help="Where fit makes the run's folder.")
    parser.add_argument("--tensorboard", type=bool, default=True, help="Write TensorBoard events.")
    add_tracking_arguments(parser)
    parser.add_argument("--quiet", type=bool, default=False, help="No bar, lines or warnings: results and errors.")
    parser.add_argument("--csv", type=bool, default=False, help="predict: write forecasts.csv too.")
    parser.add_argument("--ensemble", type=int, default=1, help="fit: train so many seeds; best.ckpt is their average.")
    parser.add_argument("--n_jobs", type=int, default=1, help="fit: members of an ensemble at a time.")
    parser.add_argument(
        "--calibration_from",
        type=str | None,
        default=None,
        help="fit with data.fit_on train_and_validation: checkpoint of the fit on train, for the intervals.",
    )
    parser.add_argument(
        "--expires",
        type=str | None,
        default=None,
        help="fit: day from which on predict refuses the checkpoint, or how long after the last bar, such as 6mo.",
    )
    parser.add_argument(
        "--allow_expired", type=bool, default=False, help="predict: take a checkpoint that has expired."
    )
    parser.add_argument(
        "--weights_from",
        type=str | None,
        default=None,
        help="fit: checkpoint of an earlier fit of the same model, whose weights the training begins with.",
    )
    parser.add_argument(
        "--same_prices", type=bool, default=False, help="Refuse a checkpoint that was trained on other prices."
    )


def _of_life(config: Namespace) -> list[Callback]:
    """What a fit takes from an earlier one, and how long its checkpoints live."""
    callbacks: list[Callback] = []
    if config.weights_from is not None:
        callbacks.append(EarlierWeights(config.weights_from))
    if config.expires is not None:
        callbacks.append(Expiry(config.expires))
    return callbacks


def _value(parser: LightningArgumentParser, command: str, argv: list[str], key: str) -> Any:
    return parser.parse_args(argv)[command].get(key)


def _of_checkpoint(forecaster: Forecaster, data: MarketDataModule, ckpt_path: str) -> Forecaster | EnsembleModule:
    """The ensemble of a checkpoint in place of a forecaster without weights; the data keep the checkpoint's dates."""
    checkpoint = read_checkpoint(ckpt_path)
    for plain in plain_members(checkpoint):
        require_same_class(plain, type(forecaster))
    contract = Contract.of(checkpoint)
    data.keep_dates(contract.boundaries)
    data.keep_gap_limit(contract.gap_limit)
    if not is_ensemble(checkpoint):
        return forecaster
    ensemble = for_trainer(ensemble_from(checkpoint))
    ensemble.samples = forecaster.samples
    return ensemble


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def run(
    argv: list[str],
    trial: Sequence[Callback] = (),
    ensemble: Callable[[ForecastCLI, Sequence[str]], None] | None = None,
) -> None:
    """Runs `fit`, `validate`, `test` or `predict`.

    Args:
        argv: The command and its arguments.
        trial: Callbacks of a fit that is a trial of a sweep.
        ensemble: Runs a fit of several members, given its configuration and its arguments; None where the arguments
            ask for one member.
    """
    with _restored_environment(), warnings.catch_warnings(), empty_run_removed(), interruption_with_advice():
        cli = ForecastCLI(argv, trial=trial)
        if cli.makes_ensemble:
            assert ensemble is not None, "nobody can train the members"
            ensemble(cli, argv[1:])


def parsed(argv: Sequence[str]) -> ForecastCLI:
    """A configuration that is parsed and checked, for commands that do something else with it than Lightning.

    Args:
        argv: `fit`, `validate`, `test` or `predict`, and its arguments.

    Raises:
        ConfigError: If the configuration is wrong.
    """
    return ForecastCLI(list(argv), run=False)


@contextmanager
def _restored_environment() -> Iterator[None]:
    """Takes back what MLflow and we leave in the environment, or a second run in this process would follow it."""
    before = {name: os.environ.get(name) for name in (ENVIRONMENT_KEY, *ENVIRONMENT)}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
