"""Nights of tasks other than classify: fingerprint, and tasks of a package from outside."""

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from PIL import Image

import pipeline
from pipeline.errors import SpecError
from pipeline.spec import make_spec
from pipeline.tasks import task_named
from tests.integration.conftest import Ran, _run_here, nightlabel
from tests.parts.clusters.ray import own_ray
from tests.parts.runs.outside import install

Here = Callable[..., Ran]
COLUMNS = ["phash", "sharpness", "brightness", "colourfulness", "aspect"]

#: In every Python process that is started: says so, and refuses torch and transformers.
WATCH = """
import os, sys
from importlib.abc import MetaPathFinder

with open(os.environ["WATCH_LOG"], "a") as log:
    log.write(f"started {os.getpid()} {' '.join(sys.orig_argv)[:200]!r}\\n")

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            with open(os.environ["WATCH_LOG"], "a") as log:
                log.write(f"imported {name} in {os.getpid()}\\n")
            raise ImportError(f"{name} is not to be imported here")

sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = install(tmp_path_factory.mktemp("outside"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder))
        task_named.cache_clear()
        yield folder
    task_named.cache_clear()
    for name in ("outside_tasks", "outside_more"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def night(outside: Path) -> Iterator[Here]:
    """`nightlabel` in this process, on one Ray whose workers see the package from outside."""
    with own_ray():
        yield _run_here


def white() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (80, 60), "white").save(sink, "png")
    return sink.getvalue()


def table(dst: Path, *columns: str) -> dict[str, dict[str, Any]]:
    """What a Delta reader sees, by the end of the name; every object once in a recipe."""
    found = DeltaTable(str(dst)).to_pyarrow_table(columns=["uri", "recipe", *columns]).to_pylist()
    assert len({(row["uri"], row["recipe"]) for row in found}) == len(found)
    return {Path(row["uri"]).name: row for row in found}


@pytest.mark.ray
def test_a_night_of_fingerprint_imports_no_torch_anywhere(photos: Path, tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    (watched / "sitecustomize.py").write_text(WATCH)
    log = tmp_path / "log"
    env = os.environ | {"PYTHONPATH": str(watched), "WATCH_LOG": str(log)}
    dst = tmp_path / "measures"
    done = nightlabel("fingerprint", photos, dst, env=env)
    assert done.code == 0, done.err
    assert "fingerprinted  10" in done.out
    assert "label" not in done.out.replace("nightlabel", "")
    assert "to fingerprint" in done.err
    assert nightlabel("verify", photos, dst, env=env).out.endswith("OK\n")
    planned = nightlabel("plan", photos, tmp_path / "b", "--task", "fingerprint", env=env)
    assert planned.code == 0
    assert re.search("of 11 images +median sharpness", planned.out)

    told = log.read_text()
    assert "imported" not in told
    workers = [line for line in told.splitlines() if "default_worker.py" in line]
    assert len(workers) >= 2  # of what decodes, and of what lists and writes
    assert len(table(dst)) == 11


@pytest.mark.ray
def test_all_laws_of_a_night_hold_for_fingerprint(
    night: Here, photos: Path, tmp_path: Path
) -> None:
    dst, events = tmp_path / "measures", tmp_path / "events.jsonl"
    first = night("fingerprint", photos, dst, "--json", "--events", events)
    assert first.code == 0, first.err
    counts = first.json["counts"]
    assert (counts["listed"], counts["labelled"], counts["failed"]) == (11, 10, 1)
    assert first.json["hardware"]["predictors"] == [0, 0]
    assert first.json["spec"]["task"] == "fingerprint"
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert told[0]["event"] == "progress"
    (started,) = [one for one in told if one["event"] == "started"]
    assert (started["model"], started["recipe"]) == (None, first.json["recipe"])
    assert "10 fingerprinted, 1 failed" in told[-1]["text"]
    before = table(dst, *COLUMNS, "error_code")
    assert before["none.jpg"] | {"uri": 0, "recipe": 0} == {
        "uri": 0, "recipe": 0, "error_code": "not_an_image", **dict.fromkeys(COLUMNS)
    }  # fmt: skip
    assert all(row[name] is not None for key, row in before.items() for name in COLUMNS
               if key != "none.jpg")  # fmt: skip

    again = night("fingerprint", photos, dst, "--json")
    assert (again.code, again.json["counts"]["labelled"]) == (0, 0)
    (photos / "a" / "00000.jpg").write_bytes(white())
    (photos / "a" / "none.jpg").write_bytes(white())
    (photos / "a" / "00002.jpg").unlink()
    more = night("fingerprint", photos, dst, "--json", "--delete", "--retry-errors")
    assert more.code == 0, more.err
    counts = more.json["counts"]
    assert (counts["changed"], counts["labelled"], counts["deleted"]) == (2, 2, 1)
    after = table(dst, *COLUMNS)
    assert len(after) == 10
    assert after["00000.jpg"]["brightness"] == pytest.approx(1)
    assert [after[k] for k in sorted(after)[2:9]] == [
        {n: before[k][n] for n in ("uri", "recipe", *COLUMNS)} for k in sorted(after)[2:9]
    ]

    proof = night("verify", photos, dst, "--json")
    assert (proof.code, proof.json["sample"]["agree"]) == (0, 10), proof.out
    assert "fingerprinted again  10 of 10 agree" in night("verify", photos, dst).out
    assert night("compact", dst).code == 0
    plain = f"{dst}/recipe={first.json['recipe']}/*.parquet"
    assert duckdb.sql(f"select count(distinct phash) from '{plain}'").fetchall() == [(9,)]
    assert pl.read_delta(str(dst))["aspect"].null_count() == 0
    heading = night("runs", dst).out.splitlines()[0].split()
    assert heading[3] == "fingerprinted"
    assert "dct64-256-v1" in night("recipes", dst).out
    assert night("errors", dst).out.startswith("no errors")
    store = pipeline.LabelStore(str(dst))
    assert (store.kind, store.schema) == ("measures", task_named("fingerprint").rows)


@pytest.mark.ray
def test_a_bench_of_a_task_without_predictors(night: Here, photos: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    options = ["--task", "fingerprint", "--seconds", 0.2, "--scratch", scratch]
    found = night("bench", photos, *options, "--json")
    assert found.code == 0, found.err
    figures = found.json
    assert (figures["predictors"], figures["predict_per_second"]) == (0, 0.0)
    assert (figures["limit"], figures["run_images"], figures["device"]) == ("decoding", 11, "cpu")
    assert figures["decode_per_second"] == figures["ideal_per_second"] > 0
    words = night("bench", photos, *options).out
    assert "predict" not in words
    assert "1 of 11 images failed; they count as fingerprinted" in words
    assert not list(scratch.rglob("*"))


@pytest.mark.ray
def test_verify_finds_a_measure_that_was_changed(night: Here, photos: Path, tmp_path: Path) -> None:
    dst = tmp_path / "measures"
    assert night("fingerprint", photos, dst).code == 0
    (file,) = pipeline.LabelStore(str(dst)).live()
    path = dst / file.path
    found = pa.parquet.read_table(path, partitioning=None)
    for name, value in (("brightness", 0.123), ("phash", 7)):
        at = found.schema.get_field_index(name)
        wrong = pa.array([value] * found.num_rows, found.schema.field(at).type)
        pa.parquet.write_table(found.set_column(at, found.schema.field(at), wrong), path)
        proof = night("verify", photos, dst, "--json")
        assert proof.code == 3
        assert {one["measure"] for one in proof.json["sample"]["differences"]} == {name}
        assert any(name in problem for problem in proof.json["problems"])


@pytest.mark.ray
def test_from_python(night: Here, photos: Path, tmp_path: Path) -> None:
    dst = str(tmp_path / "measures")
    summary = pipeline.fingerprint(make_spec(src=str(photos), dst=dst))
    assert (summary.exit_code, summary.counts.labelled) == (0, 10)
    hashes = pipeline.LabelStore(dst).to_table(["uri", "phash"])
    assert hashes["phash"].null_count == 1


@pytest.mark.ray
def test_a_task_from_outside_has_its_nights_and_its_poison_costs_a_row(
    night: Here, photos: Path, tmp_path: Path
) -> None:
    (photos / "b" / "white.png").write_bytes(white())
    dst = tmp_path / "skies"
    first = night("label", photos, dst, "--set", "task=sky")
    assert first.code == 0, first.err
    assert "looked at      10" in first.out
    assert f"skies      {dst}" in first.out
    found = table(dst, "blue", "error_code")
    assert len(found) == 12
    assert found["white.png"]["error_code"] == "crashed"
    assert sum(row["blue"] is not None for row in found.values()) == 10
    proof = night("verify", photos, dst, "--json")
    assert (proof.code, proof.json["sample"]["agree"]) == (0, 10)
    assert "sky of outside" in night("recipes", dst).out
    planned = night("plan", photos, dst, "--task", "sky", "--json")
    assert (planned.code, planned.json["counts"]["done"]) == (0, 10)


@pytest.mark.ray
def test_a_source_a_task_and_a_command_from_outside_share_a_night(
    night: Here, tmp_path: Path
) -> None:
    src, dst = "album://summer/9", tmp_path / "skies"
    first = night("label", src, dst, "--set", "task=sky", "--json")
    assert first.code == 0, first.err
    assert (first.json["counts"]["labelled"], first.json["counts"]["failed"]) == (9, 0)
    found = table(dst, "blue")
    assert found["8.png"]["blue"] == pytest.approx(160 / 255, abs=0.01)
    again = night("label", src, dst, "--set", "task=sky", "--json")
    assert (again.code, again.json["counts"]["done"]) == (0, 9)
    proof = night("verify", src, dst, "--json")
    assert (proof.code, proof.json["sample"]["agree"]) == (0, 9), proof.out
    assert night("verify", src, dst).code == 0
    fewer = night("label", "album://summer/8", dst, "--set", "task=sky", "--json")
    assert (fewer.json["counts"]["listed"], fewer.json["counts"]["gone"]) == (8, 0)

    assert night("greet", "night", "--loud").out == "hello, night!\n"
    assert "of the package outside-tasks" in night("--help").out
    assert night("greet", "--help").out.startswith("Usage: nightlabel greet")


def test_what_cannot_be_a_source_or_a_command_is_told(outside: Path, tmp_path: Path) -> None:
    for words, problem in (
        (("plan", "lost://a", tmp_path / "x", "--task", "fingerprint"), "cannot be loaded"),
        (("mistaken",), "outside_more:picture is not a click command"),
        (("absent",), "the package of absent cannot be loaded"),
        (("gret",), "did you mean greet?"),
    ):
        found = _run_here(*words)
        assert (found.code, problem in found.err) == (2, True), found.err
    assert "bring the labels at DST up to date" in _run_here("--help").out
    assert _run_here("label", "--help").out.startswith("Usage: nightlabel label")


@pytest.mark.ray
def test_a_task_from_outside_adds_a_column_to_a_store(
    night: Here, photos: Path, tmp_path: Path
) -> None:
    dst = tmp_path / "measures"
    first = night("fingerprint", photos, dst, "--json")
    files = {path: path.read_bytes() for path in dst.glob("recipe=*/*.parquet")}
    more = ["label", photos, dst, "--set", "task=contrast", "--json"]
    refused = night(*more)
    assert refused.code == 2
    assert "--new-recipe" in refused.err
    second = night(*more, "--new-recipe", "--promote")
    assert (second.code, second.json["counts"]["labelled"]) == (0, 10), second.err
    assert {path: path.read_bytes() for path in files} == files

    store = pipeline.LabelStore(str(dst))
    old, new = first.json["recipe"], second.json["recipe"]
    assert store.schema.names[-1] == "contrast"
    assert store.current() == new
    assert store.to_table(["contrast"], recipe=old)["contrast"].null_count == 11
    assert store.to_table(["contrast"], recipe=new)["contrast"].null_count == 1
    values = pl.read_delta(str(dst)).group_by("recipe").agg(pl.col("contrast").count())
    assert dict(values.iter_rows()) == {old: 0, new: 10}
    files_of_all = f"read_parquet('{dst}/recipe=*/*.parquet', union_by_name=true)"
    query = f"select count(*), count(contrast) from {files_of_all}"
    assert duckdb.sql(query).fetchall() == [(22, 10)]
    assert night("verify", photos, dst).code == 0
    again = night("fingerprint", photos, dst, "--json")  # the older recipe goes on
    assert (again.code, again.json["counts"]["labelled"]) == (0, 0)


def test_what_cannot_be_a_task_is_told(outside: Path, photos: Path, tmp_path: Path) -> None:
    for name, problem in (
        (
            "none",
            "no such task; there are classify, classify-embed, contrast, embed, "
            "fingerprint, gone, mistake, sky",
        ),
        ("mistake", "is no task of that name"),
        ("gone", "its package cannot be loaded"),
    ):
        with pytest.raises(SpecError, match=problem):
            task_named(name)
        found = _run_here("fingerprint", photos, tmp_path / "x", "--set", "model=x")
        assert found.code == 2
        assert "fingerprint has no model; leave this option out" in found.err
