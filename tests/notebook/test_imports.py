"""`import cnn_lstm` is instant: every public name is imported on first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cnn_lstm

HEAVY = ("torch", "lightning", "mlflow", "yfinance", "pandas", "numpy", "matplotlib", "optuna", "sklearn")


def loaded(code: str) -> set[str]:
    """Packages that are loaded after some code."""
    program = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )


def test_nothing_heavy_is_imported() -> None:
    assert not loaded("import cnn_lstm; dir(cnn_lstm)") & set(HEAVY)


@pytest.mark.slow
def test_a_predictor_needs_no_mlflow_and_no_yfinance() -> None:
    assert not loaded("from cnn_lstm import Predictor, MarketDataModule") & {"mlflow", "yfinance", "optuna"}


@pytest.mark.parametrize("name", cnn_lstm.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(cnn_lstm, name).__doc__
    assert name in dir(cnn_lstm)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fits'"):
        cnn_lstm.fits  # noqa: B018
