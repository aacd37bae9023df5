"""Tests of the network, its objectives and its checkpoints."""
