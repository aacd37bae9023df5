"""A week of evenings by real processes that are killed: it ends as the week of nobody's interruption.

On Monday a bar is late; on Tuesday a symbol has a holiday; on Wednesday the source corrects Monday's bar; on Thursday a
symbol splits; on Friday one is delisted. The tracking server is down all week.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from cnn_lstm.service import update
from cnn_lstm.service.live import LIVE, read_live
from cnn_lstm.training.tracking.events import Artifact
from cnn_lstm.training.tracking.journal import Journal
from tests.experiments import experiment, fit
from tests.experiments import run as command
from tests.markets import market
from tests.service.evening import evening

WEEK = [f"2010-09-{day:02}" for day in range(6, 11)]
DOWN = "http://127.0.0.1:9"
# a process is killed when it first calls a function: before the file is written, while it is, and after; each twice
MOMENTS = {
    WEEK[0]: ["cnn_lstm.data.stored_tables:_write", "cnn_lstm.files:flush_folder"],
    WEEK[1]: ["cnn_lstm.service.update:take_folder", "cnn_lstm.files:flush_file"],
    WEEK[2]: ["cnn_lstm.service.growth:_sorted", "cnn_lstm.service.update:_warn_of"],
    WEEK[3]: ["cnn_lstm.files:flush_file", "cnn_lstm.data.stored_tables:_write"],
    WEEK[4]: ["cnn_lstm.files:flush_folder"],
}
FORKS = multiprocessing.get_context("forkserver") if os.name == "posix" else None


def everything() -> pd.DataFrame:
    return market(200, ("AAA", "BBB", "CCC", "DDD"), gaps=False)


def served(evening: str) -> pd.DataFrame:
    """What the source serves on an evening of the week."""
    table = everything()
    table, when = table[table["timestamp"] <= evening].copy(), table["timestamp"].dt.strftime("%Y-%m-%d")
    on = {day: (when[table.index] == day) for day in WEEK}
    taken = (table["symbol"] == "CCC") & on[WEEK[1]]
    if evening == WEEK[0]:
        taken |= (table["symbol"] == "BBB") & on[WEEK[0]]
    if evening >= WEEK[2]:
        table.loc[(table["symbol"] == "AAA") & on[WEEK[0]], ["open", "high", "low", "close"]] *= 1.02
    if evening >= WEEK[3]:
        table.loc[table["symbol"] == "BBB", ["open", "high", "low", "close"]] /= 4.0
    if evening >= WEEK[4]:
        taken |= table["symbol"] == "DDD"
    left: pd.DataFrame = table[~taken]
    return left


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows the bars before the week."""
    folder, table = tmp_path_factory.mktemp("week"), everything()
    config = experiment(folder, table[table["timestamp"] < WEEK[0]])
    return fit(config, folder / "run", "--trainer.max_epochs", 1, "--mlflow", "true", "--tracking_uri", DOWN)


@pytest.fixture
def evenings(trained: Path) -> Iterator[Callable[[str, str], tuple[Path, str]]]:
    """Puts the prices of an evening into place; returns a copy of the run by a name, and the time."""

    def evening_of(name: str, day: str) -> tuple[Path, str]:
        copy = trained.parent / name
        if not copy.exists():
            shutil.copytree(trained, copy)
        served(day).to_parquet(trained.parent / "prices.parquet")
        return copy, f"{day} 22:30"

    yield evening_of
    for name in ("calm", "killed"):
        shutil.rmtree(trained.parent / name, ignore_errors=True)


def assert_as_uninterrupted(killed: Path, calm: Path) -> None:
    found, wanted = read_live(killed), read_live(calm)
    assert found.attrs == wanted.attrs
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)
    assert not list(killed.glob(f".{LIVE}*"))


