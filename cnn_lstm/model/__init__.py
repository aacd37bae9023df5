"""From a window to a forecast; it knows torch, but not prices."""
