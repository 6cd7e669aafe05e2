"""What commands print: lines, tables and progress, on a terminal or not."""
