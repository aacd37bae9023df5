"""Sweeps: the search space, samplers and pruners, trials, and what is handed back."""
