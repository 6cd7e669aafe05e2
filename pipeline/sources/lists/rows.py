"""Rows of a manifest: uri, etag, size and modified, from columns of any names and types.

Only the used columns are read: the first of each list below whose type fits. A column of another
type is ignored (an `image` of bytes, a `size` of two sides).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final, TypeVar

from pipeline.errors import SpecError
from pipeline.storage import microseconds, public

#: The longest entry that may be an address, in characters.
ENTRY_SIZE: Final = 64 * 1024
#: How much of a longer one is kept, so that people can find it.
_KEPT_OF_LONG: Final = 256
_INT64: Final = range(-(2**63), 2**63)
_DIGITS: Final = 19  # fewer always fit

#: Columns that may hold the uri; the first one found is used.
URI_COLUMNS: Final = (
    "uri",
    "url",
    "path",
    "key",
    "image_uri",
    "image_url",
    "image_path",
    "image",
    "file",
)
ETAG_COLUMNS: Final = ("etag", "e_tag")
SIZE_COLUMNS: Final = ("size",)
TIME_COLUMNS: Final = ("modified", "last_modified", "last_modified_date", "mtime")
#: For an archive at the uri; ignored otherwise.
MEMBER_COLUMNS: Final = ("member",)
INVENTORY_FLAGS: Final = ("is_latest", "is_delete_marker")
NO_URI: Final = f"no column for the uri; call it one of {', '.join(URI_COLUMNS)}"

T = TypeVar("T")
Column = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch of the rows of one file; a column that is absent is None.

    `lines` are their positions: lines of a text, 1-based, else rows. `too_long` are the positions
    of entries of which only the beginning and a hash were kept.
    """

    file: str
    lines: Sequence[int]
    uris: Sequence[str]
    etags: Sequence[str | None] | None = None
    sizes: Sequence[int | None] | None = None
    modified_us: Sequence[int | None] | None = None
    too_long: frozenset[int] = field(default=frozenset())
    unit: str = "line"
    members: Sequence[str | None] | None = None

    def malformed(self, place: int, problem: str) -> SpecError:
        return malformed(self.file, self.lines[place], problem, self.unit)


def malformed(file: str, line: int, problem: str, unit: str = "line") -> SpecError:
    return SpecError("src", public(file), f"{unit} {line}: {problem}")


def shortened(start: str, letters: int, digest: str) -> str:
    """A replacement for an entry that is too long for an address; different entries give different
    ones."""
    return f"{start[:_KEPT_OF_LONG]}… ({letters:,} letters, {digest})"


def hasher() -> blake2b:
    return blake2b(digest_size=8)


def rows_of(
    file: str, lines: Sequence[int], columns: Mapping[str, Column], unit: str = "line"
) -> Rows:
    """A batch from columns by name; names are in lower case, types are usable."""
    given = _uris(file, columns)
    blank = Rows(file, lines, (), unit=unit)
    uris = [value if type(value) is str else "" if _nothing(value) else value for value in given]
    too_long = set()
    for place, text in enumerate(uris):
        if not isinstance(text, str):
            raise blank.malformed(place, "uri is not text")
        if len(text) > ENTRY_SIZE:
            too_long.add(place)
            digest = hasher()
            digest.update(text.encode("utf-8", "surrogatepass"))
            uris[place] = shortened(text, len(text), digest.hexdigest())
    return Rows(
        file,
        lines,
        uris,
        _converted(blank, _first(columns, ETAG_COLUMNS), _etag, "etag is not one line of text"),
        _converted(blank, _first(columns, SIZE_COLUMNS), _size, "size is not a number of bytes"),
        _converted(blank, _first(columns, TIME_COLUMNS), _time, "modified is not an ISO 8601 time"),
        frozenset(too_long),
        unit,
        _converted(blank, _first(columns, MEMBER_COLUMNS), str, "member is not text"),
    )


def _first(columns: Mapping[str, Column], names: tuple[str, ...]) -> Column | None:
    return next((columns[name] for name in names if name in columns), None)


def _uris(file: str, columns: Mapping[str, Column]) -> Column:
    name = next((name for name in URI_COLUMNS if name in columns), None)
    if name is None:
        if not any(columns.values()):
            return ()
        raise SpecError("src", public(file), NO_URI)
    return columns[name] if name != "key" or "bucket" not in columns else _inventory(columns)


def _inventory(columns: Mapping[str, Column]) -> list[str]:
    """For an S3 Inventory: blank for folders, old versions and delete markers."""
    count = len(columns["key"])
    flags = (columns.get(name, (None,) * count) for name in INVENTORY_FLAGS)
    rows = zip(columns["bucket"], columns["key"], *flags, strict=True)
    return [of_inventory(bucket, key, latest, marker) for bucket, key, latest, marker in rows]


def of_inventory(bucket: Any, key: Any, is_latest: Any, is_marker: Any) -> str:
    current = str(is_latest).lower() != "false" and str(is_marker).lower() != "true"
    return f"s3://{bucket}/{key}" if current and key and not str(key).endswith("/") else ""


def _nothing(value: Any) -> bool:
    """Whether it means "no value": tables write NaN for it."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _converted(
    rows: Rows, values: Column | None, convert: Callable[[Any], T | None], problem: str
) -> list[T | None] | None:
    if values is None:
        return None
    out: list[T | None] = []
    for place, value in enumerate(values):
        try:
            nothing = not value if type(value) is str else _nothing(value)  # most are text
            out.append(None if nothing else convert(value))
        except (ValueError, TypeError, ArithmeticError):
            raise rows.malformed(place, problem) from None
    return out


def _etag(text: Any) -> str:
    """It is sent in a header, so it must be one line."""
    if not isinstance(text, str) or not text.isprintable():
        raise ValueError
    return text if text.startswith("W/") else text.strip('"')


def _size(value: Any) -> int | None:
    """Bytes; None if the value means unknown, or is of another kind."""
    if type(value) is str and value.isdecimal() and len(value) < _DIGITS:
        return int(value)
    if isinstance(value, list | dict | bool):  # of an image's sides, for example
        return None
    if isinstance(value, str):
        value = value.strip()
        value = int(value) if value.removeprefix("-").isdecimal() else Decimal(value)
    if isinstance(value, Decimal) and value.is_nan():
        return None
    if not value <= _INT64[-1] or value != int(value):  # first, since 1e999999999 takes long
        raise ValueError
    return int(value) if value >= 0 else None


def _time(value: Any) -> int | None:
    if isinstance(value, int):  # a Parquet timestamp, in µs
        if value not in _INT64:
            raise ValueError
        return value
    if str(value).lower() in {"nat", "nan"}:
        return None
    time = datetime.fromisoformat(value)
    return microseconds(time if time.tzinfo else time.replace(tzinfo=UTC))
