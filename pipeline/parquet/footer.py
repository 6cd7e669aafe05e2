"""The footer of a Parquet file, read within limits."""

from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.parquet.thrift import Malformed

_MAGIC: Final = b"PAR1"
#: Its length and the magic.
_TRAILER: Final = 8

#: A file of ours has some 3 KB a row group. Arrow makes up to a hundred times as much of it.
FOOTER_BYTES: Final = 4 * 2**20
_STRING_BYTES: Final = 2**20
_LIST_ITEMS: Final = 100_000


def open_parquet(
    source: pa.NativeFile | Any, tail: bytes, size: int, **options: Any
) -> pq.ParquetFile:
    """A file of `size` bytes that ends in `tail`. Raises Malformed, and what Arrow raises."""
    if size < _TRAILER + len(_MAGIC) or tail[-4:] != _MAGIC:
        raise Malformed("it is no Parquet file")
    footer = int.from_bytes(tail[-8:-4], "little")
    if footer > min(size - _TRAILER, FOOTER_BYTES):
        raise Malformed(f"its footer claims {footer:,} bytes")
    return pq.ParquetFile(
        source,
        thrift_string_size_limit=_STRING_BYTES,
        thrift_container_size_limit=_LIST_ITEMS,
        **options,
    )
