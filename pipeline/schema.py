"""Arrow schemas of the tables in a run, and the identity and version of an object.

    REFS ──fetch, decode, resize──▶ PIXELS ──task──▶ rows of the task ──write──▶ PARTS

A row of a task has the fields of COMMON, which all tasks share, and the task's own columns
(`rows_of`). All types are ones that Delta has: no unsigned integers, no fixed-size binary,
timestamps in UTC microseconds. `VERSION` changes when a field of COMMON does.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import pyarrow as pa

VERSION: Final = 1

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")

_IDENTITY = [
    pa.field("uri", pa.string(), nullable=False),
    pa.field("member", pa.string()),
    pa.field("etag", pa.string()),
    pa.field("size", pa.int64()),
    pa.field("modified", TIMESTAMP),
    pa.field("object_id", pa.binary(), nullable=False),
    pa.field("version", pa.int64(), nullable=False),
]

# Only in flight: the ordinal of the live file that holds this object's current row, which the new
# row replaces; null for an object that has no row yet.
_REPLACES = pa.field("replaces", pa.int32())

# Only in flight, and only until the read: the address with its signature, if the uri alone would
# not open the object; else null. It holds a secret and must never be written.
_ADDRESS = pa.field("address", pa.string())

#: Where the bytes of an archive's member are in the archive, how they are packed, and the archive's
#: own version, which a read checks. With an error_code nothing is read: the row has the reason.
PLACE: Final = pa.struct(
    [
        pa.field("kind", pa.string()),
        pa.field("offset", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field("method", pa.int32()),
        pa.field("crc32", pa.int64()),
        pa.field("etag", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("modified", pa.int64()),
        pa.field("error_code", pa.string()),
        pa.field("error_message", pa.string()),
    ]
)

# Only in flight, and only until the read: a PLACE for members of archives, or the object's bytes if
# the source had to read them anyway; null for a plain object.
_PLACE = pa.field("place", PLACE)
_DATA = pa.field("data", pa.large_binary())

_SEEN = [
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("format", pa.string()),
]
_ERROR = [pa.field("error_code", pa.string()), pa.field("error_message", pa.string())]

# What made the row: the number format and the device, the run, the recipe, the time.
_MADE = [
    pa.field("precision", pa.string()),
    pa.field("device", pa.string()),
    pa.field("run_id", pa.string(), nullable=False),
    pa.field("recipe_id", pa.string(), nullable=False),
    pa.field("labelled_at", TIMESTAMP, nullable=False),
]

#: The columns of every row of a store, for every task.
COMMON: Final = pa.schema([*_IDENTITY, *_SEEN, *_ERROR, *_MADE])

#: One image to process.
REFS: Final = pa.schema([*_IDENTITY, _REPLACES, _ADDRESS, _PLACE, _DATA])

#: One decoded image. `pixels` holds uint8 of the model's input shape, HWC, row-major; null if
#: `error_code` is set, so that a batch's buffer is one contiguous (n, H, W, 3).
PIXELS: Final = pa.schema(
    [*_IDENTITY, _REPLACES, *_SEEN, pa.field("pixels", pa.large_binary()), *_ERROR]
)

#: One written file. `stats` is Delta's JSON: numRecords, minValues, maxValues, nullCount.
PARTS: Final = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("num_rows", pa.int64(), nullable=False),
        pa.field("num_errors", pa.int64(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("stats", pa.string(), nullable=False),
    ]
)

#: The store's partition column: the fingerprint of the recipe that made the label.
PARTITION: Final = "recipe"

OBJECT_ID_BYTES: Final = 12


def rows_of(columns: Iterable[pa.Field]) -> pa.Schema:
    """The rows of a task with these columns, as stored.

    Raises ValueError for a column that is not nullable (a row with an error has no result) or
    that has the name of a common field.
    """
    columns = list(columns)
    for column in columns:
        if column.name in {*COMMON.names, PARTITION} or not column.nullable:
            raise ValueError(f"a task's column must be nullable and new: {column}")
    return pa.schema([*_IDENTITY, *_SEEN, *columns, *_ERROR, *_MADE])


def in_flight(rows: pa.Schema) -> pa.Schema:
    """The same on the way to the writer: with the file whose row each one replaces."""
    return rows.append(_REPLACES)


def object_id(uri: str, member: str | None = None) -> bytes:
    """The 96-bit identity of an object: BLAKE2b of its canonical uri and its archive member.

    A NUL, which no uri contains, separates the two, so (`a`, `b`) and (`ab`, None) differ.
    """
    text = uri if member is None else f"{uri}\0{member}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=OBJECT_ID_BYTES).digest()


def version(etag: str | None, size: int | None, modified_us: int | None) -> int:
    """The 64-bit version of an object's content, as a signed integer.

    Hash of the etag if there is one, else of size and modification time (µs since the
    epoch); 0 if neither is known, so that the uri alone is the identity.
    """
    if etag is not None:
        text = f"etag:{etag}"
    elif size is not None or modified_us is not None:
        text = f"stat:{size}:{modified_us}"
    else:
        return 0
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
