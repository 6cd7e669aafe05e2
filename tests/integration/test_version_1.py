"""A store that version 0.1 wrote stays good: read, continued, verified, compacted."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pytest

from pipeline import LabelStore, demo
from pipeline.store.delta.table import Table
from pipeline.store.fields import KIND
from tests.integration.conftest import Ran
from tests.parts.servers.s3 import S3Process
from tests.store.stores import LABELS

WRITTEN = Path(__file__).parents[1] / "fixtures" / "labels-v1"
RECIPE = "r39b19dd2"
SRC = "s3://nightlabel-v1/photos"
NAMES = {
    *(f"awkward/{name}" for name in ("cut-short.jpg", "png-inside.jpg", "sideways.jpg")),
    *("ankle-boot/00178.png", "bag/00018.png", "coat/00213.png", "dress/00271.png"),
    *("pullover/00388.png", "sandal/00420.png", "shirt/00026.png", "sneaker/00070.png"),
    "trouser/00543.png",
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WRITTEN, tmp_path / "labels"))


def put(s3: S3Process, names: set[str]) -> None:
    images = demo.images()
    s3.put_many((f"{SRC}/{name}", (images / name).read_bytes()) for name in names)


@pytest.mark.s3
def test_a_store_of_version_0_1_goes_on(
    s3: S3Process, here: Callable[..., Ran], store: Path
) -> None:
    s3.bucket("nightlabel-v1")
    put(s3, NAMES)
    night = ["label", SRC, store, "--model", demo.model(), "--json"]
    before = {path: path.read_bytes() for path in store.rglob("*.parquet")}
    first = here(*night)
    assert first.code == 0, first.err
    counts = first.json["counts"]
    assert (counts["listed"], counts["done"], counts["failed_before"]) == (12, 11, 1)
    assert (counts["labelled"], counts["failed"], counts["gone"]) == (0, 0, 0)
    assert (first.json["recipe"], first.json["schema_version"]) == (RECIPE, 1)
    assert "task" not in first.json["spec"]
    assert {path: path.read_bytes() for path in before} == before

    more = sorted(path.relative_to(demo.images()) for path in demo.images().glob("bag/*.png"))[5:8]
    put(s3, set(map(str, more)))
    second = here(*night)
    assert (second.code, second.json["counts"]["labelled"]) == (0, 3), second.err

    proof = here("verify", SRC, store, "--model", demo.model(), "--json")
    assert (proof.code, proof.json["rows"]) == (0, 15), proof.out
    sample = proof.json["sample"]
    assert sample["agree"] == sample["images"] >= 3
    assert here("compact", store, "--json").json["files_after"] == 1
    assert here("verify", SRC, store, "--model", demo.model(), "--sample", 0).code == 0

    expected = {f"{SRC}/{name}" for name in (*NAMES, *map(str, more))}
    plain = duckdb.sql(f"select uri, label from '{store}/recipe=*/*.parquet'").fetchall()
    assert {uri for uri, _ in plain} == expected
    assert len(plain) == 15
    assert Counter(label is None for _, label in plain) == {False: 14, True: 1}
    frame = pl.read_delta(str(store))
    assert sorted(frame["uri"]) == sorted(expected)
    assert dict(zip(frame["uri"], frame["label"], strict=True)) == dict(plain)


def test_it_is_read_and_holds_labels(store: Path) -> None:
    read = LabelStore(str(store))
    assert (read.kind, read.schema, read.current(), read.count()) == ("labels", LABELS, RECIPE, 12)
    assert KIND not in Table.open(read.folder)._delta.metadata().configuration  # type: ignore[union-attr]
    assert {uri.removeprefix(f"{SRC}/") for uri in read.to_table(["uri"])["uri"].to_pylist()} == (
        NAMES
    )
    assert sum(count for _, count in read.label_counts()) == 12
    assert [run.counts.labelled for run in read.runs()] == [7, 4]
