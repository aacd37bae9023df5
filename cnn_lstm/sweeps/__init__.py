"""The search for better settings: Optuna proposes them, ordinary runs try them."""

from cnn_lstm.sweeps.api import sweep

__all__ = ["sweep"]
