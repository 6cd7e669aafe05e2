"""Source: the protocol of an input kind: shards of an archive, and the refs in each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.spec import LabelSpec, since_at
from pipeline.storage import (
    UNKNOWN_SIZE,
    UNKNOWN_TIME,
    Entry,
    Rules,
    all_recorded,
    identities,
    microseconds,
)

NOTHING: Final = ()
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a source that one task lists; together the shards are the whole source, once."""

    name: str


class Page(NamedTuple):
    """Some refs, schema REFS with `replaces` null, and how many objects were left out.

    `left_out` counts, by pattern, the objects that default excludes left out in addition.
    `unreadable` maps the uri of what could not be listed to the reason; a folder's uri ends in `/`.
    """

    refs: pa.Table
    excluded: int
    left_out: Mapping[str, int] = _NONE
    unreadable: Mapping[str, str] = _NONE

    def as_new_as(self, since: "Since | None") -> "Page":
        """Without the refs that are known to be older, which count as excluded."""
        if since is None:
            return self
        times = self.refs["modified"].cast(pa.int64())
        kept = self.refs.filter(pc.greater_equal(times, since.microseconds).fill_null(True))
        older = self.refs.num_rows - kept.num_rows
        return self._replace(refs=kept, excluded=self.excluded + older)


class Source(Protocol):
    """An input kind. Sources and shards are small and can be pickled: they are sent to tasks."""

    @property
    def scope(self) -> dict[str, Any]:
        """What this source covers, as JSON: canonical SRC and filters. A run records it."""

    def check(self, dst: str | None = None) -> None:
        """Raises before any work: MissingError, DeniedError, or SpecError naming the field."""

    def shards(self) -> Iterator[Shard]:
        """Disjoint and complete; the first is small, so that work starts at once."""

    def refs(self, shard: Shard) -> Iterator[Page]:
        """The refs of one shard; each object appears once over all shards."""

    def contains(self, uri: str, member: str | None = None) -> bool | None:
        """Whether a labelled object is in this scope, by the uri in its row, and the member if
        it is in an archive; None if these alone cannot decide it."""


@dataclass(frozen=True, slots=True)
class Since:
    """`--modified-since` as given, and its meaning in this run: µs since the epoch."""

    text: str
    microseconds: int


def since_of(spec: LabelSpec) -> Since | None:
    """Resolved when a source is opened, so that all tasks of a run take the same objects."""
    if spec.modified_since is None:
        return None
    moment = since_at(spec.modified_since, datetime.now().astimezone())
    return Since(spec.modified_since, microseconds(moment))


def rules_of(spec: LabelSpec) -> Rules:
    """A job's rules for web addresses."""
    return Rules(allow_private=spec.allow_private, seconds=spec.max_seconds)


def refs_of_entries(entries: Iterable[Entry]) -> pa.Table:
    """REFS of listed objects; facts that the listing lacks are null."""
    facts = [
        (
            entry.uri,
            entry.etag,
            None if entry.size == UNKNOWN_SIZE else entry.size,
            None if entry.modified is UNKNOWN_TIME else microseconds(entry.modified),
        )
        for entry in entries
    ]
    listed, etags, sizes, times = zip(*facts, strict=True) if facts else ((), (), (), ())
    addresses = list(listed)
    return refs_of(addresses, identities(addresses), etags, sizes, times)


def refs_of(
    addresses: list[str],
    names: list[str],
    etags: Sequence[str | None] | None = None,
    sizes: Sequence[int | None] | None = None,
    modified_us: Sequence[int | None] | None = None,
    object_ids: Sequence[bytes] | None = None,
) -> pa.Table:
    """REFS of objects that are read at `addresses`, whose identities are `names`.

    An id is a hash of the identity; only the recorded uris are written.
    """
    if object_ids is None:
        object_ids = [schema.object_id(name) for name in names]
    uris = all_recorded(names)
    pairs = zip(addresses, uris, strict=True)
    asked = [None if uri == address else address for address, uri in pairs]
    return refs_table(uris, etags, sizes, modified_us, object_ids, asked)


def refs_table(
    uris: Sequence[str],
    etags: Sequence[str | None] | None = None,
    sizes: Sequence[int | None] | None = None,
    modified_us: Sequence[int | None] | None = None,
    object_ids: Sequence[bytes] | None = None,
    addresses: Sequence[str | None] | None = None,
) -> pa.Table:
    """REFS of canonical uris, with identities and versions; a missing column is null.

    Uris are without credentials; such objects are read at `addresses`.
    """
    count = len(uris)
    if etags is None and sizes is None and modified_us is None:
        versions = pa.repeat(pa.scalar(0, pa.int64()), count)
    else:
        nothing = (None,) * count
        facts = zip(etags or nothing, sizes or nothing, modified_us or nothing, strict=True)
        versions = pa.array([schema.version(*fact) for fact in facts], pa.int64())
    if object_ids is None:
        object_ids = [schema.object_id(uri) for uri in uris]
    columns = {
        "uri": pa.array(uris, pa.string()),
        "member": pa.nulls(count, pa.string()),
        "etag": _column(etags, count, pa.string()),
        "size": _column(sizes, count, pa.int64()),
        "modified": _column(modified_us, count, pa.int64()).cast(schema.TIMESTAMP),
        "object_id": pa.array(object_ids, pa.binary()),
        "version": versions,
        "replaces": pa.nulls(count, pa.int32()),
        "address": _column(addresses, count, pa.string()),
        "place": pa.nulls(count, schema.PLACE),
        "data": pa.nulls(count, pa.large_binary()),
    }
    return pa.Table.from_pydict(columns, schema.REFS)


def with_data(refs: pa.Table, data: Sequence[bytes | None]) -> pa.Table:
    """`refs` with bytes that the source had to read anyway; rows without are read as usual."""
    at = refs.schema.get_field_index("data")
    return refs.set_column(at, refs.schema.field(at), pa.array(data, pa.large_binary()))


def _column(values: Sequence[Any] | None, count: int, kind: pa.DataType) -> pa.Array:
    return pa.nulls(count, kind) if values is None else pa.array(values, kind)


def is_text(uri: str) -> bool:
    """False for a local name that is not UTF-8; no table could hold it."""
    try:
        uri.encode()
    except UnicodeEncodeError:
        return False
    return True
