"""One object at a time: its facts, and its bytes as a file to seek in."""

import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, cast

from pipeline.errors import ImageError, TransientError
from pipeline.storage import aws, web
from pipeline.storage.buckets import connect, is_bucket, odd
from pipeline.storage.entry import UNKNOWN_SIZE, UNKNOWN_TIME, Entry
from pipeline.storage.listing import filesystem, fsspec_entry
from pipeline.storage.local_listing import utc
from pipeline.storage.reading import in_parallel
from pipeline.storage.translate import attempt, border, foreign, row_error, with_retries
from pipeline.storage.uris import scheme, split

_BLOCK = 4 * 2**20


def stat(uri: str) -> Entry:
    """The facts of one object. Raises MissingError, DeniedError, StoreError."""
    return attempt(uri, _stat, uri)


def stat_many(
    uris: Sequence[str], *, in_flight: int = 32
) -> Iterator[tuple[int, Entry | ImageError | TransientError]]:
    """(index, facts or error) for each of `uris`, as they arrive; never raises for one."""
    return in_parallel(_try_stat, uris, in_flight=in_flight)


def _try_stat(uri: str) -> Entry | ImageError | TransientError:
    try:
        return with_retries(lambda: _stat(uri))
    except foreign() as error:
        return row_error(error)


def _stat(uri: str) -> Entry:
    kind = scheme(uri)
    if kind == "file":
        status = os.stat(uri.removeprefix("file://"))  # noqa: PTH116
        return Entry(uri, status.st_size, None, utc(status.st_mtime_ns))
    if kind in {"http", "https"}:
        size, etag, modified = web.head(uri)
        return Entry(uri, UNKNOWN_SIZE if size is None else size, etag, modified or UNKNOWN_TIME)
    if is_bucket(uri):
        return _stat_bucket(uri)
    system, path = filesystem(uri)
    return fsspec_entry(uri, system.info(path))


def _stat_bucket(uri: str) -> Entry:
    import obstore

    root, key = split(uri)
    if odd(key) and scheme(root) == "s3":
        url = aws.signed_url(root.removeprefix("s3://"), "head_object", Key=key)
        size, etag, modified = web.head(url)
        return Entry(uri, size or 0, etag, modified or UNKNOWN_TIME)
    meta = obstore.head(connect(root), key)
    return Entry(uri, meta["size"], web.unquoted(meta["e_tag"]), meta["last_modified"])


@contextmanager
def open_binary(uri: str) -> Iterator[BinaryIO]:
    """A file for reading, seekable, held in memory only by the block.

    Raises MissingError, DeniedError, StoreError, also for what fails within the `with`.
    """
    with border(uri):
        kind = scheme(uri)
        if kind == "file":
            with open(uri.removeprefix("file://"), "rb") as file:  # noqa: PTH123
                yield file
        elif is_bucket(uri):
            with io.BufferedReader(_Ranges(stat(uri)), _BLOCK) as ranges:
                yield cast("BinaryIO", ranges)
        elif kind in {"http", "https"}:
            with tempfile.TemporaryFile() as copy:
                _download(uri, copy)
                yield cast("BinaryIO", copy)
        else:
            system, path = filesystem(uri)
            with system.open(path, "rb") as file:
                yield file


def _download(uri: str, target: "tempfile._TemporaryFileWrapper[bytes] | BinaryIO") -> None:
    # Not every web server knows ranges, and Parquet is read from its end.
    response = web.pool().request("GET", uri, preload_content=False)
    try:
        if response.status != 200:
            raise web.answer(response)
        shutil.copyfileobj(response, target, _BLOCK)
        target.seek(0)
    finally:
        response.close()


class _Ranges(io.RawIOBase):
    """A bucket's object as a file: each read is one ranged GET of the same version."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._entry.size}
        self._position = base[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        end = min(self._position + len(buffer), self._entry.size)
        if end <= self._position:
            return 0
        data = attempt(self._entry.uri, self._range, self._position, end)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _range(self, start: int, end: int) -> bytes:
        import obstore

        root, key = split(self._entry.uri)
        same = {"if_match": f'"{self._entry.etag}"'} if self._entry.etag else {}
        options = {"range": (start, end)} | same
        return obstore.get(connect(root), key, options=options).bytes().to_bytes()  # type: ignore[arg-type]
