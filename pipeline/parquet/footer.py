"""Reads the footer of a Parquet file before Arrow does.

Some footers make Arrow end the process (a row group that lacks a column); the rest it believes.
"""

from collections.abc import Collection
from typing import Any, Final, NamedTuple

import pyarrow.parquet as pq

from pipeline.parquet.thrift import Data, Fields, Malformed, number, read_struct, struct, structs

_MAGIC: Final = b"PAR1"
#: The footer's length and the magic.
_TRAILER: Final = 8

#: Our files have some 3 KB a row group. Arrow uses up to a hundred times as much memory.
FOOTER_BYTES: Final = 4 * 2**20
_STRING_BYTES: Final = 2**20
_LIST_ITEMS: Final = 100_000


class Group(NamedTuple):
    """One row group: for each column its position and the number of values it claims."""

    rows: int
    columns: list[Fields]


def open_parquet(source: Any, tail: bytes, size: int) -> pq.ParquetFile:
    """A file of `size` bytes that ends in `tail`. Raises Malformed, and what Arrow raises."""
    footer_size(tail, size)
    return pq.ParquetFile(
        source,
        thrift_string_size_limit=_STRING_BYTES,
        thrift_container_size_limit=_LIST_ITEMS,
    )


def footer_size(tail: bytes, size: int) -> int:
    """Size of the footer, from the last eight bytes of a file of `size` bytes. Raises Malformed."""
    if size < _TRAILER + len(_MAGIC) or tail[-4:] != _MAGIC:
        raise Malformed("it is not a Parquet file")
    footer = int.from_bytes(tail[-8:-4], "little")
    if footer > min(size - _TRAILER, FOOTER_BYTES):
        raise Malformed(f"its footer claims {footer:,} bytes")
    return footer


def footer_start(tail: bytes, size: int) -> int:
    """Start of the footer, from the last eight bytes of a file of `size` bytes. Raises
    Malformed."""
    return size - _TRAILER - footer_size(tail, size)


def read_groups(data: Data, columns: int) -> list[Group]:
    """The row groups of a whole file with this many columns. Raises Malformed for invalid ones."""
    fields, _ = read_struct(data, footer_start(data[-_TRAILER:], len(data)))
    groups = [
        Group(number(group, 3, wide=True), [struct(one, 3) for one in structs(group, 1)])
        for group in structs(fields, 4)
    ]
    if any(len(group.columns) != columns for group in groups):
        raise Malformed("a row group lacks a column")
    if sum(group.rows for group in groups) != number(fields, 3, wide=True):
        raise Malformed("its row groups hold a different number of rows than it says")
    return groups


def leaves_of(file: pq.ParquetFile, names: Collection[str]) -> list[int]:
    """The ordinals of the leaf columns of the columns with these names."""
    footer = file.metadata
    paths = [str(footer.schema.column(leaf).path) for leaf in range(footer.num_columns)]
    return [leaf for leaf, path in enumerate(paths) if _is_below(path, names)]


def _is_below(path: str, names: Collection[str]) -> bool:
    """A name may itself contain dots."""
    parts = path.split(".")
    return any(".".join(parts[:count]) in names for count in range(1, len(parts) + 1))


def place_of(metadata: Fields) -> tuple[int, int]:
    """Where a column chunk begins, as Arrow computes it, and its bytes. Raises Malformed."""
    start = number(metadata, 9, wide=True)
    if 11 in metadata and 0 < (dictionary := number(metadata, 11, wide=True)) < start:
        start = dictionary
    return start, number(metadata, 7, wide=True)


def ranges_of(
    file: pq.ParquetFile, groups: list[Group], size: int, names: Collection[str]
) -> list[tuple[int, int]]:
    """Where the chunks of these columns begin and end, in a file of `size` bytes.

    Raises Malformed for a chunk outside the file.
    """
    leaves = leaves_of(file, names)
    places = [place_of(group.columns[leaf]) for group in groups for leaf in leaves]
    if any(start + length > size for start, length in places):
        raise Malformed("a column is outside the file")
    return [(start, start + length) for start, length in places]
