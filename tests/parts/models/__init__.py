"""Models: tiny ones, a real one, and pickles."""
