"""Events of a run for other programs: JSON lines, and one message at its end.

Nothing here can fail a run, or delay it.
"""
