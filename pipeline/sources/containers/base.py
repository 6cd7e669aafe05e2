"""Container: one object that holds many images, which are its members.

To add a kind, write one file in this folder with a subclass of `Container`, and one line in
`REGISTRY`. It has two methods to fill: `members` lists, and `unpack` makes a member's bytes from
the bytes at its place. Identity, versions, retries, limits and the rows of members are then
the same as for all objects.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from pipeline.errors import ErrorCode
from pipeline.storage import Ranged


class Refusal(NamedTuple):
    """Why a member is not read."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a container. `name` is its path there, and part of its identity.

    `version` identifies its content: while it stays the same the member is not read again,
    even if the container changes. `size` is that of the member itself. `Container.unpack` makes
    its bytes from bytes [offset, offset + length) of the container; `method` and `crc32`
    are only for `unpack`. `data` is given instead if listing had to read it anyway.
    """

    name: str
    size: int | None
    version: str | None
    offset: int = 0
    length: int = 0
    method: int | None = None
    crc32: int | None = None
    data: bytes | None = None
    refusal: Refusal | None = None


class Container(ABC):
    """One kind of container; it has no state, and is sent to tasks."""

    #: As in the registry.
    kind: ClassVar[str]
    #: How many of its last bytes are read when it is opened.
    tail: ClassVar[int] = 0

    def count(self, file: Ranged) -> int:
        """About how many members there are: large containers are listed in several pieces.

        Raises ImageError and Unread as `members` does.
        """
        del file
        return 0

    @abstractmethod
    def members(self, file: Ranged, numbers: range) -> Iterator[list[Member]]:
        """The members whose positions in the listing are in `numbers`, some at a time.

        Names are unchanged; folders are left out. Two members never have the same name. Raises
        ImageError for a container that is damaged or no container, after the members that could be
        listed, and Unread if the store does not return it.
        """

    @staticmethod
    def unpack(place: Mapping[str, Any], size: int | None, raw: bytes) -> bytes:
        """A member's bytes from those at its `place` (see schema.PLACE), `size` at most.

        Raises ImageError: `undecodable` for damaged data.
        """
        del place, size
        return raw
