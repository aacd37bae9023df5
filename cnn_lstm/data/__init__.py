"""From a price table to batches of windows; knows pandas and tensors, no network."""