def assert_what_the_week_was(table: pd.DataFrame) -> None:
    """Late, revised and known rows are those that the story of the week means."""
    marks = {name: table[table[name]][["symbol", "as_of"]] for name in ("late", "revised")}
    days = {
        name: sorted(zip(rows["symbol"], rows["as_of"].dt.strftime("%a"), strict=True)) for name, rows in marks.items()
    }
    assert days["late"] == []  # with a delay of 1 the label of a late bar of Monday begins on Tuesday, which is in time
    assert ("AAA", "Mon") in days["revised"]
    assert {symbol for symbol, _ in days["revised"]} == {"AAA"}  # a split is not a revision
    counts = table.groupby("symbol").size().to_dict()
    assert counts == {"AAA": 5, "BBB": 5, "CCC": 4, "DDD": 4}
    known = table[table["y_true"].notna()].groupby("symbol").size().to_dict()
    assert known == {"AAA": 2, "BBB": 2, "CCC": 1, "DDD": 1}


# -- processes that are killed at a known moment ------------------------------------------------------------------


def forked(run: Path, now: str, moment: str | None = None) -> int | None:
    assert FORKS is not None
    FORKS.set_forkserver_preload(["tests.service.evening"])
    process = FORKS.Process(target=evening, args=(run, run.parent / "prices.parquet", now, moment))
    process.start()
    process.join(900)
    return process.exitcode


@pytest.mark.skipif(FORKS is None, reason="it forks")
def test_a_week_that_is_killed_at_every_step(
    evenings: Callable[[str, str], tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in WEEK:
        with monkeypatch.context() as patch:
            run, now = evenings("calm", day)
            patch.setattr(update, "utc_now", lambda now=now: pd.Timestamp(now, tz="UTC").as_unit("us"))
            evening(run, run.parent / "prices.parquet", now)
        assert {forked(*evenings("killed", day), moment) for moment in MOMENTS[day]} == {-signal.SIGKILL}
        assert forked(*evenings("killed", day)) == 0
    killed_run, calm = (evenings(name, WEEK[-1])[0] for name in ("killed", "calm"))
    assert_as_uninterrupted(killed_run, calm)
    assert_what_the_week_was(read_live(calm))


# -- the record -------------------------------------------------------------------------------------------------------


def kept(run: Path) -> int:
    """How often live.parquet stands in the record of a run."""
    events = [event.content for event in Journal(run / "tracking").events()]
    return sum(isinstance(event, Artifact) and event.file == LIVE for event in events)


def test_a_server_that_nobody_but_the_folder_names_gets_nothing(
    evenings: Callable[[str, str], tuple[Path, str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    calm = evenings("calm", WEEK[0])[0]
    assert command("update", calm) == 0
    assert capsys.readouterr().out.startswith("3 symbols, 3 new forecasts")
    assert "only the run folder says where to send it" in caplog.text
    assert kept(calm) == 1
    assert command("update", calm) == 0
    assert kept(calm) == 1


# -- the command, killed at any moment --------------------------------------------------------------------------------


def started(run: Path, now: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.service.evening", now, "update", str(run)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": DOWN}
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def completed(run: Path, now: str) -> str:
    """What an evening prints."""
    process = started(run, now)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert len(out.splitlines()) == 1
    return out


@pytest.mark.slow
def test_a_week_of_commands_killed_at_random(evenings: Callable[[str, str], tuple[Path, str]]) -> None:
    chance, said = random.Random(), []
    for day in WEEK:
        begun = time.monotonic()
        said.append(completed(*evenings("calm", day)))
        took = time.monotonic() - begun
        for _ in range(2):
            process = started(*evenings("killed", day))
            time.sleep(chance.uniform(0.3, 1.0) * took)
            process.kill()
            process.communicate()
        completed(*evenings("killed", day))
        assert completed(*evenings("killed", day)).startswith("nothing new")
    killed_run, calm = (evenings(name, WEEK[-1])[0] for name in ("killed", "calm"))
    assert_as_uninterrupted(killed_run, calm)
    assert_what_the_week_was(read_live(calm))
    assert kept(calm) == 5
    assert said[0].startswith("3 symbols, 3 new forecasts, 0 outcomes known; 3 rows")
    assert said[1].startswith("3 symbols, 4 new forecasts")
    assert said[4].startswith("3 symbols, 3 new forecasts")
