"""Output of commands: lines, tables and progress, on a terminal or not."""
