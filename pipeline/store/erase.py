"""Finds every row of some objects in a store: in all Parquet files, whether a version names them or
not.

It reads live files, parts kept for readers of older versions, files at rest that no version names
any more, and parts that no commit ever named, one at a time.
"""

import json
import re
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.storage import Folder
from pipeline.storage.folder import DOCUMENT_BYTES, leads_out
from pipeline.store.delta.log import LOG
from pipeline.store.names import is_ours
from pipeline.store.parts import FILE_BYTES, UNREADABLE, unpack

DOCUMENTS: Final = "_nightlabel/"

#: A whole JSON text, whose name may have blanks, and the words in it, as a sentence may name an
#: object.
_TEXTS: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BETWEEN_WORDS: Final = re.compile(r"[\s\"',;`]+")


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects, by ids and by the uris of their rows; an archive's uri includes all its members.

    One object may have rows of two spellings: version 0.2 wrote more of an address. `members` are
    names of members, to find documents that mention them.
    """

    uris: pa.Array
    object_ids: pa.Array
    members: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, uris: Iterable[str], object_ids: Iterable[bytes], members: Iterable[str] = ()
    ) -> "Objects":
        named, ids = sorted(set(uris)), sorted(set(object_ids))
        return cls(pa.array(named, pa.string()), pa.array(ids, pa.binary()), frozenset(members))

    def __len__(self) -> int:
        return len(self.object_ids)

    def with_rows(self, search: "Search") -> "Objects":
        """With the ids and spellings of the rows that were found."""
        uris, ids = set(self.uris.to_pylist()), set(self.object_ids.to_pylist())
        held = search.held.values()
        return Objects.of(
            uris.union(*(one.uris for one in held)),
            ids.union(*(one.object_ids for one in held)),
            self.members.union(*(one.members for one in held)),
        )


@dataclass(frozen=True, slots=True)
class Held:
    """Rows of the objects in one file; `uris` are those of rows that are not archive members."""

    num_rows: int
    object_ids: tuple[bytes, ...]
    uris: frozenset[str]
    members: frozenset[str]

    @classmethod
    def of(cls, rows: pa.Table) -> "Held":
        columns = (rows[name].to_pylist() for name in ("object_id", "uri", "member"))
        ids, uris, members = columns
        loose = {uri for uri, member in zip(uris, members, strict=True) if member is None}
        named = {member for member in members if member is not None}
        return cls(rows.num_rows, tuple(sorted(set(ids))), frozenset(loose), frozenset(named))


@dataclass(slots=True)
class Search:
    """Results for the files that were read; `unread` are no files of a label store."""

    held: dict[str, Held] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    @property
    def clean(self) -> set[str]:
        """Files that were read and hold no row of the objects."""
        return self.seen - self.held.keys() - {*self.unread}

    def look(self, folder: Folder, objects: Objects, skip: Set[str] = frozenset()) -> None:
        """Read every Parquet file of the store that was not read yet."""
        sizes = _data_files(folder)
        for path in sorted(sizes.keys() - self.seen - skip):
            self.seen.add(path)
            too_large = sizes[path] > FILE_BYTES
            rows = None if too_large or leads_out(path) else _read_ids(folder, path)
            if rows is None:
                self.unread.append(path)
            elif (ours := _rows_of(objects, rows)).num_rows:
                self.held[path] = Held.of(ours)


def documents_that_name(folder: Folder, objects: Objects) -> list[str]:
    """Documents with a word that ends as one of the uris does; they are reported, not changed.

    These are the store's own, since a run's patterns may name an image, and files that others put
    into the log's folder.
    """
    full = [*objects.uris.to_pylist(), *objects.members]
    names = {name.rpartition("/")[2] for name in full} - {""}
    in_log = [e for e in folder.list(LOG) if not is_ours(folder.relative(e.uri))]
    return sorted(
        path
        for entry in [*folder.list(DOCUMENTS), *in_log]
        if entry.size <= DOCUMENT_BYTES
        and not leads_out(folder.relative(entry.uri))
        and not names.isdisjoint(_words(folder.read(path := folder.relative(entry.uri))))
    )


def _words(document: bytes) -> set[str]:
    text = document.decode("utf-8", "replace")
    texts = map(_spelled_out, _TEXTS.findall(text))
    words = [word.rstrip(".:)") for word in _BETWEEN_WORDS.split(text)]
    return {word.rpartition("/")[2] for word in [*texts, *words]}


def _spelled_out(quoted: str) -> str:
    try:
        return str(json.loads(quoted, strict=False))
    except ValueError:  # the file is not JSON; it is not ours
        return quoted[1:-1]


def _data_files(folder: Folder) -> dict[str, int]:
    """Their sizes in bytes, by path."""
    sizes = {folder.relative(entry.uri): entry.size for entry in folder.list()}
    return {
        name: size
        for name, size in sizes.items()
        if name.endswith(".parquet") and not name.startswith((LOG, DOCUMENTS))
    }


def _read_ids(folder: Folder, path: str) -> pa.Table | None:
    """Uris, members and ids of a file; None if it has none, or is no Parquet file."""
    data = folder.read(path, at_most=FILE_BYTES)
    try:
        return unpack(
            data, pa.schema(map(schema.COMMON.field, ["uri", "member", "object_id"])), path
        )
    except UNREADABLE:
        return None


def _rows_of(objects: Objects, rows: pa.Table) -> pa.Table:
    """The rows that belong to the objects."""
    ours = pc.or_(
        pc.is_in(rows["object_id"], value_set=objects.object_ids),
        pc.is_in(rows["uri"], value_set=objects.uris),
    )
    return rows.filter(ours)
