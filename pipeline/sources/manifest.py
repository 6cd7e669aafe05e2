"""Images that a manifest names: txt, CSV, JSONL, Parquet, an S3 Inventory.

An object that a manifest names twice is one ref. A large manifest is read by several tasks:
each streams all of it, keeps the object ids of its own range, and so knows its doubles while
nobody holds the whole.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import schema
from pipeline.errors import SpecError
from pipeline.sources import names
from pipeline.sources.base import Page, Shard, is_text, microseconds, refs_table
from pipeline.sources.rows import READERS, Rows, malformed, read_rows, suffix
from pipeline.spec import LabelSpec
from pipeline.storage import (
    UNKNOWN_SIZE,
    UNKNOWN_TIME,
    Entry,
    canonical,
    join,
    open_binary,
    public,
    stat,
    stat_many,
)

#: Object ids that one task remembers to know doubles: about 100 bytes each.
ROWS_A_SHARD = 2_000_000
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

    @property
    def scope(self) -> dict[str, Any]:
        return {
            "kind": "manifest",
            "src": public(self.src) if self.src.startswith("http") else self.src,
            "include": list(self.include),
            "exclude": list(self.exclude),
            "limit": self.limit,
        }

    def check(self, dst: str | None = None) -> None:
        """Reads the beginning. DST may lie anywhere: only what is named is read."""
        del dst
        stat(self.src)
        if not any(any(rows.uris) for rows in read_rows(self.src)):
            raise SpecError("src", public(self.src), "an empty manifest")

    def shards(self) -> Iterator[Shard]:
        count = 1 if self.limit else -(-self._estimated_rows() // ROWS_A_SHARD)
        for index in range(max(1, count)):
            yield HashRange(f"hash-{index:03d}", index, max(1, count))

    def _estimated_rows(self) -> int:
        with open_binary(self.src) as file:
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
        for rows in read_rows(self.src):
            page = self._page(rows, shard, seen)
            if left is not None:
                page = Page(page.refs.slice(0, left), page.excluded)
                left -= page.refs.num_rows
            yield page
            if left == 0:
                return

    def _page(self, rows: Rows, shard: HashRange, seen: set[bytes]) -> Page:
        kept: list[tuple[int, str, bytes]] = []
        excluded = 0
        for index, uri in self._uris(rows):
            if uri is None:
                excluded += shard.index == 0
                continue
            identity = schema.object_id(uri)
            in_range = int.from_bytes(identity[:4], "big") * shard.of >> 32 == shard.index
            if in_range and identity not in seen:
                seen.add(identity)
                kept.append((index, uri, identity))
        uris = [uri for _, uri, _ in kept]
        facts = _facts(rows, [index for index, _, _ in kept])
        if self.check_changes:
            facts = _checked(uris, facts)
        return Page(refs_table(uris, *facts, [identity for _, _, identity in kept]), excluded)

    def _uris(self, rows: Rows) -> Iterator[tuple[int, str | None]]:
        """(index, canonical uri) of each row that is not blank; None for one left out."""
        resolve = _resolver(self.src)
        wanted = names.name_filter(self.include, self.exclude, suffixes=False)
        filters = bool(self.include or self.exclude)
        for index, text in enumerate(rows.uris):
            if not text or text.isspace():
                continue
            try:
                uri = resolve(text)
            except SpecError as error:
                raise malformed(self.src, rows.line + index, error.problem) from None
            taken = (uri.isascii() or is_text(uri)) and (not filters or wanted(uri))
            yield index, uri if taken else None

    def contains(self, uri: str) -> bool | None:
        """Only the whole manifest could tell."""
        del uri
        return None


Facts = tuple[Sequence[str | None] | None, Sequence[int | None] | None, Sequence[int | None] | None]


def _facts(rows: Rows, kept: list[int]) -> Facts:
    def of(column: Sequence[Any] | None) -> list[Any] | None:
        return None if column is None else [column[index] for index in kept]

    return of(rows.etags), of(rows.sizes), of(rows.modified_us)


def _checked(uris: list[str], facts: Facts) -> Facts:
    """What the manifest lacks, asked of the store; an object that is gone keeps nulls."""
    nothing: Sequence[None] = (None,) * len(uris)
    etags, sizes, times = (list(column or nothing) for column in facts)
    lacking = [n for n, etag in enumerate(etags) if etag is None]
    for index, found in stat_many([uris[n] for n in lacking]):
        if isinstance(found, Entry):
            n = lacking[index]
            etags[n] = found.etag
            sizes[n] = None if found.size == UNKNOWN_SIZE else found.size
            times[n] = None if found.modified == UNKNOWN_TIME else microseconds(found.modified)
    return etags, sizes, times  # type: ignore[return-value]


def _resolver(src: str) -> Callable[[str], str]:
    """Entries as canonical uris; a relative one starts at the manifest's folder."""
    parent = (src.partition("?")[0] if src.startswith("http") else src).rpartition("/")[0]

    def resolve(text: str) -> str:
        if text.startswith(("s3://", "https://", "http://", "gs://")):
            return text  # canonical as it stands
        if "://" in text or text.startswith("/"):
            return canonical(text)
        return canonical(join(parent, text))

    return resolve


def is_manifest(src: str) -> bool:
    """True if the name of SRC says that it is a manifest."""
    return suffix(src) in READERS


def open_manifest(spec: LabelSpec) -> ManifestSource:
    return ManifestSource(
        canonical(spec.src), spec.include, spec.exclude, spec.limit, spec.check_changes
    )
