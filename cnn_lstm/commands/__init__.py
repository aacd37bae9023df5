"""The commands of `cnn-lstm`, a module each; `cnn_lstm.cli` imports one when it is called."""
