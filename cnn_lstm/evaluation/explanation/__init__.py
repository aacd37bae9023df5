"""Which features and bars a forecast depends on: integrated gradients, and permutation importance."""
