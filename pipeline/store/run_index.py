"""Index of run summaries: the documents of past runs, packed into one file.

    _nightlabel/runs-index.jsonl.gz     {"format": 1}, then a line for each document

It is a cache. A document is taken from it only while the store's listing shows that document with
the size and etag that it had when it was packed. A document that is newer, changed or not in the
index is read by itself, and an index that is missing, damaged or of another format is ignored. So
the results are the same with and without it, two writers at once lose nothing, and versions that do
not know the index read the documents, which stay as they are.

Anyone may have written it, like the documents: its size, and its unpacked size, are limited. Code
that removes rows, changes documents or changes the current recipe reads the documents themselves.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import StoreError
from pipeline.storage import Entry, Folder

#: Beside the folder of the summaries, not in it: other versions read every file in that folder.
INDEX: Final = "_nightlabel/runs-index.jsonl.gz"
FORMAT: Final = 1

#: Packed or unpacked. A thousand summaries have some 3 MB, and compress to a twentieth.
INDEX_BYTES: Final = 64 * 2**20
#: A larger summary, which names what could not be read, is read by itself.
_DOCUMENT_BYTES: Final = 64 * 2**10
_MOST: Final = 5000
#: This many documents outside the index are read by themselves before it is rewritten.
SINGLE_READS: Final = 16

_GZIP: Final = 31  # zlib's number for it; it checks the text against a checksum
_STRICT: Final = ConfigDict(extra="forbid", strict=True)


class _Head(BaseModel):
    model_config = _STRICT

    format: Literal[1]


class _Line(BaseModel):
    model_config = _STRICT

    path: str
    size: Annotated[int, Field(ge=0)]
    etag: str
    document: str


@dataclass(frozen=True, slots=True)
class Packed:
    """A document as it was when the listing showed this size and etag."""

    size: int
    etag: str
    data: bytes


class RunIndex:
    """The index of one store as it was read, and the documents read in addition."""

    def __init__(self, folder: Folder, packed: Mapping[str, Packed]) -> None:
        self._folder, self._packed = folder, packed
        self._kept: dict[str, Packed] = {}
        self._added: dict[str, Packed] = {}

    @classmethod
    def read(cls, folder: Folder) -> Self:
        """An empty index if the store has none, or an invalid one."""
        packed: dict[str, Packed] = {}
        # The listing that follows reports a store that is down or refuses access.
        with suppress(StoreError, ValueError, zlib.error):
            packed = dict(_unpacked(folder.read(INDEX, at_most=INDEX_BYTES)))
        return cls(folder, packed)

    def document(self, entry: Entry, at_most: int) -> bytes:
        """The bytes of a listed document. Raises what `Folder.read` raises."""
        path = self._folder.relative(entry.uri)
        found = self._packed.get(path)
        if found is not None and (found.size, found.etag) == (entry.size, entry.etag):
            self._kept[path] = found
            return found.data
        data = self._folder.read(path, at_most=at_most)
        if entry.etag and len(data) == entry.size and _fits(data):
            self._added[path] = Packed(entry.size, entry.etag, data)
        return data

    def save(self) -> None:
        """Rewrite it if it lacks many documents, or holds one that has changed.

        Only the holder of the lease may call this, after all documents were read.
        """
        stale = len(self._packed) - len(self._kept)
        if stale or len(self._added) > SINGLE_READS:
            self._folder.put(INDEX, _pack(self._kept | self._added))


def _fits(data: bytes) -> bool:
    try:
        return len(data) <= _DOCUMENT_BYTES and bool(data.decode())
    except UnicodeDecodeError:
        return False


def _pack(documents: Mapping[str, Packed]) -> bytes:
    """The newest documents, as many as an index may hold."""
    head = json.dumps({"format": FORMAT}).encode()
    lines, left = [head], INDEX_BYTES - len(head)
    for path in sorted(documents, reverse=True)[:_MOST]:
        one = documents[path]
        line = _Line(path=path, size=one.size, etag=one.etag, document=one.data.decode())
        text = line.model_dump_json().encode()
        left -= len(text) + 1
        if left < 0:
            break
        lines.append(text)
    packer = zlib.compressobj(wbits=_GZIP)
    return packer.compress(b"\n".join(lines)) + packer.flush()


def _unpacked(data: bytes) -> Iterator[tuple[str, Packed]]:
    """Documents by path. Raises ValueError and zlib.error for data that `_pack` did not make."""
    unpacker = zlib.decompressobj(_GZIP)
    text = unpacker.decompress(data, INDEX_BYTES)
    if not unpacker.eof:
        raise ValueError("it is cut, or would be too large")
    head, *lines = text.split(b"\n", _MOST + 1)
    _Head.model_validate_json(head)
    for line in lines:
        one = _Line.model_validate_json(line)
        document = one.document.encode()
        if len(document) != one.size:
            raise ValueError("a document of another size")
        yield one.path, Packed(one.size, one.etag, document)
