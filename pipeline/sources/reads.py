"""Reads for refs: loose objects, members of containers, and rows that need no read."""

from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.errors import ErrorCode, ImageError
from pipeline.sources.containers import container
from pipeline.storage import Piece, Want


def wants_of(rows: pa.Table) -> list[Want]:
    """The reads for rows with the columns uri, etag, size, modified and address; and, if
    there may be members, member, place and data."""
    modified = rows["modified"].cast(pa.int64())
    columns = [rows["uri"], rows["etag"], rows["size"], modified, rows["address"]]
    wants = [Want(*row) for row in zip(*(c.to_pylist() for c in columns), strict=True)]
    if not _has_any(rows, "member") and not _has_any(rows, "place") and not _has_any(rows, "data"):
        return wants
    more = (_listed(rows, name) for name in ("member", "place", "data"))
    return [_completed(*one) for one in zip(wants, *more, strict=True)]


def _has_any(rows: pa.Table, name: str) -> bool:
    return name in rows.column_names and rows[name].null_count < rows.num_rows


def _listed(rows: pa.Table, name: str) -> list[Any]:
    return rows[name].to_pylist() if name in rows.column_names else [None] * rows.num_rows


def _completed(
    want: Want, member: str | None, place: dict[str, Any] | None, data: bytes | None
) -> Want:
    if data is not None:
        return Want(want.uri, want.etag, want.size, want.modified_us, data=data)
    if place is None:
        if member is None:
            return want
        gone = ImageError(ErrorCode.MISSING, "its archive has no such member, or another one now")
        return Want(want.uri, refused=gone)
    if place["error_code"] is not None:
        refused = ImageError(ErrorCode(place["error_code"]), place["error_message"])
        return Want(want.uri, refused=refused)
    whole = Want(want.uri, place["etag"], place["size"], place["modified"], want.address)
    unpack = partial(container(place["kind"]).unpack, place, want.size)
    piece = Piece(whole, place["offset"], place["length"], unpack)
    return Want(want.uri, size=want.size, address=want.address, piece=piece)
