"""Crash points: commands are traced, the disk after every step is built, and the next command has to work on it."""
