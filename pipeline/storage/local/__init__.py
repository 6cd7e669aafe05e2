"""Local files and folders that other users may write to as well."""
