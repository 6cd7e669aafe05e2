"""The formats of a manifest, each as batches of rows: uri, etag, size, modified.

    .txt              one uri a line; blank lines and lines that begin with # are skipped
    .csv .tsv         a header, then rows
    .jsonl .ndjson    one JSON object (or string) a line
    .parquet          columns, among them those of an S3 Inventory

All but Parquet may be gzipped (`.gz`). Everything streams: one batch is in memory at a time.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import IO, Any, AnyStr, BinaryIO, TypeVar, cast

import pyarrow as pa

from pipeline.errors import SpecError
from pipeline.sources.base import microseconds
from pipeline.storage import Rules, open_binary, public

BATCH = 8192
#: A row is an address and its facts; a line that never ends must not fill the memory.
ROW_SIZE = 64 * 1024
_INT64 = range(-(2**63), 2**63)

#: Columns that may hold the uri, the first one found is taken.
URI_COLUMNS = ("uri", "url", "path", "key", "image_uri", "image_url", "image_path", "image", "file")
ETAG_COLUMNS = ("etag", "e_tag")
TIME_COLUMNS = ("modified", "last_modified", "last_modified_date", "mtime")


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch; `line` is that of its first row, 1-based. A column that is absent is None."""

    line: int
    uris: Sequence[str]
    etags: Sequence[str | None] | None = None
    sizes: Sequence[int | None] | None = None
    modified_us: Sequence[int | None] | None = None


def suffix(uri: str) -> str:
    """`.csv` of `s3://b/list.csv.gz?x`, in lower case."""
    name = public(uri).lower().removesuffix(".gz").rpartition("/")[2]
    return f".{name.rpartition('.')[2]}" if "." in name else ""


def read_rows(uri: str, rules: Rules) -> Iterator[Rows]:
    """Raises SpecError with the line for a malformed row, and storage's errors."""
    reader = READERS.get(suffix(uri), _text)
    with open_binary(uri, rules) as file:
        if public(uri).lower().endswith(".gz"):
            file = cast("BinaryIO", io.BufferedReader(gzip.GzipFile(fileobj=file)))
        try:
            yield from reader(uri, file)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise SpecError("src", public(uri), f"no gzip file: {error}") from None
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SpecError("src", public(uri), str(error).splitlines()[0]) from None


def malformed(uri: str, line: int, problem: str) -> SpecError:
    return SpecError("src", public(uri), f"line {line}: {problem}")


def _lines(uri: str, file: IO[AnyStr]) -> Iterator[AnyStr]:
    """The lines of a file, none of them longer than a row may be."""
    number = 0
    while line := file.readline(ROW_SIZE + 1):
        number += 1
        if len(line) > ROW_SIZE:
            raise malformed(uri, number, f"longer than {ROW_SIZE:,} bytes")
        yield line


def _text(uri: str, file: BinaryIO) -> Iterator[Rows]:
    line, limited = 1, _lines(uri, file)
    while lines := list(islice(limited, BATCH)):
        texts = [text.rstrip(b"\r\n").decode("utf-8", "surrogateescape") for text in lines]
        if line == 1:
            texts[0] = texts[0].removeprefix("\ufeff")
        yield Rows(line, ["" if text.startswith("#") else text for text in texts])
        line += len(lines)


def _json(uri: str, file: BinaryIO) -> Iterator[Rows]:
    line, limited = 1, _lines(uri, file)
    while lines := list(islice(limited, BATCH)):
        rows = [_object(uri, line + n, text) for n, text in enumerate(lines)]
        names = {name: None for row in rows for name in row}
        yield _rows(uri, line, {name: [row.get(name) for row in rows] for name in names})
        line += len(lines)


def _object(uri: str, line: int, text: bytes) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise malformed(uri, line, "no JSON") from None
    if isinstance(found, str):
        return {"uri": found}
    if not isinstance(found, dict):
        raise malformed(uri, line, "no JSON object")
    return found


def _csv(uri: str, file: BinaryIO) -> Iterator[Rows]:
    text = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="")
    reader = csv.reader(_lines(uri, text), delimiter="\t" if suffix(uri) == ".tsv" else ",")
    try:
        header = next(reader, [])
        while True:
            line = reader.line_num + 1
            rows = [row for row in islice(reader, BATCH) if row or header == []]
            if not rows and reader.line_num < line:
                return
            _check_widths(uri, line, rows, len(header))
            yield _rows(uri, line, dict(zip(header, zip(*rows, strict=True), strict=False)))
    except csv.Error as error:
        raise malformed(uri, reader.line_num, str(error)) from None
    finally:
        text.detach()


