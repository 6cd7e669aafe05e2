"""Verify: checks that the rows are right: listed = labelled + failed + remaining, no row twice.

It trusts nothing that a run reported: rows come from the files, files from the store's own
listing, objects from SRC, and a sample is recomputed from its bytes by the task's reference.
"""

import random
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from pipeline import schema
from pipeline.engine.gcs import check_cluster
from pipeline.errors import TRANSIENT_CODES, Exit, MissingError, SpecError, StoreError
from pipeline.graph.progress import Listener, Progress, nobody
from pipeline.runs.sample import Sample, check_sample
from pipeline.runs.usage import check_paths
from pipeline.scan.full_scan import ledgers_of, survey
from pipeline.scan.gone import count_gone
from pipeline.scan.ledgers import FileReader
from pipeline.sources import Source, open_source
from pipeline.spec import LabelSpec
from pipeline.storage import BUCKETS, public, scheme
from pipeline.store.delta.actions import LiveFile
from pipeline.store.parts import read_part
from pipeline.store.reader import LabelStore
from pipeline.store.recipes import RECIPES, load_recipes
from pipeline.store.runs import Counts, RunSummary, load_runs, named_unreadable
from pipeline.store.upkeep import at_rest, parts_of
from pipeline.tasks import Recipe, Task, recipe_of, task_of

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLE_IMAGES = 16

#: What a read needs to know of an object.
_OF_AN_OBJECT = ("uri", "member", "object_id", "etag", "size", "modified")


