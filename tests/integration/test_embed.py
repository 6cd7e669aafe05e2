"""Nights of vectors: alone, and beside labels."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

import pipeline
from pipeline.spec import make_spec
from pipeline.store.reader import LabelStore
from pipeline.tasks import recipe_of, task_named
from tests.integration.conftest import Ran, _run_here, nightlabel
from tests.parts.clusters.ray import own_ray
from tests.parts.models.tiny import image_bytes

Here = Callable[..., Ran]
DIM = 32


@pytest.fixture(scope="module")
def night() -> Iterator[Here]:
    with own_ray():
        yield _run_here


def table(dst: Path, *columns: str, recipe: str | None = None) -> dict[str, dict[str, Any]]:
    """What a Delta reader sees, by the end of the name; every object once in a recipe."""
    found = DeltaTable(str(dst)).to_pyarrow_table(columns=["uri", "recipe", *columns]).to_pylist()
    found = [row for row in found if recipe in (None, row["recipe"])]
    assert len({(row["uri"], row["recipe"]) for row in found}) == len(found)
    return {Path(row["uri"]).name: row for row in found}


def truth(model: Path, dst: Path, path: Path) -> Any:
    """By `verify`'s means, of one photo."""
    store = LabelStore(str(dst))
    document = (dst / f"_nightlabel/recipes/{store.current()}.json").read_text()
    recipe = recipe_of(document)
    spec = make_spec(src="a", dst="b", model=str(model))
    return task_named("embed").reference(spec, recipe)(path.read_bytes())


def rewrite(dst: Path, change: Callable[[pa.ChunkedArray], pa.Array]) -> None:
    """Another program's hand on the one file at rest."""
    (file,) = LabelStore(str(dst)).live()
    found = pq.read_table(dst / file.path, partitioning=None)
    at = found.schema.get_field_index("embedding")
    changed = change(found.column(at))
    pq.write_table(found.set_column(at, found.schema.field(at), changed), dst / file.path)


def _swapped(column: pa.ChunkedArray) -> pa.Array:
    return column.take(pa.array([1, 0, *range(2, len(column))]))


def _times(factor: float, column: pa.ChunkedArray) -> pa.Array:
    rows = column.to_pylist()
    return pa.array([row and [factor * value for value in row] for row in rows], column.type)


