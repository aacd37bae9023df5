"""Tables of forecasts of other libraries become one judgement, whatever their form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cnn_lstm.data.targets import ForwardReturn, ForwardValue, RealizedVolatility
from cnn_lstm.errors import ConfigError, DataError
from cnn_lstm.evaluation.foreign.files import read_forecast_file
from cnn_lstm.evaluation.foreign.forms import read_forms
from cnn_lstm.evaluation.foreign.judgement import Reading, compare_forecasts, judge_forecasts
from cnn_lstm.evaluation.json_types import TargetReport
from cnn_lstm.evaluation.loss_ledger import FILE
from cnn_lstm.evaluation.settings import Evaluation
from tests.evaluation.foreign import tables

QUICK = Evaluation(resamples=100)
Form = Callable[[pd.DataFrame, pd.DataFrame], tuple[pd.DataFrame, Mapping[str, Any]]]


def judged(folder: Path, frame: pd.DataFrame, bars: pd.DataFrame, **reading: Any) -> TargetReport:
    report = judge_forecasts(folder, frame, tables.data_of(bars), QUICK, Reading(**reading)).report
    return report["targets"]["return_2"]


def truths(bars: pd.DataFrame, given: pd.DataFrame) -> NDArray[np.float64]:
    """Log return of two bars, from the close of the bar after the decision on, (n,)."""
    close = bars.set_index(["symbol", "timestamp"])["close"]
    growth = close.groupby("symbol").shift(-3) / close.groupby("symbol").shift(-1)
    known = growth.reindex(pd.MultiIndex.from_frame(given[["symbol", "as_of"]])).to_numpy(np.float64)
    return np.asarray(np.log(known))


def risen(bars: pd.DataFrame, growth: pd.Series) -> pd.DataFrame:
    """The bars with prices that are higher by a share that each row has."""
    return bars.assign(**{name: bars[name] * (1 + growth) for name in ("open", "high", "low", "close")})


def neuralforecast(bars: pd.DataFrame, given: pd.DataFrame) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """One row per step: `cutoff` is the last bar that was known, `ds` the bar that is forecast."""
    theirs = given.rename(columns={"symbol": "unique_id", "target_end": "ds", "as_of": "cutoff", "y_pred": "LSTM"})
    theirs["ds"], theirs["cutoff"] = (theirs[name].dt.tz_localize(None) for name in ("ds", "cutoff"))
    other = theirs.assign(ds=theirs["cutoff"] + pd.offsets.BDay(1), LSTM=9.0)  # a step that is not ours
    return pd.concat([theirs, other]).assign(y=0.0), {}


def by_end(bars: pd.DataFrame, given: pd.DataFrame) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """neuralforecast's `predict`, without a cutoff."""
    return given.rename(columns={"symbol": "unique_id", "target_end": "ds"}).drop(columns="as_of"), {}


def qlib(bars: pd.DataFrame, given: pd.DataFrame) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    theirs = given.rename(columns={"symbol": "instrument", "as_of": "datetime", "y_pred": "score"})
    return theirs.set_index(["datetime", "instrument"])[["score"]], {}


def darts(bars: pd.DataFrame, given: pd.DataFrame) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """A column per series, on the times of the values."""
    wide = given.pivot(index="target_end", columns="symbol", values="y_pred").rename_axis(index="time", columns=None)
    return wide.set_axis(pd.DatetimeIndex(wide.index).tz_localize(None)), {}


def own_names(bars: pd.DataFrame, given: pd.DataFrame) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    theirs = given.rename(columns={"symbol": "Stock", "as_of": "Known On", "y_pred": "Signal"})
    names = {"symbol": "Stock", "as_of": "Known On", "y_pred": "Signal"}
    return theirs[["Signal", "Known On", "Stock"]].sample(frac=1.0, random_state=0), {"columns": names}


def closes(bars: pd.DataFrame, given: pd.DataFrame) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """Prices instead of returns."""
    last = bars.set_index(["symbol", "timestamp"])["close"]
    known = last.reindex(pd.MultiIndex.from_frame(given[["symbol", "as_of"]])).to_numpy()
    return given.assign(y_pred=known * np.exp(given["y_pred"])).drop(columns="target_end"), {"closes": True}


def paths(bars: pd.DataFrame, given: pd.DataFrame) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """Two sample paths around each forecast, one row each."""
    rows = [given.assign(sample=k, value=given["y_pred"] + move) for k, move in ((0, -0.01), (1, 0.01))]
    return pd.concat(rows).drop(columns=["y_pred", "target_end"]), {}


