"""Batches as rows: one batch of images is one row, the unit that passes from stage to stage.

Ray Data cuts a stage's output by bytes, and keeps a lister's output until there are 128 MiB of it:
a million refs. With a limit of zero it would cut pixels and labels image by image. It cannot cut a
row. So each stage yields one row per batch. The row is passed on at once, and the batch stays as
it was listed: one task decodes it, one call predicts it.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

import numpy as np
import pyarrow as pa

_DIGEST_BYTES: Final = 8
#: The column of a packed batch that no column of images has the name of.
_REST: Final = "*"


def pack(images: pa.Table) -> pa.Table:
    """One row that holds the rows of `images`: pixels and other bytes as lists, without a copy, and
    all else as one Arrow stream.

    Ray pickles each buffer of a table by itself. A batch of rows has some forty small ones, which
    took longer than everything else between two calls of a fast predictor.
    """
    ends = pa.array([0, images.num_rows], pa.int64())
    packed, rest = {}, images
    for index, field in enumerate(images.schema):
        if pa.types.is_large_binary(field.type):
            column, kind = _whole(images[field.name]), pa.large_list(field)
            packed[field.name] = pa.LargeListArray.from_arrays(ends, column, type=kind)
            absent = pa.field(field.name, pa.null())
            rest = rest.set_column(index, absent, pa.nulls(images.num_rows))
    return pa.table(packed | {_REST: _stream(rest)})


def unpack(batches: pa.Table) -> pa.Table:
    """The rows inside the rows of `batches`, in the same order; bytes are not copied."""
    rest = [_table(stream) for chunk in batches[_REST].chunks for stream in chunk]
    if not rest:
        return pa.table({})
    images = pa.concat_tables(rest)
    for field in batches.schema:
        if field.name != _REST:
            kind = field.type.value_field
            parts = [chunk.flatten() for chunk in batches[field.name].chunks]
            column = pa.chunked_array(parts, kind.type)
            images = images.set_column(images.schema.get_field_index(field.name), kind, column)
    return images


def evenly(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The rows of `tables` in the same order, in tables of `rows`; the last may be smaller."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        if not table.num_rows:
            continue
        held.append(table)
        count += table.num_rows
        if count < rows:
            continue
        whole = pa.concat_tables(held)
        for start in range(0, count - rows + 1, rows):
            yield whole.slice(start, rows)
        count %= rows
        held = [whole.slice(whole.num_rows - count)]
    if count:
        yield pa.concat_tables(held)


def digest(refs: pa.Table) -> bytes:
    """The name of a batch: the same for the same objects in the same order."""
    ids = refs["object_id"].to_pylist()
    return blake2b(b"".join(ids), digest_size=_DIGEST_BYTES).digest()


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _stream(rows: pa.Table) -> pa.LargeBinaryArray:
    """One value: `rows` as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows.combine_chunks())
    data = sink.getvalue()
    ends = pa.py_buffer(np.array([0, data.size], np.int64))
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, ends, data])


def _table(stream: pa.LargeBinaryScalar) -> pa.Table:
    return pa.ipc.open_stream(stream.as_buffer()).read_all()
