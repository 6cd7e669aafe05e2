"""Isolation: time and memory limits for one image, and child processes that may crash."""
