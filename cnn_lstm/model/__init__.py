"""From a window to a forecast; knows torch, no prices."""
