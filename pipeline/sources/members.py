"""Members of containers as refs: filtered by name, each with its identity and its place."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from pipeline import schema
from pipeline.errors import ErrorCode, ImageError, TransientError
from pipeline.sources.base import Page
from pipeline.sources.containers import Container, Member, Refusal, container, kind_by_name
from pipeline.sources.selection import Selection, select
from pipeline.storage import Ranged, Rules, Want, identity, open_ranged, recorded

EVERYTHING: Final = range(2**62)
#: Members with such names are archives themselves, which are never opened.
NESTED: Final = tuple(
    f".{ending}"
    for ending in ("7z", "rar", "tar", "tar.bz2", "tar.gz", "tar.xz", "tar.zst", "tgz", "zip")
)
_NESTED: Final = Refusal(ErrorCode.UNSUPPORTED, "an archive in an archive; unpack the outer one")
_GONE: Final = Refusal(ErrorCode.MISSING, "its archive has no such member")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which members are taken, by the rules for names of loose objects; if `named` is set, only
    these."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    default_excludes: bool = True
    named: frozenset[str] | None = None

    def verdicts(self) -> Callable[[str], bool | str | None]:
        """For a name: True: taken; False: left out and counted; None: not asked for; or the
        default exclude that leaves it out."""
        images = self._selection(suffixes=self.named is None).taken
        archives = self._selection(suffixes=False).taken

        def verdict(name: str) -> bool | str | None:
            if self.named is not None and name not in self.named:
                return None
            return archives(name) if is_nested(name) else images(name)

        return verdict

    def _selection(self, *, suffixes: bool) -> Selection:
        return select(
            "",
            "",
            "",
            glob=False,
            include=self.include,
            exclude=self.exclude,
            suffixes=suffixes,
            default_excludes=self.default_excludes and self.named is None,
        )


def is_nested(name: str) -> bool:
    return name.lower().endswith(NESTED)


@dataclass(frozen=True, slots=True)
class Opened:
    """A container in its current version. `name` is its identity."""

    kind: Container
    file: Ranged
    name: str

    @property
    def uri(self) -> str:
        """The uri in its rows."""
        return self.file.want.uri

    def members(self, numbers: range = EVERYTHING) -> Iterator[list[Member]]:
        """Raises what `Container.members` raises."""
        return self.kind.members(self.file, numbers)


def open_container(address: str, rules: Rules) -> Opened:
    """The container at an address with a container's name. Raises Unread."""
    name = identity(address)
    kind = container(kind_by_name(address) or "")
    return Opened(kind, open_ranged(recorded(name), address, rules, tail=kind.tail), name)


def pages_of(opened: Opened, choice: Choice, numbers: range = EVERYTHING) -> Iterator[Page]:
    """The refs of a container's members. If it is damaged, the last page holds a row for the
    container, and says that not all of it could be listed. Raises Unread."""
    sorter = _Sorter(choice.verdicts(), set(choice.named or ()))
    try:
        for members in opened.members(numbers):
            yield sorter.page(opened, members)
    except ImageError as problem:
        if numbers.start == 0:  # each piece finds it, and it is one row
            yield failed_page(opened.file.want, opened.name, problem)
        return
    if sorter.left:
        gone = [Member(name, None, None, refusal=_GONE) for name in sorted(sorter.left)]
        yield Page(refs_of_members(opened, gone), 0)


def failed_page(
    want: Want, name: str, error: ImageError | TransientError, *, hidden: bool = True
) -> Page:
    """One ref for a container that can't be listed, or not to its end, with the reason.

    Rows of its members stay as they are if they are `hidden`.
    """
    itself = Member("", want.size, want.etag, refusal=Refusal(error.code, error.message))
    refs = _table(want, name, "", [itself], whole=True)
    return Page(refs, 0, unreadable={want.uri: error.message} if hidden else {})


def refs_of_members(opened: Opened, members: Sequence[Member]) -> pa.Table:
    """REFS of members of one container."""
    return _table(opened.file.want, opened.name, opened.kind.kind, members)


@dataclass(slots=True)
class _Sorter:
    verdict: Callable[[str], bool | str | None]
    #: Names that were asked for and not found.
    left: set[str]

    def page(self, opened: Opened, members: Sequence[Member]) -> Page:
        taken, excluded, left_out = [], 0, Counter[str]()
        for member in members:
            verdict = self.verdict(member.name)
            self.left.discard(member.name)
            if verdict is True:
                nested = is_nested(member.name)
                taken.append(_refused(member, _NESTED) if nested else member)
            elif verdict is False:
                excluded += 1
            elif verdict is not None:
                left_out[verdict] += 1
        return Page(refs_of_members(opened, taken), excluded, left_out)


def _refused(member: Member, refusal: Refusal) -> Member:
    return Member(member.name, member.size, member.version, refusal=refusal)


def _table(
    want: Want, name: str, kind: str, members: Sequence[Member], *, whole: bool = False
) -> pa.Table:
    """REFS; with `whole` they are of the container itself."""
    count = len(members)

    def same(value: Any, type_: pa.DataType) -> pa.Array:
        return pa.repeat(pa.scalar(value, type_), count)

    def of(field: str, type_: pa.DataType) -> pa.Array:
        return pa.array([getattr(member, field) for member in members], type_)

    names = [None if whole else member.name for member in members]
    versions = [
        schema.version(member.version, member.size, want.modified_us if whole else None)
        for member in members
    ]
    columns = {
        "uri": same(want.uri, pa.string()),
        "member": pa.array(names, pa.string()),
        "etag": of("version", pa.string()),
        "size": of("size", pa.int64()),
        "modified": same(want.modified_us, pa.int64()).cast(schema.TIMESTAMP),
        "object_id": pa.array([schema.object_id(name, one) for one in names], pa.binary()),
        "version": pa.array(versions, pa.int64()),
        "replaces": pa.nulls(count, pa.int32()),
        "address": same(want.where if want.where != want.uri else None, pa.string()),
        "place": _places(want, kind, members),
        "data": of("data", pa.large_binary()),
    }
    return pa.Table.from_pydict(columns, schema.REFS)


def _places(want: Want, kind: str, members: Sequence[Member]) -> pa.StructArray:
    facts = {"kind": kind, "etag": want.etag, "size": want.size, "modified": want.modified_us}
    codes = [member.refusal and str(member.refusal.code) for member in members]
    messages = [member.refusal and member.refusal.message for member in members]
    given = {"error_code": codes, "error_message": messages}
    columns = []
    for one in schema.PLACE:
        if one.name in facts:
            columns.append(pa.repeat(pa.scalar(facts[one.name], one.type), len(members)))
        else:
            values = given.get(one.name) or [getattr(member, one.name) for member in members]
            columns.append(pa.array(values, one.type))
    return pa.StructArray.from_arrays(columns, fields=list(schema.PLACE))
