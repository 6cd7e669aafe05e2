"""A batch of images as one row: the unit that the graph hands from stage to stage.

Ray Data cuts what a stage yields by bytes, and holds back what a lister yields until there are
128 MiB of it: a million refs. Told to hold nothing back it would cut pixels and labels image by
image. A row cannot be cut. So each stage yields one row a batch, which goes on at once, and the
batch stays the one that was listed: one task decodes it, one call predicts it.
"""

from collections.abc import Iterable, Iterator

import pyarrow as pa


def pack(images: pa.Table) -> pa.Table:
    """One row that holds the rows of `images`: each column as a list.

    Nothing is copied, unless a column lies in several chunks.
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
    """The rows that the rows of `batches` hold, in their order, without a copy."""
    columns = [
        pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type)
        for column in batches.columns
    ]
    return pa.table(columns, schema=pa.schema([field.type.value_field for field in batches.schema]))


def evenly(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The rows of `tables` in their order, `rows` at a time; the last may be fewer."""
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


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
