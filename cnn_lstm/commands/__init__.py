"""The commands of `cnn-lstm`; `cnn_lstm.cli` imports the module of a command when it is called."""
