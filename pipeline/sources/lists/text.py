"""Text manifests: one uri per line; blank lines and lines that begin with # are skipped."""

from collections.abc import Iterator
from typing import TextIO

from pipeline.sources.lists import gathering
from pipeline.sources.lists.files import ListFile
from pipeline.sources.lists.rows import ENTRY_SIZE, Rows, hasher, shortened


def read_text(found: ListFile) -> Iterator[Rows]:
    text = found.text("\n")
    try:
        yield from _entries(found.uri, text)
    finally:
        text.detach()


def _entries(uri: str, text: TextIO) -> Iterator[Rows]:
    line = 1
    while True:
        lines: list[str] = []
        long: set[int] = set()
        letters = 0
        while (
            len(lines) < gathering.BATCH
            and letters < gathering.BATCH_LETTERS
            and (one := _entry(text))
        ):
            entry, too_long = one
            if too_long:
                long.add(len(lines))
            letters += len(entry)
            lines.append("" if entry.startswith("#") else entry)
        if not lines:
            return
        yield Rows(uri, range(line, line + len(lines)), lines, too_long=frozenset(long))
        line += len(lines)


def _entry(text: TextIO) -> tuple[str, bool] | None:
    """(an entry, whether it only replaces one that is too long); None at the end."""
    start = text.readline(ENTRY_SIZE + 2)  # and its end, \r\n
    entry = start.rstrip("\r\n")
    if len(entry) <= ENTRY_SIZE:
        return (entry, False) if start else None
    digest, letters, piece = hasher(), 0, start
    while piece:
        whole = piece.rstrip("\r\n") if piece.endswith("\n") else piece
        digest.update(whole.encode("utf-8", "surrogatepass"))
        letters += len(whole)
        piece = "" if piece.endswith("\n") else text.readline(ENTRY_SIZE)
    return shortened(start, letters, digest.hexdigest()), True
