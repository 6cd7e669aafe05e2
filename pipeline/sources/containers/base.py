"""What a container is: one object that holds many images, which are its members.

To add a kind, write one file in this folder with a subclass of `Container`, and one line in
`REGISTRY`. It has two methods to fill: `members` lists, and `unpack` makes a member's bytes of
those that lie at its place. Identity, versions, retries, limits and the rows of members are then
those of all objects.
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
    """One file in a container. `name` is its path there, and half of its identity.

    `version` stands for its content: as long as it stays the same the member is not read again,
    whatever becomes of the container. `size` is that of the member itself. Its bytes are made by
    `Container.unpack` from bytes [offset, offset + length) of the container; `method` and `crc32`
    are for `unpack` alone. `data` is given instead where listing had to read it anyway.
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
    """One kind of container; it has no state, and travels to tasks."""

    #: As in the registry.
    kind: ClassVar[str]
    #: So many of its last bytes are read when it is opened.
    tail: ClassVar[int] = 0

    def count(self, file: Ranged) -> int:
        """About how many members there are: large containers are listed in several pieces.

        Raises ImageError and Unread as `members` does.
        """
        del file
        return 0

    @abstractmethod
    def members(self, file: Ranged, numbers: range) -> Iterator[list[Member]]:
        """The members whose place in the listing is among `numbers`, some at a time.

        Names are given as they are, folders left out. Two members never have one name. Raises
        ImageError for a container that is damaged or none, after the members that could be listed,
        and Unread where the store does not give it.
        """

    @staticmethod
    def unpack(place: Mapping[str, Any], size: int | None, raw: bytes) -> bytes:
        """A member's bytes from those at its `place` (see schema.PLACE), `size` at most.

        Raises ImageError: `undecodable` for what is damaged.
        """
        del place, size
        return raw
