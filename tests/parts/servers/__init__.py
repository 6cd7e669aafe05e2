"""Servers of the tests, on loopback, and proxies before them."""
