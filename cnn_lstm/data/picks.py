"""A few of many: positions that are spread evenly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly_spread(count: int, most: int, down: bool = False) -> NDArray[np.int64]:
    """At most `most` of the positions 0 to count - 1, ascending, with the first and the last.

    Args:
        count: Number of positions.
        most: Largest number of them to take.
        down: Whether a place between two positions becomes the lower one, and not the nearest.

    Example:
        >>> evenly_spread(10, 4).tolist(), evenly_spread(11, 4).tolist(), evenly_spread(11, 4, down=True).tolist()
        ([0, 3, 6, 9], [0, 3, 7, 10], [0, 3, 6, 10])
    """
    places = np.linspace(0, count - 1, min(most, count))
    ascending = (places if down else places.round()).astype(np.int64)
    return ascending[np.diff(ascending, prepend=-1) > 0]
