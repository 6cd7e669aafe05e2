"""Archives: real ones, fetched once, and zip files."""
