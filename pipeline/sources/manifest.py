"""Manifest source: images that a list names: txt, CSV, JSON, Parquet, an S3 Inventory, a folder of
such.

An object that a manifest names twice is one ref, also if its two addresses differ only in their
signatures. Several tasks read a large manifest: each streams all of it and keeps the object ids of
its own range. So each finds its duplicates, and no process holds the whole.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, compress, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.errors import MissingError, SpecError
from pipeline.sources import names
from pipeline.sources.base import (
    Page,
    Shard,
    Since,
    is_text,
    refs_of,
    rules_of,
    since_of,
)
from pipeline.sources.listed_archives import NamedArchives, archives_among
from pipeline.sources.lists.files import LISTS, estimated_rows, suffix
from pipeline.sources.lists.formats import read_rows
from pipeline.sources.lists.rows import Rows
from pipeline.sources.resolver import WEB, resolver
from pipeline.spec import LabelSpec
from pipeline.storage import (
    STRICT,
    TOO_LONG,
    UNKNOWN_SIZE,
    UNKNOWN_TIME,
    Entry,
    Rules,
    as_folder,
    canonical,
    identities,
    list_pages,
    local_path,
    microseconds,
    public,
    recorded,
    scheme,
    stat,
    stat_many,
)

#: Object ids that one task keeps to find duplicates: about 100 bytes each.
ROWS_A_SHARD = 2_000_000
#: Archives that one task lists, one after the other; each task reads the whole list.
ARCHIVES_A_SHARD = 16
MOST_ARCHIVE_SHARDS = 16
#: Limit for a folder; Spark writes thousands.
_MOST_FILES = 100_000


@dataclass(frozen=True, slots=True)
class HashRange(Shard):
    """Object ids whose first four bytes, times `of`, divided by 2**32, are `index`."""

    index: int = 0
    of: int = 1


@dataclass(frozen=True)
class ManifestSource:
    src: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    limit: int | None = None
    check_changes: bool = False
    rules: Rules = STRICT
    since: Since | None = None
    #: Globs for members of archives.
    default_excludes: bool = True
    #: Whether archives that it names are opened, or are refs like others.
    opens_archives: bool = True

    @property
    def scope(self) -> dict[str, Any]:
        return {
            "kind": "manifest",
            "src": recorded(self.src),
            "include": list(self.include),
            "exclude": list(self.exclude),
            "limit": self.limit,
            **({"modified_since": self.since.text} if self.since else {}),
        }

    def check(self, dst: str | None = None) -> None:
        """Reads the beginning. DST may be anywhere: only named objects are read."""
        del dst
        if not any(any(rows.uris) for rows in self._rows(self._files())):
            raise SpecError("src", public(self.src), "an empty manifest")

    def shards(self) -> Iterator[Shard]:
        count = 1 if self.limit else self._shard_count()
        for index in range(count):
            yield HashRange(f"hash-{index:03d}", index, count)

    def _shard_count(self) -> int:
        """By the rows; and by the archives among the first of them, each of which needs
        a listing."""
        files = self._files()
        rows = self._estimated_rows(files)
        first = next(self._rows(files), None)
        archives = len(archives_among(list(first.uris))) if first else 0
        named = rows * archives // len(first.uris) if first and archives else 0
        of_archives = min(MOST_ARCHIVE_SHARDS, -(-named // ARCHIVES_A_SHARD))
        return max(1, -(-rows // ROWS_A_SHARD), of_archives)

    def _files(self) -> list[Entry]:
        """The manifest itself, or if SRC is a folder, the lists in it by name."""
        path = local_path(self.src)
        if self.src.endswith("/") or (path is not None and os.path.isdir(path)):  # noqa: PTH112
            return parts_of(self.src, self.rules)
        try:
            return [stat(self.src, self.rules)]
        except MissingError:
            # A name that looks like one object may be a folder that Spark wrote.
            found = [] if path or scheme(self.src) in WEB else _parts(self.src, self.rules)
            if not found:
                raise
            return found

    def _rows(self, files: list[Entry]) -> Iterator[Rows]:
        return chain.from_iterable(read_rows(file.uri, self.rules) for file in files)

    def _estimated_rows(self, files: list[Entry]) -> int:
        first, whole = max(1, files[0].size), sum(max(1, file.size) for file in files)
        return estimated_rows(files[0].uri, self.rules) * whole // first

    def refs(self, shard: Shard) -> Iterator[Page]:
        assert isinstance(shard, HashRange)  # noqa: S101 - a shard of this source
        left = self.limit
        for page in (page.as_new_as(self.since) for page in self._pages(shard)):
            if left is not None:
                page = page._replace(refs=page.refs.slice(0, left))
                left -= page.refs.num_rows
            yield page
            if left == 0:
                return

    def _pages(self, shard: HashRange) -> Iterator[Page]:
        seen: set[bytes] = set()
        archives = NamedArchives(self.include, self.exclude, self.default_excludes)
        for rows in self._rows(self._files()):
            named = self._named(rows)
            if self.opens_archives:
                named = self._apart(named, rows, shard, archives)
            yield self._page(rows, named, shard, seen)
        yield from archives.pages(self.rules)

    def _apart(
        self, named: "_Named", rows: Rows, shard: HashRange, archives: NamedArchives
    ) -> "_Named":
        """The rows that are no archives; archives of the shard are noted."""
        places = archives_among(named.addresses)
        if not places:
            return named
        ours = _in_range([schema.object_id(named.uris[place]) for place in places], shard)
        for place in compress(places, ours):
            member = rows.members[named.rows[place]] if rows.members else None
            archives.add(named.addresses[place], member)
        loose = [True] * len(named.uris)
        for place in places:
            loose[place] = False
        return named.where(loose)

    def _page(self, rows: Rows, named: "_Named", shard: HashRange, seen: set[bytes]) -> Page:
        taken = named.where(self._taken(named))
        excluded = len(named.uris) - len(taken.uris) if shard.index == 0 else 0
        members = self._members(rows, taken)
        object_ids = [*map(schema.object_id, taken.uris, members or repeat(None))]
        fresh = _fresh(object_ids, shard, seen)
        kept = taken.where(fresh)
        facts = _facts(rows, kept.rows)
        if self.check_changes:
            facts = _checked(kept.addresses, facts, self.rules)
        ids = list(compress(object_ids, fresh))
        refs = refs_of(kept.addresses, kept.uris, *facts, ids)
        if members is not None:
            column = pa.array(compress(members, fresh), pa.string())
            refs = refs.set_column(refs.schema.get_field_index("member"), "member", column)
        return Page(refs, excluded)

    def _members(self, rows: Rows, taken: "_Named") -> list[str | None] | None:
        """The members that rows name, if archives are refs like others."""
        if self.opens_archives or rows.members is None:
            return None
        named: list[str | None] = [None] * len(taken.uris)
        for place in archives_among(taken.addresses):
            named[place] = rows.members[taken.rows[place]]
        return named

    def _named(self, rows: Rows) -> "_Named":
        """The rows that are not blank."""
        resolve = resolver(self.src)
        places = [n for n, text in enumerate(rows.uris) if text and not text.isspace()]
        addresses = []
        for place in places:
            try:
                addresses.append(resolve(rows.uris[place]))
            except SpecError as error:
                raise rows.malformed(place, error.problem) from None
        uris = identities(addresses)
        if rows.too_long:
            pairs = zip(places, addresses, strict=True)
            addresses = [TOO_LONG if place in rows.too_long else one for place, one in pairs]
        return _Named(places, addresses, uris)

    def _taken(self, named: "_Named") -> list[bool]:
        """Which rows pass the filters and fit into a table."""
        if not self.include and not self.exclude and "".join(named.uris).isascii():
            return [True] * len(named.uris)
        wanted = names.name_filter(self.include, self.exclude, suffixes=False)
        pairs = zip(named.addresses, named.uris, strict=True)
        return [is_text(address + uri) and wanted(uri) for address, uri in pairs]

    def contains(self, uri: str, member: str | None = None) -> bool | None:
        """Only the whole manifest could answer this."""
        del uri, member
        return None


@dataclass(frozen=True, slots=True)
class _Named:
    """Rows of a batch, column by column, since creating an object for each row was too slow: their
    positions in the batch, where each object is read, and its identity."""

    rows: list[int]
    addresses: list[str]
    uris: list[str]

    def where(self, mask: list[bool]) -> "_Named":
        if all(mask):
            return self
        rows, addresses = compress(self.rows, mask), compress(self.addresses, mask)
        return _Named(list(rows), list(addresses), list(compress(self.uris, mask)))


def _fresh(object_ids: list[bytes], shard: HashRange, seen: set[bytes]) -> list[bool]:
    """Which ids are of the shard and new; they are added to `seen`."""
    if shard.of == 1 and len(set(object_ids)) == len(object_ids) and seen.isdisjoint(object_ids):
        seen.update(object_ids)
        return [True] * len(object_ids)
    fresh = []
    for object_id, ours in zip(object_ids, _in_range(object_ids, shard), strict=True):
        fresh.append(ours and object_id not in seen)
        if ours:
            seen.add(object_id)
    return fresh


def _in_range(object_ids: list[bytes], shard: HashRange) -> list[bool]:
    words = np.frombuffer(b"".join(object_ids), ">u4")
    first = words[:: schema.OBJECT_ID_BYTES // 4].astype(np.uint64)
    mask: list[bool] = (first * np.uint64(shard.of) >> np.uint64(32) == shard.index).tolist()
    return mask


Facts = tuple[Sequence[str | None] | None, Sequence[int | None] | None, Sequence[int | None] | None]


def _facts(rows: Rows, kept: list[int]) -> Facts:
    def of(column: Sequence[Any] | None) -> list[Any] | None:
        return None if column is None else [column[index] for index in kept]

    return of(rows.etags), of(rows.sizes), of(rows.modified_us)


def _checked(addresses: list[str], facts: Facts, rules: Rules) -> Facts:
    """Facts that the manifest lacks, requested from the store; a missing object keeps nulls."""
    nothing: Sequence[None] = (None,) * len(addresses)
    etags, sizes, times = (list(column or nothing) for column in facts)
    lacking = [n for n, etag in enumerate(etags) if etag is None]
    for index, found in stat_many([addresses[n] for n in lacking], rules):
        if isinstance(found, Entry):
            n = lacking[index]
            etags[n] = found.etag
            sizes[n] = None if found.size == UNKNOWN_SIZE else found.size
            times[n] = None if found.modified == UNKNOWN_TIME else microseconds(found.modified)
    return etags, sizes, times  # type: ignore[return-value]


def is_manifest(src: str) -> bool:
    """True if the name of SRC is that of a manifest."""
    return suffix(src) in LISTS


def parts_of(src: str, rules: Rules = STRICT) -> list[Entry]:
    """The lists in a folder, as Spark writes them. Raises SpecError if there are none."""
    found = _parts(src, rules)
    if not found:
        problem = "a folder without lists; --no-manifest looks for images there"
        raise SpecError("src", public(src), problem)
    if len(found) > _MOST_FILES:
        raise SpecError("src", public(src), f"a folder of over {_MOST_FILES:,} lists")
    return found


def holds_lists(folder: Path) -> bool:
    """Whether a local folder with the name of a list is one, in parts directly in it."""
    try:
        return any(_is_part(path.name) for path in folder.iterdir())
    except OSError:  # the listing itself reports it
        return False


def _parts(src: str, rules: Rules) -> list[Entry]:
    folder = as_folder(src)
    pages = list_pages(folder, rules=rules)
    return [entry for page in pages for entry in page if _is_part(entry.uri[len(folder) :])]


def _is_part(name: str) -> bool:
    """Files that begin with `_` or `.` are markers and checksums of the program that wrote the
    folder."""
    return is_manifest(name) and not any(part[:1] in {"_", "."} for part in name.split("/"))


def open_manifest(spec: LabelSpec) -> ManifestSource:
    return ManifestSource(
        canonical(spec.src),
        spec.include,
        spec.exclude,
        spec.limit,
        spec.check_changes,
        rules_of(spec),
        since_of(spec),
        spec.default_excludes,
    )
