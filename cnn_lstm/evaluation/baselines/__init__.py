"""Simple forecasters that stand beside the model, each fitted on the training rows alone."""
