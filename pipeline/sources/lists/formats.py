"""The formats of a manifest, each read as batches of rows.

    .txt .lst          one uri per line; blank lines and lines that begin with # are skipped
    .csv .tsv          a header, then rows, separated by `,`, `;`, tab or `|`
    .jsonl .ndjson     one JSON object (or string) per line
    .json              an array of such, or the same as .jsonl
    .parquet           columns, among them those of an S3 Inventory

All but Parquet may be compressed (gzip, bzip2, xz, zstd, lz4), in UTF-8 or, with a byte order mark,
in UTF-16. All but arrays are streamed: one batch is in memory at a time.
"""

from collections.abc import Callable, Iterator
from typing import Final

from pipeline.sources.lists.csv import divided, read_csv
from pipeline.sources.lists.files import ListFile, opened
from pipeline.sources.lists.json import read_json
from pipeline.sources.lists.parquet import read_parquet
from pipeline.sources.lists.rows import Rows
from pipeline.sources.lists.text import read_text
from pipeline.storage import Rules

READERS: Final[dict[str, Callable[[ListFile], Iterator[Rows]]]] = {
    ".txt": read_text,
    ".lst": read_text,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".json": read_json,
}


def read_rows(uri: str, rules: Rules) -> Iterator[Rows]:
    """The rows of one file. Raises SpecError with the line for a malformed row, and storage's
    errors."""
    with opened(uri, rules) as found:
        if found.is_parquet:
            yield from read_parquet(found)
        else:
            yield from READERS.get(found.suffix, _guessed)(found)


def _guessed(found: ListFile) -> Iterator[Rows]:
    """A list whose name does not show its format, by its first line."""
    text = found.text("\n")
    text.detach()  # it is text
    first = found.start.partition(b"\n")[0].decode("utf-8", "replace").lstrip("\ufeff \t")
    if first.startswith(("{", "[", '"')):
        return read_json(found)
    return read_csv(found) if divided(first, ",;\t|") else read_text(found)
