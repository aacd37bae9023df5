"""What surrounds a fit: callbacks, checkpoint files, run folders, loggers."""
