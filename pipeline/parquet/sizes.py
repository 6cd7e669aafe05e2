"""Unpacked size of columns in bytes, from their pages' headers.

Only a dictionary turns little into much: a few bits name one of its values, however long that is.
The size of its values is determined in three steps, each more expensive and more exact:
all as long as the whole dictionary, all as long as its longest value, each its real length.
"""

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.parquet.footer import Group, leaves_of, place_of, read_groups
from pipeline.parquet.pages import INDICES, PREFIXED, Page, pages_of
from pipeline.parquet.thrift import Data, Fields, Malformed, number

#: Bytes a value in Arrow; a text counts its own bytes.
_WIDTHS: Final = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
#: Where a value begins, whether it is null, and which list it is in.
_BESIDE: Final = 12
#: By their numbers in a footer; the first means unpacked.
_CODECS: Final = {0: "", 1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
#: Our files have up to ten pages a column and row group. Reading each costs some microseconds.
_PAGES: Final = 10_000
_BYTES_A_PAGE: Final = 2**16
_LENGTH: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One column of one row group: its size in memory, without the values that its indices refer
    to."""

    path: str
    group: int
    codec: int
    rows: int
    pages: int
    largest: int
    certain: int
    indices: int
    dictionary: Page | None

    @property
    def worst(self) -> int:
        return self.indices * self.dictionary.unpacked if self.dictionary else 0


def refuse_larger(
    file: pq.ParquetFile,
    data: Data,
    names: Collection[str],
    limit: int,
    groups: list[Group] | None = None,
) -> None:
    """Raises Malformed if the columns of these names would take over `limit` bytes in memory.

    `data` is the whole file, or a buffer of the same length that holds its footer and these
    columns. `groups` is the result of `read_groups`. Nothing beyond the limit is allocated.
    """
    chunks = []
    left, pages = limit, _PAGES + len(data) // _BYTES_A_PAGE
    for chunk in chunks_of(file, data, names, groups):
        left -= chunk.certain
        pages -= chunk.pages
        if left < 0 or chunk.largest > limit:
            raise _larger(limit)
        if pages < 0:
            raise Malformed("it has too many pages")
        chunks.append(chunk)
    unsure = {chunk: chunk.worst for chunk in chunks if chunk.worst}
    for closer in (_as_longest, _as_they_are):
        for chunk in sorted(unsure, key=lambda chunk: -unsure[chunk]):
            if sum(unsure.values()) <= left:
                return
            unsure[chunk] = closer(file, data, chunk)
    if sum(unsure.values()) > left:
        raise _larger(limit)


def chunks_of(
    file: pq.ParquetFile, data: Data, names: Collection[str], groups: list[Group] | None = None
) -> Iterator[Chunk]:
    """The chunks of these columns; `data` and `groups` as above."""
    footer = file.metadata  # only its schema: invalid row groups make Arrow end the process
    columns = [footer.schema.column(leaf) for leaf in range(footer.num_columns)]
    leaves = leaves_of(file, names)
    if groups is None:
        groups = read_groups(data, len(columns))
    for ordinal, group in enumerate(groups):
        for leaf in leaves:
            yield _chunk(data, group.columns[leaf], columns[leaf], ordinal, group.rows)


def _chunk(data: Data, metadata: Fields, column: Any, group: int, rows: int) -> Chunk:
    values, (start, size) = number(metadata, 5, wide=True), place_of(metadata)
    if values < rows or (column.max_repetition_level == 0 and values != rows):
        raise Malformed("a column has a different number of values than rows")
    width = _WIDTHS.get(column.physical_type, max(0, column.length or 0))
    certain, indices, largest, count = values * (width + _BESIDE), 0, 0, 0
    dictionary = None
    is_text = column.physical_type == "BYTE_ARRAY"
    for page in pages_of(data, start, size, values):
        count += 1
        largest = max(largest, page.unpacked)
        certain += page.unpacked
        if page.is_dictionary:
            dictionary = page
        elif page.encoding in INDICES and is_text:
            indices += page.values
        elif page.encoding == PREFIXED:
            raise Malformed("a column is encoded by prefixes")
    codec = number(metadata, 4)
    return Chunk(str(column.path), group, codec, rows, count, largest, certain, indices, dictionary)


def _larger(limit: int) -> Malformed:
    return Malformed(f"unpacked it would take over {limit >> 20:,} MiB")


def _as_longest(_: pq.ParquetFile, data: Data, chunk: Chunk) -> int:
    return chunk.indices * longest_of(data, chunk)


def longest_of(data: Data, chunk: Chunk) -> int:
    """Size of the longest value of its dictionary, which is unpacked for this."""
    if chunk.dictionary is None:
        return 0
    return _longest(_unpack(data, chunk.dictionary, chunk.codec), chunk.dictionary.values)


def _unpack(data: Data, page: Page, codec: int) -> Any:
    packed = data[page.start : page.start + page.packed]
    if codec not in _CODECS:
        raise Malformed("its compression is not known")
    name = _CODECS[codec]
    return pa.Codec(name).decompress(packed, page.unpacked) if name else packed


def _longest(dictionary: Any, values: int) -> int:
    """The longest of some byte arrays, each preceded by its length of four bytes."""
    size = memoryview(dictionary).nbytes
    if not values or size < _LENGTH.size:
        return 0
    (first,) = _LENGTH.unpack_from(dictionary)
    if values * (_LENGTH.size + first) == size:  # all of one length, as ids are?
        strides = (_LENGTH.size + first,)
        lengths = np.ndarray((values,), "<u4", dictionary, strides=strides)
        if (lengths == first).all():
            return int(first)
    longest = at = 0
    while at < size:
        (length,) = _LENGTH.unpack_from(dictionary, at)
        longest = max(longest, length)
        at += _LENGTH.size + length
    if at != size:
        raise Malformed("a dictionary is cut short")
    return longest


def _as_they_are(file: pq.ParquetFile, data: Data, chunk: Chunk) -> int:
    """Read by Arrow, with the dictionary kept as a dictionary."""
    indexed = pq.ParquetFile(
        pa.BufferReader(data), metadata=file.metadata, read_dictionary=[chunk.path]
    )
    read = indexed.read_row_group(chunk.group, columns=[chunk.path])
    total = 0
    for array in map(_leaf, read.column(0).chunks):
        if not pa.types.is_dictionary(array.type):
            raise Malformed("a dictionary can't be read")
        lengths = pc.binary_length(array.dictionary)
        total += pc.sum(pc.take(lengths, array.indices)).as_py() or 0
    return total


def _leaf(array: pa.Array) -> pa.Array:
    while not pa.types.is_dictionary(array.type):
        if pa.types.is_struct(array.type):
            array = array.field(0)
        elif pa.types.is_list(array.type):
            array = array.flatten()
        else:
            break
    return array
