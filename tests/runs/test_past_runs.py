"""Nights after hundreds of others, which find nothing to label and so start no Ray."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.runs.forget import forget
from pipeline.runs.label import fingerprint
from pipeline.runs.prepare import prepare
from pipeline.sources.prefix import open_prefix
from pipeline.spec import LabelSpec, make_spec
from pipeline.storage import Folder
from pipeline.store.choice import Choice, choose
from pipeline.store.delta.table import Table
from pipeline.store.parts import write_part
from pipeline.store.reader import LabelStore
from pipeline.store.recipes import save_recipe
from pipeline.store.run_index import INDEX, RunIndex
from pipeline.store.runs import RUNS, RunSummary, load_runs, save_run
from pipeline.store.upkeep import AT_REST
from pipeline.tasks.fingerprint import Fingerprint
from tests.parts.models.tiny import image_bytes
from tests.parts.servers.traffic import on_disk
from tests.parts.stores.indexes import forge

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
IMAGES = {"a": 12, "b": 12}
NIGHTS = 400


def spec_of(src: str, **fields: Any) -> LabelSpec:
    return make_spec(src=src, dst="labels", task="fingerprint", **fields)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A store of two archives, each of a run of its own, and many runs over the first."""
    monkeypatch.chdir(tmp_path)
    for archive, count in IMAGES.items():
        (tmp_path / archive).mkdir()
        for number in range(count):
            (tmp_path / archive / f"{number:02}.jpg").write_bytes(image_bytes(number))
    folder = Folder("labels")
    folder.ensure()
    table = Table.create(folder, Fingerprint.columns, Fingerprint.kind)
    recipe = prepare(spec_of("a")).recipe
    for archive in IMAGES:
        rows = rows_of(archive, recipe.id)
        path = f"{AT_REST}{recipe.id}/{archive}-00000.parquet"
        table.commit(added=[write_part(folder, path, recipe.id, rows)])
    save_recipe(folder, recipe.id, recipe.to_json())
    choose(folder, recipe.id, Choice.read(folder))
    for night in range(NIGHTS):
        save_run(folder, past_run("a" if night else "b", night, recipe.id))
    return folder


def run_id(archive: str, night: int) -> str:
    return f"{LONG_AGO + timedelta(days=night):%Y%m%dT%H%M%SZ}-{archive * 8}"


def past_run(archive: str, night: int, recipe: str) -> RunSummary:
    started = LONG_AGO + timedelta(days=night)
    return RunSummary(
        run_id=run_id(archive, night),
        started=started,
        finished=started,
        status="complete",
        listing_complete=True,
        recipe=recipe,
        scope=open_prefix(spec_of(archive)).scope,
        spec={},
    )


def rows_of(archive: str, recipe: str) -> pa.Table:
    source = open_prefix(spec_of(archive))
    refs = pa.concat_tables(p.refs for shard in source.shards() for p in source.refs(shard))
    made = {
        "run_id": run_id(archive, archive == "a"),
        "recipe_id": recipe,
        "labelled_at": LONG_AGO,
        "phash": 1,
    }
    fields = Fingerprint().rows
    return pa.Table.from_pylist(
        [{n: v for n, v in row.items() if n in fields.names} | made for row in refs.to_pylist()],
        schema=fields,
    )


def names(folder: Folder) -> list[str]:
    uris = LabelStore(folder.uri).to_table(["uri"])["uri"].to_pylist()
    return sorted("/".join(uri.split("/")[-2:]) for uri in uris)


def test_a_night_reads_the_index_and_few_summaries(folder: Folder) -> None:
    summaries = sum(entry.size for entry in folder.list(RUNS))
    first = on_disk(lambda: fingerprint(spec_of("a")))
    again = on_disk(lambda: fingerprint(spec_of("a")))
    assert (first.result.exit_code, first.result.counts.gone) == (0, 0)
    assert (again.result.exit_code, again.result.counts.done) == (0, IMAGES["a"])
    assert again.bytes < first.bytes - 0.8 * summaries
    assert again.requests < first.requests - NIGHTS
    index = RunIndex.read(folder)
    assert load_runs(folder, index) == load_runs(folder)
    assert LabelStore(folder.uri).runs() == load_runs(folder)


def test_rows_go_by_the_documents_of_their_runs(folder: Folder, tmp_path: Path) -> None:
    """An index that says of the other archive's run that it was over this one."""
    fingerprint(spec_of("a"))
    liar = past_run("a", 0, "r1").model_copy(update={"run_id": run_id("b", 0)})
    forge(folder, liar)
    (tmp_path / "a/00.jpg").unlink()
    summary = fingerprint(spec_of("a", delete=True))
    assert (summary.exit_code, summary.counts.deleted) == (0, 1)
    assert names(folder) == [
        *(f"a/{number:02}.jpg" for number in range(1, IMAGES["a"])),
        *(f"b/{number:02}.jpg" for number in range(IMAGES["b"])),
    ]


def test_what_is_forgotten_is_packed_nowhere(folder: Folder, tmp_path: Path) -> None:
    fingerprint(spec_of("a"))
    assert folder.stat(INDEX) is not None
    forget("labels", f"file://{tmp_path}/a/00.jpg")
    assert folder.stat(INDEX) is None
    assert fingerprint(spec_of("b")).exit_code == 0
    assert folder.stat(INDEX) is not None
