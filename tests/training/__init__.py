"""Tests of what surrounds a fit."""
