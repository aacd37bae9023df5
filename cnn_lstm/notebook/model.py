"""A trained model with its run: `fit`, and what comes after it."""

from __future__ import annotations

import html
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm.data.arrow_frames import Frame
from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.evaluation.explanation.explain import REPEATS, ROWS, explain, explain_forecast
from cnn_lstm.evaluation.explanation.results import Explanation, ForecastExplanation
from cnn_lstm.evaluation.plots import Kind, embedded
from cnn_lstm.hints import counted
from cnn_lstm.inference.ensemble import model_from
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.devices import require_device
from cnn_lstm.notebook.calls import command, options
from cnn_lstm.notebook.experiment import RUNS, Settings, argv_of
from cnn_lstm.notebook.report import TestReport, draw
from cnn_lstm.pages.drawing import Drawing
from cnn_lstm.runs import forecast_cli
from cnn_lstm.runs.argv import word_of
from cnn_lstm.runs.ensemble_fit import fit_ensemble
from cnn_lstm.service.growth import Changes
from cnn_lstm.service.monitor import MonitoredRun, moment_of, monitor_run
from cnn_lstm.service.update import update_run
from cnn_lstm.training.history import curves_of, read_history
from cnn_lstm.training.history_plot import draw_history
from cnn_lstm.training.run_folder import RunFolder, empty_run_removed, run_of_checkpoint, unused_folder


@dataclass(frozen=True)
class RunHistory:
    """The course of a fit.

    Attributes:
        folder: The run folder.
    """

    folder: Path

    @property
    def table(self) -> pd.DataFrame:
        """One row per epoch, from 0, and one column per metric of metrics.csv, for example `val_loss`.

        Raises:
            DataError: If the run has no epoch. Of an ensemble it is the first member's.
        """
        history = read_history(curves_of(self.folder)[0])
        return pd.DataFrame(history.metrics, index=pd.Index(history.epochs.astype(int), name="epoch"))

    def plot(self, file: str | Path | None = None) -> Drawing:
        """Draws losses, errors, learning rate and gradient norm over the epochs, as history.png shows them.

        Args:
            file: PNG file to write it to, too.

        Raises:
            DataError: If the run has no epoch.
        """
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "history.png"
            draw_history(curves_of(self.folder), path)
            drawing = Drawing((embedded(path),))
        if file is not None:
            drawing.save(file)
        return drawing.shown()

    def __repr__(self) -> str:
        return self.table.to_string(float_format=lambda value: f"{value:.5g}")

    def _repr_html_(self) -> str:
        return str(self.table.to_html(float_format=lambda value: f"{value:.5g}", max_rows=12, na_rep=""))


