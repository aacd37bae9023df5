"""What stays the same when a model is trained again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from cnn_lstm.evaluation.json_types import ModelInfo
from cnn_lstm.evaluation.same_recipe import recipe_key
from cnn_lstm.model.contract import Contract, PartDates, TrainingRange

CONTRACT = Contract(recipe={"window": 60}, source="FileSource", symbols=("A", "B"), fingerprint="0f")
INFO: Any = {"model": {"network": {"class_path": "CNNLSTM"}, "objective": {"class_path": "MSE"}, "parameters": 5}}
CONFIG = "seed_everything: 1\nmodel:\n  optimizer:\n    lr: 0.1\ntrainer:\n  max_epochs: 3\n"


def key(folder: Path, info: Any = INFO, contract: Contract = CONTRACT, config: str = CONFIG) -> str:
    (folder / "config.yaml").write_text(config)
    return recipe_key(folder, cast("ModelInfo", info), contract)


def test_later_prices_dates_and_weights_belong_to_the_same_recipe(tmp_path: Path) -> None:
    dates = PartDates("2010-01-01", "2012-01-01", "2013-01-01", "2014-01-01")
    later = replace(CONTRACT, fingerprint="1e", boundaries=dates, training=TrainingRange("2010-01-01", "2011-01-01"))
    assert key(tmp_path, contract=replace(later, target_mean=(0.1,))) == key(tmp_path)
    assert key(tmp_path, config=CONFIG + "evaluation:\n  fee_bp: 1\n") == key(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"contract": replace(CONTRACT, recipe={"window": 61})},
        {"contract": replace(CONTRACT, symbols=("A",))},
        {"contract": replace(CONTRACT, fitted_on="train_and_validation")},
        {"contract": replace(CONTRACT, members=("a", "b"))},
        {"info": {"model": INFO["model"] | {"network": {"class_path": "Mine"}}}},
        {"config": CONFIG.replace("lr: 0.1", "lr: 0.2")},
        {"config": CONFIG.replace("everything: 1", "everything: 2")},
    ],
    ids=["window", "symbols", "fitted_on", "ensemble", "network", "optimiser", "seed"],
)
def test_anything_else_is_another_recipe(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert key(tmp_path, **changed) != key(tmp_path)


def test_a_folder_without_a_configuration_has_one_too(tmp_path: Path) -> None:
    assert recipe_key(tmp_path, cast("ModelInfo", INFO), CONTRACT) != key(tmp_path)
