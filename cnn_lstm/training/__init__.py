"""What surrounds a fit: callbacks, checkpoint files, run folders, loggers, sweeps."""

from cnn_lstm.training.sweeps.door import sweep  # the function, in place of the package of that name

__all__ = ["sweep"]
