"""Parquet manifests: any columns, of which only the used ones are read."""

import io
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from typing import Any, Final, cast

import pyarrow as pa

from pipeline.parquet import Malformed, chunks_of, longest_of, open_parquet
from pipeline.sources.lists import gathering
from pipeline.sources.lists.files import ListFile
from pipeline.sources.lists.rows import (
    ETAG_COLUMNS,
    INVENTORY_FLAGS,
    MEMBER_COLUMNS,
    NO_URI,
    SIZE_COLUMNS,
    TIME_COLUMNS,
    URI_COLUMNS,
    Rows,
    rows_of,
)

#: Memory limit for a page of a list from the web, or for a batch of its rows.
BATCH_BYTES: Final = 256 * 2**20
#: Writers make pages of some twenty thousand rows, or a megabyte.
MOST_PAGES: Final = 250_000


def read_parquet(found: ListFile) -> Iterator[Rows]:
    from pyarrow import parquet

    if not found.file.seekable():
        raise found.refused(
            "a compressed Parquet file; decompress it: Parquet compresses its columns itself"
        )
    foreign = found.uri.startswith(("http://", "https://"))
    table = _within(found) if foreign else parquet.ParquetFile(found.file)
    used = _used(found, table.schema_arrow)
    if foreign:
        _refuse_bomb(found, table, {table.schema_arrow.names[place] for place in used})
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


def _within(found: ListFile) -> Any:
    """The file, if its footer has a moderate size."""
    size = found.file.seek(0, io.SEEK_END)
    found.file.seek(max(0, size - 8))
    tail = found.file.read()
    found.file.seek(0)
    with _refused(found):
        return open_parquet(found.file, tail, size)


def _refuse_bomb(found: ListFile, table: Any, names: Collection[str]) -> None:
    """Anyone may have written a list: limit the memory that a batch of its rows takes first."""
    pages = MOST_PAGES
    with _refused(found), mmap(found.file.fileno(), 0, access=ACCESS_READ) as data:
        for chunk in chunks_of(table, data, names):
            pages -= chunk.pages
            rows = min(gathering.BATCH, chunk.indices)
            too_large = chunk.largest > BATCH_BYTES or (
                rows * (chunk.worst // max(1, chunk.indices)) > BATCH_BYTES
                and rows * longest_of(data, chunk) > BATCH_BYTES
            )
            if too_large:
                raise Malformed(f"some of its rows take over {BATCH_BYTES >> 20} MiB unpacked")
            if pages < 0:
                raise Malformed("it has too many pages")


@contextmanager
def _refused(found: ListFile) -> Iterator[None]:
    try:
        yield
    except Malformed as error:
        raise found.refused(f"not a Parquet list that can be read: {error}") from None


def _used(found: ListFile, schema: pa.Schema) -> dict[int, str]:
    """Position → name of the used columns: of each kind the first with a suitable type."""
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
        # The file's own extension types are never loaded: Ray's use pickle.
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
    (URI_COLUMNS, _is_any_of(*_TEXT[:-1]), "is not text; call the column of addresses `uri`"),
    (ETAG_COLUMNS, _is_any_of(*_TEXT), "is not text; call it something else"),
    (SIZE_COLUMNS, _is_any_of(*_TEXT, *_NUMBER), ""),
    (MEMBER_COLUMNS, _is_any_of(*_TEXT), ""),
    (
        TIME_COLUMNS,
        _is_any_of(*_TEXT, pa.types.is_integer, pa.types.is_timestamp),
        "is not a time; call it something else",
    ),
)


def _listed(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return cast("list[Any]", column.to_pylist())
