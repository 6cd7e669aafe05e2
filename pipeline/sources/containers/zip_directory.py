"""The central directory of a zip file, as PKWARE's APPNOTE.TXT 6.3.10 describes it.

Anyone may have written a zip: its sizes and counts are only claims. The size of its directory is
limited before it is read, and anything inconsistent is damage (ImageError), never another
exception.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pipeline.errors import ErrorCode, ImageError
from pipeline.storage import Ranged

_END: Final = struct.Struct("<IHHHHIIH")
_END64: Final = struct.Struct("<IQHHIIQQQQ")
_LOCATOR: Final = struct.Struct("<IIQI")
_HEADER: Final = struct.Struct("<IHHHHHHIIIHHHHHII")
_END_MARK: Final = b"PK\5\6"
_END64_MARK: Final = 0x06064B50
_LOCATOR_MARK: Final = 0x07064B50
_HEADER_MARK: Final = 0x02014B50
_MAX16: Final = 0xFFFF
_MAX32: Final = 0xFFFFFFFF
_ZIP64_EXTRA: Final = 1
#: Larger claims all count as this; they fit into no column.
_LARGEST: Final = 2**62

#: The end record, the longest comment after it, and what zip64 puts before it.
TAIL_BYTES: Final = _END.size + _MAX16 + _LOCATOR.size + _END64.size
#: Limit of a directory, which is in memory while it is read: some three million members.
DIRECTORY_BYTES: Final = 256 * 2**20
_CHUNK: Final = 8 * 2**20
#: A run lists an archive several times: to check it, to see whether anything is new, to label. So
#: the directory that was read last is kept, if it is no larger than this.
KEPT_BYTES: Final = 32 * 2**20

_kept: dict[tuple[Any, ...], bytes] = {}


class Record(NamedTuple):
    """One member as described by the directory. `offset` is that of its local header."""

    name: bytes
    flags: int
    method: int
    crc32: int
    packed: int
    size: int
    offset: int
    disk: int

    @property
    def text(self) -> str:
        """The name: UTF-8 if valid, else in the character set of the first PCs, as the format says.

        A NUL is written `%00`, as in uris.
        """
        try:
            text = self.name.decode("utf-8")
        except UnicodeDecodeError:
            text = self.name.decode("cp437")
        return text.replace("\0", "%00")


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the directory is. `shift` is the length of data before the zip, to be added to all
    offsets."""

    start: int
    size: int
    count: int
    shift: int

    def read(self, file: Ranged) -> bytes:
        """All of it. Raises Unread."""
        want = file.want
        key = (want.uri, want.etag, want.size, want.modified_us, self)
        if (known := _kept.get(key)) is not None:  # another thread may drop it
            return known
        end = self.start + self.size
        starts = range(self.start, end, _CHUNK)
        data = b"".join(file.read(at, min(end, at + _CHUNK)) for at in starts)
        _kept.clear()
        if self.size <= KEPT_BYTES and (want.etag or want.modified_us) is not None:
            _kept[key] = data
        return data