@pytest.mark.ray
def test_a_night_of_vectors(night: Here, photos: Path, tmp_path: Path, tiny_model: Path) -> None:
    dst, events = tmp_path / "vectors", tmp_path / "events.jsonl"
    job = ["embed", photos, dst, "--model", tiny_model]
    first = night(*job, "--json", "--events", events)
    assert first.code == 0, first.err
    counts = first.json["counts"]
    assert (counts["listed"], counts["labelled"], counts["failed"]) == (11, 10, 1)
    assert first.json["spec"]["task"] == "embed"
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert "10 embedded, 1 failed" in told[-1]["text"]
    before = table(dst, "embedding", "error_code", "precision")
    assert before["none.jpg"]["embedding"] is None
    for name in ("00000.jpg", "00001.jpg"):
        stored = np.array(before[name]["embedding"], np.float32)
        np.testing.assert_array_equal(stored, stored.astype(np.float16))
        due = truth(tiny_model, dst, photos / "ab"[int(name[4])] / name)
        assert stored @ due / np.linalg.norm(stored) / np.linalg.norm(due) > 0.99999
        assert np.linalg.norm(stored) / np.linalg.norm(due) == pytest.approx(1, abs=1e-3)
    recipe = json.loads((dst / f"_nightlabel/recipes/{first.json['recipe']}.json").read_text())
    said = ("task", "pooling", "dim", "vector_dtype")
    assert [recipe[name] for name in said] == ["embed", "cls", DIM, "float16"]

    again = night(*job, "--json")
    assert (again.code, again.json["counts"]["labelled"]) == (0, 0)
    (photos / "a" / "00000.jpg").write_bytes(image_bytes(77))
    more = night(*job)
    assert more.code == 0, more.err
    assert re.search(r"embedded +1\n", more.out)
    after = table(dst, "embedding")
    assert after["00000.jpg"]["embedding"] != before["00000.jpg"]["embedding"]
    assert after["00001.jpg"]["embedding"] == before["00001.jpg"]["embedding"]

    proof = night("verify", photos, dst, "--json")
    assert (proof.code, proof.json["sample"]["agree"]) == (0, 10), proof.out
    assert night("compact", dst).code == 0
    store = LabelStore(str(dst))
    assert (store.kind, store.schema) == ("vectors", task_named("embed").rows)
    rows = store.to_table(["embedding"])["embedding"].drop_null().combine_chunks()
    assert rows.flatten().to_numpy().reshape(-1, DIM).shape == (10, DIM)
    planned = night("plan", photos, dst, "--task", "embed", "--model", tiny_model, "--json")
    assert (planned.code, planned.json["counts"]["done"]) == (0, 10)
    assert "embedded" in night("runs", dst).out.splitlines()[0]
    refused = night("label", photos, dst, "--model", tiny_model)
    assert refused.code == 2
    assert "holds vectors, and classify makes labels" in refused.err

    swap = pa.array([1, 0, *range(2, 11)])
    for spoil in (
        lambda column: column.take(swap),
        lambda column: pa.array([v and [-x for x in v] for v in column.to_pylist()], column.type),
        lambda column: pa.array(
            [v and [2 * x for x in v] for v in column.to_pylist()], column.type
        ),
    ):
        (file,) = store.live()
        kept = (dst / file.path).read_bytes()
        rewrite(dst, spoil)
        wrong = night("verify", photos, dst, "--json")
        assert wrong.code == 3, wrong.out
        assert wrong.json["sample"]["differences"][0].keys() == {"uri", "cosine", "ratio"}
        assert any("its vector has cosine" in problem for problem in wrong.json["problems"])
        (dst / file.path).write_bytes(kept)
    assert night("verify", photos, dst).code == 0


@pytest.mark.slow
@pytest.mark.ray
def test_half_floats_are_cut_from_floats_without_an_image(
    night: Here, photos: Path, tmp_path: Path, tiny_model: Path
) -> None:
    dst = tmp_path / "vectors"
    spec = make_spec(src=str(photos), dst=str(dst), model=str(tiny_model), vector_dtype="float32")
    exact = pipeline.embed(spec)
    assert (exact.exit_code, exact.counts.labelled) == (0, 10)
    job = ["embed", photos, dst, "--model", tiny_model, "--new-recipe", "--json"]
    halves = night(*job)
    counts = halves.json["counts"]
    assert (halves.code, counts["derived"], counts["labelled"]) == (0, 11, 0), halves.err
    assert night(*job, "--vector-dtype", "float32").json["counts"]["labelled"] == 0
    found = {
        name: table(dst, "embedding", recipe=name) for name in (exact.recipe, halves.json["recipe"])
    }
    exactly, rounded = (
        np.array([row["embedding"] for _, row in sorted(rows.items()) if row["embedding"]])
        for rows in found.values()
    )
    assert (exactly != exactly.astype(np.float16)).any()
    np.testing.assert_array_equal(rounded, exactly.astype(np.float16).astype(np.float64))


