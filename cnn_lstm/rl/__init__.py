"""The encoder as features for an agent."""

from __future__ import annotations

from cnn_lstm.rl.encoder import Encoder
from cnn_lstm.rl.extractor import CNNLSTMExtractor

__all__ = ["CNNLSTMExtractor", "Encoder"]
