"""`move-src`: an archive that moved is not labelled again."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from click.testing import CliRunner

from pipeline.cli.failures import exit_code_of
from pipeline.cli.store.move_src import move_src as command
from pipeline.errors import BusyError, ConflictError, MissingError, SpecError
from pipeline.runs.label import label
from pipeline.runs.move_src import move_src
from pipeline.runs.prepare import prepare
from pipeline.runs.promotion import why_not
from pipeline.runs.verify import verify
from pipeline.sources.prefix import open_prefix
from pipeline.spec import LabelSpec, make_spec
from pipeline.storage import Folder
from pipeline.store.delta.table import Table
from pipeline.store.lease import Lease
from pipeline.store.parts import write_part
from pipeline.store.reader import LabelStore
from pipeline.store.recipes import save_recipe
from pipeline.store.runs import RunSummary, load_runs, new_run_id, save_run
from pipeline.store.upkeep import part_path, parts_of
from tests.parts.models.tiny import image_bytes, make_model
from tests.parts.servers.s3 import S3Server
from tests.parts.stores.labelled import (
    NAMES,
    START,
    all_rows,
    assert_whole,
    counts_of,
    labels_of,
    night,
    photos_at,
)
from tests.runs.test_recipes import Died, dies_at_write
from tests.runs.test_scopes import prefix

__all__ = ["dies_at_write"]

A, B = "rab000001", "rab000002"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Six images, all labelled by A (one is an error) and by B; then the archive moves."""
    monkeypatch.chdir(tmp_path)
    photos_at(tmp_path / "old")
    for recipe in (A, B):
        night(Folder("labels"), "old", recipe, failed="00.jpg")
    (tmp_path / "old").rename(tmp_path / "new")
    yield tmp_path
    assert_whole(Folder("labels"))


def spec_of(src: str, dst: str = "labels") -> LabelSpec:
    return make_spec(src=src, dst=dst)


def test_the_next_night_has_nothing_to_label(here: Path) -> None:
    before = all_rows(Folder("labels"))
    moved = move_src("labels", "old", "new")
    assert (moved.listed, moved.moved, moved.missing, moved.different) == (6, 12, 0, 0)
    nothing = {"listed": 6, "done": 5, "failed_before": 1, "new": 0, "changed": 0, "gone": 0}
    assert counts_of("new", A) == counts_of("new", B) == nothing
    assert counts_of("new/a", A)["new"] == 0
    after = all_rows(Folder("labels"))
    changed = {"uri", "object_id", "run_id"}
    kept = [{k: v for k, v in row.items() if k not in changed} for row in (*before, *after)]
    order = sorted(map(repr, kept[:12])), sorted(map(repr, kept[12:]))
    assert order[0] == order[1]
    assert {row["uri"] for row in after} == {f"file://{here}/new/{name}" for name in NAMES}
    table = Table.open(Folder("labels"))
    assert table is not None
    assert parts_of(table.live()) == []


@pytest.mark.torch
def test_a_real_night_labels_nothing_and_starts_no_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos_at(tmp_path / "old")
    model = str(make_model(tmp_path / "model"))
    job = prepare(make_spec(src="old", dst="labels", model=model))
    night(Folder("labels"), "old", job.recipe.id)
    save_recipe(Folder("labels"), job.recipe.id, job.recipe.to_json())
    shutil.copytree("old", "new")  # keeps times; the old place stays
    move_src("labels", "old", "new")
    run = label(make_spec(src="new", dst="labels", model=model, delete=True))
    assert not ray.is_initialized()
    assert (run.status, run.exit_code) == ("complete", 0)
    assert (run.counts.done, run.counts.todo, run.counts.gone, run.counts.deleted) == (6, 0, 0, 0)


def test_verify_agrees(here: Path) -> None:
    move_src("labels", "old", "new")
    found = verify(spec_of("new"), sample=0)
    assert (found.problems, found.exit_code, found.counts.todo) == ([], 0, 0)
    assert (found.missing, found.counts.gone, found.rows) == (0, 0, 6)
    (here / "new" / "a" / "02.jpg").rename(here / "new" / "a" / "03.jpg")  # lost, and its time old
    assert verify(spec_of("new"), sample=0).missing == 1


