"""Jobs on a Ray cluster: submit a run, follow it, show it, stop it.

spec ──shipping──▶ a folder ──submission──▶ a job of this night ──following──▶ its exit code
                                 │                                    │
                                 └──────────── server: Ray Jobs ──────┘
"""