def _check_widths(uri: str, line: int, rows: list[list[str]], width: int) -> None:
    for number, row in enumerate(rows):
        if len(row) != width:
            problem = f"{len(row)} fields where the header has {width}"
            raise malformed(uri, line + number, problem)


def _parquet(uri: str, file: BinaryIO) -> Iterator[Rows]:
    from pyarrow import parquet

    table = parquet.ParquetFile(file)
    wanted = {*URI_COLUMNS, *ETAG_COLUMNS, *TIME_COLUMNS, "bucket", "size", *_INVENTORY_FLAGS}
    columns = [name for name in table.schema_arrow.names if name.lower() in wanted]
    for name in columns:
        if not _plain(kind := table.schema_arrow.field(name).type):
            raise SpecError("src", public(uri), f"the column {name} is of type {kind}")
    line = 1
    for batch in table.iter_batches(BATCH, columns=columns):
        yield _rows(uri, line, {name: _listed(batch.column(name)) for name in columns})
        line += batch.num_rows


def _plain(kind: pa.DataType) -> bool:
    """False for types that a file brings along: Ray's unpickle their values when asked for one."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(is_one(kind) for is_one in _PLAIN_TYPES)


_PLAIN_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_timestamp,
    pa.types.is_null,
)


def _listed(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return cast("list[Any]", column.to_pylist())


READERS: dict[str, Callable[[str, BinaryIO], Iterator[Rows]]] = {
    ".txt": _text,
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _json,
    ".ndjson": _json,
    ".parquet": _parquet,
}


def _rows(uri: str, line: int, columns: Mapping[str, Sequence[Any]]) -> Rows:
    """A batch by the names of its columns, whose case does not matter."""
    found = {name.strip().lower(): values for name, values in columns.items()}
    uris = [text or "" for text in _uris(uri, found)]
    for number, text in enumerate(uris):
        if not isinstance(text, str):
            raise malformed(uri, line + number, "uri is no text")
        if len(text) > ROW_SIZE:
            raise malformed(uri, line + number, f"longer than {ROW_SIZE:,} bytes")
    etags = next((found[name] for name in ETAG_COLUMNS if name in found), None)
    times = next((found[name] for name in TIME_COLUMNS if name in found), None)
    return Rows(
        line,
        uris,
        _converted(uri, line, etags, _etag, "etag is no text of one line"),
        _converted(uri, line, found.get("size"), _size, "size is no number of bytes"),
        _converted(uri, line, times, _time, "modified is no ISO 8601 time"),
    )


def _uris(uri: str, found: Mapping[str, Sequence[Any]]) -> Sequence[str]:
    name = next((name for name in URI_COLUMNS if name in found), None)
    if name is None:
        if not any(found.values()):
            return ()
        problem = f"no column for the uri; call it one of {', '.join(URI_COLUMNS)}"
        raise SpecError("src", public(uri), problem)
    if name != "key" or "bucket" not in found:
        return found[name]
    current = _current(found)  # an S3 Inventory
    return [
        f"s3://{bucket}/{key}" if is_current and key and not key.endswith("/") else ""
        for bucket, key, is_current in zip(found["bucket"], found["key"], current, strict=True)
    ]


_INVENTORY_FLAGS = ("is_latest", "is_delete_marker")


def _current(found: Mapping[str, Sequence[Any]]) -> Sequence[bool]:
    """False for old versions and delete markers, which an inventory may list as well."""
    count = len(found["key"])
    latest = found.get("is_latest", (True,) * count)
    marker = found.get("is_delete_marker", (False,) * count)
    return [
        str(is_latest).lower() != "false" and str(is_marker).lower() != "true"
        for is_latest, is_marker in zip(latest, marker, strict=True)
    ]


def _etag(text: Any) -> str:
    """It travels in a header, so it is one line."""
    if not isinstance(text, str) or not text.isprintable():
        raise ValueError
    return text if text.startswith("W/") else text.strip('"')


def _converted(
    uri: str,
    line: int,
    values: Sequence[Any] | None,
    convert: Callable[[Any], T],
    problem: str,
) -> list[T | None] | None:
    if values is None:
        return None
    out: list[T | None] = []
    for number, value in enumerate(values):
        try:
            out.append(None if value is None or value == "" else convert(value))
        except (ValueError, TypeError, OverflowError):
            raise malformed(uri, line + number, problem) from None
    return out


def _size(value: Any) -> int:
    return _stored(int(value))


def _stored(number: int) -> int:
    if number not in _INT64:
        raise ValueError
    return number


def _time(value: Any) -> int:
    if isinstance(value, int):  # a Parquet timestamp, in µs
        return _stored(value)
    time = datetime.fromisoformat(value)
    return microseconds(time if time.tzinfo else time.replace(tzinfo=UTC))
