"""The commands that are crashed, and what a user does next."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import zipfile
from abc import ABC, abstractmethod
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from safetensors.torch import load_file

from cnn_lstm.errors import DataError
from cnn_lstm.evaluation.loss_ledger import kept_series
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.inference.stream import Stream
from cnn_lstm.model.checkpoints import read_checkpoint
from tests.crash_points.advice import ELSEWHERE
from tests.crash_points.user import FoundError, User
from tests.experiments import experiment, network, spec
from tests.markets import market

RUN = "runs/one"
BEST = f"{RUN}/checkpoints/best.ckpt"
CLOCKS = ("epoch_s", "windows_per_s", "peak_memory_mib", "step")  # metrics that no two runs share
BARS = 4  # that a stream takes, each followed by a save
Result = dict[str, Any]


class Scenario(ABC):
    """A command that is crashed.

    Attributes:
        states: How many different states of the disk are tried, at most: a short command has fewer.
    """

    states = 200

    @property
    @abstractmethod
    def argv(self) -> list[str]:
        """The command."""

    @property
    def program(self) -> list[str]:
        """What is traced: arguments of the interpreter."""
        return ["-m", "tests.crash_points.cold", *self.argv]

    def prepare(self, folder: Path, user: User) -> None:
        """Makes what lies there before the command."""
        configuration(folder)

    def next(self, folder: Path) -> list[str]:
        """What a user calls after a crash: the command itself by default."""
        return self.argv

    def goes_on(self, folder: Path, user: User) -> str:
        """Brings the work to its end; returns the folder that it ended in, where messages led to another one."""
        argv = user.gets_there(self.next(folder), self.argv)
        return ELSEWHERE if ELSEWHERE in argv else ""

    @abstractmethod
    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        """What the command is there for, in values that compare, without clocks and paths.

        Args:
            folder: The folder of everything.
            user: Who may call commands on what is there.
            elsewhere: The folder that the work ended in, if not the command's own.
        """


def compare(found: Result, expected: Result) -> None:
    """Raises a fault that names the first difference."""
    for name, value in expected.items():
        if found.get(name) != value:
            raise FoundError(f"difference: {name}: {str(found.get(name))[:200]} instead of {str(value)[:200]}")


def configuration(folder: Path, rows: int = 120, **sections: dict[str, Any]) -> None:
    """A price table and the YAML of a tiny fit; names are relative, as nothing may hold the place of the folder."""
    tiny = {"network": network(channels=[3], kernel_sizes=[3], lstm_hidden=3, attention_heads=1)}
    file = experiment(folder, market(rows, gaps=False), model=tiny, evaluation={"resamples": 100}, **sections)
    values = yaml.safe_load(file.read_text())
    values["data"]["source"] = spec("cnn_lstm.data.sources.PriceFiles", paths="prices.parquet")
    file.write_text(yaml.safe_dump(values))


def fit_argv(*more: str, run: str = RUN) -> list[str]:
    """The arguments of a tiny fit."""
    return ["fit", "--config", "experiment.yaml", "--run_dir", run, *more]


def weights(checkpoint: Path) -> str:
    """A hash of the weights of a checkpoint."""
    state, sha = read_checkpoint(checkpoint)["state_dict"], hashlib.sha256()
    for name, values in sorted(state.items()):
        sha.update(name.encode() + values.numpy().tobytes())
    return sha.hexdigest()


def metadata(run: Path) -> str:
    """What the best checkpoint says of data, network and versions."""
    checkpoint = read_checkpoint(run / "checkpoints" / "best.ckpt")
    contract = {name: value for name, value in checkpoint["cnn_lstm"].items() if name != "digest"}
    return repr((checkpoint["hyper_parameters"], contract))


def metrics_of(run: Path) -> str:
    """The metrics of each epoch, one row per epoch."""
    table = pd.read_csv(run / "metrics.csv")
    table = table.drop(columns=[name for name in CLOCKS if name in table])
    return table.groupby("epoch").first().round(9).to_csv()


def forecasts_of(file: Path) -> str:
    """A table of forecasts as text."""
    return str(pd.read_parquet(file).to_csv(index=False))


def report_of(folder: Path) -> Result:
    """The judgement of a folder, without what names its place or time."""
    report = json.loads((folder / "report.json").read_text())
    return {name: value for name, value in report.items() if name not in ("created", "run", "environment", "seconds")}


def used_rows(folder: Path) -> list[tuple[str, str, str]]:
    """Test rows, models and runs that a ledger of uses holds; a command that goes on may have used rows twice."""
    lines = (folder / "test_uses.jsonl").read_bytes().splitlines()
    uses = [json.loads(line) for line in lines if line.endswith(b"}")]
    return sorted({(use["rows"], use["model"], use["run"]) for use in uses})


def kept_losses(folder: Path) -> Result:
    """Each series that a ledger of losses holds."""
    file = folder / "test_losses.jsonl"
    keys = {json.loads(line)["series"] for line in file.read_bytes().splitlines() if line.endswith(b"}")}
    return {key: kept_series(file, key).to_csv() for key in sorted(keys)}


def words_of(page: Path) -> str:
    """A page without its pictures, which commands leave empty here."""
    return re.sub(r"data:image/[^\"')]*", "", page.read_text(encoding="utf-8"))


class Fit(Scenario):
    """A fit of two epochs; next come the rest of it and a prediction."""

    states = 700

    def __init__(self) -> None:
        self.forecasts: dict[str, str] = {}  # of what a prediction reads

    @property
    def argv(self) -> list[str]:
        return fit_argv("--tensorboard", "true")

    def next(self, folder: Path) -> list[str]:
        return (
            ["fit", "--config", f"{RUN}/config.yaml", "--ckpt_path", "last"] if (folder / RUN).is_dir() else self.argv
        )

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        run = folder / (elsewhere or RUN)
        found: Result = {alias: weights(run / "checkpoints" / f"{alias}.ckpt") for alias in ("last", "best")}
        given = hashlib.sha256(f"{found}{metadata(run)}".encode() + (run / "config.yaml").read_bytes()).hexdigest()
        if given not in self.forecasts:  # a prediction takes as long as the rest, and many states end in equal runs
            user.works("predict", "--config", str(run / "config.yaml"), "--ckpt_path", "best")
            self.forecasts[given] = forecasts_of(run / "forecasts.parquet")
        found["forecasts"] = self.forecasts[given]
        found["best epoch"] = json.loads((run / "summary.json").read_text())["best_epoch"]
        return found | {f"metrics {number}": row for number, row in enumerate(metrics_of(run).splitlines())}


class TrackedFit(Fit):
    """A fit with a record in MLflow; next comes the rest of it, and the record is there once."""

    states = 60

    @property
    def argv(self) -> list[str]:
        return fit_argv("--mlflow", "true")

    def prepare(self, folder: Path, user: User) -> None:
        super().prepare(folder, user)
        user.works(*fit_argv("--mlflow", "true", "--trainer.max_epochs", "1", run="runs/before"))

    def goes_on(self, folder: Path, user: User) -> str:
        elsewhere = super().goes_on(folder, user)
        user.works("sync-tracking", elsewhere or RUN)
        return elsewhere

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        home = Path(elsewhere or RUN).parent
        database, run = folder / home / "mlflow.db", folder / (elsewhere or RUN)
        kept = {f"{name} in MLflow": kept_file(database, run, name) for name in ("config.yaml", "metrics.csv")}
        return super().result(folder, user, elsewhere) | record_of(database, elsewhere or "one") | kept


class Test(Scenario):
    """A judgement of a checkpoint; the next one says the same."""

    states = 400

    @property
    def argv(self) -> list[str]:
        return ["test", "--config", f"{RUN}/config.yaml", "--ckpt_path", "best"]

    def prepare(self, folder: Path, user: User) -> None:
        super().prepare(folder, user)
        user.works(*fit_argv())

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        run = folder / RUN
        ledgers = {"losses": kept_losses(run.parent), "uses": used_rows(run.parent)}
        return report_of(run) | {"predictions": forecasts_of(run / "predictions.parquet")} | ledgers


class Predict(Scenario):
    """Forecasts written over older ones: each file is one of the two, and the command can be called again."""

    states = 400

    @property
    def argv(self) -> list[str]:
        return ["predict", "--config", f"{RUN}/config.yaml", "--ckpt_path", "last", "--csv", "true"]

    def prepare(self, folder: Path, user: User) -> None:
        super().prepare(folder, user)
        user.works(*fit_argv())
        user.works(*self.argv[:-3], "best", "--csv", "true")
        files = (folder / RUN / name for name in ("forecasts.parquet", "forecasts.csv"))
        self.before = [file.read_bytes() for file in files]

    def goes_on(self, folder: Path, user: User) -> str:
        tables = [folder / RUN / name for name in ("forecasts.parquet", "forecasts.csv")]
        for table, before, after in zip(tables, self.before, getattr(self, "written", self.before), strict=True):
            if table.exists() and table.read_bytes() not in (before, after):
                raise FoundError(f"difference: {table.name} is neither the old one nor the new one")
        return super().goes_on(folder, user)

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        run = folder / RUN
        files = [run / name for name in ("forecasts.parquet", "forecasts.csv")]
        self.written = getattr(self, "written", [file.read_bytes() for file in files])
        return {"parquet": forecasts_of(files[0]), "csv": files[1].read_text()}


class Repeat(Scenario):
    """Two seeds and their ensemble."""

    states = 120

    @property
    def argv(self) -> list[str]:
        options = ["--seeds", "1,2", "--folder", "seeds", "--trainer.max_epochs", "1"]
        return ["repeat", "--config", "experiment.yaml", *options]

    def next(self, folder: Path) -> list[str]:
        return [*self.argv, "--resume"] if (folder / "seeds").is_dir() else self.argv

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        place = folder / (elsewhere or "seeds")
        found = {f"seed {seed}": weights(place / f"seed_{seed}" / "checkpoints" / "best.ckpt") for seed in (1, 2)}
        return found | report_of(place / "ensemble") if (place / "ensemble").is_dir() else found


class WalkForward(Scenario):
    """Two folds."""

    states = 120

    @property
    def argv(self) -> list[str]:
        options = ["--folds", "2", "--folder", "folds", "--trainer.max_epochs", "1"]
        return ["walk-forward", "--config", "experiment.yaml", *options]

    def prepare(self, folder: Path, user: User) -> None:
        configuration(folder, rows=260)

    def next(self, folder: Path) -> list[str]:
        return [*self.argv, "--resume"] if (folder / "folds").is_dir() else self.argv

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        place = folder / (elsewhere or "folds")
        tables = {name: forecasts_of(place / f"{name}.parquet") for name in ("predictions", "embeddings")}
        return report_of(place) | tables | {"folds": (place / "walk_forward.json").read_text()}


class Sweep(Scenario):
    """Three trials of a study in SQLite."""

    states = 120

    @property
    def argv(self) -> list[str]:
        options = ["--space", "space.yaml", "--n_trials", "3", "--folder", "trials", "--trainer.max_epochs", "1"]
        return ["sweep", "--config", "experiment.yaml", *options]

    def prepare(self, folder: Path, user: User) -> None:
        super().prepare(folder, user)
        space = {"space": {"model.network.lstm_hidden": {"categorical": [2, 3]}}}
        (folder / "space.yaml").write_text(yaml.safe_dump(space))

    def next(self, folder: Path) -> list[str]:
        return ["sweep", "--resume", "--folder", "trials"] if (folder / "trials").is_dir() else self.argv

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        place = folder / (elsewhere or "trials")
        rows = "SELECT value FROM trial_values JOIN trials USING (trial_id) WHERE state = 'COMPLETE'"
        with closing(sqlite3.connect(place / "study.db")) as study:
            values = sorted(value for (value,) in study.execute(rows))
            running = study.execute("SELECT count(*) FROM trials WHERE state = 'RUNNING'").fetchone()[0]
        return {"trials": len(values), "running": running, "best": (place / "best.yaml").is_file()}


class Streamed(Scenario):
    """A stream that saves its state after each bar; the state of one of the bars is there, and goes on."""

    states = 300

    @property
    def argv(self) -> list[str]:
        return []

    @property
    def program(self) -> list[str]:
        return ["-m", "tests.crash_points.streaming"]

    def prepare(self, folder: Path, user: User) -> None:
        super().prepare(folder, user)
        user.works(*fit_argv())

    def goes_on(self, folder: Path, user: User) -> str:
        answer = user.does("Predictor.stream(state=...)", lambda: stream_on(folder, restored=True))
        if answer.code:
            if "start from a history" not in answer.error and "no such state" not in answer.error:
                raise FoundError(f"wall: {answer.error}")
            if user.does("Predictor.stream(history)", lambda: stream_on(folder, restored=False)).code:
                raise FoundError(f"wall: {answer.error}")
        return ""

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        """The forecasts of one more bar."""
        user.does("Stream.update", lambda: next_forecasts(folder))
        return {"forecasts": (folder / "next.csv").read_text()}


def streamed_bars(folder: Path) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The history, and the bars that come one day after the other."""
    prices = pd.read_parquet(folder / "prices.parquet")
    days = sorted(prices["timestamp"].unique())[-BARS:]
    return prices[prices["timestamp"] < days[0]], [prices[prices["timestamp"] == day] for day in days]


