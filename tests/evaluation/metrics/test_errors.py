"""Figures of numbers, once more by other libraries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.diagnostic import pesaran_timmermann

from cnn_lstm.evaluation.metrics.errors import association_metrics, error_metrics

INFORMATION = ("ic", "rank_ic", "icir", "ic_t")


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    rows, scale = int(random.integers(5, 200)), 10.0 ** random.integers(-4, 4)
    true = random.standard_t(4, rows) * scale
    return true, 0.3 * true + random.normal(0.1, 1, rows) * scale


def panel(seed: int, dates: int = 60, symbols: int = 12) -> pd.DataFrame:
    """A forecast that knows a little, rounded so that ranks tie; dates in no order; some dates have few symbols."""
    random = np.random.default_rng(seed)
    date = np.repeat(pd.date_range("2024-01-01", periods=dates, tz="UTC"), symbols)
    true = random.normal(size=dates * symbols) + np.repeat(random.normal(size=dates), symbols)
    forecast = (0.2 * true + random.normal(size=len(true))).round(1)
    table = pd.DataFrame({"date": date, "true": true, "forecast": forecast})
    few = table["date"].isin(table["date"].unique()[:7]) & (np.arange(len(table)) % symbols > 3)
    return table[~few].sample(frac=1.0, random_state=seed)


def hac_t(values: np.ndarray, lags: int) -> float:
    return float(OLS(values, np.ones(len(values))).fit(cov_type="HAC", cov_kwds={"maxlags": lags}).tvalues[0])


def test_errors_are_those_of_scikit_learn() -> None:
    for seed in range(200):
        true, forecast = draw(seed)
        random = np.random.default_rng(seed)
        unit, square, mean = random.uniform(0.1, 3, size=(3, len(true)))
        values = error_metrics(true, forecast, unit, square, mean)
        error = abs(true - forecast)
        expected = {
            "mae": metrics.mean_absolute_error(true, forecast),
            "rmse": metrics.root_mean_squared_error(true, forecast),
            "mase": metrics.mean_absolute_error(true / unit, forecast / unit),
            "rmsse": metrics.root_mean_squared_error(true / square**0.5, forecast / square**0.5),
            "rse": (1 - metrics.r2_score(true, forecast)) ** 0.5,
            "r2_zero": 1 - (error**2).sum() / (true**2).sum(),
            "r2_mean": 1 - (error**2).sum() / ((true - mean) ** 2).sum(),
        }
        assert values == pytest.approx(expected, rel=1e-6)


def test_against_the_mean_of_the_same_rows_it_is_the_usual_r2() -> None:
    true, forecast = draw(3)
    values = error_metrics(true, forecast, np.ones_like(true), np.ones_like(true), np.full_like(true, true.mean()))
    assert values["r2_mean"] == pytest.approx(metrics.r2_score(true, forecast), rel=1e-9)
    mirrored, nothing = np.r_[true, -true], np.zeros(2 * len(true))
    values = error_metrics(mirrored, np.r_[forecast, -forecast], nothing, nothing, nothing)
    assert values["r2_zero"] == pytest.approx(metrics.r2_score(mirrored, np.r_[forecast, -forecast]), rel=1e-9)


def test_the_last_value_on_the_training_set_has_scaled_errors_of_one() -> None:
    for seed in range(50):
        path = np.random.default_rng(seed).normal(size=100).cumsum()
        move = np.diff(path)
        unit, square = np.full(99, abs(move).mean()), np.full(99, (move**2).mean())
        values = error_metrics(path[1:], path[:-1], unit, square, np.zeros(99))
        assert (values["mase"], values["rmsse"]) == pytest.approx((1.0, 1.0), abs=1e-12)


def test_scaled_errors_are_those_of_utilsforecast() -> None:
    losses = pytest.importorskip("utilsforecast.losses")
    for seed in range(20):
        random = np.random.default_rng(seed)
        train = random.normal(size=80).cumsum()
        true, forecast = random.normal(size=(2, 30))
        past = pd.DataFrame({"unique_id": "a", "ds": np.arange(80), "y": train})
        given = pd.DataFrame({"unique_id": "a", "ds": np.arange(30), "y": true, "model": forecast})
        move = np.diff(train)
        unit, square = np.full(30, abs(move).mean()), np.full(30, (move**2).mean())
        values = error_metrics(true, forecast, unit, square, np.zeros(30))
        for name in ("mase", "rmsse"):
            expected = getattr(losses, name)(given, models=["model"], seasonality=1, train_df=past)["model"].iloc[0]
            assert values[name] == pytest.approx(expected, rel=1e-6)


def test_rows_without_a_scale_do_not_count_in_scaled_errors() -> None:
    values = error_metrics([1.0, 5.0, 9.0], [0.0, 0.0, 0.0], [2.0, 0.0, np.nan], [4.0, 0.0, np.nan], [0.0, 0.0, 0.0])
    assert (values["mase"], values["rmsse"], values["mae"]) == (0.5, 0.5, 5.0)


def test_undefined_errors_are_nan() -> None:
    values = error_metrics([0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0])
    assert np.isnan([values[name] for name in ("mase", "rmsse", "rse", "r2_zero", "r2_mean")]).all()
    assert (values["mae"], values["rmse"]) == (1.0, 1.0)


@pytest.mark.parametrize("horizon", [1, 5])
def test_daily_correlations_are_those_of_scipy(horizon: int) -> None:
    for seed in range(20):
        table = panel(seed)
        values = association_metrics(table["true"], table["forecast"], table["date"], horizon)
        wide = [group for _, group in table.groupby("date") if len(group) >= 5]
        assert len(wide) == 53
        daily = np.array([stats.pearsonr(group["true"], group["forecast"]).statistic for group in wide])
        ranks = np.array([stats.spearmanr(group["true"], group["forecast"]).statistic for group in wide])
        expected = {
            "ic": daily.mean(),
            "rank_ic": ranks.mean(),
            "icir": daily.mean() / daily.std(ddof=1),
            "ic_t": hac_t(daily, horizon - 1),
        }
        assert {name: values[name] for name in INFORMATION} == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("symbols", [1, 4])
@pytest.mark.parametrize("horizon", [1, 5])
def test_with_few_symbols_all_rows_make_one_correlation(symbols: int, horizon: int) -> None:
    for seed in range(20):
        table = panel(seed, symbols=symbols)
        values = association_metrics(table["true"], table["forecast"], table["date"], horizon)
        assert values["ic"] == pytest.approx(stats.pearsonr(table["true"], table["forecast"]).statistic, rel=1e-6)
        assert values["rank_ic"] == pytest.approx(stats.spearmanr(table["true"], table["forecast"]).statistic, rel=1e-6)
        assert np.isnan(values["icir"])
        product = (table["true"] - table["true"].mean()) * (table["forecast"] - table["forecast"].mean())
        daily = product.groupby(table["date"]).sum().to_numpy()
        assert values["ic_t"] == pytest.approx(hac_t(daily, horizon - 1), rel=1e-6)


def test_five_symbols_on_two_dates_are_a_cross_section() -> None:
    true, forecast = np.random.default_rng(0).normal(size=(2, 10))
    date = np.repeat([0, 1], 5)
    daily = [np.corrcoef(true[date == day], forecast[date == day])[0, 1] for day in (0, 1)]
    assert association_metrics(true, forecast, date, 1)["ic"] == pytest.approx(np.mean(daily))
    pooled = association_metrics(true[:9], forecast[:9], date[:9], 1)["ic"]
    assert pooled == pytest.approx(np.corrcoef(true[:9], forecast[:9])[0, 1])


def test_daily_correlation_sees_no_common_level_of_a_date() -> None:
    """A forecast of the day's market alone orders no symbols."""
    table = panel(0)
    level = table.groupby("date")["true"].transform("mean")
    shifted = association_metrics(table["true"], table["forecast"] + 7 * level, table["date"], 1)
    values = association_metrics(table["true"], table["forecast"], table["date"], 1)
    assert shifted["ic"] == pytest.approx(values["ic"], rel=1e-9)
    assert np.isnan(association_metrics(table["true"], level, table["date"], 1)["ic"])


