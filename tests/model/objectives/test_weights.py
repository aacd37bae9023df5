"""Weighted classes: the loss weighs them, the forecast is of probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from cnn_lstm.data.targets import Direction
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.objectives import Classes
from tests.fits import small_checkpoint, small_data, small_network
from tests.model.objectives.draws import LOC, SCALE, draw

ZERO, ONE = torch.zeros(1, 1), torch.ones(1)


def weighted(labels: Tensor, classes: int) -> Classes:
    """An objective with the weights of labels, (n,)."""
    objective = Classes(classes, weighted=True)
    objective.learn_classes(torch.bincount(labels, minlength=classes)[None].float())
    return objective


def learnt(objective: Classes, inputs: Tensor, labels: Tensor) -> Tensor:
    """Probabilities, (n, C), of the linear logits of inputs, (n, F), that have the lowest loss."""
    slope = torch.zeros(inputs.shape[1], objective.classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([slope], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective.loss((inputs @ slope)[:, None], labels[:, None].float())
        loss.backward()
        return loss

    optimizer.step(closure)
    columns = objective.forecast((inputs @ slope.detach())[:, None], ZERO, ONE)
    return torch.cat([columns[f"p{k}"] for k in range(objective.classes)], dim=1)


@pytest.mark.parametrize("counts", [[676, 504, 822], [90, 10], [1, 1, 98]])
def test_the_best_constant_forecast_is_the_share_of_each_class(counts: list[int]) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    forecast = learnt(weighted(labels, len(counts)), torch.ones(len(labels), 1), labels)
    torch.testing.assert_close(forecast[0], torch.tensor(counts) / len(labels), rtol=1e-3, atol=1e-4)


def test_the_mean_probability_of_a_fitted_model_is_near_the_share() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(4000, 3))
    logits = x @ random.normal(size=(3, 3)) + np.log([0.7, 0.2, 0.1])
    labels = torch.from_numpy((logits + random.gumbel(size=logits.shape)).argmax(axis=1))
    inputs = torch.from_numpy(np.c_[x, np.ones(len(x))])
    forecast = learnt(weighted(labels, 3), inputs.float(), labels)
    unweighted = LogisticRegression(C=1e6).fit(x, labels.numpy())
    # the same model of the same odds, by another loss: near one another where the model is right
    torch.testing.assert_close(forecast, torch.from_numpy(unweighted.predict_proba(x)).float(), rtol=0, atol=0.06)
    shares = torch.bincount(labels) / len(labels)
    torch.testing.assert_close(forecast.mean(dim=0), shares, rtol=0, atol=0.02)


def test_without_weights_nothing_is_corrected() -> None:
    objective, (raw, _) = Classes(3), draw(3)
    objective.prepare(raw.shape[1])
    columns = objective.forecast(raw, LOC, SCALE)
    assert torch.equal(torch.stack([columns[f"p{k}"] for k in range(3)], dim=-1), raw.softmax(dim=-1))


@pytest.mark.parametrize("linear", ["fixed", "off"])
def test_a_checkpoint_forecasts_the_shares_where_nothing_can_be_learnt(tmp_path: Path, linear: str) -> None:
    """Random walks: the odds of a rise of more than one standard deviation are always the same."""
    torch.manual_seed(0)
    forecaster = Forecaster(small_network(), Classes(2, weighted=True), linear=linear)  # type: ignore[arg-type]  # wrong on purpose
    with torch.no_grad():
        forecaster.head.weight.zero_()
    path = small_checkpoint(tmp_path, forecaster, targets=[Direction(thresholds=[0.01])])
    share = float(forecaster.objective.get_buffer("weights")[0, 0] * 2) ** -1
    assert share > 0.75
    table = Predictor.from_checkpoint(path).predict(small_data(tmp_path).source.load(None, None, None))
    assert float(table["p0"].mean()) == pytest.approx(share, abs=0.1)
    assert (table["y_pred"] == table[["p0", "p1"]].to_numpy().argmax(axis=1)).all()
