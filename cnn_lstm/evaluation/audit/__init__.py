"""The audit: a proof on the user's own data that nothing of the pipeline looks ahead."""
