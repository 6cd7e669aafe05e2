"""Acceptance on one GPU: everything that only a GPU can show, in ten minutes at most."""
