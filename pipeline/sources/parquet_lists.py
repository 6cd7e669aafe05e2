"""Lists as Parquet: any columns, of which those are read that are used."""

from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import pyarrow as pa

from pipeline.sources import gathering
from pipeline.sources.list_files import ListFile
from pipeline.sources.rows import (
    ETAG_COLUMNS,
    INVENTORY_FLAGS,
    NO_URI,
    SIZE_COLUMNS,
    TIME_COLUMNS,
    URI_COLUMNS,
    Rows,
    rows_of,
)


def read_parquet(found: ListFile) -> Iterator[Rows]:
    from pyarrow import parquet

    if not found.file.seekable():
        raise found.refused("a packed Parquet file; unpack it: Parquet packs its columns itself")
    table = parquet.ParquetFile(found.file)
    used = _used(found, table.schema_arrow)
    line = 1
    for batch in table.iter_batches(
        gathering.BATCH, columns=[table.schema_arrow.names[n] for n in used]
    ):
        names = batch.schema.names
        columns = {
            name: _listed(batch.column(names.index(table.schema_arrow.names[place])))
            for place, name in used.items()
        }
        lines = range(line, line + batch.num_rows)
        yield rows_of(found.uri, lines, columns, "row")
        line += batch.num_rows


def _used(found: ListFile, schema: pa.Schema) -> dict[int, str]:
    """Place → name of the columns that are used: of each kind the first of a type that fits."""
    places: dict[str, int] = {}
    for place, name in enumerate(schema.names):
        places.setdefault(name.strip().lower(), place)
    used: dict[int, str] = {}
    for names, fits, needed in _KINDS:
        present = [name for name in names if name in places]
        taken = [name for name in present if fits(schema.field(places[name]).type)]
        if names is URI_COLUMNS and not present:
            raise found.refused(NO_URI)
        if present and not taken and needed:
            kind = schema.field(places[present[0]]).type
            raise found.refused(f"the column {present[0]} is of type {kind}, which {needed}")
        used |= {places[name]: name for name in taken[:1]}
    if "key" in used.values():
        extra = [name for name in ("bucket", *INVENTORY_FLAGS) if name in places]
        used |= {places[n]: n for n in extra if _plain(schema.field(places[n]).type)}
    return used


def _is_any_of(*tests: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    def fits(kind: pa.DataType) -> bool:
        # What a file brings along as a type of its own is never asked for: Ray's unpickle.
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        return any(test(kind) for test in tests)

    return fits


_TEXT: Final = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_null,
)
_NUMBER: Final = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
_plain = _is_any_of(*_TEXT, pa.types.is_boolean, pa.types.is_integer)
_KINDS: Final[tuple[tuple[tuple[str, ...], Callable[[pa.DataType], bool], str], ...]] = (
    (URI_COLUMNS, _is_any_of(*_TEXT[:-1]), "is no text; call the column of addresses `uri`"),
    (ETAG_COLUMNS, _is_any_of(*_TEXT), "is no text; call it something else"),
    (SIZE_COLUMNS, _is_any_of(*_TEXT, *_NUMBER), ""),
    (
        TIME_COLUMNS,
        _is_any_of(*_TEXT, pa.types.is_integer, pa.types.is_timestamp),
        "is no time; call it something else",
    ),
)


def _listed(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return cast("list[Any]", column.to_pylist())
