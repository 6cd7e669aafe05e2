"""The table's Delta log: commits, and a look at it before it is read."""