def stream_on(folder: Path, restored: bool) -> None:
    """Feeds the bars that a stream has not seen, but for the last one, and saves its state after each."""
    predictor = Predictor.from_checkpoint(folder / BEST)
    history, bars = streamed_bars(folder)
    state = folder / "state.npz"
    stream: Stream = predictor.stream(state=state) if restored else predictor.stream(history)
    for bar in bars[:-1]:
        try:
            stream.update(bar)
        except DataError as error:  # the state has it already
            if not (restored and any(word in error.what for word in ("already", "late"))):
                raise
        else:
            stream.save(state)


def next_forecasts(folder: Path) -> None:
    """Writes the forecasts of the last bar."""
    stream = Predictor.from_checkpoint(folder / BEST).stream(state=folder / "state.npz")
    stream.update(streamed_bars(folder)[1][-1]).to_csv(folder / "next.csv", index=False)


class Export(Scenario):
    """A checkpoint written over the export of another one: file and description agree, or the file is refused."""

    states = 100
    ending = "safetensors"

    @property
    def argv(self) -> list[str]:
        return ["export", "--ckpt_path", BEST, "--format", self.ending, "--output", f"model.{self.ending}"]

    def prepare(self, folder: Path, user: User) -> None:
        super().prepare(folder, user)
        user.works(*fit_argv())
        user.works(*fit_argv("--seed_everything", "3", run="runs/other"))
        user.works("export", "--ckpt_path", "runs/other/checkpoints/best.ckpt", *self.argv[3:])
        self.before = self._pair(folder)

    def _pair(self, folder: Path) -> tuple[bytes, bytes]:
        file = folder / f"model.{self.ending}"
        return file.read_bytes(), file.with_name(f"{file.name}.json").read_bytes()

    def goes_on(self, folder: Path, user: User) -> str:
        pairs = (self.before, getattr(self, "written", self.before))
        with suppress(FileNotFoundError):
            data, description = self._pair(folder)
            if description.strip(b"\0") and (data, description) not in pairs:
                found = json.loads(description)
                digest = found.pop("sha256", None)
                # the order of a header in the file is free, so that another export may have other bytes
                again = found in [_without_digest(known) for _, known in pairs]
                if digest is None or (digest == hashlib.sha256(data).hexdigest() and not again):
                    raise FoundError(
                        "difference: the description is not that of the exported file, and nothing shows it"
                    )
        return super().goes_on(folder, user)

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        self.written = getattr(self, "written", self._pair(folder))
        tensors = load_file(folder / f"model.{self.ending}")
        return {name: values.numpy().tobytes() for name, values in tensors.items()}


