"""Tests of the objectives: what the head's outputs mean, their loss and their forecast."""
