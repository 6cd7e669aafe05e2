"""Zip files: members from the central directory, versions from their CRC-32."""

import logging
from array import array
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from pipeline.errors import ErrorCode, ImageError, printable
from pipeline.sources.containers.base import Container, Member, Refusal
from pipeline.sources.containers.zip_directory import (
    TAIL_BYTES,
    Record,
    find_directory,
    records,
)
from pipeline.sources.containers.zip_unpack import METHODS, unpack
from pipeline.storage import Ranged, public

PAGE: Final = 1000
#: Larger claims all count as this; the sum over a page of them fits into a column.
_LARGEST: Final = 2**40
#: The range of a member that shares its bytes with another one, see _Layout.
SHARED: Final = -(2**63)
#: Size of a local header, before the name and the extra field.
_LOCAL: Final = 30
#: An extra field may be this long, and only the local header gives its real length.
_EXTRA: Final = 0xFFFF
#: Encrypted, strongly encrypted, or a directory with masked values; and a patch of another file.
_ENCRYPTED: Final = 0x2041
_PATCH: Final = 0x20
#: A file that unpacks to more than this at such a ratio is no image.
BOMB_BYTES: Final = 64 * 2**20
BOMB_RATIO: Final = 250


class Zip(Container):
    kind = "zip"
    tail = TAIL_BYTES
    unpack = staticmethod(unpack)

    def count(self, file: Ranged) -> int:
        return find_directory(file).count

    def members(self, file: Ranged, numbers: range) -> Iterator[list[Member]]:
        found = find_directory(file)
        directory = found.read(file)
        layout = _Layout(directory, found.shift, found.start)
        if layout.doubled:
            _warn_of_doubles(file.want.uri, layout.doubled)
        page: list[Member] = []
        whole = islice(records(directory, found.shift), len(layout.rooms))
        for number, record in enumerate(whole):
            name = layout.name(record.text)
            if number in numbers and not name.endswith("/"):
                page.append(_member(record, name, int(layout.rooms[number])))
                if len(page) == PAGE:
                    yield page
                    page = []
        if page:
            yield page
        if layout.broken is not None:
            raise layout.broken


@lru_cache(maxsize=256)
def _warn_of_doubles(uri: str, number: int) -> None:
    """Once a process: a run lists an archive more than once."""
    logging.getLogger("nightlabel").warning(
        "nightlabel: %s: %d members have the name of another one; a number was added",
        printable(public(uri)),
        number,
    )


class _Layout:
    """Where all members begin and their names: 24 bytes per member.

    Names are stored as hashes, which Python seeds anew in each process, so that nobody can
    construct two that collide; names with equal hashes are compared.
    """

    def __init__(self, directory: bytes, shift: int, end: int) -> None:
        starts, hashes = array("q"), array("q")
        #: Why the directory breaks off, if it does.
        self.broken: ImageError | None = None
        try:
            for record in records(directory, shift):
                starts.append(record.offset)
                hashes.append(hash(record.text))
        except ImageError as error:
            self.broken = error
        #: For each member the bytes from its local header to the next member's; SHARED if another
        #: one begins at the same place.
        self.rooms = _rooms(np.array(starts, np.int64), end)
        self._hashes, counts = np.unique(np.array(hashes, np.int64), return_counts=True)
        self._twice: set[int] = set(self._hashes[counts > 1].tolist())
        self._last: dict[str, int] = {}
        #: How many members have the name of an earlier one.
        self.doubled = len(hashes) - len(self._hashes)

    def name(self, text: str) -> str:
        """The member's name; the second of one name gets a number that no other name has."""
        if hash(text) not in self._twice:
            return text
        number = self._last.get(text, 0) + 1
        name = _numbered(text, number)
        while number > 1 and self._is_taken(name):
            number += 1
            name = _numbered(text, number)
        self._last[text] = number
        return name

    def _is_taken(self, name: str) -> bool:
        at = int(np.searchsorted(self._hashes, hash(name)))
        return at < len(self._hashes) and int(self._hashes[at]) == hash(name)


def _rooms(starts: npt.NDArray[np.int64], end: int) -> npt.NDArray[np.int64]:
    places, at, counts = np.unique(starts, return_inverse=True, return_counts=True)
    following = np.append(places[1:], end)
    rooms = np.minimum(following, end) - places
    rooms[counts > 1] = SHARED
    found: npt.NDArray[np.int64] = rooms[at]
    return found


def _numbered(name: str, number: int) -> str:
    """`a/b.jpg` as `a/b#2.jpg`: its ending stays, since names are filtered by ending."""
    if number == 1:
        return name
    folder, slash, last = name.rpartition("/")
    stem, dot, ending = last.rpartition(".")
    return f"{folder}{slash}{stem}#{number}{dot}{ending}" if dot else f"{name}#{number}"


def _member(record: Record, name: str, room: int) -> Member:
    least = _LOCAL + len(record.name) + record.packed
    refusal = _refusal(record, least, room)
    return Member(
        name=name,
        size=min(record.size, _LARGEST),
        version=f"crc32-{record.crc32:08x}-{record.size}",
        offset=record.offset,
        length=0 if refusal else min(room, least + _EXTRA),
        method=record.method,
        crc32=record.crc32,
        refusal=refusal,
    )


def _refusal(record: Record, least: int, room: int) -> Refusal | None:
    """Why a member is not read, judged only by the directory."""
    if record.flags & _ENCRYPTED:
        return Refusal(ErrorCode.UNSUPPORTED, "encrypted in its archive")
    if record.method not in METHODS or record.flags & _PATCH:
        known = ", ".join(METHODS.values())
        problem = f"packed by method {record.method}; supported are {known}"
        return Refusal(ErrorCode.UNSUPPORTED, problem)
    if record.disk:
        return Refusal(ErrorCode.UNSUPPORTED, "on another disk of its archive; join them first")
    if room == SHARED:
        return Refusal(ErrorCode.UNSUPPORTED, "overlaps another member of its archive")
    if room <= 0:
        return Refusal(ErrorCode.TRUNCATED, "its archive ends before it")
    if least > room:
        return Refusal(ErrorCode.UNSUPPORTED, "overlaps another member of its archive")
    if record.size > BOMB_BYTES and record.size > BOMB_RATIO * record.packed:
        problem = f"unpacks {record.packed:,} bytes to {record.size:,}, as only bombs do"
        return Refusal(ErrorCode.TOO_LARGE, problem)
    return None
