"""Prefix source: images below a prefix, or those that a glob names: `s3://bucket/2024/**/*.jpg`."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice, pairwise
from typing import Any

from pipeline.errors import MissingError, NightlabelError, SpecError, StoreError
from pipeline.sources import names
from pipeline.sources.base import Page, Shard, Since, is_text, rules_of, since_of
from pipeline.sources.selection import Selection, Sorter, select
from pipeline.sources.split import SHARDS, key_ranges
from pipeline.spec import IMAGE_SUFFIXES, LabelSpec
from pipeline.storage import (
    BUCKETS,
    STRICT,
    Entry,
    Rules,
    as_folder,
    canonical,
    check_readable,
    first_page,
    identity,
    in_key_order,
    list_pages,
    local_path,
    public,
    recorded,
    scheme,
    stat,
)

#: How many pages `check` searches for a first image.
_CHECK_PAGES = 10


@dataclass(frozen=True, slots=True)
class KeyRange(Shard):
    """Uris in (after, until]."""

    after: str | None = None
    until: str | None = None


@dataclass(frozen=True, slots=True)
class PrefixSource:
    """`src` is canonical; `fixed` is what is listed: `src` up to its first wildcard."""

    src: str
    fixed: str
    glob: bool
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    limit: int | None = None
    rules: Rules = STRICT
    default_excludes: bool = True
    since: Since | None = None

    @property
    def base(self) -> str:
        """The folder that names are relative to."""
        return self.fixed.rpartition("/")[0] + "/"

    @property
    def scope(self) -> dict[str, Any]:
        # Default excludes are not recorded, as before they existed: older runs stay in scope, and
        # rows of theirs that are now left out count as gone.
        return {
            "kind": "prefix",
            "src": recorded(self.src),
            "include": list(self.include),
            "exclude": list(self.exclude),
            "limit": self.limit,
            **({} if self.default_excludes else {"default_excludes": False}),
            **({"modified_since": self.since.text} if self.since else {}),
        }

    def check(self, dst: str | None = None) -> None:
        if dst is not None:
            _check_apart(self.base, dst)
        _check_folder(self.fixed, self.rules)
        looked = list(islice(self._pages(KeyRange("check")), _CHECK_PAGES))
        if not any(page.refs.num_rows for page in looked) and len(looked) < _CHECK_PAGES:
            raise self._nothing(looked)

    def _nothing(self, looked: Sequence[Page]) -> NightlabelError:
        """Why there is no image in all pages of the listing."""
        left_out = sum(page.excluded for page in looked)
        by_default = sum(sum(page.left_out.values()) for page in looked)
        for uri, why in chain.from_iterable(page.unreadable.items() for page in looked):
            return StoreError(f"{public(self.src)}: no image; {public(uri)} cannot be read: {why}")
        if left_out and self.include:
            said = f"no image: --include leaves out all {left_out:,} objects"
        elif left_out:
            said = f"no image among {left_out:,} objects; name them with --include"
        elif by_default:
            said = f"all {by_default:,} are left out by default; --no-default-excludes takes them"
        elif self.glob and names.WILDCARD.search(self.src):
            said = "nothing matches; for the characters * ? [ themselves write [*] [?] [[]"
        else:
            said = "nothing there; check the name"
        return SpecError("src", public(self.src), said)

    def shards(self) -> Iterator[Shard]:
        for number, (after, until) in enumerate(self._ranges()):
            yield KeyRange(f"range-{number:03d}", after, until)

    def _ranges(self) -> Iterator[tuple[str | None, str | None]]:
        if self.limit is not None:
            return iter([(None, None)])
        if scheme(self.fixed) == "file":
            return local_ranges(self.fixed, selection_of(self))
        return key_ranges(self.fixed) if in_key_order(self.fixed) else iter([(None, None)])

    def refs(self, shard: Shard) -> Iterator[Page]:
        assert isinstance(shard, KeyRange)  # noqa: S101 - a shard of this source
        left = self.limit
        for page in (page.as_new_as(self.since) for page in self._pages(shard)):
            if left is None:
                yield page
                continue
            yield page._replace(refs=page.refs.slice(0, left))
            left -= page.refs.num_rows
            if left <= 0:
                return

    def _pages(self, shard: KeyRange) -> Iterator[Page]:
        """Pages of any age: a source with nothing new is not refused."""
        sorter = Sorter(selection_of(self), shard.after, shard.until)
        pages = list_pages(
            self.fixed,
            after=shard.after,
            until=shard.until,
            rules=self.rules,
            visit=sorter.visit,
        )
        for entries in pages:
            yield sorter.page(entries)
        if (last := sorter.last()) is not None:
            yield last

    def contains(self, uri: str, member: str | None = None) -> bool | None:
        if member is not None:
            return False  # archives among other objects are not opened
        for name in (recorded(self.fixed), identity(self.fixed)):
            if name != self.fixed and uri.startswith(name):  # the table knows no passwords
                uri = self.fixed + uri.removeprefix(name)
                break
        inside = uri.startswith(self.fixed) and selection_of(self).taken(uri) is True
        return None if inside and (self.limit is not None or self.since) else inside


@lru_cache(maxsize=32)
def selection_of(source: PrefixSource) -> Selection:
    return select(
        source.src,
        source.fixed,
        source.base,
        glob=source.glob,
        include=source.include,
        exclude=source.exclude,
        suffixes=not _names_a_suffix(source.src, source.glob),
        # A file that is named in full was asked for.
        default_excludes=source.default_excludes
        and not (source.glob and source.src == source.fixed),
    )


def open_prefix(spec: LabelSpec) -> PrefixSource:
    """The source for `spec.src`, a folder, a glob, or one image."""
    src = canonical(spec.src)
    glob = _is_glob(spec, src)
    if glob:
        fixed = src[: names.WILDCARD.search(src).start()]  # type: ignore[union-attr]
    elif _is_file(src, spec.src):
        fixed, glob = src, True  # a glob without wildcards matches only this name
    else:
        src = fixed = as_folder(src)
    return PrefixSource(
        src,
        fixed,
        glob,
        spec.include,
        spec.exclude,
        spec.limit,
        rules_of(spec),
        spec.default_excludes,
        since_of(spec),
    )


def _is_glob(spec: LabelSpec, src: str) -> bool:
    """A folder may be called `[2024]`, so an existing file or folder of this very name has
    priority."""
    if scheme(src) in {"http", "https"} or not names.WILDCARD.search(src):
        return False
    path = local_path(src)
    if path is not None:
        return not os.path.exists(path)  # noqa: PTH110 - pathlib's raises for long names
    if _is_file(src, spec.src):
        return not _is_object(src, rules_of(spec))
    return not next(list_pages(as_folder(src), rules=rules_of(spec)), [])


def _is_object(uri: str, rules: Rules) -> bool:
    try:
        stat(uri, rules)
    except MissingError:
        return False
    return True


def _is_file(src: str, given: str) -> bool:
    if path := local_path(src):
        return os.path.isfile(path)  # noqa: PTH113
    return not given.endswith("/") and src.lower().endswith(IMAGE_SUFFIXES)


def _names_a_suffix(src: str, glob: bool) -> bool:
    """`*.dat` itself says which suffix to take, `2024*/*` does not."""
    return glob and re.fullmatch(r".*\.\w+", src.rpartition("/")[2]) is not None


def _check_apart(base: str, dst: str) -> None:
    """DST below SRC would be listed as input; SRC below DST could be cleaned away."""
    inner, outer = (as_folder(_real(uri)) for uri in (dst, base))
    if inner.startswith(outer):
        raise SpecError("dst", public(dst), f"is inside SRC ({public(base)}); use another folder")
    if outer.startswith(inner):
        raise SpecError("dst", public(dst), f"contains SRC ({public(base)}); use another folder")


def _check_folder(prefix: str, rules: Rules) -> None:
    """Raises what `check_readable` raises; SpecError if one object is there instead, which
    may be a list under a name that we don't know."""
    try:
        check_readable(prefix, rules)
        if scheme(prefix) not in BUCKETS or first_page(prefix, size=1)[0]:
            return
    except MissingError:
        if not _is_one_object(prefix, rules):
            raise
    if _is_one_object(prefix, rules):
        problem = "one object, not a folder; --manifest reads it as a list of images"
        raise SpecError("src", public(prefix.rstrip("/")), problem)


