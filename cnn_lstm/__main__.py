"""`python -m cnn_lstm` is `cnn-lstm`."""

from cnn_lstm.cli import script

if __name__ == "__main__":
    script()
