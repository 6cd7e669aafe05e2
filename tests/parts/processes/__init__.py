"""What processes hold, and which belong to a run."""