def test_what_is_not_the_same_there_stays(here: Path) -> None:
    new = here / "new"
    (new / NAMES[1]).unlink()
    (new / NAMES[2]).write_bytes(image_bytes(99))
    os.utime(new / NAMES[3], (0, 0))
    moved = move_src("labels", "old", "new")
    assert (moved.moved, moved.missing, moved.different, moved.already) == (6, 2, 4, 0)
    counts = counts_of("new", A)
    assert (counts["listed"], counts["new"], counts["done"]) == (5, 2, 2)
    (run,) = (run for run in load_runs(Folder("labels")) if run.moved_from and run.recipe == A)
    assert (run.status, run.whole, run.counts.remaining) == ("incomplete", False, 2)


def test_rows_that_are_there_already_are_not_doubled(here: Path) -> None:
    folder = Folder("labels")
    table = Table.open(folder)
    assert table is not None
    run_id = new_run_id(START)
    some = labels_of("new", run_id, A).slice(0, 2)
    table.commit(added=[write_part(folder, part_path(run_id, A, 0), A, some)])
    moved = move_src("labels", "old", "new")
    assert (moved.moved, moved.already) == (10, 2)
    assert counts_of("new", A)["new"] == counts_of("new", B)["new"] == 0


def test_moved_rows_are_in_the_new_scope_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy: `--delete` at the old place must take nothing that lives at the new one."""
    monkeypatch.chdir(tmp_path)
    photos_at(tmp_path / "old")
    night(Folder("labels"), "old", A)
    shutil.copytree("old", "new")
    move_src("labels", "old", "new")
    assert counts_of("old", A) | {"listed": 6} == {
        "listed": 6, "done": 0, "failed_before": 0, "new": 6, "changed": 0, "gone": 0,
    }  # fmt: skip
    (tmp_path / "new" / NAMES[0]).unlink()
    assert counts_of("new", A)["gone"] == 1
    assert verify(spec_of("old"), sample=0).problems == []  # it is whole no longer, and says so


@pytest.mark.parametrize(("old", "new"), [("all", "all/photos"), ("all/photos", "all")])
def test_a_place_within_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    monkeypatch.chdir(tmp_path)
    photos_at(tmp_path / old)
    night(Folder("labels"), old, A)
    (tmp_path / old).rename(tmp_path / "aside")
    shutil.rmtree("all", ignore_errors=True)
    (tmp_path / new).parent.mkdir(exist_ok=True)
    (tmp_path / "aside").rename(tmp_path / new)
    assert move_src("labels", old, new).moved == 6
    again = move_src("labels", old, new)
    assert (again.moved, again.missing) == (0, 0)
    assert counts_of(new, A)["done"] == 6
    assert_whole(Folder("labels"))


def test_there_and_back(here: Path) -> None:
    move_src("labels", "old", "new")
    (here / "new").rename(here / "old")
    assert move_src("labels", "new", "old").moved == 12
    assert counts_of("old", A)["done"] == 5
    assert verify(spec_of("old"), sample=0).problems == []


def test_promotion_after_a_move_asks_for_the_new_place(here: Path) -> None:
    move_src("labels", "old", "new")
    runs = list(load_runs(Folder("labels")))
    scopes = [open_prefix(spec_of(src)).scope for src in ("new", "new/a")]
    assert {run.scope["src"] for run in runs if run.whole} == {scopes[0]["src"]}
    for scope, refused in zip(scopes, (None, "also covers"), strict=True):
        given = {"run_id": "x", "started": START, "recipe": "rcc", "scope": scope, "spec": {}}
        whole = {"status": "complete", "listing_complete": True}
        why = why_not(RunSummary.model_validate(given | whole), A, runs)
        assert (why is None) if refused is None else (refused in str(why))


def test_a_place_that_moved_in_part_is_still_covered(here: Path) -> None:
    """Though A has another whole run: readers have what moved, and must not lose it."""
    night(Folder("labels"), "new/a", A)
    (here / "new" / NAMES[1]).write_bytes(image_bytes(99))
    move_src("labels", "old", "new")
    given = {"run_id": "x", "started": START, "recipe": "rcc", "spec": {}}
    narrow = given | {"scope": open_prefix(spec_of("new/a")).scope}
    run = RunSummary.model_validate(narrow | {"status": "complete", "listing_complete": True})
    assert "also covers" in str(why_not(run, A, load_runs(Folder("labels"))))


def test_runs_wider_than_the_old_place_stay_whole(here: Path) -> None:
    folder = Folder("labels")
    wide = prefix(f"file://{here}/")
    night(folder, "new", "rcc", scope=wide)
    given = {"run_id": "wide", "started": START, "recipe": A, "scope": wide, "spec": {}}
    whole = {"status": "complete", "listing_complete": True}
    save_run(folder, RunSummary.model_validate(given | whole))
    move_src("labels", "old", "new")
    assert {run.recipe for run in load_runs(folder) if run.whole and run.scope == wide} == {
        A,
        "rcc",
    }


@pytest.mark.parametrize("new", ["new/a/00.jpg", "new/*", "new/**/*.jpg"])
def test_a_new_place_is_a_folder(here: Path, new: str) -> None:
    with pytest.raises(SpecError, match="not a folder"):
        move_src("labels", "old", new)


@pytest.mark.parametrize(
    ("dst", "old", "new", "error", "words"),
    [
        ("labels", "odl", "new", SpecError, "no row of this store is below it"),
        ("labels", "ol", "new", SpecError, "no row of this store is below it"),
        ("labels", "new", "new/", SpecError, "is the same as OLD"),
        ("nowhere", "old", "new", MissingError, "no label store"),
        ("labels", "old", "none", MissingError, "none"),
    ],
)
def test_what_is_refused(
    here: Path, dst: str, old: str, new: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        move_src(dst, old, new)


def test_nothing_moves_while_a_night_runs(here: Path) -> None:
    asleep = Table.open(Folder("labels"))
    assert asleep is not None
    with Lease(Folder("labels"), "night"):
        with pytest.raises(BusyError):
            move_src("labels", "old", "new")
        assert move_src("labels", "old", "new", take_over=True).moved == 12
    with pytest.raises(ConflictError):
        asleep.commit()


def test_a_move_that_dies_anywhere_is_done_by_the_next(
    here: Path, dies_at_write: Callable[[int], None]
) -> None:
    died = 0
    shutil.copytree("labels", "before")
    for number in range(1, 40):
        shutil.rmtree("labels")
        shutil.copytree("before", "labels")
        dies_at_write(number)
        try:
            move_src("labels", "old", "new")
        except Died:
            died += 1
        dies_at_write(-1)
        assert_whole(Folder("labels"))
        assert LabelStore("labels").count() == 6
        move_src("labels", "old", "new")
        assert_whole(Folder("labels"))
        found = verify(spec_of("new"), sample=0)
        assert (found.problems, found.exit_code, found.counts.done) == ([], 0, 5)
        whole = [run for run in load_runs(Folder("labels")) if run.whole]
        assert {(run.recipe, run.moved_from) for run in whole} == {
            (A, f"file://{here}/old/"), (B, f"file://{here}/old/"),
        }  # fmt: skip
        if died < number:
            break
    assert 10 < died < 39


def test_the_names_that_runs_take_are_the_ones_that_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos_at(tmp_path / "old")
    night(Folder("labels"), "old", A)
    (tmp_path / "old").rename("new")
    moved = move_src("labels", "old", "new", include=["a/*"])
    assert (moved.moved, moved.missing, moved.listed) == (3, 3, 3)
    spec = make_spec(src="new", dst="labels", include=("a/*",))
    found = verify(spec, sample=0)
    assert (found.problems, found.exit_code, found.counts.excluded) == ([], 0, 3)


@pytest.mark.s3
def test_from_bucket_to_bucket(s3: S3Server) -> None:
    """A copy has another time, and the same etag."""
    old, new = s3.bucket(), s3.bucket()
    for number, name in enumerate(NAMES):
        s3.put(f"{old}/photos/{name}", image_bytes(number))
    store = f"{s3.bucket()}/labels"
    night(Folder(store), f"{old}/photos", A)
    for number, name in enumerate(NAMES):
        s3.put(f"{new}/moved/{name}", image_bytes(number or 99))
    s3.delete_bucket(old)
    moved = move_src(store, f"{old}/photos", f"{new}/moved")
    assert (moved.moved, moved.different) == (5, 1)
    counts = counts_of(f"{new}/moved", A, store)
    assert (counts["done"], counts["new"], counts["changed"], counts["gone"]) == (5, 1, 0, 0)
    assert_whole(Folder(store))


def test_as_a_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "new" / NAMES[1]).unlink()
    said = CliRunner().invoke(command, ["labels", "old", "new"]).output
    assert said.splitlines() == [
        f"moved 10 rows in 4 files to file://{here}/new/",
        "left 2 rows: no such image in NEW",
    ]
    assert exit_code_of(command, ["labels", "old", "new", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == 2
    assert exit_code_of(command, ["labels", "elsewhere", "new"]) == 2
    assert "ray" not in sys.modules or not ray.is_initialized()
