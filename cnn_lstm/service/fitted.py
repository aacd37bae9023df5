"""The models of a roll's steps, and their forecasts of the prices as they are now.

Shapes: n forecasts of a predictions table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache

import numpy as np
import pandas as pd

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.muted_warnings import muted_warnings
from cnn_lstm.data.row_numbers import Rows
from cnn_lstm.data.splits import DateSplit
from cnn_lstm.evaluation.json_types import JudgedModelInfo, PartRecord
from cnn_lstm.evaluation.judge import rows_tested, with_baselines, with_own_variances, with_smearing
from cnn_lstm.evaluation.ledger import count_once
from cnn_lstm.evaluation.model_info import model_info
from cnn_lstm.evaluation.settings import Evaluation
from cnn_lstm.inference.ensemble import model_from
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import digest_of, refuse_differences
from cnn_lstm.runs.members import Member


class FittedModels:
    """The best checkpoint of each step.

    Args:
        members: The run of each step, in order.
        data: The data module of the whole prices, set up.
        settings: Evaluation settings.
    """

    def __init__(self, members: Sequence[Member], data: MarketDataModule, settings: Evaluation) -> None:
        self.members, self.data, self.settings = members, data, settings
        self.folder = members[0].folder
        self.predictor = cache(self._predictor)
        self.judged = cache(self._judged)

    def _predictor(self, step: int) -> Predictor:
        """The model of a step, whenever it expires: a walk is about the past."""
        return Predictor(model_from(read_checkpoint(self.members[step].run.checkpoint("best"))))

    def digest(self, step: int) -> str:
        """Digest of the weights of a step."""
        return digest_of(read_checkpoint(self.members[step].run.checkpoint("best")))

    def rows(self, first: np.datetime64, stop: np.datetime64) -> Rows:
        """Panel rows that end a complete window and lie between two moments, (n,)."""
        time = self.data.panel.time[self.data.windows]
        chosen: Rows = self.data.windows[(time >= first) & (time < stop)]
        return chosen

    def plain(self, step: int, first: np.datetime64, stop: np.datetime64) -> pd.DataFrame:
        """Forecasts of a step's model between two moments, without intervals and baselines.

        Args:
            step: Number of the step.
            first: First decision, UTC.
            stop: First decision that is left out, UTC.
        """
        predictor = self._on_prices(step)
        table = predictor.plain_rows(self.data.panel, self.rows(first, stop))
        calibration = predictor.forecaster.contract.calibration
        names = [target.name for target in self.data.targets]
        return table if calibration is None else with_own_variances(table, names, calibration)

    def _judged(self, step: int) -> pd.DataFrame:
        """Forecasts of a step's model since the first decision that it does not know, next to the baselines.

        The baselines are fitted on the training rows of that step, and intervals adapt as they would have day by day.
        """
        predictor = self.predictor(step)
        model = predictor.forecaster
        with self._split_of(step):
            last = self.data.times[-1] + np.timedelta64(1, "us")
            rows = self.rows(np.datetime64(model.contract.boundaries.test), last)
            table = predictor.predict_rows(self.data.panel, rows)
            contract = with_smearing(model.contract, table, Predictor(model), self.data)
            return with_baselines(table, self.data, contract, self.settings, rows)

    def sheet(self, step: int, served: pd.DataFrame) -> JudgedModelInfo:
        """The model information sheet of a step's model; counts the use of the rows that it forecast.

        Args:
            step: Number of the step.
            served: The forecasts that are judged.
        """
        model = self.predictor(step).forecaster
        with self._split_of(step):
            info = model_info(self.data, model, model.contract)
        one = served[served["target"] == served["target"].iloc[0]]
        first, last = (f"{moment:%Y-%m-%d}" for moment in (one["as_of"].min(), one["as_of"].max()))
        test: PartRecord = {"forecasts": len(one), "first": first, "last": last}
        uses = count_once(self.folder, rows_tested(served, self.data), self.digest(step))
        return {**info, "split": {**info["split"], "test": test}, "test_rows_used": uses}

    @contextmanager
    def _split_of(self, step: int) -> Iterator[None]:
        """Lets the data have the training and validation part of a step; its warnings were said by the fit."""
        edges = asdict(self._on_prices(step).forecaster.contract.boundaries)
        with muted_warnings():
            self.data.resplit(DateSplit(edges["validation"], edges["test"], edges["train"]))
            yield

    def _on_prices(self, step: int) -> Predictor:
        """The model of a step, and windows cut as it has learnt them."""
        predictor = self.predictor(step)
        self.data.keep_gap_limit(predictor.forecaster.contract.gap_limit)
        refuse_differences(predictor.recipe.to_plain(), self.data.recipe.to_plain())
        return predictor
