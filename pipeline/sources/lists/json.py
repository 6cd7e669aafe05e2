"""JSON manifests: an object (or a string) a line, or an array of such."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, TextIO

from pipeline.sources.lists.files import ListFile
from pipeline.sources.lists.gathering import Batch, lines_of
from pipeline.sources.lists.rows import (
    ETAG_COLUMNS,
    INVENTORY_FLAGS,
    MEMBER_COLUMNS,
    SIZE_COLUMNS,
    TIME_COLUMNS,
    URI_COLUMNS,
    Rows,
    malformed,
    of_inventory,
    rows_of,
)

#: An array is read as a whole: at most this many characters.
ARRAY_SIZE: Final = 256 * 2**20


def read_json(found: ListFile) -> Iterator[Rows]:
    text = found.text("\n")
    try:
        if found.suffix not in {".jsonl", ".ndjson"} and _is_array(found):
            yield from _objects(found.uri, _array(found, text))
        else:
            yield from _objects(found.uri, _json_lines(found.uri, text))
    finally:
        text.detach()


def _is_array(found: ListFile) -> bool:
    return found.start.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xfe\xff \t\r\n").startswith(b"[")


def _objects(uri: str, values: Iterable[tuple[int, Any, int]]) -> Iterator[Rows]:
    batch = Batch()
    for line, value, letters in values:
        if batch.add(_object(uri, line, value), line, letters):
            yield _of_objects(uri, batch)
            batch = Batch()
    if batch.rows:
        yield _of_objects(uri, batch)


def _of_objects(uri: str, batch: Batch) -> Rows:
    names = {name: None for row in batch.rows for name in row}
    columns = {name: [row.get(name) for row in batch.rows] for name in names}
    return rows_of(uri, batch.lines, columns)


def _object(uri: str, line: int, value: Any) -> dict[str, Any]:
    """The used fields of one object, under the column names that are searched first."""
    if isinstance(value, str):
        return {"uri": value}
    if not isinstance(value, dict):
        raise malformed(uri, line, "not a JSON object")
    given = {name.strip().lower(): one for name, one in value.items()}
    used = {"anything": True} if given else {}
    for kind in (ETAG_COLUMNS, SIZE_COLUMNS, TIME_COLUMNS, MEMBER_COLUMNS):
        name = next((name for name in kind if given.get(name) is not None), None)
        if name is not None:
            used[kind[0]] = given[name]
    return used | _uri_of(given)


def _uri_of(given: dict[str, Any]) -> dict[str, Any]:
    """The first that is text; else the first value, which is refused with its line."""
    named = [(name, given[name]) for name in URI_COLUMNS if given.get(name) is not None]
    if not named:
        return {"uri": None} if any(name in given for name in URI_COLUMNS) else {}
    name, value = next((one for one in named if isinstance(one[1], str)), named[0])
    if name == "key" and "bucket" in given:
        flags = [given.get(flag) for flag in INVENTORY_FLAGS]
        value = of_inventory(given["bucket"], value, *flags)
    return {"uri": value}


def _json_lines(uri: str, text: TextIO) -> Iterator[tuple[int, Any, int]]:
    for line, one in enumerate(lines_of(uri, text), 1):
        if one.strip():
            try:
                yield line, json.loads(one), len(one)
            except (ValueError, RecursionError):
                raise malformed(uri, line, "no JSON") from None


_SPACE: Final = re.compile(r"[ \t\r\n]*")


def _array(found: ListFile, text: TextIO) -> Iterator[tuple[int, Any, int]]:
    """The elements of an array one by one, each with the line on which it begins."""
    whole = text.read(ARRAY_SIZE + 1)
    if len(whole) > ARRAY_SIZE:
        raise found.refused(f"an array of over {ARRAY_SIZE >> 20} MiB; write one object per line")
    decode, line, seen = json.JSONDecoder().raw_decode, 1, 0
    at = _after_space(whole, 0) + 1  # the bracket
    ended = whole.startswith("]", _after_space(whole, at))
    while not ended:
        start = _after_space(whole, at)
        line, seen = line + whole.count("\n", seen, start), start
        try:
            value, at = decode(whole, start)
        except (ValueError, RecursionError):
            raise malformed(found.uri, line, "no JSON") from None
        yield line, value, at - start
        at = _after_space(whole, at)
        ended = whole.startswith("]", at)
        if not ended and not whole.startswith(",", at):
            line += whole.count("\n", seen, at)
            raise malformed(found.uri, line, "not JSON: the array ends too early")
        at += 1


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
