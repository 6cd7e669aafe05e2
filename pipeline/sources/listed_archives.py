"""Archives that a manifest names: each is listed once, after all loose objects."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline import schema
from pipeline.sources.base import Page
from pipeline.sources.containers import kind_by_name, may_be_any
from pipeline.sources.members import Choice, failed_page, open_container, pages_of
from pipeline.storage import Rules, Unread, Want, identity, recorded


def archives_among(addresses: list[str]) -> list[int]:
    """The positions of entries with the name of a container; fast if there are none."""
    if not may_be_any("\n".join(addresses)):
        return []
    return [place for place, address in enumerate(addresses) if kind_by_name(address)]


@dataclass(slots=True)
class NamedArchives:
    """A manifest's archives, by identity: where each is read, and which members are wanted."""

    include: tuple[str, ...]
    exclude: tuple[str, ...]
    default_excludes: bool = True
    _found: dict[str, tuple[str, set[str] | None]] = field(default_factory=dict)

    def add(self, address: str, member: str | None) -> None:
        """Without a member, all of the archive is wanted."""
        name = identity(address)
        first, members = self._found.setdefault(name, (address, set()))
        if member is None or members is None:
            self._found[name] = first, None
        else:
            members.add(member)

    def pages(self, rules: Rules) -> Iterator[Page]:
        """Raises StoreError if a store fails, as for any listing."""
        for address, members in self._found.values():
            named = None if members is None else frozenset(members)
            choice = Choice(self.include, self.exclude, self.default_excludes, named)
            yield from _listed(address, choice, rules)


def _listed(address: str, choice: Choice, rules: Rules) -> Iterator[Page]:
    name = identity(address)
    want = Want(recorded(name), address=address)
    try:
        opened = open_container(address, rules)
        want = opened.file.want
        yield from pages_of(opened, choice)
    except Unread as problem:
        if problem.of_its_own:
            yield failed_page(want, name, problem.row, hidden=not problem.is_gone)
        elif problem.refused:
            # The credentials may be at fault, which no row may record permanently.
            unreadable = {want.uri: problem.row.message}
            yield Page(schema.REFS.empty_table(), 0, unreadable=unreadable)
        else:
            raise problem.whole from None