class Model(Predictor):
    """A trained model with the run that trained it: a `Predictor` that can also be tested and plotted.

    Everything of it lies in the run folder. It can be pickled.

    Args:
        run: The run folder.
        checkpoint: `best`, `last`, or a file; the best one by default, the last one without a best one.
        device: Where to compute.
        allow_expired: Whether it forecasts also at and after the day on which its checkpoint expires.

    Attributes:
        run: The run folder.
        checkpoint: The checkpoint file.
        history: The course of the fit.

    Raises:
        CheckpointError: If a checkpoint is missing or damaged.
        ConfigError: E238, if the device is not there.

    Example:
        >>> model = Model("runs/first")  # doctest: +SKIP
        >>> model.test().verdict  # doctest: +SKIP
    """

    def __init__(
        self, run: str | Path, checkpoint: str | Path | None = None, device: str = "cpu", allow_expired: bool = False
    ) -> None:
        require_device(device, "device")
        self.run = RunFolder(Path(run))
        self.checkpoint = self.run.model_file(checkpoint)
        self.history = RunHistory(self.run.path)
        super().__init__(model_from(read_checkpoint(self.checkpoint)).to(device), allow_expired)

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu", allow_expired: bool = False) -> Model:
        """The model of a checkpoint file that lies in the folder of its run; see `Predictor.from_checkpoint`."""
        return cls(run_of_checkpoint(Path(path)).path, path, device, allow_expired)

    def test(self, settings: Mapping[str, Any] | None = None) -> TestReport:
        """Judges the model on the untouched test part, as `cnn-lstm test` does, and counts the use of its rows.

        Args:
            settings: Options of `test` by dotted key, for example `{"evaluation.fee_bp": 2}`; also a password that the
                run's config.yaml does not keep.

        Raises:
            CnnLstmError: As the command, for example a DataError if the prices cannot be read.
        """
        config, file = word_of(self.run.config), word_of(self.checkpoint)
        argv = ["test", "--config", config, "--ckpt_path", file, "--run_dir", word_of(self.run.path), "--quiet=true"]
        with command("test", quiet=True):
            forecast_cli.run([*argv, *options(settings or {})])
        return TestReport.from_run(self.run.path)

    def plot(
        self,
        kind: Kind = "forecast",
        symbol: str | None = None,
        target: str | None = None,
        file: str | Path | None = None,
    ) -> Drawing:
        """Draws forecasts and truths: of the test part once `test` has judged it, and of the validation part before.

        Args:
            kind: `forecast` over time, or `truth` against forecast; after `test` also the others of `TestReport.plot`.
            symbol: The only symbol; by default all, of which `forecast` shows four.
            target: Name of the target; the first one by default.
            file: Where to write it too, see `Drawing.save`.

        Raises:
            ConfigError: E224, if kind, symbol or target are unknown.
        """
        if (self.run.path / "report.json").is_file():
            return TestReport.from_run(self.run.path).plot(kind, symbol, target, file)
        return draw(kind, self.validation_forecasts(), target, None, symbol, file)

    def validation_forecasts(self) -> pd.DataFrame:
        """The predictions table of the validation part, in original units, from the prices of the run's config.yaml.

        Raises:
            DataError: If the prices cannot be read.
        """
        data = self._data()
        data.keep_dates(self.forecaster.contract.boundaries)
        data.setup()
        return self.predict_rows(data.panel, data.parts.validation)

    def explain(
        self,
        prices: Frame | None = None,
        symbol: str | None = None,
        as_of: str | None = None,
        *,
        rows: int = ROWS,
        repeats: int = REPEATS,
        seed: int = 0,
    ) -> Explanation | ForecastExplanation:
        """Which features and bars the forecasts of the validation part depend on, or one forecast does.

        Args:
            prices: Price table of the one forecast; those of the run's config.yaml by default.
            symbol: Whose forecast. Without prices, symbol and `as_of` the validation part is explained.
            as_of: Its last bar, ISO; the newest one by default.
            rows: Most windows of the validation part, see `Effort`, as the next two; one forecast needs none of them.
            repeats: Permutations of each feature.
            seed: Of the permutations.

        Returns:
            An `Explanation` or a `ForecastExplanation`: tables `by_feature` and `by_bar`, and `plot()`.

        Raises:
            ConfigError: E229, if captum is not installed; E224, if an argument is out of range or unknown.
            DataError: If the prices cannot be read, or E380, see `explain` and `explain_forecast`.
        """
        if prices is None and symbol is None and as_of is None:
            return explain(self, self._data(), rows=rows, repeats=repeats, seed=seed)
        return explain_forecast(self, self._data() if prices is None else prices, symbol, as_of)

    def update(self, prices: Frame | None = None, since: str | None = None) -> Changes:
        """Appends the forecasts of every bar that is new to live.parquet of the run, as `cnn-lstm update` does.

        Args:
            prices: Price table with the new bars; by default the prices that the run's config.yaml names, as they are
                now. Those of a DataFrame that `fit` was given have no new bars.
            since: First day of a decision, ISO, on the first update; see `update_run`.

        Returns:
            What has changed; `read_live` gives the table.

        Raises:
            CnnLstmError: As `update_run`.
        """
        return update_run(self.run.path, self, self._data() if prices is None else prices, since)

    def monitor(
        self, since: str | None = None, now: str | None = None, page: bool = False, prices: Frame | None = None
    ) -> MonitoredRun:
        """Whether the model still works as it did in its test, as `cnn-lstm monitor` says it.

        Args:
            since: First day that counts as service, ISO; by default the first that the fit did not know.
            now: Day of the look, ISO, for the age of the bars; today by default.
            page: Whether to write monitor.html.
            prices: Price table with the new bars; by default as for `update`.

        Returns:
            The verdict with its reasons, and what it rests on.

        Raises:
            CnnLstmError: As `monitor_run`.
        """
        cli = forecast_cli.parsed(["fit", "--config", word_of(self.run.config)])
        begins, day = (moment_of(text, name) for text, name in ((since, "since"), (now, "now")))
        data = cli.build_data()
        if prices is not None:
            data = MarketDataModule(**{**data.init_args, "source": prices})
        return monitor_run(self.run.path, self, data, cli.evaluation, since=begins, now=day, page=page)

    def _data(self) -> MarketDataModule:
        """The data of the run's config.yaml."""
        return forecast_cli.parsed(["fit", "--config", word_of(self.run.config)]).build_data()

    def __repr__(self) -> str:
        contract = self.forecaster.contract
        names = ", ".join(target.name for target in self.targets)
        trained = contract.training
        span = f", trained on {trained.first[:10]}..{trained.last[:10]}" if trained else ""
        return f"<Model of {names}: {counted(len(contract.symbols), 'symbol')}{span}, {self.checkpoint}>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self)[1:-1])}</p>{self.history._repr_html_()}"


