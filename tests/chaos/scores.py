"""The counts of a chaos session, by what was done; printed as one table at its end."""

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

#: Of all that is random in a session. CHAOS_SEED repeats one.
SEED: Final = int(os.environ.get("CHAOS_SEED", time.time_ns() % 1_000_000))


@dataclass
class Scores:
    """How often each thing was done, and what it cost."""

    done: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0
    hangs: int = 0
    looks: int = 0

    def count(self, what: str, number: int = 1) -> None:
        self.done[what] += number

    def rows(self, *, lost: int, doubled: int) -> None:
        """One look at the rows of a table."""
        self.looks += 1
        self.lost += lost
        self.doubled += doubled

    def table(self) -> str:
        """Markdown."""
        lines = [f"CHAOS_SEED={SEED}", "", "| done | times |", "|---|--:|"]
        lines += [f"| {what} | {number:,} |" for what, number in sorted(self.done.items())]
        lines += [
            f"| looks at all rows | {self.looks:,} |",
            f"| rows lost | {self.lost:,} |",
            f"| rows doubled | {self.doubled:,} |",
            f"| hangs | {self.hangs:,} |",
        ]
        return "\n".join(lines)
