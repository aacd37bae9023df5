"""The commands of a model in service, crashed: an evening of `update`, a look of `monitor`, two steps of `roll`."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd

from cnn_lstm.files import read_json
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.service.live import LIVE, read_live
from tests.crash_points.scenarios import (
    RUN,
    Result,
    Scenario,
    configuration,
    fit_argv,
    forecasts_of,
    kept_file,
    record_of,
    report_of,
    used_rows,
    weights,
    words_of,
)
from tests.crash_points.user import FoundError, User
from tests.experiments import spec
from tests.markets import market, turning_market

STORE = "runs/mlflow.db"
# -- a run whose prices grow -----------------------------------------------------------------------------------------


def served(folder: Path, rows: int, new: int) -> None:
    """A configuration, and the prices up to some days before the last bar."""
    configuration(folder, rows)
    market(rows, gaps=False).to_parquet(folder / "all.parquet")
    grow(folder, new)


def grow(folder: Path, left: int) -> None:
    """Lets the price file have all bars but those of the last days."""
    table = pd.read_parquet(folder / "all.parquet")
    last = sorted(table["timestamp"].unique())[-1 - left]
    table[table["timestamp"] <= last].to_parquet(folder / "prices.parquet")


class Update(Scenario):
    """The second evening of a run with a record: no forecast of the first one moves, and MLflow gets the file."""

    states = 150

    @property
    def argv(self) -> list[str]:
        return ["update", RUN]

    def prepare(self, folder: Path, user: User) -> None:
        served(folder, rows=126, new=6)
        user.works(*fit_argv("--mlflow", "true"))
        grow(folder, left=2)
        user.works(*self.argv)
        self.issued = read_live(folder / RUN)[["symbol", "as_of", "issued"]]
        grow(folder, left=0)

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        live = read_live(folder / RUN)
        earlier = live[["symbol", "as_of", "issued"]].merge(self.issued, on=["symbol", "as_of"], suffixes=("", "_then"))
        if len(earlier) != len(self.issued) or not (earlier["issued"] == earlier["issued_then"]).all():
            raise FoundError(f"difference: a forecast of the first evening was issued again: {earlier.to_csv()[:200]}")
        kept = kept_file(folder / STORE, folder / RUN, LIVE)
        table = live.drop(columns="issued").to_csv(index=False)
        return {"forecasts": table, "about": live.attrs, "kept in MLflow": kept} | record_of(folder / STORE, "one")


class Monitor(Scenario):
    """The second look at a run with a record: the history has both, and MLflow the metrics of both."""

    states = 120

    @property
    def argv(self) -> list[str]:
        return self.look("2011-03-01")

    @staticmethod
    def look(day: str) -> list[str]:
        """The command of a day."""
        return ["monitor", RUN, "--now", day, "--html", "--exit_zero"]

    def prepare(self, folder: Path, user: User) -> None:
        served(folder, rows=300, new=60)
        user.works(*fit_argv("--mlflow", "true", "--trainer.max_epochs", "1"))
        grow(folder, left=20)
        user.works(*self.look("2011-01-27"))
        grow(folder, left=0)

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        run = folder / RUN
        with closing(sqlite3.connect(folder / STORE)) as store:
            tags = store.execute("SELECT key, value FROM tags WHERE key LIKE 'monitor.%' ORDER BY key").fetchall()
        kept = {f"{name} in MLflow": kept_file(folder / STORE, run, name) for name in FILES_OF_LOOK}
        record = record_of(folder / STORE, "one")
        page = words_of(run / "monitor.html")
        return {"look": read_json(run / "monitor.json", "look"), "page": page, "tags": tags} | kept | record


FILES_OF_LOOK = ("monitor.json", "monitor.html")


# -- roll ------------------------------------------------------------------------------------------------------------


class Roll(Scenario):
    """Two steps of a roll, of which the second promotes its challenger."""

    states = 120

    @property
    def argv(self) -> list[str]:
        steps = ["--every", "120bars", "--judge_on", "60bars", "--from", "2010-12-20"]
        return ["roll", "--config", "experiment.yaml", *steps, "--folder", "rolled", "--trainer.max_epochs", "1"]

    def prepare(self, folder: Path, user: User) -> None:
        split = spec("cnn_lstm.data.splits.RowSplit", train=150, validation=30)
        targets = [spec("cnn_lstm.data.targets.ForwardReturn", horizon=1, delay=0)]
        data = {"split": split, "targets": targets, "features": ["log_return_1"], "window": 4}
        configuration(folder, data=data)
        turning_market(400, turn=190).to_parquet(folder / "prices.parquet")

    def next(self, folder: Path) -> list[str]:
        return [*self.argv, "--resume"] if (folder / "rolled").is_dir() else self.argv

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        place = folder / (elsewhere or "rolled")
        decisions = {name: json.loads((place / name).read_text()) for name in DECISIONS}
        assert decisions[DECISIONS[1]]["promoted"]
        champion = place / "champion.ckpt"
        contract = {name: value for name, value in read_checkpoint(champion)["cnn_lstm"].items() if name != "digest"}
        steps = {f"step {k}": weights(place / f"step_{k}" / "checkpoints" / "best.ckpt") for k in (0, 1)}
        found = {
            "champion": weights(champion),
            "its contract": repr(contract),
            "roll": (place / "roll.txt").read_text(),
        }
        tables = {"predictions": forecasts_of(place / "predictions.parquet"), "uses": used_rows(folder)}
        return report_of(place) | decisions | steps | found | tables | read_json(place / "roll.json", "roll")


DECISIONS = ("decisions/step_0.json", "decisions/step_1.json")
