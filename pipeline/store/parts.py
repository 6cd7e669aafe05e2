"""Parts: write one Parquet file of the label store, rewrite it without some rows, merge many.

A file has no effect until the table's commit names it. Every function here may run
twice, die half-way or finish after its run is dead, and no reader sees a difference.
"""

import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.errors import StoreError
from pipeline.parquet import Data, open_parquet, ranges_of, read_groups, refuse_larger
from pipeline.storage import Folder, public
from pipeline.storage.file_ranges import Range
from pipeline.store.projection import FILE_BYTES as FILE_BYTES
from pipeline.store.projection import Projection, read_whole

#: zstd's default level: a third smaller than snappy, at a cost that is negligible beside a model.
COMPRESSION = "zstd"
ROW_GROUP_ROWS = 131_072
#: For vectors, uncompressed: the memory that a reader of a row group needs.
VECTOR_GROUP_BYTES: Final = 64 * 2**20

#: Delta needs valid bounds, so a cut maximum gets this suffix, which sorts after everything else.
_LAST_CHARACTER = "\U0010ffff"
_STRING_STATS_LENGTH = 64

#: Memory limit for a file's columns. Ours take some ten times their size as Parquet.
_UNPACKED_BYTES: Final = 128 * 2**20
_UNPACKED_RATIO: Final = 64
#: Vectors of identical images compress to next to nothing. Files of vectors hold few rows
#: (`upkeep.large_rows`): 65,536 of 1,536 numbers reach about this limit.
_UNPACKED_VECTORS: Final = 2**31

#: What Arrow raises for files that it cannot handle.
UNREADABLE: Final = (
    pa.ArrowException,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    TypeError,
    ValueError,
)
#: Longer messages of Arrow say no more.
_PROBLEM_LENGTH: Final = 300
_FIRST_TIME: Final = datetime(1, 1, 2, tzinfo=UTC)
_LAST_TIME: Final = datetime(9999, 12, 31, tzinfo=UTC)


