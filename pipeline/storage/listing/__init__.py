"""Listings: one file a kind of store."""