def find_directory(file: Ranged) -> Directory:
    """Raises ImageError if it is not a complete zip file, Unread if it can't be read."""
    if not file.size:
        raise ImageError(ErrorCode.EMPTY, "0 bytes")
    start = max(0, file.size - TAIL_BYTES)
    tail = file.read(start, file.size)
    at = _end_record(tail)
    if at is None:
        begins = file.read(0, min(4, file.size))
        if begins[:2] == b"PK":
            raise ImageError(ErrorCode.TRUNCATED, "the zip file has no end: it was cut")
        raise ImageError(ErrorCode.UNSUPPORTED, "not a zip file, whatever its name says")
    _, disk, first_disk, _, count, size, offset, _ = _END.unpack_from(tail, at)
    end = start + at
    found = _zip64(file, tail, start, at)
    if found is not None:
        disk, first_disk, count, size, offset, end = found
    if disk or first_disk:
        raise ImageError(ErrorCode.UNSUPPORTED, "a zip file of several disks; join them first")
    shift = end - size - offset
    if shift < 0:
        raise ImageError(ErrorCode.TRUNCATED, "the zip file's directory is not inside it")
    if size > DIRECTORY_BYTES:
        problem = f"a zip file with a directory of over {DIRECTORY_BYTES >> 20} MiB; divide it"
        raise ImageError(ErrorCode.TOO_LARGE, problem)
    return Directory(offset + shift, size, min(count, size // _HEADER.size), shift)


def records(directory: bytes, shift: int) -> Iterator[Record]:
    """The members in the order of the directory. Raises ImageError if it breaks off."""
    at, end = 0, len(directory)
    while at < end:
        if end - at < _HEADER.size:
            raise _broken()
        fields = _HEADER.unpack_from(directory, at)
        mark, _, _, flags, method, _, _, crc32, packed, size, names, extras, comment = fields[:13]
        disk, offset = fields[13], fields[16]
        name_at = at + _HEADER.size
        extra_at = name_at + names
        at = extra_at + extras + comment
        if mark != _HEADER_MARK or at > end:
            raise _broken()
        if _MAX32 in (packed, size, offset) or disk == _MAX16:
            extra = directory[extra_at : extra_at + extras]
            size, packed, offset, disk = _extended(extra, size, packed, offset, disk)
        name = directory[name_at:extra_at]
        yield Record(name, flags, method, crc32, packed, size, offset + shift, disk)


def _broken() -> ImageError:
    return ImageError(ErrorCode.TRUNCATED, "the zip file's directory ends too early")


def _end_record(tail: bytes) -> int | None:
    """Start of the last end record whose comment ends with the file; or of the last one at all."""
    last, at = None, len(tail)
    while (at := tail.rfind(_END_MARK, 0, at)) >= 0:
        if len(tail) - at >= _END.size:
            comment = _END.unpack_from(tail, at)[-1]
            if at + _END.size + comment == len(tail):
                return at
            if last is None and at + _END.size + comment < len(tail):
                last = at
    return last


def _zip64(
    file: Ranged, tail: bytes, start: int, at: int
) -> tuple[int, int, int, int, int, int] | None:
    """(disk, first disk, count, size, offset, where the record begins), None if there is none.

    The record is searched at its locator's offset, and right before the locator.
    """
    if at < _LOCATOR.size:
        return None
    mark, _, offset, _ = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
    if mark != _LOCATOR_MARK:
        return None
    before = start + at - _LOCATOR.size - _END64.size
    for place in dict.fromkeys((before, offset)):
        if 0 <= place <= file.size - _END64.size:
            fields = _END64.unpack(file.read(place, place + _END64.size))
            if fields[0] == _END64_MARK:
                disk, first_disk, _, count, size, directory = fields[4:]
                return disk, first_disk, count, size, directory, place
    return None


def _extended(
    extra: bytes, size: int, packed: int, offset: int, disk: int
) -> tuple[int, int, int, int]:
    """(size, packed, offset, disk), with values that do not fit into the header taken from the
    extras."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == _ZIP64_EXTRA:
            return _of_zip64(extra[at + 4 : at + 4 + length], size, packed, offset, disk)
        at += 4 + length
    return size, packed, offset, disk


def _of_zip64(
    field: bytes, size: int, packed: int, offset: int, disk: int
) -> tuple[int, int, int, int]:
    at, found = 0, []
    for value in (size, packed, offset):
        if value == _MAX32:
            if at + 8 > len(field):
                raise _broken()
            value = int.from_bytes(field[at : at + 8], "little")
            at += 8
        found.append(min(value, _LARGEST))
    if disk == _MAX16 and at + 4 <= len(field):
        disk = int.from_bytes(field[at : at + 4], "little")
    return found[0], found[1], found[2], disk
