"""Commands for a store that is there already."""
