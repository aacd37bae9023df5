"""Simple forecasters that the model is compared with, each fitted on the training rows alone."""
