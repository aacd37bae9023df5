"""The MLflow record of a run: a journal in the run folder, and what sends it."""