def fit(
    data: MarketDataModule | None = None,
    settings: Settings = None,
    *,
    max_epochs: int | None = None,
    run_dir: str | Path | None = None,
    seed: int | None = None,
    quiet: bool = False,
) -> Model:
    """Trains a model as `cnn-lstm fit` does: the same run folder, record and bits, from the same configuration.

    The run's config.yaml reruns it. Prices of a frame are kept for that in `.prices`, next to the run folder, in a
    Parquet file that is named after its content, and config.yaml names this file.

    Args:
        data: The data; they take the place of the section `data` of the settings. Without both it is the bars that the
            package carries.
        settings: Everything else that a YAML of `fit` may hold: a file, the name of a shipped one such as `volatility`,
            YAML text, or a mapping by section or dotted key, for example `{"trainer.accelerator": "cpu",
            "model.network": {"channels": [16, 32]}, "ensemble": 5}`. Networks, objectives and the like may be objects.
        max_epochs: `trainer.max_epochs`.
        run_dir: The run folder, which must not hold a run; a new one in `runs` by default.
        seed: `seed_everything`, 42 by default.
        quiet: Whether nothing is printed but warnings.

    Returns:
        The model, with the weights of the best epoch.

    Raises:
        CnnLstmError: What the command reports in one line, for example a ConfigError of a misspelt setting, or a
            DataError of damaged prices. A failed call leaves no run folder behind.

    Example:
        >>> data = MarketDataModule(prices, split=DateSplit("2009-01-01", "2011-01-01"))  # doctest: +SKIP
        >>> model = fit(data, max_epochs=30, run_dir="runs/first")  # doctest: +SKIP
        >>> model.predict(new_prices)  # doctest: +SKIP
    """
    given = {"trainer.max_epochs": max_epochs, "seed_everything": seed, "quiet": quiet or None}
    flags = options({key: value for key, value in given.items() if value is not None})
    with empty_run_removed():
        folder = Path(run_dir) if run_dir else unused_folder(Path(RUNS) / f"fit-{time.strftime('%Y%m%d-%H%M%S')}")
        with argv_of(data, settings, folder.parent) as argv, command("fit", quiet):
            argv = ["fit", *argv, *flags, "--run_dir", word_of(folder)]
            forecast_cli.run(argv, ensemble=fit_ensemble)
    return Model(folder)
