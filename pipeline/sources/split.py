"""Splits a large prefix into key ranges, with few requests and without listing it all.

The ranges are `(None, p1], (p1, p2], … (pn, None]`: disjoint and complete whatever the keys, so
the choice of points only decides how even they are. A few pages are split where they end. For
more, the points are found as in a trie: one-key probes tell which characters follow a prefix, level
by level, until there are enough branches, which in real archives hold similar numbers of keys.

Only one thing can make such ranges lose keys: a store that lists folder by folder (SeaweedFS),
where `a/x` comes before `a-b` although `/` is greater than `-`. A point is used only if the
store's order agrees with that of keys: `Probe._safe`.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, pairwise

from pipeline.storage import Entry, first_page

PAGE = 1000
SHARDS = 64
PROBES = 512
LOOK_AHEAD = 4
_AT_ONCE = 16

#: Greater than any character of a real key: noncharacter, the last code point.
LAST = "\U0010ffff"

Range = tuple[str | None, str | None]


def key_ranges(prefix: str) -> Iterator[Range]:
    """(after, until] ranges of uris below `prefix`; the first one is its first page."""
    entries, more = first_page(prefix, size=PAGE)
    probe = Probe(prefix)
    start = probe.safe_of(entries) if more else None
    if start is None:
        yield None, None
        return
    yield None, start
    points = probe.page_ends(start)
    if points is None:
        points = probe.branch_ends(start)
    yield from pairwise(chain([start], points, [None]))


@dataclass(frozen=True, slots=True)
class Branch:
    prefix: str
    first: str  # the first key below it that is not listed yet


class Probe:
    """Asks a store where its keys branch, at most PROBES times."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.left = PROBES
        self._firsts: dict[str, str] = {}

    def page_ends(self, start: str) -> list[str] | None:
        """The ends of the next pages, None if there are more of them than LOOK_AHEAD."""
        ends = [start]
        for _ in range(LOOK_AHEAD):
            entries, more = first_page(self.prefix, after=ends[-1], size=PAGE)
            if not more:
                return ends[1:]
            end = self.safe_of(entries)
            if end is None:
                return ends[1:]
            ends.append(end)
        return None

    def branch_ends(self, start: str) -> list[str]:
        """About 63 increasing uris after `start`, each with keys on both sides of it."""
        first = self._next(self.prefix, start)
        level = [Branch(self.prefix, first)] if first else []
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            while level and len(level) < SHARDS:
                below = list(chain.from_iterable(threads.map(self._branches, level)))
                if len(below) == len(level):
                    break
                level = below
        ends = [branch.prefix + LAST for branch in level[:-1]]
        step = max(1.0, len(ends) / (SHARDS - 1))
        chosen = [ends[int(i * step)] for i in range(int(len(ends) / step))]
        return [point for point in chosen if point > start and self._safe(point)]

    def safe_of(self, entries: list[Entry]) -> str | None:
        """The last uri of a page, or an earlier one, that is safe as a point."""
        page = [entry.uri for entry in entries]
        if page != sorted(page):
            return None
        return next((uri for uri in reversed(page[-20:]) if self._safe(uri)), None)

    def _branches(self, branch: Branch) -> list[Branch]:
        """What follows the longest common prefix of all keys of `branch`."""
        low, high = len(branch.prefix), len(branch.first)
        while low < high:
            middle = (low + high + 1) // 2
            if self._next(branch.prefix, branch.first[:middle] + LAST) is None:
                low = middle
            else:
                high = middle - 1
        if low == len(branch.first):
            return [branch]
        return list(self._letters(branch.first[:low], branch.first))

    def _letters(self, shared: str, first: str) -> Iterator[Branch]:
        at: str | None = first
        while at is not None and at > shared:
            branch = Branch(at[: len(shared) + 1], at)
            yield branch
            following = self._next(shared, branch.prefix + LAST)
            # A store that lists folder by folder may answer with an earlier key.
            at = following if following and following > branch.prefix + LAST else None

    def _next(self, prefix: str, after: str) -> str | None:
        """The first uri after `after`; None too if no probes are left: there are then
        fewer points."""
        if self.left <= 0:
            return None
        self.left -= 1
        entries, _ = first_page(prefix, after=after, size=1)
        return entries[0].uri if entries else None

    def _safe(self, point: str) -> bool:
        """True if every key lies on the same side of `point` in the store's order and in ours."""
        start = self.prefix.rindex("/") + 1
        low = [point[:at] for at in range(start, len(point)) if point[at] < "/"]
        if any(self._begins(name, f"{name}/") for name in low):
            return False  # a folder comes before longer names: no order of keys
        # SeaweedFS allows an object and a folder of one name, and skips both
        return point.endswith(LAST) or not self._begins(f"{point}/", point)

    def _begins(self, prefix: str, expected: str) -> bool:
        """True if the first key below `prefix` begins with `expected`, or no probe is left."""
        if prefix not in self._firsts and self.left > 0:
            self.left -= 1
            entries, _ = first_page(prefix, size=1)
            self._firsts[prefix] = entries[0].uri if entries else ""
        return self._firsts.get(prefix, expected).startswith(expected)