class Verification(BaseModel):
    """What `verify` found. `problems` is empty if and only if all guarantees hold."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    version: int
    counts: Counts
    rows: int
    doubled: int
    missing: int = Field(description="listed before the last whole run began, and without a row")
    newer: int = Field(description="listed, but newer than the last whole run")
    unmerged_parts: int
    sample: Sample | None
    unreadable: dict[str, str] = Field(
        default_factory=dict, description="what could not be listed, and why"
    )
    problems: list[str]

    @property
    def exit_code(self) -> int:
        if self.problems:
            return int(Exit.GATE)
        return int(Exit.INCOMPLETE if self.counts.todo > self.newer else Exit.OK)


def verify(
    spec: LabelSpec,
    *,
    sample: int = SAMPLE_IMAGES,
    seed: int = 0,
    model: str | None = None,
    listener: Listener = nobody,
) -> Verification:
    """Check the labels at `spec.dst` against the images at `spec.src`; writes nothing.

    `model` says where the recipe's model is now, if not where it was when it labelled.

    Raises SpecError for a SRC or model that does not exist, ClusterError if a cluster was asked
    for and is down, MissingError if there is no store or nothing was ever labelled.
    """
    listener(Progress("checking"))
    check_paths(spec.src, model)
    if spec.address:
        check_cluster(spec.address)
    store = LabelStore(spec.dst)
    recipe = store.current()
    if recipe is None:
        raise MissingError(f"{spec.dst}: nothing has been labelled here yet")
    source = open_source(spec)
    source.check()
    listener(Progress("listing"))
    files = store.live(recipe)
    runs = [run for run in load_runs(store.folder) if run.scope == source.scope]
    since = _last_whole_run(runs, recipe)
    reader = FileReader.for_scope(store.folder, source, runs, held_to_log=False)
    there = [file for file in files if store.folder.stat(file.path) is not None]
    with ledgers_of(reader, there, spec.address) as ledgers:
        found = survey(source, ledgers, _NewerThan(since), retry_errors=False)
        rows, doubled = sum(map(len, ledgers)), sum(ledger.doubled() for ledger in ledgers)
        in_scope = sum(ledger.count_in_scope() for ledger in ledgers)
    counts = Counts.of(found.counts)
    counts.unreadable = len(found.unreadable)
    counts.gone = count_gone(spec, found, reader, there, in_scope)
    newer = found.counts.get("newer", 0)
    missing = counts.todo - newer if since else 0
    checked = None
    if sample and there:
        listener(Progress("sampling"))
        task, made_by = _recipe(store, recipe, model)
        drawn = _draw(store, task, there, sample, seed)
        if drawn.num_rows:
            checked = check_sample(task, spec, made_by, _with_places(source, drawn))
    return Verification(
        recipe=recipe,
        version=store.version,
        counts=counts,
        rows=rows,
        doubled=doubled,
        missing=missing,
        newer=newer,
        unmerged_parts=len(parts_of(files)),
        sample=checked,
        unreadable=named_unreadable(found.unreadable),
        problems=[
            *_row_problems(doubled, missing, rows, files),
            *_file_problems(store, recipe, files),
            *(checked.problems() if checked else []),
            *_listing_problems(spec, counts),
        ],
    )


def _last_whole_run(runs: "Sequence[RunSummary]", recipe: str) -> datetime | None:
    whole = [run for run in runs if _is_whole(run)]
    started = [run.started for run in whole if run.recipe == recipe and not run.spec.get("limit")]
    return max(started, default=None)


def _is_whole(run: "RunSummary") -> bool:
    """Did it leave nothing to the next run? The error limit may stop a run early, or end a whole
    one."""
    if run.status not in ("complete", "gate") or not run.listing_complete or run.dropped:
        return False
    counts = run.counts
    return not counts.remaining and not any(map(counts.errors.get, TRANSIENT_CODES))


class _NewerThan:
    """Counts the refs to label that arrived after a time."""

    def __init__(self, since: datetime | None) -> None:
        self._since = since

    def __call__(self, todo: pa.Table) -> dict[str, int]:
        if self._since is None or not todo.num_rows:
            return {"newer": 0}
        since = pa.scalar(self._since, schema.TIMESTAMP)
        newer = pc.greater_equal(todo["modified"], since)
        return {"newer": pc.sum(newer.fill_null(False)).as_py() or 0}


def _listing_problems(spec: LabelSpec, counts: Counts) -> list[str]:
    if not spec.strict_listing or not counts.unreadable:
        return []
    return [f"{counts.unreadable:,} folders or archives of SRC cannot be read"]


def _row_problems(doubled: int, missing: int, rows: int, files: "Sequence[LiveFile]") -> list[str]:
    logged = sum(file.num_rows for file in files)
    return [
        *([f"{doubled:,} rows too many: some objects have more than one"] if doubled else []),
        *([f"{missing:,} objects of the last whole run have no row"] if missing else []),
        *([f"the files hold {rows:,} rows, the log says {logged:,}"] if rows != logged else []),
    ]


def _file_problems(store: LabelStore, recipe: str, files: "Sequence[LiveFile]") -> list[str]:
    """Differences between the files that plain Parquet readers see and the table's log,
    both ways."""
    live = {file.path for file in files}
    there = {name for name in at_rest(store.folder, [recipe]) if name.endswith(".parquet")}
    problems = []
    if not parts_of(files):
        problems += [
            f"{name} is in the store, but not in the table: plain Parquet readers see its rows too"
            for name in sorted(there - live)
        ]
    for file in files:
        entry = store.folder.stat(file.path)
        if entry is None:
            problems.append(f"{file.path} is in the table, but the file does not exist")
        elif entry.size != file.size_bytes:
            problems.append(
                f"{file.path} has {entry.size:,} bytes, {file.size_bytes:,} were written"
            )
    return problems


def _draw(
    store: LabelStore, task: Task, files: "Sequence[LiveFile]", size: int, seed: int
) -> pa.Table:
    """A few rows without an error, from one file drawn with its number of rows as weight."""
    draw = random.Random(seed)  # noqa: S311 - a sample, no secret
    file = draw.choices(files, weights=[file.num_rows for file in files])[0]
    columns = [*_OF_AN_OBJECT, "error_code", "precision", *(column.name for column in task.columns)]
    rows = read_part(store.folder, file.path, pa.schema(map(store.schema.field, columns)))
    well = [int(row) for row in np.flatnonzero(rows["error_code"].is_null().to_numpy())]
    drawn = draw.sample(well, min(size, len(well)))
    return rows.take(pa.array(drawn, pa.int64()))  # a file may hold only errors


def _with_places(source: Source, rows: pa.Table) -> pa.Table:
    """`rows`, and how each is read today. For signed urls the table has uris without their
    secrets; for members it has no place, and for embedded images no bytes. So the source is read
    again for the objects of the sample."""
    facts = (rows[name].to_pylist() for name in ("uri", "member", "object_id", "etag"))
    listed = list(zip(*facts, strict=True))
    left = {
        name: (member, etag)
        for uri, member, name, etag in listed
        if member is not None or scheme(uri) not in {"file", *BUCKETS}
    }
    found: dict[bytes, tuple[str, Any, bytes | None]] = {}
    wanted = pa.array(sorted(left), pa.binary())
    pages = (page for shard in source.shards() for page in source.refs(shard))
    while left.keys() - found.keys() and (page := next(pages, None)):
        ours = page.refs.filter(pc.is_in(page.refs["object_id"], value_set=wanted))
        for row in ours.to_pylist():
            member, etag = left[row["object_id"]]
            # A member that has been replaced cannot be compared.
            same = member is None or row["etag"] == etag
            read = (row["place"], row["data"]) if same else (None, None)
            found[row["object_id"]] = (row["address"] or row["uri"], *read)
    reads = [found.get(name, (None, None, None)) for _, _, name, _ in listed]
    for name, values in zip(("address", "place", "data"), zip(*reads, strict=True), strict=True):
        rows = rows.append_column(name, pa.array(values, schema.REFS.field(name).type))
    return rows


def _recipe(store: LabelStore, recipe: str, model: str | None) -> tuple[Task, Recipe]:
    """The task and the recipe of these rows; `model` says where its model is now."""
    document = load_recipes(store.folder, only=[recipe]).get(recipe)
    if document is None:
        raise StoreError(
            f"{store.folder.uri}: the document of recipe {recipe} is missing or invalid: "
            "skip the sample with --sample 0"
        )
    try:
        task, made_by = task_of(document), recipe_of(document)
    except StoreError as error:
        where = public(store.folder.uri_of(f"{RECIPES}{recipe}.json"))
        raise StoreError(
            f"{where}: {error}; delete it, and the next run writes it again, or skip the "
            "sample with --sample 0"
        ) from None
    if made_by.id != recipe:
        raise StoreError(f"{public(store.folder.uri)}: the document of {recipe} has another id")
    if not {column.name for column in task.columns} <= {*store.schema.names}:
        where = public(store.folder.uri)
        raise StoreError(
            f"{where}: recipe {recipe} is of {task.name}, whose columns the table lacks: another "
            "program has written here"
        )
    if model and not task.network:
        raise SpecError("model", model, f"{task.name} has no model; leave it out")
    moved = {"model": model, "revision": None} if model else {}
    return task, made_by.model_copy(update=moved)
