"""The encoder at work for an agent; importing it registers `cnn_lstm/MarketEnv-v0` with Gymnasium."""

from __future__ import annotations

from gymnasium import register

from cnn_lstm.rl.encoder import Encoder
from cnn_lstm.rl.extractor import CNNLSTMExtractor
from cnn_lstm.rl.market import NAME, MarketEnv
from cnn_lstm.rl.observations import EncoderObservation, VectorEncoderObservation
from cnn_lstm.rl.vector_market import MarketVectorEnv, vector_markets

__all__ = [
    "CNNLSTMExtractor",
    "Encoder",
    "EncoderObservation",
    "MarketEnv",
    "MarketVectorEnv",
    "VectorEncoderObservation",
    "vector_markets",
]

register(
    NAME,
    entry_point="cnn_lstm.rl.market:MarketEnv",
    vector_entry_point="cnn_lstm.rl.vector_market:vector_markets",
)
