"""Reads lines of limited length, and collects rows of a manifest into batches of limited size."""

from collections.abc import Iterator
from typing import Any, Final, TextIO

from pipeline.sources.lists.rows import malformed

#: Rows and characters in a batch; a single row may have LINE_SIZE.
BATCH: Final = 8192
BATCH_LETTERS: Final = 8 * 2**20
#: The longest line of a table, in characters; an endless line must not fill the memory.
LINE_SIZE: Final = 4 * 2**20


def lines_of(uri: str, text: TextIO) -> Iterator[str]:
    """The lines of a table, of limited length."""
    number = 0
    while line := text.readline(LINE_SIZE + 1):
        number += 1
        if len(line) > LINE_SIZE:
            raise malformed(uri, number, f"longer than {LINE_SIZE:,} characters")
        yield line


class Batch:
    """Rows collected so far, and their line numbers."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.lines: list[int] = []
        self._letters = 0

    def add(self, row: Any, line: int, letters: int) -> bool:
        """True once it is full."""
        self.rows.append(row)
        self.lines.append(line)
        self._letters += letters
        return len(self.rows) >= BATCH or self._letters >= BATCH_LETTERS
