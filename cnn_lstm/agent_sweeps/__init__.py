"""The search for better settings of agents: the machinery of `sweeps`, with agents of `rl` as trials."""
