"""Ledger: what a recipe has labelled already, in 24 bytes an object.

An object's row is found by its 96-bit id (8 + 4 bytes, sorted). The entry gives its version
(8 bytes) and its place (4 bytes: the file's ordinal, the row's error code, whether it is in
the scope of this run). Ledgers are plain NumPy arrays, so they pass between processes
without a copy and can be built in shards by ranges of the id.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.errors import StoreError
from pipeline.store.states import STATE_BITS, Retried, counts_of, retried, states_of

_SCOPE_BIT: Final = 1 << STATE_BITS
_FILE_SHIFT: Final = STATE_BITS + 1

#: The entry beyond the first 64 bits of the id. It is one struct, since all of it is read at one
#: place, and moved there when ledgers are sorted.
REST: Final = np.dtype([("version", np.int64), ("low", np.uint32), ("place", np.int32)])

#: The columns that a ledger is made from.
COLUMNS: Final = ("object_id", "version", "error_code")

U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Ids:
    """Object ids (n × 96 bits) as two unsigned columns that sort as the bytes do."""

    high: U64
    low: U32

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Self:
        """From a binary column of 12-byte ids without nulls."""
        width = schema.OBJECT_ID_BYTES
        chunks = [_fixed_bytes(chunk, width) for chunk in column.chunks] or [b""]
        raw = np.frombuffer(b"".join(chunks), dtype=np.uint8).reshape(-1, width)
        high = np.ascontiguousarray(raw[:, :8]).view(">u8").ravel().astype(np.uint64)
        low = np.ascontiguousarray(raw[:, 8:]).view(">u4").ravel().astype(np.uint32)
        return cls(high, low)

    def take(self, where: npt.NDArray[np.intp] | Mask) -> "Ids":
        return Ids(self.high[where], self.low[where])

    def to_bytes(self) -> list[bytes]:
        return [
            int(high).to_bytes(8, "big") + int(low).to_bytes(4, "big")
            for high, low in zip(self.high, self.low, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Found:
    """The ledger's answers for n objects; arrays of length n.

    `at` is the row's index in the ledger, -1 if the object is unknown.
    """

    at: npt.NDArray[np.int64]
    version: I64
    place: I32

    @property
    def known(self) -> Mask:
        return self.at >= 0

    @property
    def state(self) -> I32:
        return self.place & ((1 << STATE_BITS) - 1)

    @property
    def in_scope(self) -> Mask:
        marked: Mask = (self.place & _SCOPE_BIT) != 0
        return self.known & marked

    @property
    def file(self) -> I32:
        return self.place >> _FILE_SHIFT


@dataclass(frozen=True, slots=True)
class Ledger:
    """Sorted by id; one entry per row of the store. Duplicate rows stay, so that they can
    be found."""

    high: U64
    rest: npt.NDArray[np.void]  # of type REST

    @classmethod
    def empty(cls) -> Self:
        return cls(np.empty(0, np.uint64), np.empty(0, REST))

    @classmethod
    def of(cls, ids: Ids, version: I64, place: I32) -> Self:
        """n entries from columns of length n, in the given order."""
        rest = np.empty(len(ids.high), REST)
        rest["version"], rest["low"], rest["place"] = version, ids.low, place
        return cls(ids.high, rest)

    @classmethod
    def of_file(cls, rows: pa.Table, file: int, in_scope: Mask) -> Self:
        """The unsorted entries of one file's rows (COLUMNS), `file` being its ordinal.

        If error_message is among them too, states.PRIVATE rows are distinguished.
        """
        version = rows["version"].to_numpy().astype(np.int64, copy=False)
        place = (file << _FILE_SHIFT) | np.where(in_scope, _SCOPE_BIT, 0) | states_of(rows)
        return cls.of(Ids.of(rows["object_id"]), version, place.astype(np.int32))

    @classmethod
    def joined(cls, pieces: Iterable["Ledger"]) -> Self:
        """The entries of many pieces, one piece after the other and not sorted."""
        listed: list[Ledger] = [cls.empty(), *pieces]
        high = np.concatenate([piece.high for piece in listed])
        return cls(high, np.concatenate([piece.rest for piece in listed]))

    @property
    def low(self) -> U32:
        column: U32 = self.rest["low"]
        return column

    @property
    def place(self) -> I32:
        column: I32 = self.rest["place"]
        return column

    @classmethod
    def merged(cls, pieces: Iterable["Ledger"]) -> "Ledger":
        """One sorted ledger from many pieces."""
        whole = cls.joined(pieces)
        return whole._take(_order(whole.high, whole.low))

    def __len__(self) -> int:
        return len(self.high)

    def split(self, shards: int) -> list["Ledger"]:
        """The entries by ranges of the id: shard i of `shards` has those with `shard_of` i."""
        which = shard_of(self.high, shards).astype(np.uint16)
        order = np.argsort(which, kind="stable")
        ends = np.cumsum(np.bincount(which, minlength=shards))
        whole = self._take(order)
        return [whole._between(*part) for part in zip([0, *ends[:-1]], ends, strict=True)]

    def find(self, ids: Ids) -> Found:
        """Look up n ids; for a duplicate object the first entry is given."""
        at = self._search(ids)
        known = at >= 0
        version = np.zeros(len(at), np.int64)
        place = np.zeros(len(at), np.int32)
        there = self.rest[at[known]]
        version[known], place[known] = there["version"], there["place"]
        return Found(at, version, place)

    def doubled(self) -> int:
        """How many entries exceed one an object."""
        same = (self.high[1:] == self.high[:-1]) & (self.low[1:] == self.low[:-1])
        return int(np.count_nonzero(same))

    def count_in_scope(self) -> int:
        return int(np.count_nonzero(self.place & _SCOPE_BIT))

    def unseen(self, seen: Mask) -> dict[int, list[bytes]]:
        """The in-scope entries that `seen` (one flag an entry) leaves out: ids by file."""
        gone = np.flatnonzero(~seen & ((self.place & _SCOPE_BIT) != 0))
        files = self.place[gone] >> _FILE_SHIFT
        return {
            int(file): Ids(self.high, self.low).take(gone[files == file]).to_bytes()
            for file in np.unique(files)
        }

    def _search(self, ids: Ids) -> npt.NDArray[np.int64]:
        at = np.searchsorted(self.high, ids.high).astype(np.int64)
        found = np.full(len(at), -1, np.int64)
        pending = np.arange(len(at))
        while len(pending):  # more than once only if ids share 64 bits
            here = at[pending]
            inside = here < len(self)
            pending, here = pending[inside], here[inside]
            same = self.high[here] == ids.high[pending]
            pending, here = pending[same], here[same]
            hit = self.low[here] == ids.low[pending]
            found[pending[hit]] = here[hit]
            pending = pending[~hit]
            at[pending] += 1
        return found

    def _between(self, start: int, end: int) -> Self:
        """Some entries, without a copy."""
        return type(self)(self.high[start:end], self.rest[start:end])

    def _take(self, where: npt.NDArray[np.intp]) -> Self:
        return type(self)(self.high.take(where), self.rest.take(where))


def _order(high: U64, low: U32) -> npt.NDArray[np.intp]:
    """The order by (high, low); duplicate ids stay in the order they came.

    NumPy sorts numbers some seven times as fast as it computes their order. So we sort numbers made
    of each id's leading bits and, in the remaining bits, its index. Ids that are equal in the
    leading bits, few except for duplicate rows, are then ordered among themselves.
    """
    if len(high) < 2:
        return np.arange(len(high))
    bits = np.uint64((len(high) - 1).bit_length())
    lowest, highest = high.min(), high.max()
    packed = high - lowest
    packed <<= np.uint64(64 - max(1, int(highest - lowest).bit_length()))
    packed >>= bits
    packed <<= bits
    packed |= np.arange(len(high), dtype=np.uint64)
    packed.sort()
    index_bits = (np.uint64(1) << bits) - np.uint64(1)
    order: npt.NDArray[np.intp] = (packed & index_bits).view(np.intp)
    packed >>= bits
    same = packed[1:] == packed[:-1]
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    among = order[tied]
    order[tied] = among[np.lexsort((low[among], high[among]))]
    return order


def shard_of(high: U64, shards: int) -> npt.NDArray[np.int64]:
    """The shard of each id: equal ranges of its first 32 bits."""
    return ((high >> np.uint64(32)) * np.uint64(shards) >> np.uint64(32)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Todo:
    """The rest of a page of refs: the refs to label, and counts of the whole page."""

    refs: pa.Table
    counts: dict[str, int]
    found: list[tuple[int, npt.NDArray[np.int64]]]  # (shard, indices of entries in scope)


def subtract(ledgers: Sequence[Ledger], refs: pa.Table, *, retry_errors: Retried) -> Todo:
    """Refs that need a label, with `replaces` set if they have a row that must go.

    An object is done if it has a row of the same version that is a label or a permanent
    error. A version of 0 on either side means unknown: then the uri
    alone decides. `retry_errors` tries permanent errors again.
    """
    ids = Ids.of(refs["object_id"])
    found, in_scope = _find_in_shards(ledgers, ids)
    listed = refs["version"].to_numpy()
    known, state = found.known, found.state
    changed = known & (listed != found.version) & (listed != 0) & (found.version != 0)
    again = known & ~changed & retried(retry_errors)[state]
    todo = ~known | changed | again
    counts = {
        "listed": len(listed),
        "bytes": pc.sum(refs["size"].filter(pa.array(todo))).as_py() or 0,
        "new": int(np.count_nonzero(~known)),
        "changed": int(np.count_nonzero(changed)),
        "retried": int(np.count_nonzero(again)),
        "matched": int(np.count_nonzero(found.in_scope)),
    }
    counts |= counts_of(state[~todo])
    replaces = pa.array(found.file, pa.int32(), mask=~known)
    with_replaces = refs.set_column(refs.schema.get_field_index("replaces"), "replaces", replaces)
    return Todo(with_replaces.filter(pa.array(todo)), counts, in_scope)


def _find_in_shards(
    ledgers: Sequence[Ledger], ids: Ids
) -> tuple[Found, list[tuple[int, npt.NDArray[np.int64]]]]:
    size = len(ids.high)
    found = Found(np.full(size, -1, np.int64), np.zeros(size, np.int64), np.zeros(size, np.int32))
    which = shard_of(ids.high, max(1, len(ledgers)))
    in_scope = []
    for shard, ledger in enumerate(ledgers):
        asked = np.flatnonzero(which == shard)
        answer = ledger.find(ids.take(asked))
        found.at[asked], found.version[asked] = answer.at, answer.version
        found.place[asked] = answer.place
        in_scope.append((shard, answer.at[answer.in_scope]))
    return found, in_scope


def _fixed_bytes(chunk: pa.Array, width: int) -> bytes:
    """The data of a binary chunk all of whose values have `width` bytes."""
    _, _, data = chunk.buffers()
    if data is None or len(chunk) == 0:
        return b""
    offsets = np.frombuffer(chunk.buffers()[1], np.int32)[
        chunk.offset : chunk.offset + len(chunk) + 1
    ]
    if (np.diff(offsets) != width).any():
        raise StoreError(f"an object_id column holds ids that are not {width} bytes long")
    return bytes(data[int(offsets[0]) : int(offsets[-1])])
