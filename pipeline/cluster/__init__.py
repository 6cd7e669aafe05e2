"""Runs that a Ray cluster does by itself: submit one, follow it, look at it, stop it.

spec ──shipping──▶ a folder ──submission──▶ a job of this night ──following──▶ its exit code
                                 │                                    │
                                 └──────────── server: Ray Jobs ──────┘
"""
