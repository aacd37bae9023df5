"""The commands that judge, crashed: foreign forecasts, comparisons, paths of a cross-validation, explanations."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from tests.crash_points.scenarios import (
    RUN,
    Result,
    Scenario,
    configuration,
    fit_argv,
    forecasts_of,
    kept_losses,
    report_of,
    used_rows,
    weights,
    words_of,
)
from tests.crash_points.user import User

FOREIGN = ["symbol", "as_of", "y_pred"]


def foreign(folder: Path, file: str, dates: int, factor: float = 1.0) -> None:
    """The forecasts of a run on the first dates of its test part, as another program would hand them over."""
    table = pd.read_parquet(folder / RUN / "predictions.parquet")
    last = sorted(table["as_of"].unique())[dates - 1]
    chosen = table.loc[table["as_of"] <= last, FOREIGN]
    chosen.assign(y_pred=chosen["y_pred"] * factor).to_csv(folder / file, index=False)


class Judge(Scenario):
    """The second look at foreign forecasts, on a longer table: report, and ledgers of losses and uses."""

    states = 150

    @property
    def argv(self) -> list[str]:
        return self.look("second.csv", "judged/second")

    @staticmethod
    def look(file: str, folder: str) -> list[str]:
        """The command on a file."""
        return ["judge", file, "--config", "experiment.yaml", "--folder", folder]

    def prepare(self, folder: Path, user: User) -> None:
        configuration(folder, rows=260)
        user.works(*fit_argv("--trainer.max_epochs", "1"))
        user.works("test", "--config", f"{RUN}/config.yaml", "--ckpt_path", "best")
        foreign(folder, "first.csv", 15)
        foreign(folder, "second.csv", 30)
        user.works(*self.look("first.csv", "judged/first"))

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        place = folder / (elsewhere or "judged/second")
        predictions = {"predictions": forecasts_of(place / "predictions.parquet")}
        ledgers = {"losses": kept_losses(folder / "judged"), "uses": used_rows(folder / "judged")}
        return report_of(place) | predictions | ledgers


class Compare(Scenario):
    """Two tables of forecasts next to each other."""

    states = 80

    @property
    def argv(self) -> list[str]:
        return ["judge", "one.csv", "two.csv", "--config", "experiment.yaml", "--folder", "judged/both"]

    def prepare(self, folder: Path, user: User) -> None:
        configuration(folder, rows=260)
        user.works(*fit_argv("--trainer.max_epochs", "1"))
        user.works("test", "--config", f"{RUN}/config.yaml", "--ckpt_path", "best")
        foreign(folder, "one.csv", 30)
        foreign(folder, "two.csv", 30, factor=0.5)

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        place = folder / (elsewhere or "judged/both")
        found: Result = json.loads((place / "comparison.json").read_text())
        page = words_of(place / "comparison.html")
        uses = used_rows(folder / "judged")
        return found | {"losses": forecasts_of(place / "comparison.parquet"), "page": page, "uses": uses}


class CrossValidate(Scenario):
    """Three combinations of two test groups, and the two paths through them."""

    states = 100

    @property
    def argv(self) -> list[str]:
        options = ["--groups", "3", "--test_groups", "2", "--folder", "crossed", "--trainer.max_epochs", "1"]
        return ["cross-validate", "--config", "experiment.yaml", *options]

    def prepare(self, folder: Path, user: User) -> None:
        configuration(folder, rows=200)

    def next(self, folder: Path) -> list[str]:
        return [*self.argv, "--resume"] if (folder / "crossed").is_dir() else self.argv

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        place = folder / (elsewhere or "crossed")
        fits = {f"fit {k}": weights(place / f"combination_{k}" / "checkpoints" / "best.ckpt") for k in range(3)}
        found: Result = json.loads((place / "cross_validation.json").read_text())
        paths = {f"path {k}": report_of(place / f"path_{k}") for k in range(2)}
        tables = {f"table {k}": forecasts_of(place / f"path_{k}" / "predictions.parquet") for k in range(2)}
        texts = {name: words_of(place / f"cross_validation.{name}") for name in ("txt", "html")}
        return found | fits | paths | tables | texts | {"uses": used_rows(place)}


class Explain(Scenario):
    """What a checkpoint goes by."""

    states = 40

    @property
    def argv(self) -> list[str]:
        return ["explain", "--config", f"{RUN}/config.yaml", "--ckpt_path", "best", "--rows", "20", "--repeats", "2"]

    def prepare(self, folder: Path, user: User) -> None:
        configuration(folder)
        user.works(*fit_argv("--trainer.max_epochs", "1"))

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        found: Result = json.loads((folder / RUN / "explanation.json").read_text())
        return found | {"page": words_of(folder / RUN / "explanation.html")}
