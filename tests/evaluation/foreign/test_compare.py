"""Forecasters against each other: tests next to independent computations, and whole tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from arch.bootstrap import MCS
from scipy.stats import chi2, norm

from cnn_lstm.errors import DataError
from cnn_lstm.evaluation.foreign.compare import (
    TargetComparison,
    clark_west,
    comparison_text,
    conditional_ability,
    confidence_set,
)
from cnn_lstm.evaluation.foreign.judgement import compare_forecasts
from cnn_lstm.evaluation.foreign.page import best_sentence, comparison_page
from cnn_lstm.evaluation.series import mean_block
from cnn_lstm.evaluation.settings import Evaluation
from tests import experiments
from tests.evaluation.foreign import tables

QUICK = Evaluation(resamples=100)


def test_conditional_ability_is_the_regression_of_giacomini_and_white() -> None:
    """One step ahead the statistic is n times the uncentred R2 of a constant 1 on the moments."""
    random = np.random.default_rng(1)
    state = random.chisquare(3, 400)
    difference = random.normal(0.02 * state, 1)
    moments = np.column_stack([np.ones(400), state]) * difference[:, None]
    fitted = sm.OLS(np.ones(400), moments).fit()

    found = conditional_ability(difference, state, 1)

    assert found == pytest.approx(chi2.sf(400 * fitted.rsquared, 2), rel=1e-9)


@pytest.mark.parametrize("horizon", [1, 5])
def test_conditional_ability_keeps_its_level(horizon: int) -> None:
    random = np.random.default_rng(2)
    kernel = np.ones(horizon)
    shares = []
    for _ in range(400):
        overlapping = np.convolve(random.normal(size=500), kernel, "valid")
        shares.append(conditional_ability(overlapping, random.normal(size=501 - horizon), horizon) < 0.05)
    assert 0.02 < np.mean(shares) < 0.12


def test_conditional_ability_sees_what_the_mean_does_not() -> None:
    random = np.random.default_rng(3)
    state = random.normal(size=600)
    assert conditional_ability(state + 0.5 * random.normal(size=600), state, 1) < 1e-6


@pytest.mark.parametrize("values", [np.zeros(50), np.array([1.0, 2.0])])
def test_conditional_ability_without_a_value_is_no_evidence(values: np.ndarray) -> None:
    assert conditional_ability(values, np.arange(len(values), dtype=float), 1) == 1.0


def test_clark_west_is_the_t_test_of_the_adjusted_difference() -> None:
    values = np.random.default_rng(4).normal(0.1, 1, 300)
    t = values.mean() / (values.std() / np.sqrt(300))
    assert clark_west(values, 1) == pytest.approx(norm.sf(t), rel=1e-12)
    assert clark_west(np.ones(10), 1) == 1.0


def test_clark_west_finds_what_a_nested_model_lacks() -> None:
    """The larger model has the truth and noise: its squared error is not lower, and yet it adds something."""
    random = np.random.default_rng(5)
    signal, noise = random.normal(0, 0.3, 2000), random.normal(0, 0.31, 2000)
    truth = signal + random.normal(size=2000)
    smaller, larger = np.zeros(2000), signal + noise
    difference = (truth - smaller) ** 2 - (truth - larger) ** 2

    assert difference.mean() < 0.05
    assert clark_west(difference + (smaller - larger) ** 2, 1) < 1e-6


def test_confidence_set_is_that_of_arch() -> None:
    random = np.random.default_rng(6)
    losses = {"a": random.chisquare(1, 300), "b": random.chisquare(1, 300), "bad": random.chisquare(1, 300) + 1}

    found = confidence_set(losses, np.arange(300), 1, 500, seed=0)

    wanted = MCS(pd.DataFrame(losses), 0.1, reps=500, block_size=mean_block(300, 1), seed=0)
    wanted.compute()
    assert found == {name: float(wanted.pvalues.loc[name, "Pvalue"]) for name in losses}
    assert found["bad"] < 0.1 <= min(found["a"], found["b"])


def test_equal_forecasters_are_all_in_the_set() -> None:
    same = np.random.default_rng(7).chisquare(1, 50)
    assert confidence_set({"a": same, "b": same}, np.arange(50), 1, 100, 0) == {"a": 1.0, "b": 1.0}


def test_tables_are_compared_on_the_rows_that_all_know(tmp_path: Path) -> None:
    bars = tables.prices()
    one = tables.forecasts(bars)[["symbol", "as_of", "y_pred"]]
    other = one.assign(y_pred=one["y_pred"] + np.random.default_rng(8).normal(0, 0.02, len(one))).iloc[20:]

    compared = compare_forecasts(tmp_path, {"one": one, "other": other}, tables.data_of(bars), QUICK)["return_2"]

    assert compared.rows < len(other)  # the last labels are not known
    (pair,) = compared.pairs
    assert pair.compared.skill > 0
    assert compared.losses["one"] < compared.losses["other"]
    text = comparison_text({"return_2": compared})
    assert "one against other" in text
    assert max(map(len, text.splitlines())) <= 120
    kept = json.loads((tmp_path / "comparison.json").read_text())
    assert kept["return_2"]["losses"] == compared.losses
    assert len((tmp_path.parent / "test_uses.jsonl").read_text().splitlines()) >= 2
    losses = pd.read_parquet(tmp_path / "comparison.parquet")
    assert losses.groupby("forecaster")["loss"].mean().to_dict() == pytest.approx(compared.losses, rel=1e-12)
    assert len(losses) == 2 * compared.dates
    wanted = np.sort(tables.ended(bars, one)["as_of"].iloc[20:].unique())
    assert set(losses["as_of"]) <= set(pd.DatetimeIndex(wanted, tz="UTC"))


def test_the_page_says_what_the_numbers_say(tmp_path: Path) -> None:
    """With names that HTML would read as its own, and that no font of a plot has."""
    bars = tables.prices(400)
    given = tables.forecasts(bars)[["symbol", "as_of", "y_pred"]]
    noise = np.random.default_rng(9).normal(size=len(given))
    frames = {
        "<good>": given.assign(y_pred=0.0),
        "模型": given.assign(y_pred=0.001 * noise),
        "bad": given.assign(y_pred=noise),
    }

    compared = compared_on(frames, bars, tmp_path)

    page = (tmp_path / "comparison.html").read_text()
    assert compared.confidence_set["bad"] < 0.1
    assert sorted(compared.possibly_best) == ["<good>", "模型"]
    assert "NO CLEAR BEST" in page
    assert "may be luck" in best_sentence(compared)
    assert "bad" not in best_sentence(compared)
    assert "<good>" not in page
    assert page.count("<figure") == 2
    alone = replace(compared, confidence_set={**dict.fromkeys(compared.losses, 0.0), compared.ranked[0]: 1.0})
    assert "ONE IS THE BEST" in comparison_page({"return_2": alone})
    assert "larger than luck" in best_sentence(alone)
    not_nested = replace(compared, pairs=[replace(pair, clark_west_p=None) for pair in compared.pairs])
    for one in (compared, not_nested, replace(not_nested, pairs=not_nested.pairs[:1])):
        assert_each_pair_has_a_cell_under_each_heading(comparison_page({"return_2": one}), len(one.pairs))


def assert_each_pair_has_a_cell_under_each_heading(page: str, pairs: int) -> None:
    table = page.partition("Each two of them")[2].partition("</table>")[0]
    headings, *rows = table.split("<tr>")[1:]
    assert len(rows) == pairs
    for row in rows:
        assert row.count("<td>") == headings.count("<th") - 1


def compared_on(frames: dict[str, pd.DataFrame], bars: pd.DataFrame, folder: Path) -> TargetComparison:
    return compare_forecasts(folder, frames, tables.data_of(bars), QUICK)["return_2"]


def test_tables_without_a_common_row_are_refused(tmp_path: Path) -> None:
    bars = tables.prices()
    one = tables.forecasts(bars)[["symbol", "as_of", "y_pred"]]
    parts = {name: one[one["symbol"] == name] for name in ("AAA", "BBB")}
    with pytest.raises(DataError, match="0 rows are known to all"):
        compare_forecasts(tmp_path, parts, tables.data_of(bars), QUICK)


def test_the_command_compares_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bars = tables.prices()
    bars.to_csv(tmp_path / "prices.csv", index=False)
    for name, seed in (("one", 1), ("two", 2)):
        tables.forecasts(bars, seed).to_csv(tmp_path / f"{name}.csv", index=False)
    words = ["--prices", tmp_path / "prices.csv", "--folder", tmp_path / "judged", "--data.window", "5"]
    words += ["--data.features", "[log_return_1,log_return_5]"]

    code = experiments.run("judge", tmp_path / "one.csv", tmp_path / "two.csv", *words)

    assert code == 0
    assert "one against two" in capsys.readouterr().out
    assert {"comparison.json", "comparison.html"} <= {file.name for file in (tmp_path / "judged").iterdir()}
