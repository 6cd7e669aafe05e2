"""The table's Delta log: commits, and checks before the log is read."""
