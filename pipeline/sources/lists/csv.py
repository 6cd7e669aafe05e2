"""CSV manifests: a header, then rows, separated by `,`, `;`, tab or `|`."""

import csv
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TextIO

from pipeline.sources.lists.files import ListFile
from pipeline.sources.lists.gathering import LINE_SIZE, Batch, lines_of
from pipeline.sources.lists.rows import URI_COLUMNS, Rows, malformed, rows_of


def read_csv(found: ListFile) -> Iterator[Rows]:
    text = found.text("")
    csv.field_size_limit(LINE_SIZE)
    try:
        yield from _Table(found, text).read()
    finally:
        text.detach()


class _Table:
    """CSV, whose rows may span several lines."""

    def __init__(self, found: ListFile, text: TextIO) -> None:
        self._uri = found.uri
        lines = lines_of(found.uri, text)
        start = _up_to_the_header(lines)
        self._delimiter = _delimiter(start[-1] if start else "", found.suffix)
        self._reader = csv.reader(self._counted(chain(start, lines)), delimiter=self._delimiter)
        self._letters = self._quotes = 0
        self._ended = False

    def read(self) -> Iterator[Rows]:
        header: list[str] | None = None
        batch = Batch()
        try:
            for line, row, letters in self._rows():
                if header is None:
                    header = [name.strip().lower() for name in row]
                    continue
                if len(row) != len(header):
                    problem = f"{len(row)} fields where the header has {len(header)}"
                    raise malformed(self._uri, line, problem)
                if batch.add(row, line, letters):
                    yield self._made(header, batch)
                    batch = Batch()
        except csv.Error as error:
            raise malformed(self._uri, self._reader.line_num, str(error)) from None
        if header is not None and batch.rows:
            yield self._made(header, batch)

    def _made(self, header: list[str], batch: Batch) -> Rows:
        columns = dict(zip(header, zip(*batch.rows, strict=True), strict=True))
        return rows_of(self._uri, batch.lines, columns)

    def _rows(self) -> Iterator[tuple[int, list[str], int]]:
        """(its first line, a row, its characters), without blank lines."""
        line = 1
        for row in self._reader:
            if self._ended and self._quotes % 2 == 1:  # it has consumed the rest of the file
                raise malformed(self._uri, line, "a quote that is never closed")
            if row:
                yield line, row, self._letters
            line = self._reader.line_num + 1
            self._letters = self._quotes = 0

    def _counted(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self._letters += len(line)
            self._quotes += line.count('"')
            yield line
        self._ended = True


def _up_to_the_header(lines: Iterator[str]) -> list[str]:
    start: list[str] = []
    for line in lines:
        start.append(line if line.strip() else "\n")
        if line.strip():
            break
    return start


def _delimiter(header: str, suffix: str) -> str:
    signs = "\t,;|" if suffix == ".tsv" else ",;\t|"
    return divided(header, signs) or signs[0]


def divided(header: str, signs: str) -> str | None:
    """The first separator that splits the header so that a column for the uri is found."""
    for sign in signs:
        names = next(csv.reader([header], delimiter=sign), [])
        if any(name.strip().lower() in URI_COLUMNS for name in names):
            return sign
    return None
