"""Figures of forecasts, one module a kind of target: plain arrays in, plain numbers out."""
