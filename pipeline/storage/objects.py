"""Single objects: their facts, and their bytes as a seekable file."""

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import IO, BinaryIO, Final, cast

from pipeline.errors import ImageError, SpecError, TransientError
from pipeline.storage.clients import aws, web
from pipeline.storage.clients.buckets import connect, is_bucket, odd
from pipeline.storage.clients.web import Rules
from pipeline.storage.entry import UNKNOWN_SIZE, UNKNOWN_TIME, Entry
from pipeline.storage.faults import Nowhere, foreign, of_library
from pipeline.storage.listing.local import utc
from pipeline.storage.listing.pages import filesystem, fsspec_entry
from pipeline.storage.local import long_paths
from pipeline.storage.names.addresses import impossible
from pipeline.storage.names.uris import public, scheme, split
from pipeline.storage.parallel import in_parallel
from pipeline.storage.translate import attempt, border, row_error, with_retries

_BLOCK = 4 * 2**20

#: A manifest from the web is first copied to this machine: its limits in bytes and seconds.
DOWNLOAD_BYTES: Final = 4 * 2**30
DOWNLOAD_SECONDS: Final = 900.0


def stat(uri: str, rules: Rules = web.STRICT) -> Entry:
    """The facts of one object. Raises MissingError, DeniedError, StoreError, and SpecError for
    a web address that the `rules` forbid."""
    with border(uri):
        return with_retries(partial(stat_once, uri, rules), at_most=rules.seconds)


def stat_many(
    uris: Sequence[str], rules: Rules = web.STRICT, *, in_flight: int = 32
) -> Iterator[tuple[int, Entry | ImageError | TransientError]]:
    """(index, facts or error) for each of `uris`, as they arrive; never raises for one."""
    return in_parallel(partial(_try_stat, rules), uris, in_flight=in_flight)


def _try_stat(rules: Rules, uri: str) -> Entry | ImageError | TransientError:
    try:
        return with_retries(lambda: stat_once(uri, rules), at_most=rules.seconds)
    except foreign() as error:
        return row_error(error)


def stat_once(uri: str, rules: Rules) -> Entry:
    """The same in one try. Raises what storage libraries raise."""
    if problem := impossible(uri):
        raise Nowhere(problem)
    kind = scheme(uri)
    if kind == "file":
        status = long_paths.stat(uri.removeprefix("file://"))
        return Entry(uri, status.st_size, None, utc(status.st_mtime_ns))
    if kind in {"http", "https"}:
        size, etag, modified = web.head(uri, rules)
        return Entry(uri, UNKNOWN_SIZE if size is None else size, etag, modified or UNKNOWN_TIME)
    with of_library():
        if is_bucket(uri):
            return _stat_bucket(uri)
        system, path = filesystem(uri, rules)
        return fsspec_entry(uri, system.info(path))


def _stat_bucket(uri: str) -> Entry:
    import obstore

    root, key = split(uri)
    if odd(key) and scheme(root) == "s3":
        url = aws.signed_url(root.removeprefix("s3://"), "head_object", Key=key)
        size, etag, modified = web.head(url, web.OURS)
        return Entry(uri, size or 0, etag, modified or UNKNOWN_TIME)
    meta = obstore.head(connect(root), key)
    return Entry(uri, meta["size"], web.unquoted(meta["e_tag"]), meta["last_modified"])


@contextmanager
def open_binary(uri: str, rules: Rules = web.STRICT) -> Iterator[BinaryIO]:
    """A file for reading, seekable; only blocks of it are in memory.

    Raises MissingError, DeniedError, StoreError, also for errors within the `with`; and
    SpecError for a web address that the `rules` forbid, or with more than 4 GiB behind it.
    """
    with border(uri):
        if problem := impossible(uri):
            raise Nowhere(problem)
        kind = scheme(uri)
        if kind == "file":
            with open(uri.removeprefix("file://"), "rb") as file:  # noqa: PTH123
                yield file
        elif is_bucket(uri):
            with io.BufferedReader(_Ranges(stat(uri)), _BLOCK) as ranges:
                yield cast("BinaryIO", ranges)
        elif kind in {"http", "https"}:
            with tempfile.TemporaryFile() as copy:
                _download(uri, rules, copy)
                yield cast("BinaryIO", copy)
        else:
            system, path = filesystem(uri, rules)
            with system.open(path, "rb") as file:
                yield file


def _download(uri: str, rules: Rules, target: "IO[bytes]") -> None:
    # Not every web server supports ranges, and Parquet is read from its end.
    size = 0
    for chunk in web.stream(uri, _patient(rules)):
        size += len(chunk)
        if size > DOWNLOAD_BYTES:
            problem = f"over {DOWNLOAD_BYTES >> 30} GiB, which is too much to copy from the web"
            raise SpecError("src", public(uri), f"{problem}; put it on a disk or in a bucket")
        target.write(chunk)
    target.seek(0)


def _patient(rules: Rules) -> Rules:
    return replace(rules, seconds=DOWNLOAD_SECONDS, silence=rules.longest_silence)


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
