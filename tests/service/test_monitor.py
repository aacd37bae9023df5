"""`cnn-lstm monitor` on small runs, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.runs.data_config import data_and_evaluation_of_run
from cnn_lstm.service.bars import age_sign, ages
from cnn_lstm.service.courses import courses
from cnn_lstm.service.health import Sign
from cnn_lstm.service.live import LIVE
from cnn_lstm.service.look import Look, look
from cnn_lstm.service.monitor import FILE, PAGE, moment_of
from cnn_lstm.service.novelty import stability_index
from cnn_lstm.service.ranks import rank_sign
from tests import experiments
from tests.fits import small_data
from tests.markets import bars_of, days, walk

ROWS, TRAINED = 600, 480
NOW = f"{days(ROWS)[-1]:%Y-%m-%d}"


def table(rows: int, symbols: tuple[str, ...] = ("AAA", "BBB")) -> pd.DataFrame:
    """Random walks."""
    tables = [walk(ROWS, symbol, seed).head(rows) for seed, symbol in enumerate(symbols)]
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose price file has grown since."""
    folder = tmp_path_factory.mktemp("monitor")
    config = experiments.experiment(folder, table(TRAINED))
    run = experiments.fit(config, folder / "run")
    table(ROWS).to_parquet(folder / "prices.parquet")
    return run


def monitor(run: Path, *argv: object) -> int:
    """Calls the command."""
    return experiments.run("monitor", run, "--now", NOW, *argv)


def record(run: Path) -> dict[str, Any]:
    """What monitor.json holds."""
    values: dict[str, Any] = json.loads((run / FILE).read_text())
    return values


