"""The audit: a check on the user's own data that nothing of the pipeline looks ahead."""
