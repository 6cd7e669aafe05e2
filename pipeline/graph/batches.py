"""Batches as rows: one batch of images is one row, the unit that passes from stage to stage.

Ray Data cuts a stage's output by bytes, and keeps a lister's output until there are 128 MiB of it:
a million refs. With a limit of zero it would cut pixels and labels image by image. It cannot cut a
row. So each stage yields one row per batch. The row is passed on at once, and the batch stays as
it was listed: one task decodes it, one call predicts it.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

import pyarrow as pa

_DIGEST_BYTES: Final = 8


def pack(images: pa.Table) -> pa.Table:
    """One row that holds the rows of `images`: each column becomes a list.

    Copies nothing, unless a column has several chunks.
    """
    ends = pa.array([0, images.num_rows], pa.int64())
    columns = {
        field.name: pa.LargeListArray.from_arrays(
            ends, _whole(images[field.name]), type=pa.large_list(field)
        )
        for field in images.schema
    }
    return pa.table(columns)


def unpack(batches: pa.Table) -> pa.Table:
    """The rows inside the rows of `batches`, in the same order, without a copy."""
    columns = [
        pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type)
        for column in batches.columns
    ]
    return pa.table(columns, schema=pa.schema([field.type.value_field for field in batches.schema]))


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
