"""What all HTML pages share: their style, and how a template becomes a page that needs nothing else."""
