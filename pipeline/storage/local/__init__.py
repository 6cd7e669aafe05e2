"""Local files and folders in which others may write too."""
