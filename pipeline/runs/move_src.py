"""Move-src: the archive has moved; rows get their new uris, and nothing is labelled again.

The order, and why a kill at any moment is safe:

1. The files that hold moved rows are rewritten as parts, which no reader sees yet.
2. A summary of this move, with the new scope, is saved: moved rows name it as their run.
3. One Delta commit removes the old files and adds the parts.
4. Runs whose scope was the old place are marked as no longer whole. Not earlier: the recipe that
   readers see must not seem to cover less than it does.
5. The summary is completed, and the parts become files at rest, as after a run.

A move that died before step 3 moved nothing. After step 3, the next move finds its rows and does
the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import MissingError, SpecError
from pipeline.runs.finalize import inline, merge
from pipeline.runs.prepare import open_table
from pipeline.sources import kind_of
from pipeline.sources.archive import ArchiveSource, open_archive
from pipeline.sources.containers import kind_by_name
from pipeline.sources.prefix import PrefixSource, open_prefix
from pipeline.spec import make_spec
from pipeline.storage import Folder, as_folder, canonical, identity, public, recorded
from pipeline.store.choice import load_current
from pipeline.store.delta.actions import LiveFile
from pipeline.store.delta.table import Table
from pipeline.store.lease import Lease
from pipeline.store.parts import Part, read_part, write_part
from pipeline.store.relocate import SEEN, Listing, Prefixes, Relocation, Tally
from pipeline.store.runs import Counts, RunSummary, load_runs, new_run_id, save_run
from pipeline.store.upkeep import part_path

Movable = PrefixSource | ArchiveSource


class Moved(BaseModel):
    """What a move did to the rows of all recipes below the old prefix."""

    model_config = ConfigDict(frozen=True)

    src: str
    listed: int = Field(description="objects at the new place")
    moved: int = Field(description="rows that got their new uri")
    files: int = Field(description="files of the store that were rewritten")
    already: int = Field(description="rows left: the recipe has a row at the new place already")
    missing: int = Field(description="rows left: no such object at the new place")
    different: int = Field(description="rows left: the object there has different content")


@dataclass
class _Recipe:
    """One recipe's part of a move."""

    run: RunSummary
    relocation: Relocation
    added: list[Part] = field(default_factory=list)
    removed: list[LiveFile] = field(default_factory=list)


def move_src(
    dst: str,
    old: str,
    new: str,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    take_over: bool = False,
) -> Moved:
    """Give the rows below `old` their uris below `new`, if the same objects are listed there.

    `include` and `exclude` are those of future runs. Raises SpecError for a prefix that is
    invalid or has no rows, MissingError if there is no store, BusyError while a run writes.
    """
    folder = Folder(canonical(dst))
    _table(folder)
    source = _source(dst, new, include, exclude)
    prefixes = _prefixes(old, source)
    if prefixes.old == prefixes.new:
        raise SpecError("new", public(prefixes.new), "is the same as OLD; give the new place")
    source.check(dst)
    run_id = new_run_id(datetime.now(UTC))
    with Lease(folder, run_id, take_over=take_over):
        return _Move(folder, _table(folder), source, prefixes, run_id).execute()


