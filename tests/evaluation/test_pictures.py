"""What the pictures draw."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import statsmodels.api as sm

from cnn_lstm.evaluation.pictures import target_pictures, tenths
from cnn_lstm.evaluation.report import evaluate
from tests.evaluation.tables import predictions_table


def test_tenths_have_the_clustered_standard_error_of_statsmodels() -> None:
    random = np.random.default_rng(0)
    date = np.repeat(np.arange(200), 5)
    forecast = random.normal(size=1000)
    true = 0.5 * forecast + np.repeat(random.normal(size=200), 5)
    x, y, error = tenths(forecast, true, date)
    assert len(x) == 10
    assert (np.diff(x) > 0).all()
    for group, rows in enumerate(np.array_split(np.argsort(forecast), 10)):
        fit = sm.OLS(true[rows], np.ones(len(rows))).fit(
            cov_type="cluster", cov_kwds={"groups": date[rows], "use_correction": False}
        )
        assert y[group] == pytest.approx(fit.params[0])
        assert error[group] == pytest.approx(fit.bse[0])


def test_at_most_four_symbols_are_drawn_by_their_last_dates() -> None:
    table = predictions_table(("return",), symbols=("A", "B", "C", "D", "E"), dates=300, resamples=100)
    target = evaluate(table)["targets"]["return_1"]
    pictures = target_pictures(table, "return_1", target)
    courses = [picture for picture in pictures if picture.title.startswith("Forecast and truth")]
    assert [picture.title[-1] for picture in courses] == ["A", "B", "C", "D"]
    assert all("last 250 forecasts" in picture.caption for picture in courses)
    assert "90% interval" in courses[0].alt


def test_symbols_are_not_drawn_so_that_any_alphabet_is_at_home() -> None:
    pictures = []
    for symbol in ("AAA", "日経$\\frac{"):
        table = predictions_table(("return",), symbols=(symbol,), dates=30, resamples=100)
        pictures.append(target_pictures(table, "return_1", evaluate(table)["targets"]["return_1"]))
    assert [picture.uri for picture in pictures[0]] == [picture.uri for picture in pictures[1]]


@pytest.mark.parametrize(("count", "shown"), [(6, True), (7, False)])
def test_many_years_have_no_figures_above_their_bars(count: int, shown: bool) -> None:
    table = predictions_table(("return",), symbols=("A",), dates=30, resamples=100)
    target = evaluate(table)["targets"]["return_1"]
    line = target["breakdowns"]["year"][0] | {"skill": 0.5}
    target["breakdowns"]["year"] = [line | {"name": str(2000 + number)} for number in range(count)]
    picture = next(one for one in target_pictures(table, "return_1", target) if one.title == "Error by year")
    assert ("above each pair" in picture.caption) is shown
    # matplotlib writes each text of an SVG as a comment beside its glyphs
    assert ("+50.0%" in base64.b64decode(picture.uri.split(",")[1]).decode()) is shown
