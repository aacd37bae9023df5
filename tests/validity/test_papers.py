"""The published protocols on the published data: rows, labels and what the last value reaches there.

The data are read from the folder that CNN_LSTM_BENCHMARKS names, see tests/benchmark_data.py; without it these tests
are skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.evaluation.metrics.errors import level_correlation, root_relative_error
from cnn_lstm.runs import forecast_cli
from tests import benchmark_data
from tests.validity import papers


def file_of(find: Callable[[Path], Path | None], folder: Path) -> Path:
    file = find(folder)
    if file is None:
        pytest.skip(f"{benchmark_data.FOLDER} names no folder that has the data of {find.__name__}")
    return file


def data_of(config: str, file: Path) -> MarketDataModule:
    """The data module of a shipped configuration, set up on a file."""
    argv = ["fit", "--config", str(papers.CONFIGS / f"{config}.yaml"), "--data.source.init_args.paths", str(file)]
    data = forecast_cli.parsed(argv).build_data()
    data.setup()
    return data


@pytest.mark.parametrize(
    ("config", "train", "rse", "corr"),
    [("exchange_rate_h3", 4382, 0.0171, 0.9761), ("exchange_rate_h12", 4373, 0.0329, 0.9526)],
)
def test_exchange_rates_have_the_rows_and_the_last_value_of_lstnet(
    tmp_path: Path, config: str, train: int, rse: float, corr: float
) -> None:
    data = data_of(config, file_of(benchmark_data.exchange_rate, tmp_path))
    horizon = data.bound.reach
    sizes = [len(rows) for rows in data.parts.by_name.values()]
    assert sizes == [train - horizon, 1518 - horizon, 1518], "the paper's samples without those that are purged"
    assert data.parts.test.tolist() == list(range(6070 - horizon, 7588 - horizon))
    true, last = (table[data.parts.test].double().numpy() for table in (data.panel.labels, data.panel.present))
    series = np.tile(np.arange(8), len(true))
    assert round(root_relative_error(true.ravel(), last.ravel()), 4) == rse
    assert round(level_correlation(true.ravel(), last.ravel(), series), 4) == corr


def test_exchange_rates_96_rows_ahead_have_the_windows_of_the_papers(tmp_path: Path) -> None:
    data = data_of("exchange_rate_h96", file_of(benchmark_data.exchange_rate, tmp_path))
    assert len(data.parts.test) == 1422
    assert data.parts.test[0] + 1 == 6071, "the first row of the test part of 7588 - int(0.2 * 7588)"


def test_the_mean_over_96_rows_of_the_last_value_is_the_published_one(tmp_path: Path) -> None:
    values = np.loadtxt(file_of(benchmark_data.exchange_rate, tmp_path), delimiter=",")
    standard = (values - values[:5311].mean(axis=0)) / values[:5311].std(axis=0)
    rows = np.arange(6070, 7588 - 96)
    errors = np.stack([standard[rows + ahead] - standard[rows] for ahead in range(1, 97)])
    assert (round(float((errors**2).mean()), 3), round(float(np.abs(errors).mean()), 3)) == (0.081, 0.196)


def test_acl18_has_the_labels_and_rows_of_the_authors(tmp_path: Path) -> None:
    data = data_of("acl18", file_of(benchmark_data.acl18, tmp_path))
    parts, labels = data.parts, data.panel.labels[:, 0].numpy()
    # the log of the authors' program: 20,315, 2,555 and 3,720 samples; the purge takes the last day of the first two
    assert [len(rows) for rows in parts.by_name.values()] == [20_315 - 52, 2_555 - 79, 3_720]
    assert parts.purged == 52 + 79
    assert round(float(labels[parts.test].mean()), 3) == 0.513
    ends = data.panel.time[parts.test + 1]
    assert (str(ends.min())[:10], str(ends.max())[:10]) == ("2015-10-01", "2015-12-31")
    assert len(np.unique(ends)) == 64
    assert len(set(data.panel.symbol[parts.test])) <= len(data.panel.symbols) == 87


def test_the_accuracy_of_rows_that_move_together_is_less_certain() -> None:
    """Oracle: statsmodels, an intercept alone with errors clustered by date."""
    import statsmodels.api as sm

    random = np.random.default_rng(0)
    date = np.repeat(np.arange(60), 20)
    right = pd.Series((random.normal(size=60)[date] + random.normal(size=1200) > 0).astype(float))
    fit = sm.OLS(right, np.ones(1200)).fit(cov_type="cluster", cov_kwds={"groups": date, "use_correction": False})
    wanted = float(fit.bse.iloc[0]) * np.sqrt(60 / 59)
    assert papers.clustered_error(right, pd.Series(date)) == pytest.approx(wanted, rel=1e-9)
    assert papers.clustered_error(right, pd.Series(date)) > 2 * float(right.std()) / np.sqrt(1200)
