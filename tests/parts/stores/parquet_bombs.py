"""Parquet files that are small and become large, and the lies that let them."""

import io
import struct
from collections.abc import Callable
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.tasks.classifier import TOP_K
from tests.store.stores import LABELS, rows

MIB: Final = 2**20


def written(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **({"compression": "zstd"} | options))
    return sink.getvalue()


def by_dictionary() -> bytes:
    """Three hundred rows that all name one long address: a dictionary of one value."""
    return written(_of_uri(pa.array(["s3://photos/" + "x" * MIB] * 300)))


def by_packing() -> bytes:
    """As many, each with its bytes; they pack well."""
    return written(_of_uri(pa.array(["s3://photos/" + "x" * MIB] * 300)), use_dictionary=False)


def by_prefixes() -> bytes:
    """Each value is the one before it."""
    long = pa.array(["s3://photos/" + "x" * MIB] * 300)
    return written(_of_uri(long), use_dictionary=False, column_encoding={"uri": "DELTA_BYTE_ARRAY"})


def by_lists() -> bytes:
    """One row with some millions of equal labels."""
    labels = pa.array([[{"label": "cat", "score": 0.5}] * 1], TOP_K)
    many = pa.ListArray.from_arrays([0, 20_000_000], pa.repeat(labels.values[0], 20_000_000))
    table = rows([1])
    place = table.schema.get_field_index("top_k")
    return written(table.set_column(place, LABELS.field("top_k"), many))


def by_rows() -> bytes:
    """Some millions of rows that are one."""
    one = rows([1]).combine_chunks()
    columns = [pa.repeat(one[name][0], 10_000_000) for name in ("object_id", "version", "run_id")]
    return written(pa.table(columns, ["object_id", "version", "run_id"]))


def by_a_lie() -> bytes:
    """A page that says it becomes two gigabytes, over the rest of its own header."""
    data = bytearray(written(rows([1]), use_dictionary=False))
    start = pq.read_metadata(pa.BufferReader(bytes(data))).row_group(0).column(0).data_page_offset
    size = data[start + 3]
    assert data[start + 2] == 0x15
    assert size < 128, "a number of one byte, which becomes one of five"
    lie = b"\xfe\xff\xff\xff\x0f"
    # The page grows by four bytes, which are taken from its own packed values.
    data[start + 3 : start + 4 + 4] = lie
    return bytes(data)


def by_its_footer() -> bytes:
    return written(rows([1]))[:-8] + struct.pack("<I", 2**32 - 16) + b"PAR1"


def _of_uri(uris: pa.Array) -> pa.Table:
    size = len(uris)
    table = rows(range(size))
    return table.set_column(0, LABELS.field("uri"), uris)


BOMBS: Final[dict[str, Callable[[], bytes]]] = {
    "dictionary": by_dictionary,
    "packing": by_packing,
    "prefixes": by_prefixes,
    "lists": by_lists,
    "rows": by_rows,
    "lie": by_a_lie,
    "footer": by_its_footer,
}