def _without_digest(description: bytes) -> Result:
    values: Result = json.loads(description)
    return {name: value for name, value in values.items() if name != "sha256"}


class Agents(Scenario):
    """Agents of two seeds on a forecaster's encoder."""

    states = 120

    @property
    def argv(self) -> list[str]:
        small = ["--agent.steps", "16", "--agent.n_envs", "1", "--agent.seeds", "[0,1]", "--market.part", "validation"]
        sizes = ["--agent.arguments", "{n_steps: 8, batch_size: 8, n_epochs: 1}", "--market.episode_length", "8"]
        return ["rl", "train", "--ckpt_path", BEST, *small, *sizes, "--folder", "small"]

    def prepare(self, folder: Path, user: User) -> None:
        configuration(folder, rows=220)
        user.works(*fit_argv("--trainer.max_epochs", "1"))

    def next(self, folder: Path) -> list[str]:
        return [*self.argv, "--resume"] if (folder / RUN / "rl" / "small").is_dir() else self.argv

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        place = folder / RUN / "rl" / (elsewhere or "small")
        user.works("rl", "evaluate", str(place))
        found = json.loads((place / "evaluation.json").read_text())["together"]
        for seed in (0, 1):
            with zipfile.ZipFile(place / f"agent_seed{seed}.zip") as agent:
                assert agent.testzip() is None
        return dict(found)


