"""Commands for the jobs of a Ray cluster."""
