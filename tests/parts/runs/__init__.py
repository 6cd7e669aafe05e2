"""Whole runs, and a package that brings tasks to them."""
