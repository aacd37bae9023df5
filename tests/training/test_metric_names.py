"""Groups of metrics in TensorBoard and MLflow, also in runs of earlier versions; Lightning's names elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cnn_lstm.training import event_files
from cnn_lstm.training.metric_names import all_grouped, grouped
from cnn_lstm.training.tracking import journal
from tests import experiments
from tests.markets import market
from tests.training.tracking.servers import only_run, uri_of

UNGROUPED = {"epoch", "step"}


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("train_loss", "train/loss"),
        ("train_loss_step", "train/loss_step"),
        ("val_mae_return_5", "val/mae_return_5"),
        ("test_dm_p_return_5", "test/dm_p_return_5"),
        ("windows_per_s", "time/windows_per_s"),
        ("lr-AdamW/pg1", "optimizer/lr-AdamW/pg1"),
        ("grad_norm/network.lstm", "optimizer/grad_norm/network.lstm"),
        ("final/val_loss", "final/val_loss"),
        ("seed0/train/loss", "seed0/train/loss"),
        ("best_val_loss", "best_val_loss"),
        ("valuation", "valuation"),
        ("val_", "val_"),
        ("of_mine", "of_mine"),
    ],
)
def test_a_name_has_its_group(name: str, group: str) -> None:
    assert grouped(name) == group
    assert grouped(group) == group


def tags(run: Path) -> dict[str, list[int]]:
    """The steps of each curve."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {tag: [point.step for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def curves(run: Path) -> set[str]:
    """The metrics in metrics.csv."""
    return set(pd.read_csv(run / "metrics.csv").columns) - UNGROUPED


def recorded(folder: Path, run: Path) -> tuple[MlflowClient, str, set[str]]:
    record = only_run(uri_of(folder), run.name)
    names = {name for name in record.data.metrics if not name.startswith("system/")} - UNGROUPED
    return MlflowClient(uri_of(folder)), record.info.run_id, names


def fitted(folder: Path, *argv: object) -> Path:
    config = experiments.experiment(folder, market(140), tensorboard_plots={"graph": False, "windows": 0})
    return experiments.fit(config, folder / "run", "--mlflow", "true", "--tensorboard", "true", *argv)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch that a version without groups has made."""
    with pytest.MonkeyPatch.context() as before:
        for module in (event_files, journal):
            before.setattr(module, "all_grouped", dict)
        return fitted(tmp_path_factory.mktemp("earlier"), "--trainer.max_epochs", 1)


def gone_on(run: Path) -> None:
    """One more epoch, and a test."""
    argv = ["--config", run / "config.yaml", "--ckpt_path"]
    assert experiments.run("fit", *argv, "last", "--trainer.max_epochs", 2) == 0
    assert experiments.run("test", *argv, "best") == 0


def test_a_fit_that_goes_on_and_its_test_write_groups_and_the_file_keeps_its_names(tmp_path: Path) -> None:
    run = fitted(tmp_path, "--trainer.max_epochs", 1)
    gone_on(run)
    names = curves(run)
    assert {"val_loss", "train_loss", "epoch_s", "lr-AdamW"} <= names
    assert set(all_grouped(dict.fromkeys(names))) <= set(tags(run))
    assert not names & set(tags(run))
    client, run_id, known = recorded(tmp_path, run)
    assert set(all_grouped(dict.fromkeys(names))) <= known
    assert "test/rmse" in known
    assert not {name for name in known if name.startswith(("val_", "train_", "test_"))}
    assert len(client.get_metric_history(run_id, "val/loss")) == 2  # one curve a metric
    assert len(set(tags(run)["val/loss"])) == 2


def test_a_journal_of_an_earlier_version_is_sent_as_it_is(earlier: Path, tmp_path: Path) -> None:
    """The names are made where a metric is written down, not where it is sent."""
    other = f"sqlite:///{tmp_path / 'other.db'}"
    assert experiments.run("sync-tracking", earlier, "--tracking_uri", other) == 0
    client = MlflowClient(other)
    experiment: Any = client.get_experiment_by_name("cnn_lstm")
    (sent,) = client.search_runs([experiment.experiment_id])
    assert "val_loss" in sent.data.metrics
    assert "val/loss" not in sent.data.metrics


def test_a_run_of_an_earlier_version_goes_on_with_its_names(earlier: Path) -> None:
    gone_on(earlier)
    client, run_id, known = recorded(earlier.parent, earlier)
    for name in ("val_loss", "train_loss", "epoch_s"):
        assert len(client.get_metric_history(run_id, name)) == 2
        assert len(set(tags(earlier)[name])) == 2
    assert "test_rmse" in known
    grouped_names = {
        name for name in known | set(tags(earlier)) if name.startswith(("val/", "train/", "test/", "time/"))
    }
    assert not grouped_names
