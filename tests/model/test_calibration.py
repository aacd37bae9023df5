"""Conformal scores of the validation part, and when a fit keeps them."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from cnn_lstm.data.splits import FractionSplit
from cnn_lstm.data.targets import ForwardReturn, RealizedVolatility
from cnn_lstm.model import calibration
from cnn_lstm.model import forecaster as module
from cnn_lstm.model.calibration import MOST_SCORES, Calibration, calibrate, calibrate_epoch
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.smearing import log_ratios, smearing
from tests.fits import small_data, small_network, small_trainer


def test_scores_are_signed_errors_in_units_of_the_scale() -> None:
    columns = {"y_true": torch.tensor([[1.0, 5.0], [2.0, 0.0]]), "y_pred": torch.tensor([[3.0, 1.0], [1.0, 2.0]])}
    found = calibrate(columns, torch.tensor([[4.0, 1.0], [0.5, 2.0]]))
    assert found == Calibration([[-0.5, 2.0], [-1.0, 4.0]], [0.5, 1.0], [1.0, 1.0])


@pytest.mark.parametrize("unknown", [0.0, float("nan"), float("inf")])
def test_an_unknown_scale_is_the_typical_one(unknown: float) -> None:
    columns = {"y_true": torch.tensor([[1.0], [2.0], [3.0], [8.0]]), "y_pred": torch.zeros(4, 1)}
    found = calibrate(columns, torch.tensor([[1.0], [2.0], [4.0], [unknown]]))
    assert found == Calibration([[0.75, 1.0, 1.0, 4.0]], [2.0], [1.0])


def test_no_scale_at_all_is_one() -> None:
    columns = {"y_true": torch.tensor([[3.0]]), "y_pred": torch.tensor([[1.0]])}
    found = calibrate(columns, torch.tensor([[float("nan")]]))
    assert found == Calibration([[2.0]], [1.0], [1.0])


def test_scores_of_classes_are_what_the_true_one_lacks() -> None:
    columns = {
        "y_true": torch.tensor([[0.0, 1.0], [1.0, 1.0]]),
        "y_pred": torch.zeros(2, 2),
        "p0": torch.tensor([[0.75, 0.5], [0.25, 1.0]]),
        "p1": torch.tensor([[0.25, 0.5], [0.75, 0.0]]),
    }
    found = calibrate(columns, torch.ones(2, 2), classes=2)
    assert found == Calibration([[0.25, 0.25], [0.5, 1.0]], [1.0, 1.0], [1.0, 1.0])


@pytest.mark.parametrize("rows", [MOST_SCORES, MOST_SCORES + 1, 20_000])
def test_many_scores_are_evenly_spaced_order_statistics(rows: int) -> None:
    truth = torch.randn(rows, 1, generator=torch.Generator().manual_seed(0))
    (scores,) = calibrate({"y_true": truth, "y_pred": torch.zeros(rows, 1)}, torch.ones(rows, 1)).scores
    everything = np.sort(truth[:, 0].double().numpy())
    assert len(scores) == MOST_SCORES
    assert set(scores) <= set(everything)
    np.testing.assert_allclose(scores, np.quantile(everything, np.linspace(0, 1, MOST_SCORES)), atol=0.2)
    assert (scores[0], scores[-1]) == (everything[0], everything[-1])
    np.testing.assert_allclose(
        np.quantile(scores, [0.1, 0.5, 0.9]), np.quantile(everything, [0.1, 0.5, 0.9]), atol=3e-3
    )


def test_smearing_makes_the_squared_volatility_an_unbiased_variance() -> None:
    truth, forecast = torch.tensor([[0.1], [0.3]]), torch.tensor([[0.1], [0.1]])
    columns = {"y_true": truth.expand(2, 3), "y_pred": forecast.expand(2, 3)}
    logs = {name: torch.stack([v[:, 0].log(), v[:, 1], v[:, 2]], dim=1) for name, v in columns.items()}
    kinds = ["log_volatility", "volatility", "return"]
    assert calibrate(logs, torch.ones(2, 3), kinds=kinds).smearing == pytest.approx([5.0, 5.0, 1.0], rel=1e-6)


def test_a_volatility_forecast_below_zero_has_no_part_in_the_smearing() -> None:
    columns = {"y_true": torch.tensor([[0.2], [0.2]]), "y_pred": torch.tensor([[0.1], [-0.1]])}
    assert calibrate(columns, torch.ones(2, 1), kinds=["volatility"]).smearing == pytest.approx([4.0], rel=1e-6)


def columns_of(seed: int, rows: int, spread: float, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Log volatilities with normal errors, two rows a date."""
    random = torch.Generator().manual_seed(seed)
    truth = spread * torch.randn(rows, 1, generator=random, dtype=torch.float64)
    return {"y_true": truth, "y_pred": torch.zeros_like(truth), "date": torch.arange(rows) // 2, **more}


def test_training_rows_and_dates_have_a_part_in_the_smearing() -> None:
    validation, training = columns_of(0, 200, 0.5), columns_of(1, 2000, 0.4)
    given = [
        log_ratios("log_volatility", part["y_true"][:, 0], part["y_pred"][:, 0], part["date"])
        for part in (validation, training)
    ]
    found = calibrate(validation, torch.ones(200, 1), 0, ["log_volatility"], training)
    assert found.smearing == [smearing(*given)]
    assert found.linear_smearing == ()
    alone = calibrate(validation, torch.ones(200, 1), 0, ["log_volatility"])
    assert list(alone.smearing) == pytest.approx([smearing(given[0])])
    assert alone.smearing != found.smearing
    assert alone.scores == found.scores


def test_the_linear_part_has_a_factor_of_its_own() -> None:
    linear = torch.full((200, 1), 0.3, dtype=torch.float64)
    validation, training = columns_of(0, 200, 0.5, y_linear=linear), columns_of(1, 2000, 0.4)
    found = calibrate(validation, torch.ones(200, 1), 0, ["log_volatility"], training)
    # training rows without forecasts of the linear part have no say in its factor
    expected = smearing(log_ratios("log_volatility", validation["y_true"][:, 0], linear[:, 0], validation["date"]))
    assert list(found.linear_smearing) == pytest.approx([expected])
    assert found.linear_smearing != found.smearing


def test_a_fit_takes_the_forecasts_of_its_training_epoch(tmp_path: Path) -> None:
    data = small_data(tmp_path, targets=[RealizedVolatility(5, log=True)])
    forecaster = Forecaster(small_network())
    with patch.object(calibration, "calibrate", wraps=calibrate) as counted:
        small_trainer(max_epochs=2).fit(forecaster, datamodule=data)
    validation, *_, training = counted.call_args.args
    assert len(validation["row"]) == len(data.parts.validation)
    assert len(training["row"]) > 0.9 * len(data.parts.train)  # the last batch may be incomplete
    assert set(training["row"].tolist()) <= set(data.parts.train.tolist())
    times = data.panel.time[training["row"].numpy()].astype(np.int64)
    assert torch.equal(training["date"], torch.from_numpy(times))
    stored = forecaster.contract.calibration
    assert stored is not None
    alone = calibrate(validation, torch.ones(len(validation["row"]), 1), 0, ["log_volatility"])
    assert stored.smearing != alone.smearing


def test_a_forecast_that_is_no_number_has_no_score() -> None:
    columns = {"y_true": torch.tensor([[1.0], [2.0]]), "y_pred": torch.tensor([[float("nan")], [0.0]])}
    assert calibrate(columns, torch.ones(2, 1)).scores == [[2.0]]


def test_the_scale_of_a_label_is_that_of_the_table(tmp_path: Path) -> None:
    data = small_data(tmp_path, targets=[ForwardReturn(4), RealizedVolatility(5), RealizedVolatility(5, log=True)])
    data.setup()
    rows = torch.tensor([70, 30, 31])
    volatility = data.panel.volatility[rows].double()
    wanted = volatility * torch.tensor([2.0, 1.0, 0.0]) + torch.tensor([0.0, 0.0, 1.0])
    assert torch.equal(data.surprise_scale(rows), wanted)


def test_only_the_validation_of_a_fit_is_kept(tmp_path: Path) -> None:
    data, forecaster = small_data(tmp_path), Forecaster(small_network())
    with patch.object(module, "calibrate_epoch", wraps=calibrate_epoch) as counted:
        small_trainer(max_epochs=3, num_sanity_val_steps=1).fit(forecaster, datamodule=data)
    assert counted.call_count == 3, "one an epoch, none for the sanity check"
    before = forecaster.contract.calibration
    with torch.no_grad():
        forecaster.head.bias.add_(1.0)
    other = small_data(tmp_path, split=FractionSplit(0.5, 0.3))
    small_trainer().validate(forecaster, datamodule=other, verbose=False)
    small_trainer().test(forecaster, datamodule=other, verbose=False)
    assert forecaster.contract.calibration == before


def test_a_new_fit_forgets_the_scores_of_the_last_one(tmp_path: Path) -> None:
    data, forecaster = small_data(tmp_path), Forecaster(small_network(), scheduler=None)
    small_trainer().fit(forecaster, datamodule=data)
    assert forecaster.contract.calibration is not None
    small_trainer(limit_val_batches=0).fit(forecaster, datamodule=data)
    assert forecaster.contract.calibration is None