def test_a_run_without_skill_is_watched_and_the_same_evening_changes_nothing(
    fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert monitor(fitted, "--html") == 10
    assert capsys.readouterr().out.startswith("WATCH: ")
    first = {name: ((fitted / name).read_bytes(), (fitted / name).stat().st_ino) for name in (FILE, PAGE)}
    assert monitor(fitted, "--html", "--exit_zero") == 0
    assert (fitted / FILE).stat().st_ino == first[FILE][1]  # it was not written at all
    assert (fitted / PAGE).read_bytes() == first[PAGE][0]
    kept = record(fitted)
    assert kept["verdict"] == "watch"
    assert kept["last_bar"] == f"{days(ROWS)[-1].isoformat()}"
    signs = {sign["name"].partition(" of ")[0]: sign for sign in kept["signs"]}
    assert "no evidence of a lead" in signs["loss"]["reason"]
    assert signs["data"]["verdict"] == signs["age"]["verdict"] == "fine", signs


def test_another_day_adds_a_line_to_the_history(fitted: Path) -> None:
    monitor(fitted)
    assert experiments.run("monitor", fitted, "--now", "2030-01-01") == 10
    history = record(fitted)["history"]
    assert [past["checked"] for past in history] == [NOW, "2030-01-01"]
    assert any("newest bar is old" in reason for reason in record(fitted)["reasons"])


def test_the_document_is_what_the_file_holds(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiments.run("--json", "monitor", fitted, "--now", NOW)
    document = json.loads(capsys.readouterr().out)
    kept = record(fitted)
    assert {name: kept[name] for name in document if name != "checksum"} == document


def test_a_corrected_old_bar_and_a_lost_symbol_are_named(fitted: Path, tmp_path: Path) -> None:
    other = table(ROWS, ("AAA", "BBB"))
    other["volume"] *= np.where(np.arange(len(other)) == 5, 1.5, 1.0)
    other.to_parquet(tmp_path / "corrected.parquet")
    monitor(fitted, "--prices", tmp_path / "corrected.parquet")
    assert any("not those that the model was trained on" in reason for reason in record(fitted)["reasons"])
    table(ROWS, ("AAA",)).to_parquet(tmp_path / "one.parquet")
    monitor(fitted, "--prices", tmp_path / "one.parquet")
    assert any("have no bars: BBB" in reason for reason in record(fitted)["reasons"])


def test_a_page_of_the_first_evening_draws_nothing_that_is_not_known(fitted: Path, tmp_path: Path) -> None:
    table(TRAINED).to_parquet(tmp_path / "first.parquet")
    assert monitor(fitted, "--prices", tmp_path / "first.parquet", "--html") == 10
    page = (fitted / PAGE).read_text()
    assert "1970" not in page
    assert any("no label has ended since" in sign["reason"].lower() for sign in record(fitted)["signs"])
    table(TRAINED + 1).to_parquet(tmp_path / "first.parquet")
    assert monitor(fitted, "--prices", tmp_path / "first.parquet") == 10
    reasons = [sign["reason"] for sign in record(fitted)["signs"]]
    assert any("too few dates for an interval" in reason for reason in reasons)
    assert not any("inf " in reason for reason in reasons)


def looked(run: Path, live: pd.DataFrame | None = None, prices: Path | None = None) -> Look:
    """A look from Python."""
    predictor = Predictor.from_checkpoint(run / "checkpoints" / "best.ckpt")
    argv = [] if prices is None else ["--data.source", "PriceFiles", f"--data.source.paths={prices}"]
    data, settings = data_and_evaluation_of_run(run / "config.yaml", True, argv)
    return look(data, predictor, settings, live, None, pd.Timestamp(NOW, tz="UTC"))


def test_later_bars_move_no_earlier_lead(fitted: Path, tmp_path: Path) -> None:
    table(ROWS - 40).to_parquet(tmp_path / "before.parquet")
    before, after = looked(fitted, prices=tmp_path / "before.parquet"), looked(fitted)
    for one, other in zip(before.courses, after.courses, strict=True):
        known = len(one.lead.service)
        assert 0 < known < len(other.lead.service)
        assert np.array_equal(one.lead.reference, other.lead.reference)
        assert np.array_equal(one.lead.service, other.lead.service[:known])
        assert one.missed is not None
        assert other.missed is not None
        assert np.array_equal(one.missed.service, other.missed.service[:known])


def test_the_lead_is_that_of_predict(fitted: Path) -> None:
    predictor = Predictor.from_checkpoint(fitted / "checkpoints" / "best.ckpt")
    forecasts = predictor.predict(table(ROWS))
    end = pd.Timestamp(predictor.forecaster.contract.boundaries.end, tz="UTC")
    since = forecasts[(forecasts["target_end"] >= end) & forecasts["y_true"].notna()]
    seen = looked(fitted).courses[0]
    zero = since["y_last"] * 0
    naive = {"zero": zero, "training mean": since["y_mean"], "last value": since["y_last"]}[seen.baseline]
    lead = (since["y_true"] - naive) ** 2 - (since["y_true"] - since["y_pred"]) ** 2
    assert seen.lead.service == pytest.approx(lead.groupby(since["as_of"]).mean().to_numpy())
    missed = (since["y_true"] < since["lower_90"]) | (since["y_true"] > since["upper_90"])
    assert seen.missed is not None
    assert seen.missed.service == pytest.approx(missed.groupby(since["as_of"]).mean().to_numpy())


def test_forecasts_that_were_issued_count(fitted: Path) -> None:
    predictor = Predictor.from_checkpoint(fitted / "checkpoints" / "best.ckpt")
    live = predictor.predict(table(ROWS)).tail(30).copy()
    live["y_pred"] += 1.0
    live["issued"], live["late"] = pd.Timestamp(NOW, tz="UTC"), True
    plain, issued = looked(fitted), looked(fitted, live)
    assert issued.issued == (30, 30)
    assert issued.courses[0].lead.service.min() < -0.4 < plain.courses[0].lead.service.min()
    assert any("too late" in reason for reason in issued.health.reasons)


def turned(rows: int, after: int) -> pd.DataFrame:
    """Returns that follow the one before, and oppose it in the last rows."""
    random = np.random.default_rng(5)
    returns = random.normal(0, 0.01, rows + after)
    for row in range(1, rows + after):
        returns[row] += (0.45 if row < rows else -0.45) * returns[row - 1]
    return bars_of(100 * np.exp(np.cumsum(returns)), days(rows + after))


def test_a_planted_break_is_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, after = 1500, 60
    whole = turned(rows, after)
    target = experiments.spec("cnn_lstm.data.targets.ForwardReturn", horizon=1, delay=0)
    data = {"targets": [target], "features": ["log_return_1"], "window": 4}
    config = experiments.experiment(tmp_path, whole.head(rows), data)
    run = experiments.fit(config, tmp_path / "run")
    then, now = (f"{whole['timestamp'].iloc[row]:%Y-%m-%d}" for row in (rows - 1, -1))
    assert experiments.run("monitor", run, "--now", then) == 0, record(run)["reasons"]
    whole.to_parquet(tmp_path / "prices.parquet")
    assert experiments.run("monitor", run, "--now", now, "--html") == 11, record(run)["reasons"]
    assert "STALE: The lead over" in capsys.readouterr().out
    page = (run / PAGE).read_text()
    assert "The model has become worse than it was when it was tested" in page
    assert "http" not in page.replace("http://www.w3.org", "")  # the page needs no other file


def test_a_damaged_file_is_named(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = (fitted / FILE).read_bytes() if (fitted / FILE).is_file() else b""
    try:
        (fitted / FILE).write_text("{")
        assert monitor(fitted) == 3
        assert "error[E339]: no intact look at a run" in capsys.readouterr().err
        (fitted / LIVE).write_text("no table")
        (fitted / FILE).unlink()
        assert monitor(fitted) == 3
    finally:
        (fitted / LIVE).unlink(missing_ok=True)
        (fitted / FILE).unlink(missing_ok=True)
        if kept:
            (fitted / FILE).write_bytes(kept)


def test_a_wrong_day_is_refused(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiments.run("monitor", fitted, "--now", "yesterday") == 2
    assert "--now" in capsys.readouterr().err
    assert moment_of(None, "--now") is None


@pytest.mark.parametrize(("now", "age"), [("2020-06-16 22:00", 0), ("2020-06-17 08:00", 1), ("2020-06-22 23:00", 4)])
def test_the_age_counts_weekdays(tmp_path: Path, now: str, age: int) -> None:
    data = small_data(tmp_path)
    data.setup()
    found = ages(data, pd.Timestamp(now, tz="UTC"))
    assert [(one.symbol, one.age, one.unit) for one in found] == [(name, age, "weekday") for name in ("AAA", "BBB")]
    assert age_sign(found).verdict == ("watch" if age > 2 else "fine")


def test_the_stability_index_is_its_formula() -> None:
    reference, values = np.arange(1000.0), np.arange(500.0)
    p, q = np.full(10, 0.1), np.array([0.2] * 5 + [1e-3] * 5)
    q /= q.sum()
    assert stability_index(reference, values) == pytest.approx(np.sum((q - p) * np.log(q / p)), rel=1e-3)


def test_few_ranks_say_nothing() -> None:
    assert rank_sign(np.linspace(0, 1, 500), np.full(20, 0.99), 1, 1) == Sign(
        "PIT", "fine", "Too few labels have ended to compare the forecast distributions."
    )


def test_a_table_without_truth_has_no_course() -> None:
    columns = {"symbol": "A", "as_of": pd.Timestamp("2020-01-01", tz="UTC"), "target": "r", "y_true": np.nan}
    frame = pd.DataFrame([columns | {"y_pred": 0.1, "target_end": pd.NaT}])
    frame.attrs["targets"] = {"r": {"kind": "return", "classes": 0}}
    assert courses(frame, pd.Timestamp("2020-01-01", tz="UTC")) == []
