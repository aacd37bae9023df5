"""Frames that the code of other libraries made, see README.md, and what makes them again."""
