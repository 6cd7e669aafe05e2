"""Forget: erases objects; their rows leave every recipe, every file and every version at once.

The order, after a search of all files:

1. One commit removes the live files that hold such a row, and adds copies without it as
   parts. It also fences older writers, so that their uncommitted files stay uncommitted.
2. A checkpoint of that version is written; earlier log files that mention the objects are deleted.
3. The parts are merged, as at the end of a run.
4. All files that hold such a row are deleted; none of them is live any more.

What the next call needs to continue is deleted last: the files show which parts of the log must be
deleted.
"""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from pipeline import schema
from pipeline.errors import MissingError, SpecError
from pipeline.runs.finalize import inline, merge
from pipeline.sources.base import is_text
from pipeline.sources.containers import kind_by_name
from pipeline.sources.manifest import HashRange, ManifestSource, is_manifest
from pipeline.storage import MEMBER_MARK, Folder, canonical, identities, identity, public, recorded
from pipeline.store.delta.actions import LiveFile
from pipeline.store.delta.log import (
    Traces,
    files_with_traces,
    oldest_version,
    remove_up_to_the_last,
)
from pipeline.store.delta.table import Table
from pipeline.store.erase import DOCUMENTS, Objects, Search, documents_that_name
from pipeline.store.lease import Lease
from pipeline.store.names import is_ours
from pipeline.store.parts import Part, read_part, rewrite_without
from pipeline.store.run_index import INDEX
from pipeline.store.runs import new_run_id
from pipeline.store.upkeep import part_path


class Forgotten(BaseModel):
    """The receipt. Paths are within the store."""

    model_config = ConfigDict(frozen=True)

    objects: int = Field(description="how many were given")
    rows: dict[str, int] = Field(description="rows removed, by recipe")
    files_rewritten: int
    files_deleted: int
    log_files_deleted: int
    oldest_version: int = Field(description="the oldest Delta version that can still be read")
    named_in: list[str] = Field(
        description="documents, and files of others, that may name an object; not changed"
    )
    not_read: list[str] = Field(
        description="Parquet files that no run wrote, by content or name: they may hold rows"
    )

    @property
    def found(self) -> bool:
        return bool(self.rows or self.files_deleted or self.log_files_deleted)


def forget(dst: str, given: str, *, take_over: bool = False) -> Forgotten:
    """Remove what `given` (a uri, or a list of them) names; after a kill, call it again.

    Raises SpecError for a file that is not a list, MissingError if there is no store, BusyError
    while a run writes.
    """
    asked = objects_of(given)
    folder = Folder(canonical(dst))
    _open(folder)
    run_id = new_run_id(datetime.now(UTC))
    with Lease(folder, run_id, take_over=take_over):
        return _forget(folder, _open(folder), run_id, asked)


def objects_of(given: str) -> Objects:
    """The objects that a uri or a local list names: addresses, signed or not, or uris
    as in rows."""
    if not given.strip():
        raise SpecError("uri", given, "give the uri of an image, or a list of them")
    if not is_text(given):
        raise SpecError("uri", given, "is not text (UTF-8)")
    if "://" in given or not is_manifest(given):
        return _named(given)
    if not Path(given).is_file():
        problem = f"no such list; for an image with that name give its uri, {canonical(given)}"
        raise SpecError("list", given, problem)
    return _listed(given)


def _named(given: str) -> Objects:
    """One object, or the member of an archive. (A folder `a.zip!` can only be named in a list.)"""
    archive, mark, member = given.partition(MEMBER_MARK)
    if mark and kind_by_name(archive) is not None:
        name = identity(canonical(archive))
        return Objects.of([], [schema.object_id(name, member)], [member])
    name = identity(canonical(given))
    return Objects.of([name, recorded(name)], [schema.object_id(name)])


def _listed(given: str) -> Objects:
    """The objects that a local list names; with a column of members, only members of archives."""
    named, ids, members = set[str](), set[bytes](), set[str]()
    for page in ManifestSource(canonical(given), opens_archives=False).refs(HashRange("all")):
        loose = page.refs.filter(pc.is_null(page.refs["member"]))
        named.update(loose["uri"].to_pylist(), identities(loose["address"].drop_null().to_pylist()))
        ids.update(page.refs["object_id"].to_pylist())
        members.update(page.refs["member"].drop_null().to_pylist())
    if not ids:
        raise SpecError("list", given, "names no image")
    return Objects.of(named, ids, members)


def _open(folder: Folder) -> Table:
    table = Table.open(folder)
    if table is None:
        raise MissingError(f"{public(folder.uri)}: no label store here")
    return table


def _forget(folder: Folder, table: Table, run_id: str, asked: Objects) -> Forgotten:
    objects, search = _search(folder, asked)
    files = table.live()
    _refuse_unread(folder, files, search)
    holding = [file for file in files if file.path in search.held]
    names = objects.uris.to_pylist(), objects.members
    traced = files_with_traces(folder, Traces.of(set(search.held), search.clean, *names))
    rewritten: list[Part] = []
    log_files = 0
    if search.held or traced:
        rewritten = _rewrite(folder, search, holding, run_id)
        table.commit(added=rewritten, removed=holding)
    if traced:
        table.checkpoint()
        log_files = remove_up_to_the_last(folder, traced)
    # It packs documents that may name an object, into a form that nobody can search.
    folder.delete([INDEX])
    # Also if nothing was found: a call that died may have left its parts.
    merge(folder, table, run_id, inline)
    deleted, foreign = _delete(folder, table, objects, search)
    return Forgotten(
        objects=len(asked),
        rows=_by_recipe(search, holding),
        files_rewritten=len(rewritten),
        files_deleted=deleted,
        log_files_deleted=log_files,
        oldest_version=oldest_version(folder),
        named_in=documents_that_name(folder, objects),
        not_read=sorted([*search.unread, *foreign]),
    )


def _search(folder: Folder, asked: Objects) -> tuple[Objects, Search]:
    """All rows of the named objects. A row found by its uri gives an id, and other rows with that
    id may spell the uri differently."""
    search = Search()
    search.look(folder, asked)
    objects = asked.with_rows(search)
    if len(objects) == len(asked):
        return objects, search
    return _search(folder, objects)


def _refuse_unread(folder: Folder, files: list[LiveFile], search: Search) -> None:
    """A live file that cannot be read may hold anything: StoreError says which."""
    for file in files:
        if file.path in search.unread:
            read_part(folder, file)


def _rewrite(folder: Folder, search: Search, holding: list[LiveFile], run_id: str) -> list[Part]:
    new = (
        rewrite_without(
            folder,
            file,
            part_path(run_id, file.recipe, f"forget-{number}"),
            file.recipe,
            search.held[file.path].object_ids,
        )
        for number, file in enumerate(holding)
    )
    return [part for part in new if part is not None]


def _delete(
    folder: Folder, table: Table, objects: Objects, search: Search
) -> tuple[int, list[str]]:
    """Delete files that hold such a row; returns how many, and the paths of those that are not
    ours.

    Searches once more: a fenced writer may have finished a file since the first search.
    """
    live = {file.path for file in table.live()}
    search.look(folder, objects, skip=live)
    unfinished = [name for name in folder.unfinished() if not name.startswith(DOCUMENTS)]
    lying = [path for path in search.held if path not in live]
    gone = [path for path in [*lying, *unfinished] if is_ours(path)]
    folder.delete(gone)
    return len(gone), [path for path in lying if not is_ours(path)]


def _by_recipe(search: Search, holding: list[LiveFile]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for file in holding:
        rows[file.recipe] = rows.get(file.recipe, 0) + search.held[file.path].num_rows
    return rows
