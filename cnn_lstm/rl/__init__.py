"""The encoder at work for an agent; importing it registers `cnn_lstm/MarketEnv-v0` with Gymnasium."""

from __future__ import annotations

from gymnasium import register

from cnn_lstm.rl.encoder import Encoder
from cnn_lstm.rl.extractor import CNNLSTMExtractor
from cnn_lstm.rl.market import NAME, MarketEnv, MarketVectorEnv, vector_markets
from cnn_lstm.rl.observations import EncoderObservation, VectorEncoderObservation

__all__ = [
    "CNNLSTMExtractor",
    "Encoder",
    "EncoderObservation",
    "MarketEnv",
    "MarketVectorEnv",
    "VectorEncoderObservation",
    "vector_markets",
]

register(NAME, entry_point="cnn_lstm.rl.market:MarketEnv", vector_entry_point="cnn_lstm.rl.market:vector_markets")
