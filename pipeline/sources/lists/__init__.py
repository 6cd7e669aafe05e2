"""The formats of a manifest."""
