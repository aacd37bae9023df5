"""Runs next to each other under one parent in MLflow."""

from __future__ import annotations

from pathlib import Path

from cnn_lstm.training.tracking.events import Start
from cnn_lstm.training.tracking.journal import Event
from cnn_lstm.training.tracking.parent import name_parent, parent_of
from cnn_lstm.training.tracking.store import MlflowStore


def start(run: Path) -> Event[Start]:
    return Event(1, Start(f"uid of {run.name}", run.name, "folds", {"a": "b"}, parent_of(run)), 1)


def test_runs_in_one_folder_have_one_parent_and_others_none(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    runs = [tmp_path / "walk" / f"fold_{fold}" for fold in range(2)]
    alone = tmp_path / "alone"
    for run in (*runs, alone):
        run.mkdir(parents=True)
    name_parent(tmp_path / "walk")
    named = parent_of(runs[0])
    name_parent(tmp_path / "walk")  # the walk goes on
    assert parent_of(runs[1]) == named
    assert parent_of(alone) is None

    ids = []
    for run in (runs[0], runs[1], runs[0], alone):  # the first one's answer was lost, and it is sent again
        store = MlflowStore(uri, run)
        store.apply([start(run)])
        ids.append(store.run_id)

    assert ids[0] == ids[2]
    records = {record.info.run_name: record for record in store.client.search_runs(["1"])}
    assert set(records) == {"walk", "fold_0", "fold_1", "alone"}
    parents = {name: record.data.tags.get("mlflow.parentRunId") for name, record in records.items()}
    walk = records["walk"].info.run_id
    assert parents == {"walk": None, "fold_0": walk, "fold_1": walk, "alone": None}
    assert records["walk"].info.status == "FINISHED"
