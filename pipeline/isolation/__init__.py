"""What one image may take of a machine, and processes that may die of one."""
