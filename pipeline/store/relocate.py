"""Rows of an archive that moved: finds their objects at the new place, and rewrites the rows.

A row moves if its name below the new prefix is listed with the same content: the same size, and
the same etag if both are known, else the same modification time. It takes its identity and its
version from the new listing, so that the next run finds nothing to label.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.store.ledger import Ids, Ledger, Mask

_FACTS: Final = ("etag", "size", "modified", "version")
#: The columns that `Relocation.see` reads.
SEEN: Final = ("uri", "member", "object_id", "version", "error_code", "run_id")

#: What a recipe has for one listed object.
_NOTHING, _LABEL, _ERROR, _OTHER_VERSION = range(4)


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Two folders as their uris, each ending in a slash; or two archives, whose members move."""

    old: str
    new: str
    archives: bool = False

    def moves(self, uri: str) -> bool:
        """Whether `uri` has to move: below `old`, and not at its new place already."""
        if self.archives:
            return uri == self.old
        return uri.startswith(self.old) and not (self._nested and uri.startswith(self.new))

    def which(self, rows: pa.Table) -> Mask:
        """The same for each of `rows` (uri, member). Members of archives move only with their
        archive."""
        if self.archives:
            members = pc.is_valid(rows["member"])
            return _mask(pc.and_(pc.equal(rows["uri"], self.old), members))
        mask = pc.and_(pc.starts_with(rows["uri"], self.old), pc.is_null(rows["member"]))
        if self._nested:
            mask = pc.and_(mask, pc.invert(pc.starts_with(rows["uri"], self.new)))
        return _mask(mask)

    def renamed(self, uris: pa.ChunkedArray) -> list[str]:
        return [self.new + uri[len(self.old) :] for uri in uris.to_pylist()]

    @property
    def _nested(self) -> bool:
        return self.new.startswith(self.old)


@dataclass(frozen=True, slots=True)
class Listing:
    """The objects at the new place, some 100 bytes each; `index` maps an id to its row
    in `facts`."""

    facts: pa.Table
    index: Ledger

    @classmethod
    def of(cls, pages: Iterable[pa.Table]) -> Self:
        """From tables of schema REFS."""
        empty = schema.REFS.empty_table()
        pieces, ids = [empty.select(_FACTS)], [Ledger.empty()]
        rows = 0
        for refs in pages:
            end = rows + refs.num_rows
            place = np.arange(rows, end, dtype=np.int32)
            version = refs["version"].to_numpy()
            ids.append(Ledger.of(Ids.of(refs["object_id"]), version, place))
            pieces.append(refs.select(_FACTS))
            rows = end
        return cls(pa.concat_tables(pieces).combine_chunks(), Ledger.merged(ids))

    def __len__(self) -> int:
        return int(self.facts.num_rows)


@dataclass(slots=True)
class Tally:
    """Counts of the rows below the old prefix."""

    moved: int = 0
    already: int = 0
    missing: int = 0
    different: int = 0

    def add(self, other: "Tally") -> None:
        self.moved += other.moved
        self.already += other.already
        self.missing += other.missing
        self.different += other.different

    @property
    def rows(self) -> int:
        return self.moved + self.already + self.missing + self.different


class Relocation:
    """Moves one recipe's rows: first `see` all of its files, then `move` the rows that can move.

    Moved rows get `run_id`, since the scope of their old run is the old place.
    """

    def __init__(self, prefixes: Prefixes, listing: Listing, run_id: str) -> None:
        self._prefixes, self._listing, self._run_id = prefixes, listing, run_id
        self._state = np.zeros(len(listing), np.int8)
        self.tally = Tally()
        #: The runs that wrote the rows that were seen.
        self.runs: set[str] = set()

    def see(self, rows: pa.Table) -> bool:
        """Note a file's rows (SEEN); returns whether any of them is below the old prefix."""
        self.runs.update(pc.unique(rows["run_id"]).to_pylist())
        found = self._listing.index.find(Ids.of(rows["object_id"]))
        version = rows["version"].to_numpy()
        same = (version == found.version) | (version == 0) | (found.version == 0)
        labelled = np.where(_mask(pc.is_null(rows["error_code"])), _LABEL, _ERROR)
        state = np.where(same, labelled, _OTHER_VERSION).astype(np.int8)
        self._state[found.place[found.known]] = state[found.known]
        return bool(self._prefixes.which(rows).any())

    def move(self, rows: pa.Table) -> pa.Table | None:
        """A file's rows after the move; None if none of them moves."""
        at = np.flatnonzero(self._prefixes.which(rows))
        asked = rows.take(pa.array(at))
        uris = self._prefixes.renamed(asked["uri"])
        pairs = zip(uris, asked["member"].to_pylist(), strict=True)
        ids = pa.array([schema.object_id(*pair) for pair in pairs], pa.binary())
        found = self._listing.index.find(Ids.of(pa.chunked_array([ids])))
        facts = self._listing.facts.take(pa.array(found.place, mask=~found.known))
        taken = np.zeros(len(at), bool)
        taken[found.known] = self._state[found.place[found.known]] != _NOTHING
        moved = found.known & ~taken & _same_content(asked, facts)
        self._count(found.known, taken, moved)
        if not moved.any():
            return None
        errors = _mask(pc.is_valid(asked["error_code"]))[moved]
        self._state[found.place[moved]] = np.where(errors, _ERROR, _LABEL)
        identity = {name: facts[name] for name in _FACTS}
        identity |= {"uri": pa.array(uris, pa.string()), "object_id": ids}
        new = self._moved(asked, identity).filter(pa.array(moved))
        stay = np.ones(rows.num_rows, bool)
        stay[at[moved]] = False
        return pa.concat_tables([rows.filter(pa.array(stay)), new])

    @property
    def counts(self) -> dict[str, int]:
        """What the recipe now has for the listing, under the names of a run's counts."""
        states = np.bincount(self._state, minlength=4)
        return {
            "listed": len(self._listing),
            "done": int(states[_LABEL]),
            "failed_before": int(states[_ERROR]),
            "changed": int(states[_OTHER_VERSION]),
            "new": int(states[_NOTHING]),
        }

    def _count(self, known: Mask, taken: Mask, moved: Mask) -> None:
        numbers = [moved, taken, ~known, known & ~taken & ~moved]
        self.tally.add(Tally(*(int(np.count_nonzero(mask)) for mask in numbers)))

    def _moved(self, rows: pa.Table, identity: dict[str, Any]) -> pa.Table:
        run_ids = pa.repeat(pa.scalar(self._run_id, pa.string()), rows.num_rows)
        for name, column in (identity | {"run_id": run_ids}).items():
            where = rows.schema.get_field_index(name)
            rows = rows.set_column(where, schema.COMMON.field(name), column)
        return rows


def _same_content(rows: pa.Table, facts: pa.Table) -> Mask:
    size = pc.equal(rows["size"], facts["size"])
    time = pc.equal(rows["modified"], facts["modified"])
    same = pc.coalesce(pc.equal(rows["etag"], facts["etag"]), time)
    return _mask(pc.fill_null(pc.and_(size, same), False))


def _mask(values: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.asarray(values.to_numpy(), dtype=bool)
