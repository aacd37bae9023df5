"""Processes that something else has started for one run, as torchrun and SLURM do: the name that they agree on."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping

from cnn_lstm.errors import require

# what launchers give the processes of one run; the first of them has 0 in each that is set
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
SIZES = ("WORLD_SIZE", "SLURM_NTASKS", "JSM_NAMESPACE_SIZE")
UNNAMED = "none"  # what torchrun calls a run that nobody named


def is_first_process() -> bool:
    """Whether this is the only process of a run, or the first of several, which alone writes."""
    return all(os.environ.get(name, "0") in ("", "0") for name in RANKS)


def name_of_launch(environment: Mapping[str, str]) -> str | None:
    """A name that all processes of a launch come to by themselves, for the folder of their run.

    Args:
        environment: Variables of this process.

    Returns:
        The name; None where no launcher has started several processes.

    Raises:
        ConfigError: E224, if they have nothing in common.

    Example:
        >>> name_of_launch({"SLURM_PROCID": "1", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "4711"})
        'job-4711'
        >>> name_of_launch({"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "nightly"})
        'nightly'
        >>> name_of_launch({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_ID": "4711"}) is None
        True
    """
    several = any(environment.get(name, "1") not in ("", "1") for name in SIZES)
    if not several or not any(name in environment for name in RANKS):
        return None
    run = environment.get("TORCHELASTIC_RUN_ID", "")
    if run and run != UNNAMED:
        return re.sub(r"[^\w.-]", "-", run)
    if run and environment.get("GROUP_WORLD_SIZE", "1") == "1":  # the processes of one machine have one parent
        import psutil

        return time.strftime("%Y%m%d-%H%M%S", time.localtime(psutil.Process(os.getppid()).create_time()))
    job = environment.get("SLURM_JOB_ID")
    fix = "add --run_dir, a folder that all of them see"
    require(bool(job), "the processes of a launch have no folder in common", "the command line", fix)
    return f"job-{job}"