class _Move:
    """A move in progress, under the lease."""

    def __init__(
        self, folder: Folder, table: Table, source: Movable, prefixes: Prefixes, run_id: str
    ) -> None:
        self._folder, self._table, self._source = folder, table, source
        self._prefixes, self._run_id = prefixes, run_id
        self._started = datetime.now(UTC)
        self._excluded = 0

    def execute(self) -> Moved:
        listing = self._list()
        files = sorted(self._table.live(), key=lambda file: file.recipe)
        by_recipe = groupby(files, key=lambda file: file.recipe)
        recipes = [self._rewrite(name, list(group), listing) for name, group in by_recipe]
        tally = Tally()
        for recipe in recipes:
            tally.add(recipe.relocation.tally)
        self._refuse_nothing(tally)
        removed = [file for recipe in recipes for file in recipe.removed]
        if removed:
            self._commit(recipes, removed)
        for recipe in recipes:
            self._end(recipe)
        merge(self._folder, self._table, self._run_id, inline)
        return Moved(
            src=self._source.scope["src"],
            listed=len(listing),
            moved=tally.moved,
            files=len(removed),
            already=tally.already,
            missing=tally.missing,
            different=tally.different,
        )

    def _list(self) -> Listing:
        return Listing.of(self._pages())

    def _pages(self) -> Iterator[pa.Table]:
        for shard in self._source.shards():
            for page in self._source.refs(shard):
                self._excluded += page.excluded
                yield page.refs

    def _rewrite(self, name: str, files: list[LiveFile], listing: Listing) -> _Recipe:
        run = self._summary(name)
        recipe = _Recipe(run, Relocation(self._prefixes, listing, run.run_id))
        seen = [(f, recipe.relocation.see(read_part(self._folder, f, SEEN))) for f in files]
        for number, file in enumerate(file for file, below in seen if below):
            rows = recipe.relocation.move(read_part(self._folder, file))
            if rows is not None:
                path = part_path(run.run_id, name, f"move-{number:06}")
                recipe.added.append(write_part(self._folder, path, name, rows))
                recipe.removed.append(file)
        return recipe

    def _summary(self, recipe: str) -> RunSummary:
        """Each recipe has a run of its own; the summary names one of them."""
        return RunSummary(
            run_id=new_run_id(self._started),
            started=self._started,
            recipe=recipe,
            scope=self._source.scope,
            spec={"src": self._source.scope["src"], "dst": public(self._folder.uri)},
            moved_from=self._prefixes.old,
        )

    def _refuse_nothing(self, tally: Tally) -> None:
        """An old prefix without rows is wrong, unless an earlier move took the rows away."""
        old = self._prefixes.old
        if not tally.rows and not any(run.moved_from == old for run in load_runs(self._folder)):
            raise SpecError("old", public(old), "no row of this store is below it")

    def _commit(self, recipes: list[_Recipe], removed: list[LiveFile]) -> None:
        for recipe in recipes:
            if recipe.added:
                save_run(self._folder, recipe.run)
        added = [part for recipe in recipes for part in recipe.added]
        self._table.commit(added=added, removed=removed)

    def _end(self, recipe: _Recipe) -> None:
        """Complete this move, and one that died after its commit, whose rows were seen."""
        runs = [run for run in load_runs(self._folder) if run.recipe == recipe.run.recipe]
        ours = {*recipe.relocation.runs, *([recipe.run.run_id] if recipe.added else [])}
        moves = [
            run
            for run in runs
            if run.moved_from == self._prefixes.old
            and run.scope == self._source.scope
            and run.finished is None
            and run.run_id in ours
        ]
        for move in moves:
            for run in runs:
                if run.started < move.started and not run.dropped and self._was_of_old(run):
                    run.dropped = True
                    save_run(self._folder, run)
        for move in moves:
            self._finish(move, Counts.of(recipe.relocation.counts))

    def _was_of_old(self, run: RunSummary) -> bool:
        src = str(run.scope.get("src"))
        if self._prefixes.archives:
            return run.scope.get("kind") == "archive" and self._prefixes.moves(src)
        inside = run.scope.get("kind") == "prefix" and self._prefixes.moves(src)
        return inside and not self._prefixes.new.startswith(src)

    def _finish(self, move: RunSummary, counts: Counts) -> None:
        move.counts = counts
        move.counts.excluded = self._excluded
        move.status = "incomplete" if counts.remaining else "complete"
        move.reason = f"moved here from {public(self._prefixes.old)}"
        move.listing_complete = True
        move.current = load_current(self._folder)
        move.finished = datetime.now(UTC)
        move.seconds = {"all": round((move.finished - move.started).total_seconds(), 3)}
        save_run(self._folder, move)


def _source(dst: str, new: str, include: Sequence[str], exclude: Sequence[str]) -> Movable:
    fields = {"include": tuple(include), "exclude": tuple(exclude)}
    spec = make_spec(src=new, dst=dst, manifest=False, **fields)
    if kind_of(spec) == "archive":
        return open_archive(spec)
    source = open_prefix(spec)
    if source.glob:
        raise SpecError(
            "new", public(source.src), "is not a folder; give the folder that replaced OLD"
        )
    return source


def _prefixes(old: str, source: Movable) -> Prefixes:
    if not isinstance(source, ArchiveSource):
        return Prefixes(identity(as_folder(canonical(old))), identity(source.fixed))
    if kind_by_name(old) is None:
        raise SpecError(
            "old", public(old), "is not an archive, but NEW is; give two folders or two archives"
        )
    ends = identity(canonical(old)), identity(source.src)
    for end, name in zip(("old", "new"), ends, strict=True):
        if recorded(name) != name:  # rows have digests of it
            raise SpecError(end, public(name), "has parameters; such an archive cannot be moved")
    return Prefixes(*ends, archives=True)


def _table(folder: Folder) -> Table:
    table = open_table(folder)
    if table is None:
        raise MissingError(f"{public(folder.uri)}: no label store here")
    return table