def _is_one_object(prefix: str, rules: Rules) -> bool:
    if not prefix.endswith("/") or scheme(prefix) == "file":
        return False
    try:
        stat(prefix.rstrip("/"), rules)
    except StoreError:
        return False
    return True


def _real(uri: str) -> str:
    path = local_path(uri)
    return canonical(uri) if path is None else f"file://{path.resolve()}"


def local_ranges(prefix: str, selection: Selection) -> Iterator[tuple[str | None, str | None]]:
    """Ranges that end at folder boundaries; a flat folder is one range, after its first page."""
    visit = Sorter(selection, None, None).visit
    first: list[Entry] = next(list_pages(prefix, visit=visit), [])
    if not first:
        yield None, None
        return
    start = first[-1].uri
    yield None, start
    yield from pairwise(chain([start], _folder_ends(prefix, start, visit.enter), [None]))


def _folder_ends(prefix: str, start: str, enter: Callable[[str], bool]) -> list[str]:
    """About 64 folders, taken level by level, that begin after `start`."""
    top = prefix.removeprefix("file://").rpartition("/")[0] + "/"
    level, found = [top], list[str]()
    while level and len(found) < SHARDS:
        level = [path for folder in level for path in _folders_in(folder, enter)]
        found += level
    uris = sorted(f"file://{path}" for path in found)
    uris = [uri for uri in uris if uri > start and is_text(uri)]
    return uris[:: max(1, len(uris) // SHARDS)]


def _folders_in(parent: str, enter: Callable[[str], bool]) -> list[str]:
    try:
        with os.scandir(parent) as entries:
            folders = (e for e in entries if e.is_dir(follow_symlinks=False))
            paths = [f"{parent}{entry.name}/" for entry in islice(folders, 10_000)]
            return [path for path in paths if enter(f"file://{path}")]
    except OSError:  # the listing itself reports it
        return []
