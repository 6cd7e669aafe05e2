"""Projection: reads only the bytes of a part that some columns need: its footer and their chunks.

A ledger needs 21 bytes per row, whatever else a row holds. A file is read as a whole if that is
no slower (see `storage.file_ranges`): up to 1 MiB in a bucket with one request. A larger part takes
one request for its end and one for the columns. A merged file of half a million rows takes two for
each of its four row groups, in parallel, for a quarter of its bytes.
"""

from typing import Final

from pipeline.errors import StoreError
from pipeline.parquet import Data, footer_start
from pipeline.storage import Folder, public
from pipeline.storage.file_ranges import PartialFile, Range, Ranges

#: Ours are never larger: merged files end at 256 MiB, parts not far above 128.
FILE_BYTES: Final = 4 * 2**30
#: Our footers have some 3 KB a row group, and there are up to five groups.
_TAIL_BYTES: Final = 32 * 2**10
_TRAILER_BYTES: Final = 8


def read_whole(folder: Folder, path: str, logged: int | None) -> bytes:
    """All bytes of a file, as many as the log says. Raises StoreError if there are more
    or fewer."""
    data = folder.read(path, at_most=FILE_BYTES if logged is None else min(logged, FILE_BYTES))
    if logged is not None:
        refuse_other_size(folder, path, len(data), logged)
    return data


def refuse_other_size(folder: Folder, path: str, size: int, logged: int) -> None:
    """Raises StoreError if a file's size differs from the log's."""
    if size != logged:
        raise StoreError(
            f"{public(folder.uri_of(path))} has {size:,} bytes, the table's log says "
            f"{logged:,}: it was changed since, or another program has written here"
        )


class Projection:
    """A file to be read in part. `data` has at least its footer, once `read_footer` was called."""

    def __init__(self, folder: Folder, path: str, source: Ranges, logged: int | None) -> None:
        """Reads the end of the file. Raises StoreError if the log says another size."""
        size = source.size() if logged is None else logged
        folder.refuse_large(path, size, FILE_BYTES)
        whole = size <= source.near
        start = 0 if whole else max(0, size - _TAIL_BYTES)
        (tail,) = source.read([(start, size)]) if size else [b""]
        if logged is not None:
            refuse_other_size(folder, path, source.size(), logged)
        self._file = None if whole else PartialFile(folder.uri_of(path), source, size, tail)
        self.data: Data = bytes(tail) if self._file is None else self._file.data

    def read_footer(self) -> None:
        """Raises Malformed if it is not a Parquet file."""
        if self._file is not None:
            size = len(self.data)
            self._file.fetch_from(footer_start(self.data[size - _TRAILER_BYTES :], size))

    def fetch(self, ranges: list[Range]) -> None:
        """Read some more of the file, into its place in `data`."""
        if self._file is not None:
            self._file.fetch(ranges)