class Logged(Protocol):
    """A file as the table's log describes it; the file is checked against this."""

    @property
    def path(self) -> str: ...
    @property
    def num_rows(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...


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
    rows = rows.cast(_with_common(rows.schema))
    pq.write_table(rows, sink, compression=COMPRESSION, **layout_of(rows))
    return _put(folder, path, recipe, sink.getvalue())


def layout_of(rows: pa.Table) -> dict[str, Any]:
    """How pyarrow writes these: rows a group, and the encodings of vectors.

    The four bytes of floats go into separate streams: then zstd compresses signs and exponents
    well, and the zero bits of half floats to nothing. A dictionary would not help, since almost all
    floats differ. Row groups of vectors hold fewer rows.
    """
    vectors = [field for field in rows.schema if is_vector(field.type)]
    if not vectors or not rows.num_rows:
        return {"row_group_size": ROW_GROUP_ROWS}
    size = sum(rows[field.name].nbytes for field in vectors) // rows.num_rows
    names = [name for field in rows.schema for name in _leaves(field.name, field.type)]
    split = [name for field in vectors for name in _leaves(field.name, field.type)]
    return {
        "row_group_size": max(1, min(ROW_GROUP_ROWS, VECTOR_GROUP_BYTES // max(1, size))),
        "use_dictionary": [name for name in names if name not in split],
        "use_byte_stream_split": split,
    }


def is_vector(kind: pa.DataType) -> bool:
    """Whether a column of this type holds lists of floats."""
    return bool(pa.types.is_list(kind) and pa.types.is_float32(kind.value_type))


def _leaves(path: str, kind: pa.DataType) -> list[str]:
    """The leaf columns that Parquet makes of one Arrow column, by their paths."""
    if pa.types.is_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _leaves(f"{path}.{field.name}", field.type)]
    return [path]


def copy_part(folder: Folder, file: Logged | str, new_path: str, recipe: str) -> Part:
    """The same rows under another name. Raises StoreError as `read_part` does.

    They are encoded again: what another program's footer says of them must not get into the log.
    """
    return write_part(folder, new_path, recipe, read_part(folder, file))


def read_part(
    folder: Folder,
    file: Logged | str,
    columns: Sequence[str] | pa.Schema | None = None,
    *,
    whole: bool = False,
) -> pa.Table:
    """The rows of one file: all columns, some columns by name, or the columns of a schema.

    For some columns only their bytes are read, unless `whole` says that they are all or most.

    A nullable field of the schema that the file lacks was added to the table later; it becomes
    null. A file that the log describes is checked against the log; a bare path is not. Raises
    StoreError for a file with other columns, or none, for one that differs from the log, and,
    before it is unpacked, for one that would take more memory than a file of ours.
    """
    path = file if isinstance(file, str) else file.path
    logged = None if isinstance(file, str) else file.size_bytes
    try:
        if whole or columns is None:
            return unpack(read_whole(folder, path, logged), columns, file)
        with folder.ranges(path) as source:
            part = Projection(folder, path, source, logged)
            part.read_footer()
            return unpack(part.data, columns, file, part.fetch)
    except UNREADABLE as error:
        raise _no_part(folder, path, error) from None


def unpack(
    data: Data,
    columns: Sequence[str] | pa.Schema | None,
    file: Logged | str,
    fetch: Callable[[list[Range]], None] | None = None,
) -> pa.Table:
    """The same from a file's bytes, or from its footer and the ranges that `fetch` then adds to
    `data`.

    Raises UNREADABLE.
    """
    opened = _opened(data, file)
    wanted = _wanted(opened.schema_arrow, columns)
    names, size = wanted.names, len(data)
    groups = read_groups(data, opened.metadata.num_columns)
    if fetch is not None:
        fetch(ranges_of(opened, groups, size, names))
    has_vectors = any(is_vector(field.type) for field in wanted)
    allowed = _UNPACKED_VECTORS if has_vectors else _UNPACKED_BYTES
    refuse_larger(opened, data, names, allowed + _UNPACKED_RATIO * size, groups)
    rows = opened.read(columns=names).select(names).cast(wanted)
    rows.validate(full=True)  # Arrow does not check that a file's text is valid text
    for field in wanted:
        if field.type == schema.TIMESTAMP:
            _refuse_odd_times(rows[field.name])
    if isinstance(columns, pa.Schema):
        return _completed(rows, columns, opened.metadata.num_rows)
    return rows


def _wanted(found: pa.Schema, columns: Sequence[str] | pa.Schema | None) -> pa.Schema:
    """What to read of a file with these fields; missing columns are requested all the same."""
    if isinstance(columns, pa.Schema):
        return pa.schema([f for f in columns if f.name in found.names or not f.nullable])
    common = schema.COMMON
    if columns is None:
        others = [field for field in found if field.name not in common.names]
        columns = [*dict.fromkeys([*found.names, *common.names])]
        if any(isinstance(field.type, pa.BaseExtensionType) for field in others):
            raise ValueError("it holds a type of another program")
    return pa.schema([common.field(n) if n in common.names else found.field(n) for n in columns])


def _completed(rows: pa.Table, wanted: pa.Schema, count: int) -> pa.Table:
    """Add the fields that the file lacks, as nulls; a table without columns does not know its
    `count`."""
    there = set(rows.column_names)
    columns = [
        rows[field.name] if field.name in there else pa.nulls(count, field.type) for field in wanted
    ]
    return pa.table(columns, schema=wanted)


def _opened(data: Data, file: Logged | str) -> pq.ParquetFile:
    opened = open_parquet(pa.BufferReader(data), data[-8:], len(data))
    rows = opened.metadata.num_rows
    if not isinstance(file, str) and rows != file.num_rows:
        raise ValueError(f"it says {rows:,} rows, the table's log {file.num_rows:,}")
    return opened


def _refuse_odd_times(times: pa.ChunkedArray) -> None:
    least, greatest = pc.min_max(times.cast(pa.int64())).as_py().values()
    first, last = (int(time.timestamp()) * 1_000_000 for time in (_FIRST_TIME, _LAST_TIME))
    if least is not None and not first <= least <= greatest <= last:
        raise ValueError("it holds a time beyond the calendar")


def _no_part(folder: Folder, path: str, error: BaseException) -> StoreError:
    problem = str(error).partition("\n")[0][:_PROBLEM_LENGTH]
    return StoreError(f"{public(folder.uri_of(path))} is not a file of a label store: {problem}")


def rewrite_without(
    folder: Folder, file: Logged | str, new_path: str, recipe: str, object_ids: Iterable[bytes]
) -> Part | None:
    """Copy a file without the rows of `object_ids`; None if no row would be left."""
    rows = read_part(folder, file)
    gone = pc.is_in(rows["object_id"], value_set=pa.array(list(object_ids), pa.binary()))
    left = rows.filter(pc.invert(gone))
    return write_part(folder, new_path, recipe, left) if left.num_rows else None


def merge_parts(folder: Folder, files: Sequence[Logged | str], new_path: str, recipe: str) -> Part:
    """One file with the rows of many, in the order of their uris, and of members in archives.

    Sorted rows compress better, and their min and max let readers skip whole files.
    """
    tables = [read_part(folder, file) for file in files]
    try:
        rows = pa.concat_tables(tables, promote_options="default")  # older files lack new columns
    except pa.ArrowException as error:
        problem = str(error).partition("\n")[0][:_PROBLEM_LENGTH]
        raise StoreError(f"files of {public(folder.uri)} do not fit together: {problem}") from None
    order = [("uri", "ascending")]
    if rows["member"].null_count < rows.num_rows:  # a second key takes extra time
        order.append(("member", "ascending"))
    rows = rows.sort_by(order)
    return write_part(folder, new_path, recipe, rows)


def _with_common(found: pa.Schema) -> pa.Schema:
    """`found` with its common fields in their exact types."""
    common = schema.COMMON
    fields = [common.field(f.name) if f.name in common.names else f for f in found]
    return pa.schema(fields)


def bounds_of_text(text: str) -> tuple[str, str]:
    """(least, greatest) of a text in Delta's statistics, cut if long."""
    return _lower(text), _upper(text)


def _put(folder: Folder, path: str, recipe: str, parquet: bytes) -> Part:
    footer = pq.read_metadata(pa.BufferReader(parquet))
    stats = _stats(footer)
    document = json.dumps(stats, allow_nan=False)
    errors = footer.num_rows - stats["nullCount"]["error_code"]
    folder.put(path, parquet)
    return Part(path, recipe, footer.num_rows, errors, len(parquet), document)


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
