"""What surrounds a fit: callbacks, checkpoint files, the run folder, loggers."""
