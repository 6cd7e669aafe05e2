"""A Ray of the tests' own, and clusters of several nodes."""
