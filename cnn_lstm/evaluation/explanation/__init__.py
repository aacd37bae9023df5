"""Which features and bars a forecast owes itself to: integrated gradients, and permutation importance."""
