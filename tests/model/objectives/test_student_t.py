"""Student's t heads against scipy and arch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from arch.univariate import SkewStudent
from scipy import stats
from torch import Tensor

from cnn_lstm.model.objectives import SkewStudentT, StudentT
from cnn_lstm.model.objectives.student_t import FEWEST_DF, MOST_DF
from tests.model.objectives.draws import LOC, SCALE, H, draw


def shape(raw: Tensor) -> dict[str, np.ndarray]:
    """Columns of standardised targets in double precision."""
    objective = StudentT() if raw.shape[-1] == 3 else SkewStudentT()
    columns = objective.forecast(raw.double(), torch.zeros(raw.shape[:2]), torch.ones(H))
    return {name: values.double().numpy() for name, values in columns.items()}


def test_loss_is_the_likelihood_of_scipy() -> None:
    raw, z = draw(3)
    columns = shape(raw)
    scale = columns["std"] * np.sqrt((columns["df"] - 2) / columns["df"])
    likelihood = stats.t.logpdf(z.double().numpy(), columns["df"], columns["y_pred"], scale)
    assert float(StudentT().loss(raw.double(), z.double())) == pytest.approx(-likelihood.mean(), rel=1e-9)
    assert float(StudentT().loss(raw, z)) == pytest.approx(-likelihood.mean(), rel=1e-4)


def test_loss_of_the_skewed_one_is_the_likelihood_of_arch() -> None:
    raw, z = draw(4)
    columns = shape(raw)
    likelihood = [
        float(
            SkewStudent().loglikelihood(
                np.array([columns["df"][row], columns["skew"][row]]),
                np.array([float(z[row])]) - columns["y_pred"][row],
                np.array([columns["std"][row] ** 2]),
            )
        )
        for row in np.ndindex(z.shape)
    ]
    assert float(SkewStudentT().loss(raw.double(), z.double())) == pytest.approx(-np.mean(likelihood), rel=1e-9)


@pytest.mark.parametrize("objective", [StudentT(), SkewStudentT()])
def test_mean_and_standard_deviation_are_those_of_the_density(objective: StudentT | SkewStudentT) -> None:
    """By numeric integration of the loss itself, so that forecast and loss mean the same distribution."""
    raw = torch.tensor([0.3, -0.2, -1.0, 0.9][: objective.n_outputs], dtype=torch.float64)
    grid = torch.linspace(-300, 300, 1_200_001, dtype=torch.float64)
    # the loss is a mean: that of one row at a time is its negative log density
    density = torch.exp(-_row_losses(objective, raw, grid))
    columns = objective.forecast(raw[None, None], torch.zeros(1, 1), torch.ones(1))
    step = float(grid[1] - grid[0])
    mean = float((density * grid).sum()) * step
    assert float(density.sum()) * step == pytest.approx(1.0, abs=1e-6)
    assert mean == pytest.approx(float(columns["y_pred"]), abs=1e-5)
    variance = float((density * (grid - mean) ** 2).sum()) * step
    assert variance == pytest.approx(float(columns["std"]) ** 2, rel=1e-3)


def _row_losses(objective: StudentT | SkewStudentT, raw: Tensor, grid: Tensor) -> Tensor:
    return torch.vmap(lambda z: objective.loss(raw[None, None], z[None, None]))(grid)


def test_without_skew_both_are_the_same() -> None:
    raw, z = draw(3)
    skewed = torch.cat([raw, torch.zeros_like(raw[..., :1])], dim=-1)
    torch.testing.assert_close(SkewStudentT().loss(skewed, z), StudentT().loss(raw, z))


def test_negative_skew_is_a_heavy_left_tail() -> None:
    raw = torch.zeros(2, 1, 4)
    raw[:, 0, 3] = -1.0
    left, right = (float(SkewStudentT().loss(raw[:1], torch.tensor([[z]]))) for z in (-4.0, 4.0))
    assert left < right


@pytest.mark.parametrize("objective", [StudentT(), SkewStudentT()])
def test_columns_are_in_original_units(objective: StudentT | SkewStudentT) -> None:
    raw, _ = draw(objective.n_outputs)
    standard, columns = shape(raw), objective.forecast(raw, LOC, SCALE)
    assert list(columns) == ["y_pred", "std", "df", "skew"][: objective.n_outputs]
    np.testing.assert_allclose(columns["y_pred"], LOC + SCALE * raw[..., 0], rtol=1e-6)
    np.testing.assert_allclose(columns["std"], SCALE.numpy() * standard["std"], rtol=1e-5)
    np.testing.assert_allclose(columns["df"], standard["df"], rtol=1e-5)


@pytest.mark.parametrize("objective", [StudentT(), SkewStudentT()])
def test_shapes_have_bounds(objective: StudentT | SkewStudentT) -> None:
    for size in (-1e6, 1e6):
        columns = objective.forecast(torch.full((1, 1, objective.n_outputs), size), torch.zeros(1, 1), torch.ones(1))
        assert 2 < FEWEST_DF * (1 - 1e-6) <= float(columns["df"]) <= MOST_DF * (1 + 1e-6)
        assert abs(float(columns.get("skew", torch.zeros(1)))) < 1
