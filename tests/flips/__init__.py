"""Bit flips and cuts of every file kind that is written and read: `python -m tests.flips`."""
