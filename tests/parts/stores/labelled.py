"""Stores that hold what nights over a small archive write, made without Ray and a model."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.runs.finalize import inline, merge
from pipeline.scan.full_scan import ledgers_of, survey
from pipeline.scan.ledgers import FileReader
from pipeline.sources import open_source
from pipeline.sources.prefix import open_prefix
from pipeline.spec import make_spec
from pipeline.storage import Folder
from pipeline.store.choice import Choice, choose
from pipeline.store.delta.table import Table
from pipeline.store.parts import read_part, write_part
from pipeline.store.runs import Counts, RunSummary, load_runs, new_run_id, save_run
from pipeline.store.upkeep import AT_REST, part_path, parts_of
from tests.parts.models.tiny import image_bytes
from tests.store.stores import LABELS, new_table

START = datetime.now(UTC) - timedelta(days=1)
NAMES = [f"{'ab'[n % 2]}/{n:02}.jpg" for n in range(6)]


def photos_at(folder: Path) -> Path:
    for number, name in enumerate(NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(number))
        long_ago = int((START - timedelta(days=number + 1)).timestamp())
        os.utime(path, (long_ago, long_ago))
    return folder


def labels_of(src: str, run_id: str, recipe: str, *, failed: str = "") -> pa.Table:
    """The rows that a night over `src` writes, the names that end in `failed` as errors."""
    source = open_prefix(make_spec(src=src, dst="unused"))
    pages = [page.refs for shard in source.shards() for page in source.refs(shard)]
    found = []
    for ref in pa.concat_tables(pages).to_pylist():
        wrong = bool(failed) and ref["uri"].endswith(failed)
        found.append(
            {name: ref[name] for name in LABELS.names if name in ref}
            | {
                "label": None if wrong else f"of {ref['uri'][-6:]}",
                "score": None if wrong else 0.5,
                "top_k": None
                if wrong
                else [{"label": f"{n}", "score": 0.5 / (n + 1)} for n in range(5)],
                "error_code": "truncated" if wrong else None,
                "run_id": run_id,
                "recipe_id": recipe,
                "labelled_at": START,
            }
        )
    return pa.Table.from_pylist(found, schema=LABELS)


def night(folder: Folder, src: str, recipe: str, *, failed: str = "", **fields: Any) -> None:
    """A whole run over `src`, its rows in one file at rest and one part."""
    folder.ensure()
    table = Table.open(folder) or new_table(folder)
    run_id = new_run_id(START)
    rows = labels_of(src, run_id, recipe, failed=failed)
    for number, some in enumerate(
        (rows.slice(0, rows.num_rows - 2), rows.slice(rows.num_rows - 2))
    ):
        path = part_path(run_id, recipe, number)
        table.commit(added=[write_part(folder, path, recipe, some)])
        if number == 0:
            merge(folder, table, run_id, inline)
    given = {
        "run_id": run_id,
        "started": START,
        "finished": START,
        "recipe": recipe,
        "scope": open_prefix(make_spec(src=src, dst="unused")).scope,
        "spec": {},
        "status": "complete",
        "listing_complete": True,
        "counts": Counts(listed=rows.num_rows, labelled=rows.num_rows),
    }
    save_run(folder, RunSummary.model_validate(given | fields))
    if Choice.read(folder).recipe is None:
        choose(folder, recipe, Choice.read(folder))


def assert_whole(folder: Folder) -> None:
    """No object twice in a recipe; at rest, plain readers see what the table says."""
    table = Table.open(folder)
    assert table is not None
    rows = all_rows(folder)
    assert len({(r["recipe_id"], r["uri"]) for r in rows}) == len(rows)
    assert all(r["object_id"] == schema.object_id(r["uri"]) for r in rows)
    if not parts_of(table.live()):
        plain = [
            r
            for entry in folder.list(AT_REST)
            for r in pq.read_table(
                pa.BufferReader(folder.read(folder.relative(entry.uri))), columns=["uri"]
            ).to_pylist()
        ]
        assert len(plain) == len(rows)


def all_rows(folder: Folder) -> list[dict[str, Any]]:
    table = Table.open(folder)
    assert table is not None
    return [r for file in table.live() for r in read_part(folder, file.path).to_pylist()]


def counts_of(src: str, recipe: str, dst: str = "labels") -> dict[str, int]:
    """What a night over `src` would find, by the code that it subtracts with."""
    folder, source = Folder(dst), open_source(make_spec(src=src, dst=dst))
    table = Table.open(folder)
    assert table is not None
    files = [file for file in table.live() if file.recipe == recipe]
    runs = frozenset(run.run_id for run in load_runs(folder) if run.scope == source.scope)
    with ledgers_of(FileReader(folder, source, runs), files, None) as ledgers:
        found = survey(source, ledgers, lambda _: {}, retry_errors=False)
        in_scope = sum(ledger.count_in_scope() for ledger in ledgers)
    wanted = ("listed", "done", "failed_before", "new", "changed")
    return {name: found.counts.get(name, 0) for name in wanted} | {
        "gone": in_scope - found.counts.get("matched", 0)
    }
