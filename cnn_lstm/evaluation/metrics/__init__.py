"""Figures of a forecast: pure functions of arrays."""
