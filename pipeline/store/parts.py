"""One Parquet file of the label store: write it, rewrite it without some rows, merge many.

A file means nothing until the table's commit names it: every function here may be run
twice, die half-way or finish after its run is dead, and no reader sees a difference.
"""

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.errors import StoreError
from pipeline.storage import Folder, public

#: zstd's default level: a third smaller than snappy, at no cost that shows beside a model.
COMPRESSION = "zstd"
ROW_GROUP_ROWS = 131_072

#: Delta wants bounds that hold, so a cut maximum gets this, which sorts after all else.
_LAST_CHARACTER = "\U0010ffff"
_STRING_STATS_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Part:
    """One written file, a row of `schema.PARTS` and the recipe whose partition it is in."""

    path: str
    recipe: str
    num_rows: int
    num_errors: int
    size_bytes: int
    stats: str


def write_part(folder: Folder, path: str, recipe: str, rows: pa.Table) -> Part:
    """Write `rows` (schema.COMMON and a task's columns) to `path` below the store in one PUT."""
    sink = io.BytesIO()
    pq.write_table(
        rows.cast(_with_common(rows.schema)),
        sink,
        compression=COMPRESSION,
        row_group_size=ROW_GROUP_ROWS,
    )
    return _put(folder, path, recipe, sink.getvalue())


def copy_part(folder: Folder, path: str, new_path: str, recipe: str) -> Part:
    """The same file under another name."""
    return _put(folder, new_path, recipe, folder.read(path))


def read_part(
    folder: Folder, path: str, columns: Sequence[str] | pa.Schema | None = None
) -> pa.Table:
    """The rows of one file: all that it holds, some columns by name, or in a schema.

    A nullable field of the schema that the file lacks was added to the table later, and is null.
    Raises StoreError for a file of other columns, or of none.
    """
    data = pa.BufferReader(folder.read(path))
    try:
        if isinstance(columns, pa.Schema):
            return _read_in(data, columns)
        names = None if columns is None else list(columns)
        rows = pq.read_table(data, columns=names, partitioning=None)
        rows.select(schema.COMMON.names if names is None else names)  # a KeyError, if one lacks
        return rows.cast(_with_common(rows.schema)).select(names or rows.column_names)
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        problem = str(error).partition("\n")[0]
        where = public(folder.uri_of(path))
        raise StoreError(f"{where} is no file of a label store: {problem}") from None


def rewrite_without(
    folder: Folder, path: str, new_path: str, recipe: str, object_ids: Iterable[bytes]
) -> Part | None:
    """Copy a file without the rows of `object_ids`; None if no row would be left."""
    rows = read_part(folder, path)
    gone = pc.is_in(rows["object_id"], value_set=pa.array(list(object_ids), pa.binary()))
    left = rows.filter(pc.invert(gone))
    return write_part(folder, new_path, recipe, left) if left.num_rows else None


def merge_parts(folder: Folder, paths: Sequence[str], new_path: str, recipe: str) -> Part:
    """One file with the rows of many, in the order of their uris.

    Sorted rows compress better, and their min and max let readers skip whole files.
    """
    tables = [read_part(folder, path) for path in paths]
    try:
        rows = pa.concat_tables(tables, promote_options="default")  # older files lack new columns
    except pa.ArrowException as error:
        problem = str(error).partition("\n")[0]
        raise StoreError(f"files of {public(folder.uri)} do not go together: {problem}") from None
    rows = rows.sort_by([("uri", "ascending")])
    return write_part(folder, new_path, recipe, rows)


def _with_common(found: pa.Schema) -> pa.Schema:
    """`found` with its common fields as they must be."""
    common = schema.COMMON
    fields = [common.field(f.name) if f.name in common.names else f for f in found]
    return pa.schema(fields)


def _read_in(data: pa.BufferReader, wanted: pa.Schema) -> pa.Table:
    names = pq.read_schema(data).names
    data.seek(0)
    # What is not nullable is asked for, so that it is missed.
    there = [field.name for field in wanted if field.name in names or not field.nullable]
    rows = pq.read_table(data, columns=there, partitioning=None).select(there)
    for field in wanted:
        if field.name not in there:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows.select(wanted.names).cast(wanted)


def bounds_of_text(text: str) -> tuple[str, str]:
    """(least, greatest) as Delta's statistics tell a text, which are cut where it is long."""
    return _lower(text), _upper(text)


def _put(folder: Folder, path: str, recipe: str, parquet: bytes) -> Part:
    footer = pq.read_metadata(pa.BufferReader(parquet))
    stats = _stats(footer)
    folder.put(path, parquet)
    errors = footer.num_rows - stats["nullCount"]["error_code"]
    return Part(path, recipe, footer.num_rows, errors, len(parquet), json.dumps(stats))


def _stats(footer: pq.FileMetaData) -> dict[str, Any]:
    """Delta's statistics of one file, from its own Parquet footer.

    numRecords, minValues, maxValues and nullCount as in Delta's protocol,
    "Per-file Statistics"; binary and nested columns have no bounds.
    """
    lower: dict[str, Any] = {}
    upper: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for index in range(footer.num_columns):
        column = footer.schema.column(index)
        if column.path != column.name:  # inside a list or a struct
            continue
        groups = [
            footer.row_group(g).column(index).statistics for g in range(footer.num_row_groups)
        ]
        nulls[column.name] = sum(group.null_count for group in groups)
        bounds = [(group.min, group.max) for group in groups if group.has_min_max]
        if bounds and not isinstance(bounds[0][0], bytes):
            lower[column.name] = _lower(min(low for low, _ in bounds))
            upper[column.name] = _upper(max(high for _, high in bounds))
    return {
        "numRecords": footer.num_rows,
        "minValues": lower,
        "maxValues": upper,
        "nullCount": nulls,
    }


def _lower(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_STRING_STATS_LENGTH]
    return value.isoformat() if isinstance(value, datetime) else value


def _upper(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _STRING_STATS_LENGTH:
        return value[:_STRING_STATS_LENGTH] + _LAST_CHARACTER
    return _lower(value)
