"""The door of Python users: a notebook does in a few lines what the commands do, by the same code.

`cnn_lstm/__init__.py` names what is public here. Nothing is trained, judged or kept in this room itself: it writes a
configuration, calls what the command calls, and reads the run folder.
"""
