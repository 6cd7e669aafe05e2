"""Backends: run a network on a device."""
