"""`cnn-lstm fit|validate|test`, and `predict` with a trainer: one configuration, one run folder."""

from __future__ import annotations

from cnn_lstm.runs import forecast_cli
from cnn_lstm.runs.ensemble_fit import fit_ensemble


def run(argv: list[str]) -> None:
    """Runs `fit`, `validate`, `test` or `predict`.

    Args:
        argv: The command and its arguments.
    """
    forecast_cli.run(argv, ensemble=fit_ensemble)
