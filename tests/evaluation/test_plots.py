"""What the plots draw."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import statsmodels.api as sm

from cnn_lstm.evaluation.plots import target_plots, tenths
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
    plots = target_plots(table, "return_1", target)
    courses = [plot for plot in plots if plot.title.startswith("Forecast and truth")]
    assert [plot.title[-1] for plot in courses] == ["A", "B", "C", "D"]
    assert all("last 250 forecasts" in plot.caption for plot in courses)
    assert "90% interval" in courses[0].alt


def test_symbols_are_not_drawn_so_that_any_alphabet_works() -> None:
    plots = []
    for symbol in ("AAA", "日経$\\frac{"):
        table = predictions_table(("return",), symbols=(symbol,), dates=30, resamples=100)
        plots.append(target_plots(table, "return_1", evaluate(table)["targets"]["return_1"]))
    assert [plot.uri for plot in plots[0]] == [plot.uri for plot in plots[1]]


@pytest.mark.parametrize(("count", "annotated"), [(6, True), (7, False)])
def test_many_years_have_no_numbers_above_their_bars(count: int, annotated: bool) -> None:
    table = predictions_table(("return",), symbols=("A",), dates=30, resamples=100)
    target = evaluate(table)["targets"]["return_1"]
    line = target["breakdowns"]["year"][0] | {"skill": 0.5}
    target["breakdowns"]["year"] = [line | {"name": str(2000 + number)} for number in range(count)]
    plot = next(one for one in target_plots(table, "return_1", target) if one.title == "Error by year")
    assert ("above each pair" in plot.caption) is annotated
    # matplotlib writes each text of an SVG as a comment next to its glyphs
    assert ("+50.0%" in base64.b64decode(plot.uri.split(",")[1]).decode()) is annotated
