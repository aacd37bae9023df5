"""`python -m tests.crash_points.cold` is `cnn-lstm` without its fork server: a tracer sees no descriptor on its way."""

from cnn_lstm.cli import script
from cnn_lstm.runs import fork_server

if __name__ == "__main__":
    fork_server.AVAILABLE = False
    script()