@pytest.mark.parametrize("form", [neuralforecast, by_end, qlib, darts, own_names, closes, paths])
def test_each_form_has_the_metrics_of_the_plain_one(form: Form, tmp_path: Path) -> None:
    bars = tables.prices()
    given = tables.ended(bars, tables.forecasts(bars))
    frame, reading = form(bars, given)

    theirs = judged(tmp_path, frame, bars, **reading)

    plain = judged(tmp_path, given[["symbol", "as_of", "y_pred"]], bars)
    assert theirs["rows"] == plain["rows"] == len(given)
    assert theirs["loss_model"] == pytest.approx(plain["loss_model"], rel=1e-9)
    assert theirs["forecasts"].keys() == plain["forecasts"].keys()
    assert theirs["verdict"] == plain["verdict"] == "NO EVIDENCE OF SKILL"


def test_metrics_are_those_of_the_prices(tmp_path: Path) -> None:
    bars = tables.prices()
    given = tables.ended(bars, tables.forecasts(bars))
    truth = truths(bars, given)

    report = judged(tmp_path, given, bars)

    assert report["loss_model"] == pytest.approx(np.mean((truth - given["y_pred"]) ** 2), rel=1e-5)


def test_baselines_know_nothing_after_the_first_forecast(tmp_path: Path) -> None:
    bars = tables.prices()
    given = tables.forecasts(bars)[["symbol", "as_of", "y_pred"]]
    late = (bars.groupby("symbol").cumcount() - tables.FIRST).clip(lower=0)
    other = risen(bars, 0.005 * late)

    kept = []
    for table in (bars, other):
        judge_forecasts(tmp_path, given, tables.data_of(table), QUICK)
        kept.append(pd.read_parquet(tmp_path / "predictions.parquet"))
    ours, moved = kept

    at_first = ours["as_of"] == given["as_of"].min()
    names = ["y_ridge", "y_dlinear", "y_mean", "naive_mse"]
    assert ours.loc[at_first, names].equals(moved.loc[at_first, names])
    assert not ours["y_true"].equals(moved["y_true"])


def test_intervals_of_the_table_are_judged(tmp_path: Path) -> None:
    bars = tables.prices()
    given = tables.ended(bars, tables.forecasts(bars)).drop(columns="as_of")
    theirs = given.rename(columns={"symbol": "unique_id", "target_end": "ds", "y_pred": "NHITS"})
    theirs = theirs.assign(**{"NHITS-lo-90": -1.0, "NHITS-hi-90": 1.0, "MLP": 0.0})

    report = judged(tmp_path, theirs, bars, model="NHITS")

    assert report["intervals"]["90"]["coverage"] == 1.0


def test_sample_paths_are_scored_as_a_distribution(tmp_path: Path) -> None:
    bars = tables.prices()
    given = tables.ended(bars, tables.forecasts(bars))
    draws = np.random.default_rng(3).normal(given["y_pred"].to_numpy()[:, None], 0.014, (len(given), 50))
    long = pd.concat([given.assign(path=k, value=draws[:, k]) for k in range(50)])

    report = judged(tmp_path, long[["symbol", "as_of", "path", "value"]], bars)

    wanted = pytest.importorskip("scoringrules").crps_ensemble(truths(bars, given), draws, estimator="nrg")
    assert report["distribution"]["head"]["name"] == "50 samples"
    assert report["distribution"]["head"]["crps"] == pytest.approx(float(np.mean(wanted)), rel=1e-5)
    assert report["loss_model"] == pytest.approx(np.mean((truths(bars, given) - draws.mean(axis=1)) ** 2), rel=1e-5)


def test_a_forecast_that_knows_the_future_has_evidence(tmp_path: Path) -> None:
    bars = tables.prices(400)
    given = tables.ended(bars, tables.forecasts(bars))
    truth = truths(bars, given)

    report = judged(tmp_path, given.assign(y_pred=0.5 * truth), bars)

    assert report["evidence"]
    assert not judged(tmp_path, given.assign(y_pred=0.5 * truth), bars, cutoff="2030-01-01")["evidence"]


@pytest.mark.parametrize(("late", "evidence"), [(0, True), (1, False)])
def test_forecasts_that_came_too_late_are_no_evidence(late: int, evidence: bool, tmp_path: Path) -> None:
    bars = tables.prices(400)
    given = tables.ended(bars, tables.forecasts(bars))
    close = bars.set_index(["symbol", "timestamp"])["close"]
    begins = pd.Series(close.index.get_level_values(1), close.index).groupby("symbol").shift(-1)
    made = begins.reindex(pd.MultiIndex.from_frame(given[["symbol", "as_of"]])).to_numpy()
    given = given.assign(y_pred=truths(bars, given), made=made)
    given.loc[given.index[5], "made"] += pd.Timedelta(days=10 * late)

    report = judged(tmp_path, given, bars, issued="made")

    assert report["evidence"] == evidence
    assert evidence or "made too late" in report["reason"]


