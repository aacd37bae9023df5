"""A Ray cluster of two nodes on this machine, in a process of its own; a third one comes and is killed by a line."""

from __future__ import annotations

import sys

SMALL = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


def main() -> None:
    """Prints the address, then follows the lines `add` and `kill` until its input ends."""
    from ray.cluster_utils import Cluster  # where Ray is not installed, doctests look at this file all the same

    cluster = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
    cluster.add_node(**SMALL)
    print(f"address {cluster.address}", flush=True)
    third = None
    for line in sys.stdin:
        if line.strip() == "add":
            third = cluster.add_node(**SMALL)
        else:
            cluster.remove_node(third, allow_graceful=False)
        print(f"done {line.strip()}", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
