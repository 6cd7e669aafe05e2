"""Commands for an existing store."""