# -- what is refused ---------------------------------------------------------------------------------------------------


def without_symbol(given: pd.DataFrame) -> pd.DataFrame:
    return given.drop(columns="symbol").assign(name="text")


def two_models(given: pd.DataFrame) -> pd.DataFrame:
    return given.drop(columns="y_pred").assign(A=0.0, B=0.0)


def text(given: pd.DataFrame) -> pd.DataFrame:
    return given.assign(y_pred="high")


def doubled(given: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([given, given])


def other_symbols(given: pd.DataFrame) -> pd.DataFrame:
    return given.assign(symbol="Z" + given["symbol"])


def other_years(given: pd.DataFrame) -> pd.DataFrame:
    return given.assign(as_of=given["as_of"] + pd.Timedelta(days=7000))


def no_times(given: pd.DataFrame) -> pd.DataFrame:
    return given.drop(columns="as_of")


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        (without_symbol, 357, ""),
        (two_models, 357, "--model NAME"),
        (text, 357, "give numbers"),
        (doubled, 357, "twice"),
        (other_symbols, 358, "forecasts of ZAAA"),
        (other_years, 359, ""),
        (no_times, 357, "as_of"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(
    wrong: Callable[[pd.DataFrame], pd.DataFrame], code: int, words: str, tmp_path: Path
) -> None:
    bars = tables.prices()
    frame = wrong(tables.forecasts(bars))
    with pytest.raises(DataError) as caught:
        judge_forecasts(tmp_path, frame, tables.data_of(bars), QUICK)
    assert caught.value.code == code
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 400


def test_the_truths_of_another_target_are_refused(tmp_path: Path) -> None:
    bars = tables.prices()
    judge_forecasts(tmp_path, tables.forecasts(bars), tables.data_of(bars), QUICK)
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    split = risen(bars, 0.005 * bars.groupby("symbol").cumcount())

    with pytest.raises(DataError, match="contradict the prices"):
        judge_forecasts(tmp_path, table, tables.data_of(split), QUICK)


def test_the_report_of_a_run_is_not_written_over(tmp_path: Path) -> None:
    bars = tables.prices()
    (tmp_path / "config.yaml").write_text("data: {}")
    with pytest.raises(ConfigError, match="holds a run"):
        judge_forecasts(tmp_path, tables.forecasts(bars), tables.data_of(bars), QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_prices_become_returns_only(tmp_path: Path) -> None:
    bars = tables.prices()
    data = tables.data_of(bars, RealizedVolatility(5))
    with pytest.raises(DataError, match="leave out --closes"):
        judge_forecasts(tmp_path, tables.forecasts(bars), data, QUICK, Reading(closes=True))


@pytest.mark.parametrize("log", [False, True], ids=["level", "log"])
def test_forecasts_without_a_variance_are_squared_with_a_word(
    log: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same forecasts lose to themselves in QLIKE, and in nothing else, if their variance is left out."""
    for name in "abc":
        (tmp_path / name).mkdir()
    bars = tables.prices(600)
    data = tables.data_of(bars, RealizedVolatility(5, log=log))
    first = judge_forecasts(tmp_path / "a", tables.forecasts(bars).assign(y_pred=-4.0 if log else 0.01), data, QUICK)
    assert caplog.text.count("W374") == 1
    ridge = pd.read_parquet(tmp_path / "a" / "predictions.parquet").dropna(subset="y_ridge")
    given = ridge[["symbol", "as_of"]].assign(y_pred=ridge["y_ridge"])
    caplog.clear()

    whole = judge_forecasts(tmp_path / "b", given.assign(variance_pred=ridge["variance_ridge"]), data, QUICK)
    assert "W374" not in caplog.text
    bare = judge_forecasts(tmp_path / "c", given, data, QUICK)
    assert caplog.text.count("W374") == 1

    caplog.clear()
    both = {"with": given.assign(variance_pred=ridge["variance_ridge"]), "without": given}
    compare_forecasts(tmp_path, both, data, QUICK)
    assert caplog.text.count("W374") == caplog.text.count("without without variance_pred") == 1

    (target,) = first.report["targets"]
    known, unknown = (one.report["targets"][target]["forecasts"] for one in (whole, bare))
    assert known["model"]["qlike"] == pytest.approx(known["ridge"]["qlike"], rel=1e-9)
    assert unknown["model"]["qlike"] > known["model"]["qlike"]
    assert unknown["model"]["rmse"] == pytest.approx(known["model"]["rmse"], rel=1e-9)


def test_levels_are_judged_as_they_are(tmp_path: Path) -> None:
    bars = tables.prices()
    given = tables.forecasts(bars)
    last = bars.set_index(["symbol", "timestamp"])["close"]
    known = last.reindex(pd.MultiIndex.from_frame(given[["symbol", "as_of"]])).to_numpy()

    judgement = judge_forecasts(
        tmp_path, given.assign(y_pred=known), tables.data_of(bars, ForwardValue("close", horizon=3)), QUICK
    )

    (report,) = judgement.report["targets"].values()
    assert report["forecasts"]["model"]["rmse"] == pytest.approx(report["forecasts"]["last value"]["rmse"], rel=1e-6)


def test_a_table_of_ours_as_csv_has_its_truths_and_targets(tmp_path: Path) -> None:
    bars = tables.prices()
    first = judge_forecasts(tmp_path, tables.forecasts(bars), tables.data_of(bars), QUICK)
    pd.read_parquet(tmp_path / "predictions.parquet").to_csv(tmp_path / "ours.csv", index=False)

    again = judge_forecasts(tmp_path, read_forecast_file(tmp_path / "ours.csv"), tables.data_of(bars), QUICK)

    old, new = (one.report["targets"]["return_2"] for one in (first, again))
    assert new["rows"] == old["rows"]
    assert new["loss_model"] == pytest.approx(old["loss_model"], rel=1e-12)
    other = read_forecast_file(tmp_path / "ours.csv").assign(target="return_9")
    with pytest.raises(DataError, match="forecasts of return_9"):
        judge_forecasts(tmp_path, other, tables.data_of(bars), QUICK)


def test_a_growing_table_goes_on_with_its_evidence(tmp_path: Path) -> None:
    bars = tables.prices()
    given = tables.forecasts(bars)
    early = given[given["as_of"] <= given["as_of"].unique()[len(given["as_of"].unique()) // 2]]
    first, longer, revised = (tmp_path / name for name in ("first", "longer", "revised"))
    for folder in (first, longer, revised):
        folder.mkdir()
    judge_forecasts(first, early, tables.data_of(bars), QUICK)
    old = kept_of_ledger(tmp_path)
    changed = given.assign(y_pred=given["y_pred"].where(given["as_of"] == given["as_of"].min(), 0.01))
    for folder, frame in ((longer, given), (revised, changed)):
        judge_forecasts(folder, frame, tables.data_of(bars), QUICK)
    looks = kept_of_ledger(tmp_path)
    assert [look["run"] for look in looks] == ["first", "longer"]  # the revised past is not counted
    assert looks[0] == old[0]
    assert looks[0]["series"] == looks[1]["series"]
    assert looks[1]["dates"][0] > looks[0]["dates"][-1]
    (report,) = json.loads((revised / "report.json").read_text())["targets"].values()
    assert report["sequential"]["kept"] == report["sequential"]["dates"] - 1


def kept_of_ledger(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / FILE).read_text().splitlines()]


def test_a_prepared_index_is_read_as_columns() -> None:
    days = pd.bdate_range("2024-01-02", periods=3)
    wide = pd.DataFrame({"A": [1.0, 2.0, 3.0], "A_q0.025": 0.0, "A_q0.050": 0.5, "A_q0.975": 4.0}, index=days)

    table = read_forms(wide).table

    names = ["symbol", "target_end", "y_pred", "q02.5", "q05", "q97.5", "lower_95", "upper_95"]
    assert list(table.columns) == names
    assert table["symbol"].unique().tolist() == ["A"]


def test_levels_of_half_a_percent_are_nobodys_model() -> None:
    days = pd.bdate_range("2024-01-02", periods=3)
    theirs = pd.DataFrame({"unique_id": "A", "ds": days, "MLP": 0.1, "MLP-lo-97.5": 0.0, "MLP-hi-97.5": 0.2})
    assert list(read_forms(theirs).table) == ["symbol", "target_end", "y_pred"]


def test_all_quantiles_of_a_table_of_ours_are_kept(tmp_path: Path) -> None:
    """Value at risk of 5 % and 1 % in the report is read from them."""
    bars = tables.prices()
    judge_forecasts(tmp_path, tables.forecasts(bars), tables.data_of(bars), QUICK)
    ours = pd.read_parquet(tmp_path / "predictions.parquet").assign(**{"q02.5": -0.1, "q05": -0.08})

    assert {"q02.5", "q05"} <= {*read_forms(ours).table}


@pytest.mark.slow
def test_there_is_no_evidence_on_random_walks(tmp_path: Path) -> None:
    found = []
    for seed in range(30):
        bars = tables.prices(400, seed=100 + seed)
        frame = tables.forecasts(bars, seed)
        report = judge_forecasts(tmp_path, frame, tables.data_of(bars, ForwardReturn(1)), QUICK).report
        found.append(report["targets"]["return_1"]["evidence"])
    assert sum(found) == 0
