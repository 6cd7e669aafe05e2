"""What a run tells others while it lasts: JSON lines, and one message at its end.

Nothing here can fail a run, or hold one up.
"""
