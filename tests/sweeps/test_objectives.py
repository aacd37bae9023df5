"""What trials are judged by: objectives that are read, refused, or cannot be compared."""

from __future__ import annotations

from typing import Any

import pytest

from cnn_lstm.errors import ConfigError
from cnn_lstm.sweeps.objectives import Objective, monitored, read_objectives, require_comparable
from cnn_lstm.sweeps.space_reader import read_space

LOSS = (Objective("val_loss", "minimize"),)
TWO = (*LOSS, Objective("latency_ms", "minimize"))


def test_the_loss_of_the_validation_is_the_default() -> None:
    assert read_objectives(None) == LOSS


def test_objectives_are_read_in_their_order() -> None:
    section = [{"metric": "val_accuracy", "direction": "maximize"}, {"metric": "parameters", "direction": "minimize"}]
    assert read_objectives(section) == (Objective("val_accuracy", "maximize"), Objective("parameters", "minimize"))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ([], "objectives are not a list"),
        ({"metric": "val_loss", "direction": "minimize"}, "objectives are not a list"),
        ([{"metric": "val_loss"}], "metric and direction"),
        ([{"metric": "val_loss", "direction": "down"}], "one of minimize, maximize"),
        ([{"metric": "val_loss", "direction": "minimise"}], "did you mean minimize?"),
        ([{"metric": "test_loss", "direction": "minimize"}], "The test part is not for choosing."),
        ([{"metric": "paramters", "direction": "minimize"}], "did you mean parameters?"),
        ([{"metric": "val_loss", "direction": "minimize"}] * 2, "a metric is listed twice"),
        ([{"metric": "val_loss", "direction": "maximize"}], "direction maximize of val_loss"),
        ([{"metric": "val_r2_return_1", "direction": "minimize"}], "maximize it"),
        ([{"metric": "latency_ms", "direction": "maximize"}], "minimize it"),
    ],
)
def test_wrong_objectives_are_reported_in_one_line(section: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_objectives(section)
    assert caught.value.code == 254
    assert message in str(caught.value)


@pytest.mark.parametrize("key", ["data.scaling", "model.objective", "model.objective.levels"])
def test_losses_of_different_units_are_not_compared(key: str) -> None:
    space = read_space({key: {"categorical": ["a", "b"]}})
    with pytest.raises(ConfigError, match=r"E254.*val_loss has another unit"):
        require_comparable(space, TWO)
    require_comparable(space, [Objective("val_rmse", "minimize")])
    require_comparable(read_space({"data.window": {"int": [1, 2]}}), LOSS)


def test_trials_are_stopped_and_kept_by_the_first_objective_that_each_epoch_logs() -> None:
    size, error = Objective("parameters", "minimize"), Objective("val_mae", "minimize")
    assert monitored([size, error, *LOSS]) == error
    assert monitored([size]) == Objective("val_loss", "minimize")


def test_of_equal_values_none_is_better() -> None:
    lower, higher = Objective("val_mae", "minimize"), Objective("val_accuracy", "maximize")
    assert (lower.better(1.0, 2.0), lower.better(2.0, 1.0), lower.better(1.0, 1.0)) == (True, False, False)
    assert (higher.better(1.0, 2.0), higher.better(2.0, 1.0), higher.better(1.0, 1.0)) == (False, True, False)
