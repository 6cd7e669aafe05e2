"""Images that a manifest names: txt, CSV, JSONL, Parquet, an S3 Inventory.

An object that a manifest names twice is one ref, also where its two addresses differ in their
signatures alone. A large manifest is read by several tasks:
each streams all of it, keeps the object ids of its own range, and so knows its doubles while
nobody holds the whole.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline import schema
from pipeline.errors import SpecError
from pipeline.sources import names
from pipeline.sources.base import Page, Shard, is_text, microseconds, refs_table, rules_of
from pipeline.sources.rows import READERS, Rows, malformed, read_rows, suffix
from pipeline.spec import LabelSpec
from pipeline.storage import (
    STRICT,
    UNKNOWN_SIZE,
    UNKNOWN_TIME,
    Entry,
    Rules,
    canonical,
    identity,
    join,
    open_binary,
    public,
    scheme,
    stat,
    stat_many,
)

#: Object ids that one task remembers to know doubles: about 100 bytes each.
ROWS_A_SHARD = 2_000_000
WEB = frozenset({"http", "https"})
_SAMPLE = 64 * 1024


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

    @property
    def scope(self) -> dict[str, Any]:
        return {
            "kind": "manifest",
            "src": identity(self.src),
            "include": list(self.include),
            "exclude": list(self.exclude),
            "limit": self.limit,
        }

    def check(self, dst: str | None = None) -> None:
        """Reads the beginning. DST may lie anywhere: only what is named is read."""
        del dst
        stat(self.src, self.rules)
        if not any(any(rows.uris) for rows in read_rows(self.src, self.rules)):
            raise SpecError("src", public(self.src), "an empty manifest")

    def shards(self) -> Iterator[Shard]:
        count = 1 if self.limit else -(-self._estimated_rows() // ROWS_A_SHARD)
        for index in range(max(1, count)):
            yield HashRange(f"hash-{index:03d}", index, max(1, count))

    def _estimated_rows(self) -> int:
        with open_binary(self.src, self.rules) as file:
            if suffix(self.src) == ".parquet":
                from pyarrow import parquet

                return int(parquet.ParquetFile(file).metadata.num_rows)
            sample = file.read(_SAMPLE)
            size = file.seek(0, 2)
        text = sample
        if public(self.src).endswith(".gz"):
            try:
                text = zlib.decompressobj(wbits=31).decompress(sample)
            except zlib.error:
                return 1  # reading it will say so
        return (text.count(b"\n") + 1) * size // max(1, len(sample))

    def refs(self, shard: Shard) -> Iterator[Page]:
        assert isinstance(shard, HashRange)  # noqa: S101 - a shard of this source
        seen: set[bytes] = set()
        left = self.limit
        for rows in read_rows(self.src, self.rules):
            page = self._page(rows, shard, seen)
            if left is not None:
                page = Page(page.refs.slice(0, left), page.excluded)
                left -= page.refs.num_rows
            yield page
            if left == 0:
                return

    def _page(self, rows: Rows, shard: HashRange, seen: set[bytes]) -> Page:
        kept: list[_Named] = []
        excluded = 0
        for named in self._named(rows):
            if named is None:
                excluded += shard.index == 0
                continue
            object_id = named.object_id
            in_range = int.from_bytes(object_id[:4], "big") * shard.of >> 32 == shard.index
            if in_range and object_id not in seen:
                seen.add(object_id)
                kept.append(named)
        addresses = [named.address for named in kept]
        facts = _facts(rows, [named.row for named in kept])
        if self.check_changes:
            facts = _checked(addresses, facts, self.rules)
        refs = refs_table(
            [named.uri for named in kept],
            *facts,
            [named.object_id for named in kept],
            [None if named.address == named.uri else named.address for named in kept],
        )
        return Page(refs, excluded)

    def _named(self, rows: Rows) -> Iterator["_Named | None"]:
        """Each row that is not blank; None for one left out."""
        resolve = _resolver(self.src)
        wanted = names.name_filter(self.include, self.exclude, suffixes=False)
        filters = bool(self.include or self.exclude)
        for index, text in enumerate(rows.uris):
            if not text or text.isspace():
                continue
            try:
                address = resolve(text)
            except SpecError as error:
                raise malformed(self.src, rows.line + index, error.problem) from None
            uri = identity(address)
            taken = (address.isascii() or is_text(address)) and (not filters or wanted(uri))
            yield _Named(index, uri, address, schema.object_id(uri)) if taken else None

    def contains(self, uri: str) -> bool | None:
        """Only the whole manifest could tell."""
        del uri
        return None


class _Named(NamedTuple):
    """A row: its place in the batch, its canonical uri, and where the object is read."""

    row: int
    uri: str
    address: str
    object_id: bytes


Facts = tuple[Sequence[str | None] | None, Sequence[int | None] | None, Sequence[int | None] | None]


def _facts(rows: Rows, kept: list[int]) -> Facts:
    def of(column: Sequence[Any] | None) -> list[Any] | None:
        return None if column is None else [column[index] for index in kept]

    return of(rows.etags), of(rows.sizes), of(rows.modified_us)


def _checked(addresses: list[str], facts: Facts, rules: Rules) -> Facts:
    """What the manifest lacks, asked of the store; an object that is gone keeps nulls."""
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


def _resolver(src: str) -> Callable[[str], str]:
    """Entries as canonical uris; a relative one starts at the manifest's folder.

    A manifest from the web is not ours, so it names nothing that only we can read.
    """
    from_web = scheme(src) in WEB
    parent = (src.partition("?")[0] if from_web else src).rpartition("/")[0]

    def resolve(text: str) -> str:
        if text.startswith(("s3://", "https://", "http://", "gs://")):
            return text  # canonical as it stands
        if "://" in text or text.startswith("/"):
            return canonical(text)
        return canonical(join(parent, text))

    def resolve_of_web(text: str) -> str:
        uri = resolve(text)
        if scheme(uri) not in WEB:
            raise SpecError("uri", text, "a manifest from the web may name web addresses only")
        return uri

    return resolve_of_web if from_web else resolve


def is_manifest(src: str) -> bool:
    """True if the name of SRC says that it is a manifest."""
    return suffix(src) in READERS


def open_manifest(spec: LabelSpec) -> ManifestSource:
    return ManifestSource(
        canonical(spec.src),
        spec.include,
        spec.exclude,
        spec.limit,
        spec.check_changes,
        rules_of(spec),
    )
