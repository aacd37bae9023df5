"""One thread for all tests: they are small, and several run side by side."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
# a client that a test makes keeps its connections to a file open, which Python 3.13 reports when they are collected
os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")

import torch

torch.set_num_threads(1)
