"""Selection: which objects of a listing a prefix takes, by name, and which local
folders it opens."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.sources import names
from pipeline.sources.base import NOTHING, Page, is_text, refs_of_entries
from pipeline.sources.default_excludes import left_out_as
from pipeline.storage import Entry, Visit


@dataclass(frozen=True, slots=True)
class Selection:
    """Decides by uri. `taken` gives True: taken; False: left out and counted; None: not part of SRC
    at all; or the default exclude that leaves it out. `entered` gives the same for a folder, whose
    uri ends in `/`, with True for one that may contain what is taken."""

    taken: Callable[[str], bool | str | None]
    entered: Callable[[str], bool | str | None]


def select(
    src: str,
    fixed: str,
    base: str,
    *,
    glob: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    suffixes: bool,
    default_excludes: bool,
) -> Selection:
    """Names are relative to `base`; `src` is a pattern from the end of `fixed` on, if a glob."""
    start, skip = len(fixed), len(base)
    wanted = names.name_filter(include, exclude, suffixes=suffixes)
    shape = names.compiled(src[start:], "src") if glob else None
    may_hold = names.may_hold(src[skip:]) if glob else None
    covered = names.covers(exclude)

    def taken(uri: str) -> bool | str | None:
        if uri.endswith("/") or (shape and not shape.fullmatch(uri, start)):
            return None
        if not is_text(uri) or not wanted(uri[skip:]):
            return False
        return (left_out_as(uri[skip:]) if default_excludes else None) or True

    def entered(uri: str) -> bool | str | None:
        name = uri[skip:]
        if may_hold and not may_hold(name):
            return None
        if covered(name):
            return False
        return (left_out_as(name) if default_excludes else None) or True

    return Selection(taken, entered)


@dataclass(slots=True)
class Sorter:
    """Turns pages of entries in (after, until] into pages of refs, with what was unreadable or left
    out."""

    selection: Selection
    after: str | None
    until: str | None
    _excluded: int = 0
    _left_out: Counter[str] = field(default_factory=Counter)
    _unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def visit(self) -> Visit:
        return Visit(self._enter, self._refused)

    def page(self, entries: Sequence[Entry]) -> Page:
        """The refs of some entries, and all that was reported since the last page."""
        taken = []
        for entry in entries:
            self._count(verdict := self.selection.taken(entry.uri))
            if verdict is True:
                taken.append(entry)
        page = Page(refs_of_entries(taken), self._excluded, self._left_out, self._unreadable)
        self._excluded, self._left_out, self._unreadable = 0, Counter(), {}
        return page

    def last(self) -> Page | None:
        """What was reported after the last page, if anything."""
        anything = self._excluded or self._left_out or self._unreadable
        return self.page(NOTHING) if anything else None

    def _count(self, verdict: bool | str | None) -> None:
        if verdict is False:
            self._excluded += 1
        elif isinstance(verdict, str):
            self._left_out[verdict] += 1

    def _may_be_wanted(self, uri: str) -> bool:
        """For example a link that may lead to a file or to a folder."""
        return True in (self.selection.taken(uri), self.selection.entered(f"{uri}/"))

    def _enter(self, folder: str) -> bool:
        verdict = self.selection.entered(folder)
        # Two ranges may meet in a folder: it counts in the range that contains its own name.
        if self.after is None or folder > self.after:
            self._count(verdict)
        return verdict is True

    def _refused(self, uri: str, why: str) -> None:
        if not uri.endswith("/") and not self._may_be_wanted(uri):
            return
        # A name that is not UTF-8 fits no document; no row has one either.
        self._unreadable[uri.encode("utf-8", "backslashreplace").decode()] = why
