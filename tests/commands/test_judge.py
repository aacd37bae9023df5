"""`cnn-lstm judge` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests import experiments
from tests.evaluation.foreign import tables
from tests.markets import market

TARGET = ["--data.targets", "[ForwardReturn]", "--data.targets.horizon", "2", "--data.window", "5"]
QUICK = ["--data.features", "[log_return_1,log_return_5]", "--evaluation.resamples", "100"]


def test_a_table_of_ours_has_the_report_of_its_test_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = experiments.fit(experiments.experiment(tmp_path, market(140)), tmp_path / "runs/one")
    assert experiments.run("test", "--config", run / "config.yaml", "--ckpt_path", "best") == 0

    words = [run / "predictions.parquet", "--config", run / "config.yaml", "--folder", "runs/two"]
    code = experiments.run("judge", *words)

    assert code == 0
    assert (tmp_path / "runs/two/report.json").read_bytes() == (run / "report.json").read_bytes()
    lines = (tmp_path / "runs/test_uses.jsonl").read_text().splitlines()
    assert [json.loads(line)["run"] for line in lines] == ["one", "two"]
    assert len({json.loads(line)["model"] for line in lines}) == 1
    (look,) = (json.loads(line) for line in (tmp_path / "runs/test_losses.jsonl").read_text().splitlines())
    (target,) = json.loads((run / "report.json").read_text())["targets"].values()
    assert look["run"] == "one"  # the second look at the same dates has added nothing
    assert len(look["dates"]) == target["sequential"]["dates"] == target["dates"]
    assert target["sequential"]["kept"] == 0


def test_files_of_forecasts_and_prices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bars, prices = tables.prices(), tmp_path / 'it\'s [ours], {all}: 100% "größer".csv'  # as YAML reads text
    bars.to_csv(prices, index=False)
    given = tables.forecasts(bars).rename(columns={"as_of": "day", "y_pred": "signal"})
    given.assign(day=given["day"].dt.strftime("%Y-%m-%d")).to_csv(tmp_path / "theirs.csv", index=False)
    names = ["--columns", "as_of=day,y_pred=signal", "--cutoff", "2010-01-01"]
    folder = tmp_path / "judged"

    code = experiments.run(
        "judge",
        tmp_path / "theirs.csv",
        "--prices",
        prices,
        "--folder",
        folder,
        *names,
        *TARGET,
        *QUICK,
    )

    assert code == 0
    assert "NO EVIDENCE OF SKILL: return_2" in capsys.readouterr().out
    table = pd.read_parquet(folder / "predictions.parquet")
    assert len(table) == len(given)
    page = (folder / "report.html").read_text()
    assert "cnn-lstm judge" in page
    assert f"0 of {len(given)} forecasts lie before 2010-01-01" in page


def test_a_file_as_a_spreadsheet_writes_it(tmp_path: Path) -> None:
    bars = tables.prices()
    codes = {"AAA": "000001", "BBB": "600519"}
    bars.assign(symbol=bars["symbol"].map(codes)).to_parquet(tmp_path / "prices.parquet")
    given = tables.forecasts(bars)
    theirs = pd.DataFrame({"Aktie": given["symbol"].map(codes), "Tag": given["as_of"].dt.strftime("%Y-%m-%d")})
    theirs["Signal"] = given["y_pred"].map(lambda value: f"{value:.6f}".replace(".", ","))
    theirs.to_csv(tmp_path / "theirs.csv", index=False, sep=";")
    names = ["--columns", "symbol=Aktie,as_of=Tag,y_pred=Signal", "--folder", tmp_path / "judged"]

    words = [tmp_path / "theirs.csv", "--prices", tmp_path / "prices.parquet"]
    assert experiments.run("judge", *words, *names, *TARGET, *QUICK) == 0

    table = pd.read_parquet(tmp_path / "judged/predictions.parquet")
    assert sorted(table["symbol"].unique()) == ["000001", "600519"]
    assert sorted(table["y_pred"]) == pytest.approx(sorted(given["y_pred"]), abs=1e-6)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nothing.csv", "--prices", "prices.csv"], "no such file"),
        (["prices.csv"], "one of the arguments --prices --config is required"),
        (["prices.csv", "--prices", "prices.csv", "--columns", "symbol"], "write symbol=ticker"),
        (["prices.csv", "--prices", "prices.csv", "--columns", "colour=red"], "one of symbol"),
        (["prices.csv", "b.csv", "--prices", "prices.csv", "--cutoff", "2020-01-01"], "judge each file by itself"),
        (["prices.csv", "--prices", "nowhere.csv", "--columns", "y_pred=close"], "nowhere.csv"),
    ],
)
def test_wrong_words_are_answered_in_one_line(
    argv: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tables.prices(30).to_csv("prices.csv", index=False)

    code = experiments.run("judge", *argv)

    error = capsys.readouterr().err.strip()
    assert code in (2, 3)
    assert words in error
    assert "\n" not in error
    assert len(error) <= 400


def test_the_folder_of_a_run_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("data: {}\n")
    tables.prices(30).to_csv(tmp_path / "prices.csv", index=False)
    argv = [tmp_path / "prices.csv", "--prices", tmp_path / "prices.csv", "--folder", tmp_path]
    assert experiments.run("judge", *argv) == 2
    assert "holds a run" in capsys.readouterr().err