class SyncTracking(Scenario):
    """A journal sent to a database that the command makes; each event arrives once."""

    states = 80

    @property
    def argv(self) -> list[str]:
        return ["sync-tracking", RUN, "--tracking_uri", "sqlite:///tracking.db"]

    def prepare(self, folder: Path, user: User) -> None:
        super().prepare(folder, user)
        user.works(*fit_argv("--mlflow", "true", "--tracking_uri", "http://127.0.0.1:9"))

    def result(self, folder: Path, user: User, elsewhere: str) -> Result:
        return record_of(folder / "tracking.db", "one")


def fault_of(scenario: Scenario, folder: Path, user: User, expected: Result) -> str:
    """What is wrong once the user has gone on in a folder; empty if nothing is."""
    try:
        elsewhere = scenario.goes_on(folder, user)
        compare(scenario.result(folder, user, elsewhere), expected)
    except FoundError as fault:
        return str(fault)
    except Exception as error:
        return f"cannot be read: {type(error).__name__}: {error}"
    return ""


def kept_file(database: Path, run: Path, name: str) -> bool:
    """Whether MLflow has a file of a run as it is in the run folder."""
    of_run = "SELECT artifact_uri FROM runs WHERE name = ? AND status != 'KILLED'"
    with closing(sqlite3.connect(database)) as store:
        ((place,),) = store.execute(of_run, (run.name,))
    return Path(str(place).removeprefix("file://"), name).read_bytes() == (run / name).read_bytes()


def record_of(database: Path, name: str) -> Result:
    """What an MLflow database holds of the run of a name; one that was killed, and not gone on with, stays, too."""
    of_run = "JOIN runs USING (run_uuid) WHERE name = ? AND status != 'KILLED'"
    metrics = (
        f"SELECT key, step, round(value, 9) FROM metrics {of_run} AND key NOT LIKE "
        "'system/%' AND key NOT LIKE 'time/%' ORDER BY key, step"
    )
    with closing(sqlite3.connect(database)) as store:
        params = store.execute(f"SELECT key, value FROM params {of_run} ORDER BY key", (name,))
        found: Result = {
            "metrics": store.execute(metrics, (name,)).fetchall(),
            "params": [row for row in params if "dir" not in row[0]],
            "status": store.execute(
                "SELECT status FROM runs WHERE name = ? AND status != 'KILLED'", (name,)
            ).fetchall(),
        }
        return found
