"""The bytes of a part that some of its columns need: its footer and their chunks.

A ledger needs 21 bytes a row, whatever else a row holds. A file is read as a whole where that is
no slower (see `storage.file_ranges`): up to 1 MiB in a bucket with one request. A larger part takes
one request for its end and one for the columns, a merged file of half a million rows two for each
of its four row groups, side by side, for a quarter of its bytes.
"""

from typing import Final

from pipeline.errors import StoreError
from pipeline.parquet import Data, footer_start
from pipeline.storage import Folder, public
from pipeline.storage.file_ranges import PartialFile, Range, Ranges

#: A larger file is none of ours: merged ones end at 256 MiB, parts not far above 128.
FILE_BYTES: Final = 4 * 2**30
#: Footers of ours have some 3 KB a row group, and up to five groups.
_TAIL_BYTES: Final = 32 * 2**10
_TRAILER_BYTES: Final = 8


def read_whole(folder: Folder, path: str, told: int | None) -> bytes:
    """All bytes of a file, of which the log told so many. Raises StoreError for others."""
    data = folder.read(path, at_most=FILE_BYTES if told is None else min(told, FILE_BYTES))
    if told is not None:
        refuse_other_size(folder, path, len(data), told)
    return data


def refuse_other_size(folder: Folder, path: str, size: int, told: int) -> None:
    """Raises StoreError where a file has another size than the log told."""
    if size != told:
        raise StoreError(
            f"{public(folder.uri_of(path))} has {size:,} bytes, the table's log says "
            f"{told:,}: it was changed since, or another program has written here"
        )


class Projection:
    """A file to be read in part. `data` has its footer at least, once `read_footer` was called."""

    def __init__(self, folder: Folder, path: str, source: Ranges, told: int | None) -> None:
        """Reads the end of the file. Raises StoreError where the log `told` another size."""
        size = source.size() if told is None else told
        folder.refuse_large(path, size, FILE_BYTES)
        whole = size <= source.near
        start = 0 if whole else max(0, size - _TAIL_BYTES)
        (tail,) = source.read([(start, size)]) if size else [b""]
        if told is not None:
            refuse_other_size(folder, path, source.size(), told)
        self._file = None if whole else PartialFile(folder.uri_of(path), source, size, tail)
        self.data: Data = bytes(tail) if self._file is None else self._file.data

    def read_footer(self) -> None:
        """Raises Malformed for what is no Parquet file."""
        if self._file is not None:
            size = len(self.data)
            self._file.fetch_from(footer_start(self.data[size - _TRAILER_BYTES :], size))

    def fetch(self, ranges: list[Range]) -> None:
        """Some more of the file, at its place in `data`."""
        if self._file is not None:
            self._file.fetch(ranges)
