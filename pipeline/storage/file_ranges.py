"""Reads byte ranges of one stored file, and keeps the parts that were read.

A request to a bucket takes some 20 ms, the time for sending a megabyte. On local disk,
reading 256 KiB costs no more than finding out which of them are needed. So ranges that are closer
to each other than that are read as one, and a file that is no larger is read as a whole. Reading
ranges then never takes longer than reading the whole file, except for the first request.
"""

import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from pipeline.errors import StoreError
from pipeline.storage.faults import Kind, foreign, judge
from pipeline.storage.names.uris import public
from pipeline.storage.translate import border

if TYPE_CHECKING:
    from obstore.store import ObjectStore

    from pipeline.storage.local.beneath import Beneath

NEAR_IN_BUCKETS: Final = 2**20
NEAR_ON_DISK: Final = 2**18

#: (the first byte, the first one after it)
Range = tuple[int, int]


class Ranges(Protocol):
    """An open file. Its methods raise what `Folder.read` raises."""

    near: int

    def size(self) -> int:
        """Bytes of the whole file."""
        ...

    def read(self, ranges: Sequence[Range]) -> Sequence[Any]:
        """The bytes of each range, fewer at the end of the file; `size` is from the same read."""
        ...


class DiskRanges:
    """Ranges of a file that was opened without following a link."""

    near = NEAR_ON_DISK

    def __init__(self, uri: str, handle: int) -> None:
        self._uri, self._handle = uri, handle

    def size(self) -> int:
        return os.fstat(self._handle).st_size

    def read(self, ranges: Sequence[Range]) -> Sequence[bytes]:
        with border(self._uri):
            return [pread(self._handle, start, end) for start, end in ranges]


def pread(handle: int, start: int, end: int) -> bytes:
    """Bytes [start, end) of an open file, fewer where it ends. Raises OSError."""
    pieces = []
    while start < end and (piece := os.pread(handle, end - start, start)):
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class BucketRanges:
    """Ranges of an object. Its size comes with the first range, or with a request of its own."""

    near = NEAR_IN_BUCKETS

    def __init__(self, uri: str, store: "ObjectStore", key: str) -> None:
        self._uri, self._store, self._key = uri, store, key
        self._size: int | None = None

    def size(self) -> int:
        import obstore

        if self._size is None:
            with border(self._uri):
                self._size = obstore.head(self._store, self._key)["size"]
        return self._size

    def read(self, ranges: Sequence[Range]) -> Sequence[Any]:
        import obstore

        with border(self._uri):
            if len(ranges) == 1:
                return [self._read(ranges[0])]
            starts, ends = zip(*ranges, strict=True)
            return obstore.get_ranges(self._store, self._key, starts=starts, ends=ends, coalesce=0)

    def _read(self, wanted: Range) -> Any:
        import obstore

        try:
            found = obstore.get(self._store, self._key, options={"range": wanted})
        except foreign() as error:
            # A range that begins behind the end is refused with an error that does not give the
            # size.
            if judge(error).kind is not Kind.REJECTED or self.size() > wanted[0]:
                raise
            return b""
        self._size = found.meta["size"]
        return found.bytes()


@contextmanager
def disk_ranges(uri: str, top: "Beneath", path: str) -> Iterator[Ranges]:
    """The file at `path` below `top`, open within the block."""
    with ExitStack() as stack:
        with border(uri):
            file = stack.enter_context(top.open(path))
        yield DiskRanges(uri, file.fileno())


class PartialFile:
    """A file's bytes at their positions in `data`, as far as they were read.

    The rest of `data` are zeros that take no memory yet. The bytes are a copy,
    so what was checked is what is used, even if the file changes during that time.
    """

    def __init__(self, uri: str, source: Ranges, size: int, tail: Any) -> None:
        """A file of `size` bytes, of which `tail` are the last."""
        self.data = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._uri, self._source, self._end = uri, source, size
        self._copy([(size - len(tail), size)], [tail])
        self._end -= len(tail)

    def fetch_from(self, start: int) -> None:
        """Read everything from `start` on."""
        if start < self._end:
            ranges = [(start, self._end)]
            self._copy(ranges, self._source.read(ranges))
            self._end = start

    def fetch(self, ranges: Iterable[Range]) -> None:
        """Read the missing bytes of some ranges."""
        cut = ((start, min(end, self._end)) for start, end in ranges)
        lacking = joined((one for one in cut if one[0] < one[1]), self._source.near)
        if lacking:
            self._copy(lacking, self._source.read(lacking))

    def _copy(self, ranges: Sequence[Range], pieces: Sequence[Any]) -> None:
        with memoryview(self.data) as data:
            for (start, end), piece in zip(ranges, pieces, strict=True):
                if len(piece) != end - start:
                    raise StoreError(
                        f"{public(self._uri)} ended while it was read: another program wrote there"
                    )
                data[start:end] = memoryview(piece)


def joined(ranges: Iterable[Range], near: int) -> list[Range]:
    """Ranges in order; those with fewer than `near` bytes between them are joined."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start - found[-1][1] < near:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found
