"""A checkpoint at work."""
