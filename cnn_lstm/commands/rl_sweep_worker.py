"""The internal process of a sweep of agents."""

from __future__ import annotations

import sys

from cnn_lstm.agent_sweeps.search import work_on_agents


def run(argv: list[str]) -> None:
    """Runs `rl-sweep-worker`.

    Args:
        argv: The command.
    """
    work_on_agents(sys.stdin)
