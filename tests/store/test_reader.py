"""Reading labels back: LabelStore beside pandas, Polars, DuckDB and Arrow."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest

from pipeline.errors import MissingError
from pipeline.storage import Folder
from pipeline.store.choice import Choice, choose
from pipeline.store.delta.table import Table
from pipeline.store.parts import write_part
from pipeline.store.reader import LabelStore
from pipeline.store.recipes import save_recipe
from pipeline.store.runs import RUNS, Counts, RunSummary, load_runs, new_run_id, save_run
from tests.store.stores import LABELS, NOW, RECIPE, new_table, rows


@pytest.fixture
def labels(folder: Folder) -> Folder:
    folder.ensure()
    table = new_table(folder)
    at_rest = f"recipe={RECIPE}/n-0.parquet"
    table.commit(added=[write_part(folder, at_rest, RECIPE, rows([1, 2, 3]))])
    part = write_part(folder, "_parts/n2/0.parquet", RECIPE, rows([4], label="dog"))
    table.commit(added=[part])
    bad = write_part(folder, "_parts/n2/1.parquet", RECIPE, rows([5], error="empty"))
    table.commit(added=[bad])
    choose(folder, RECIPE, Choice.read(folder))
    save_recipe(folder, RECIPE, "{}")
    return folder


def test_the_store_gives_every_row_and_names_every_file(labels: Folder) -> None:
    store = LabelStore(labels.uri)
    table = store.to_table()
    assert table.schema == LABELS
    assert sorted(table["uri"].to_pylist()) == [f"s3://photos/{n}" for n in range(1, 6)]
    assert store.count() == 5
    assert store.to_table(["label"]).column_names == ["label"]
    assert [uri.removeprefix(f"{labels.uri}/") for uri in store.files()] == [
        "_parts/n2/0.parquet",
        "_parts/n2/1.parquet",
        f"recipe={RECIPE}/n-0.parquet",
    ]
    assert store.label_counts() == [("cat", 3), ("dog", 1), (None, 1)]
    assert store.recipes() == {RECIPE: "{}"}


def test_a_store_stays_at_its_version_until_refreshed(labels: Folder) -> None:
    store = LabelStore(labels.uri)
    writer = Table.open(labels)
    assert writer is not None
    writer.commit(added=[write_part(labels, "_parts/n3/0.parquet", RECIPE, rows([6]))])
    assert store.count() == 5
    assert store.refresh().count() == 6


def test_another_recipe_is_another_table(labels: Folder) -> None:
    store = LabelStore(labels.uri)
    assert store.count("r99999999") == 0
    assert store.to_table(["uri"], recipe="r99999999").num_rows == 0


def test_there_is_no_store_where_nothing_is(folder: Folder) -> None:
    folder.ensure()
    with pytest.raises(MissingError, match="no label store"):
        LabelStore(folder.uri)


def test_readers_that_know_no_delta_see_what_is_at_rest(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    table = new_table(folder)
    at_rest = f"recipe={RECIPE}/n-0.parquet"
    table.commit(added=[write_part(folder, at_rest, RECIPE, rows([1, 2, 3]))])
    glob = f"{tmp_path}/recipe=*/*.parquet"
    found = duckdb.sql(f"select uri, recipe, top_k[1].label from '{glob}' order by uri").fetchall()
    assert found == [(f"s3://photos/{n}", RECIPE, "cat") for n in (1, 2, 3)]
    assert pl.read_parquet(glob)["object_id"].to_list() == rows([1, 2, 3])["object_id"].to_pylist()
    frame = pd.read_parquet(tmp_path / f"recipe={RECIPE}")
    assert frame["labelled_at"].tolist() == [pd.Timestamp(NOW)] * 3
    assert pl.read_delta(str(tmp_path)).height == 3


def test_runs_are_kept_and_read_strictly(folder: Folder) -> None:
    folder.ensure()
    started = datetime(2026, 1, 2, tzinfo=UTC)
    run = RunSummary(
        run_id=new_run_id(started), started=started, recipe=RECIPE, scope={"src": "a"}, spec={}
    )
    save_run(folder, run)
    run.counts = Counts(listed=3, new=2, labelled=1, errors={"empty": 1}, failed=1)
    run.status = "complete"
    save_run(folder, run)
    assert list(load_runs(folder)) == [run]
    assert run.counts.remaining == 0
    folder.put(f"{RUNS}20990101T000000Z-bad.json", b'{"run_id": "x", "surprise": 1}')
    assert list(load_runs(folder)) == [run]


def test_a_recipe_document_is_never_written_over(folder: Folder) -> None:
    folder.ensure()
    save_recipe(folder, RECIPE, "first")
    save_recipe(folder, RECIPE, "second")
    assert folder.read(f"_nightlabel/recipes/{RECIPE}.json") == b"first"


def test_a_choice_made_after_the_version_was_read_waits_for_the_next(labels: Folder) -> None:
    """At that version the other recipe may not have been whole."""
    store = LabelStore(labels.uri)
    writer = Table.open(labels)
    assert writer is not None
    writer.commit(added=[write_part(labels, "recipe=rnew/n.parquet", "rnew", rows([1, 2]))])
    assert choose(labels, "rnew", Choice.read(labels))
    assert (store.current(), store.count()) == (RECIPE, 5)
    assert (store.refresh().current(), store.count()) == ("rnew", 2)