@pytest.mark.ray
def test_vectors_beside_labels_leave_the_labels_as_they_are(
    night: Here, photos: Path, tmp_path: Path, tiny_model: Path
) -> None:
    dst = tmp_path / "labels"
    job = ["label", photos, dst, "--model", tiny_model, "--json"]
    plain = night(*job)
    assert plain.code == 0, plain.err
    files = {path: path.read_bytes() for path in dst.glob("recipe=*/*.parquet")}
    refused = night(*job, "--embed", "cls")
    assert refused.code == 2
    assert "pooling none → cls" in refused.err
    both = night(*job, "--embed", "cls", "--new-recipe", "--promote")
    assert (both.code, both.json["counts"]["labelled"]) == (0, 10), both.err
    assert {path: path.read_bytes() for path in files} == files
    assert both.json["current"] == both.json["recipe"] != plain.json["recipe"]

    columns = ["label", "score", "top_k", "embedding", "error_code"]
    old, new = (table(dst, *columns, recipe=ran.json["recipe"]) for ran in (plain, both))
    assert new.keys() == old.keys()
    for name, row in new.items():
        assert old[name]["embedding"] is None
        assert (row["label"], row["error_code"]) == (old[name]["label"], old[name]["error_code"])
        if row["label"]:
            assert row["score"] == pytest.approx(old[name]["score"], abs=1e-5)
            named = [[pair["label"] for pair in one["top_k"]] for one in (row, old[name])]
            assert named[0] == named[1]
            assert len(row["embedding"]) == DIM
    proof = night("verify", photos, dst, "--json")
    assert (proof.code, proof.json["sample"]["agree"]) == (0, 10), proof.out
    for again in (job, [*job, "--embed", "cls"]):
        ran = night(*again)
        assert (ran.code, ran.json["counts"]["labelled"]) == (0, 0)

    (path,) = dst.glob(f"recipe={both.json['recipe']}/*.parquet")
    found = pq.read_table(path, partitioning=None)
    at = found.schema.get_field_index("embedding")
    swapped = found.column(at).take(pa.array([*range(1, 11), 0]))
    pq.write_table(found.set_column(at, found.schema.field(at), swapped), path)
    wrong = night("verify", photos, dst, "--json")
    assert wrong.code == 3
    assert any("its vector has cosine" in problem for problem in wrong.json["problems"])


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            ["embed", "--pooling", "projection"],
            "has no projection vectors; it has cls, pooler, mean",
        ),
        (["embed", "--pooling", "pooler"], "lack pooler.dense.bias, pooler.dense.weight"),
        (["label", "--embed", "pooler"], "has no pooler vectors; it has cls, mean"),
        (["label", "--set", "pooling=cls"], "means nothing to classify; leave this option out"),
        (["label", "--vector-dtype", "float32"], "means nothing to classify"),
        (["embed", "--set", "top_k=3"], "means nothing to embed"),
        (["label", "--set", "task=classify-embed"], "name the vector to keep"),
        (["plan", "--task", "fingerprint", "--pooling", "cls"], "fingerprint has no model"),
    ],
)
def test_what_there_is_not_is_refused_before_an_image_is_read(
    photos: Path, tmp_path: Path, tiny_model: Path, command: list[str], said: str
) -> None:
    dst = tmp_path / "store"
    refused = _run_here(command[0], photos, dst, *command[1:], "--model", str(tiny_model))
    assert refused.code == 2, refused.out
    assert said in refused.err
    assert not dst.exists()


def test_doctor_looks_at_a_backbone(tiny_model: Path) -> None:
    well = _run_here("doctor", "--model", tiny_model, "--task", "embed")
    assert "OK       model" in well.out
    assert f"cls vectors of {DIM} numbers (it has cls, mean)" in well.out
    wrong = _run_here("doctor", "--model", tiny_model, "--task", "embed", "--pooling", "projection")
    assert wrong.code == 3
    assert "has no projection vectors" in wrong.out


@pytest.mark.slow
@pytest.mark.ray
def test_plan_and_bench_speak_of_vectors(
    night: Here, photos: Path, tmp_path: Path, tiny_model: Path
) -> None:
    job = [photos, "--task", "embed", "--model", tiny_model]
    # Its own process: where Ray runs, a plan lists in tasks and tries no image.
    planned = nightlabel("plan", job[0], tmp_path / "vectors", *job[1:])
    assert planned.code == 0, planned.err
    assert re.search(r"of 11 images +dim 32, mean norm \d", planned.out)
    assert re.search(r"to embed +11", planned.out)
    assert "to start Ray and load the model" in planned.out
    scratch = tmp_path / "scratch"
    measured = night("bench", *job, "--seconds", 0.2, "--scratch", scratch)
    assert measured.code == 0, measured.err
    assert "predict" in measured.out
    assert "they count as embedded" in measured.out
    beside = nightlabel(
        "plan", photos, tmp_path / "labels", "--model", tiny_model, "--embed", "mean"
    )
    assert beside.code == 0, beside.err
    assert re.search(r"of 11 images +class \d.*; vectors of dim 32, mean norm", beside.out)
