"""The counts of a chaos session, by what was done; printed as one table at its end."""

from collections import Counter
from dataclasses import dataclass, field


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
        lines = ["| done | times |", "|---|--:|"]
        lines += [f"| {what} | {number:,} |" for what, number in sorted(self.done.items())]
        lines += [
            f"| looks at all rows | {self.looks:,} |",
            f"| rows lost | {self.lost:,} |",
            f"| rows doubled | {self.doubled:,} |",
            f"| hangs | {self.hangs:,} |",
        ]
        return "\n".join(lines)