@pytest.mark.parametrize("value", [0.0, 0.1, -3e4])
@pytest.mark.parametrize("symbols", [1, 12])
def test_a_constant_forecast_has_no_association(value: float, symbols: int) -> None:
    table = panel(1, symbols=symbols)
    values = association_metrics(table["true"], np.full(len(table), value), table["date"], 5)
    assert np.isnan([values[name] for name in INFORMATION]).all()
    assert np.isnan(values["pesaran_timmermann_p"])
    right = np.mean(np.sign(table["true"]) == np.sign(value)) if value else np.nan
    assert values["directional_accuracy"] == pytest.approx(right, nan_ok=True)


def test_dates_with_a_constant_forecast_are_left_out() -> None:
    table = panel(2).sort_values("date")
    constant = table["date"].isin(table["date"].unique()[20:30])
    table.loc[constant, "forecast"] = 0.1
    values = association_metrics(table["true"], table["forecast"], table["date"], 1)
    rest = table[~constant]
    expected = association_metrics(rest["true"], rest["forecast"], rest["date"], 1)
    assert [values[name] for name in INFORMATION] == pytest.approx([expected[name] for name in INFORMATION])


def test_direction_is_that_of_statsmodels() -> None:
    """The statistic is also the root of n times Matthews' correlation of the signs."""
    for seed in range(200):
        true, forecast = draw(seed)
        values = association_metrics(true, forecast, np.arange(len(true)), 1)
        assert values["directional_accuracy"] == pytest.approx(metrics.accuracy_score(true > 0, forecast > 0))
        if len(set(forecast > 0)) < 2 or len(set(true > 0)) < 2:
            assert np.isnan(values["pesaran_timmermann_p"])
            continue
        statistic = np.sqrt(len(true)) * metrics.matthews_corrcoef(true > 0, forecast > 0)
        assert values["pesaran_timmermann_p"] == pytest.approx(stats.norm.sf(statistic), rel=1e-6)
        expected = pesaran_timmermann(true, forecast, alternative="larger").pvalue
        assert values["pesaran_timmermann_p"] == pytest.approx(expected, rel=1e-6)


def test_what_is_zero_has_no_direction() -> None:
    values = association_metrics([1.0, -1.0, 0.0, 2.0, 3.0], [1.0, 2.0, 3.0, 0.0, 4.0], np.arange(5), 1)
    assert values["directional_accuracy"] == pytest.approx(2 / 3)


def test_association_does_not_see_scale_or_order() -> None:
    table = panel(4)
    values = association_metrics(table["true"], table["forecast"], table["date"], 5)
    other = table.sort_values("date")
    again = association_metrics(1e-6 * other["true"], 1e5 * other["forecast"], other["date"], 5)
    assert again == pytest.approx(values, rel=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_hardly_any_rows_raise_no_warning(rows: int) -> None:
    values = association_metrics(np.arange(1.0, rows + 1), np.arange(1.0, rows + 1), np.arange(rows), 5)
    assert values["directional_accuracy"] == 1.0
    assert np.isnan(values["ic_t"])
