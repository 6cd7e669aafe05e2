"""A smaller top_k is cut from the rows of a larger one; no image is read again."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from pipeline.models.backends.engine import Engine
from pipeline.runs.derive import derive, rewritten
from pipeline.runs.label import _summary_of, label
from pipeline.runs.prepare import prepare
from pipeline.spec import LabelSpec, make_spec
from pipeline.storage import Folder
from pipeline.store.delta.table import Table
from pipeline.store.parts import read_part
from pipeline.store.recipes import save_recipe
from pipeline.store.runs import load_runs
from pipeline.tasks.classifier import Classifier
from pipeline.tasks.classify import Classify
from pipeline.tasks.classify import ClassifyRecipe as Recipe
from pipeline.tasks.rows import RowMaker
from tests.models import tiny
from tests.models.tables import pixel_table
from tests.parts.models.tiny import image_bytes, make_model
from tests.parts.stores.labelled import NAMES, counts_of, night, photos_at
from tests.runs.test_recipes import Died, dies_at_write, document
from tests.store.stores import LABELS

pytestmark = pytest.mark.torch

__all__ = ["dies_at_write"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def five(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> Path:
    """Six images, labelled with top_k=5, one of them an error."""
    monkeypatch.chdir(tmp_path)
    photos_at(tmp_path / "photos")
    labelled(model, top_k=5)
    return tmp_path


def spec_of(model: str, **fields: Any) -> LabelSpec:
    given = {"src": "photos", "dst": "labels", "model": model, "top_k": 3, "new_recipe": True}
    return make_spec(**given | fields)


def labelled(model: str, src: str = "photos", **fields: Any) -> None:
    job = prepare(spec_of(model, src=src, **fields))
    night(Folder("labels"), src, job.recipe.id, failed="00.jpg")
    save_recipe(Folder("labels"), job.recipe.id, job.recipe.to_json())


def derived(spec: LabelSpec) -> int:
    job = prepare(spec)
    table = Table.open(job.folder)
    assert table is not None
    return derive(job, table, _summary_of(job))


def rows_of(recipe: str) -> list[dict[str, Any]]:
    folder = Folder("labels")
    table = Table.open(folder)
    assert table is not None
    files = [file for file in table.live() if file.recipe == recipe]
    rows = [row for file in files for row in read_part(folder, file.path).to_pylist()]
    return sorted(rows, key=lambda row: row["uri"])


def test_cut_rows_are_those_that_a_prediction_writes(tmp_path: Path) -> None:
    vit = tiny.save_vit(tmp_path / "vit")
    pixels = pixel_table(tiny.images(9), (0, 4, 11))
    made = {}
    for top_k in (2, 5, 50):
        settings = {"height": tiny.SIZE, "width": tiny.SIZE, **tiny.SCALE}
        settings |= {"precision": "fp32", "top_k": top_k, "batch_size": 4}
        engine = Engine.load(vit, **settings)
        worker = RowMaker(LABELS, Classifier(engine), f"run-{top_k}", f"r{top_k}")
        made[top_k] = worker(pixels).drop_columns(["labelled_at", "replaces"])
    for larger, smaller in ((5, 2), (50, 2), (50, 5)):
        recipe = Recipe.from_json(document(smaller))
        cut = Classify().derived(made[larger], recipe)
        rows = rewritten(cut, f"run-{smaller}", f"r{smaller}")
        rows = rows.cast(made[smaller].schema)
        rows.validate(full=True)
        assert rows.equals(made[smaller])
        assert rows["top_k"].null_count == 3


def test_a_night_reads_no_image(five: Path, model: str) -> None:
    for name in NAMES:
        path = five / "photos" / name
        kept = path.stat()
        path.write_bytes(b"x" * kept.st_size)  # whoever reads it, fails
        os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    run = label(spec_of(model))
    assert not ray.is_initialized()
    assert (run.status, run.counts.derived, run.counts.labelled) == ("complete", 6, 0)
    assert (run.counts.done, run.counts.failed_before, run.counts.gone) == (5, 1, 0)
    mine, theirs = rows_of(run.recipe), rows_of(prepare(spec_of(model, top_k=5)).recipe.id)
    changed = {"run_id": run.run_id, "recipe_id": run.recipe}
    kept = [row["top_k"] and row["top_k"][:3] for row in theirs]
    assert mine == [row | changed | {"top_k": k} for row, k in zip(theirs, kept, strict=True)]
    assert sorted(map(len, filter(None, kept))) == [3] * 5
    again = label(spec_of(model, new_recipe=False))
    assert (again.counts.derived, again.counts.todo, len(rows_of(run.recipe))) == (0, 0, 6)


def test_what_is_new_or_changed_is_left_to_the_night(five: Path, model: str) -> None:
    (five / "photos" / NAMES[1]).write_bytes(image_bytes(77))
    (five / "photos" / "c.jpg").write_bytes(image_bytes(78))
    assert derived(spec_of(model)) == 6
    counts = counts_of("photos", prepare(spec_of(model)).recipe.id)
    assert counts == {
        "listed": 7, "done": 4, "failed_before": 1, "new": 1, "changed": 1, "gone": 0,
    }  # fmt: skip


def test_only_what_the_recipe_lacks(five: Path, model: str) -> None:
    labelled(model, src="photos/a")
    labelled(model, top_k=4, src="photos/b")
    assert derived(spec_of(model)) == 3
    assert derived(spec_of(model)) == 0
    recipe = prepare(spec_of(model)).recipe.id
    assert [row["uri"][-8:] for row in rows_of(recipe)] == sorted(NAMES)


def test_only_what_is_in_scope(five: Path, model: str) -> None:
    """`--delete` at one archive must not find another's rows in its scope."""
    photos_at(five / "others")
    labelled(model, src="others", top_k=5)
    assert derived(spec_of(model, src="others")) == 6
    recipe = prepare(spec_of(model)).recipe.id
    assert {Path(row["uri"]).parts[-3] for row in rows_of(recipe)} == {"others"}
    assert counts_of("others", recipe)["gone"] == 0


@pytest.mark.parametrize(
    "fields", [{"limit": 3}, {"modified_since": "2020-01-01"}, {"src": "list.txt"}]
)
def test_where_only_the_scope_of_a_run_tells(
    five: Path, model: str, fields: dict[str, object]
) -> None:
    """Nothing of a run with another scope; all of one that had the same."""
    Path("list.txt").write_text("".join(f"photos/{name}\n" for name in NAMES))
    spec = spec_of(model, **fields)
    assert derived(spec) == 0
    job = prepare(spec_of(model, **fields | {"top_k": 4}))
    night(job.folder, "photos", job.recipe.id, scope=job.source.scope)
    save_recipe(job.folder, job.recipe.id, job.recipe.to_json())
    assert derived(spec) == 6


@pytest.mark.parametrize(
    "fields",
    [{"top_k": 5}, {"top_k": 6}, {"exif": False}, {"decode": "fast"}, {"new_recipe": False}],
)
def test_nothing_where_anything_else_differs(
    five: Path, model: str, fields: dict[str, Any]
) -> None:
    assert derived(spec_of(model, **fields)) == 0


def test_which_recipes_will_do() -> None:
    wanted = Recipe.from_json(document(3))
    same = {name: getattr(wanted, name) for name in Recipe.model_fields}
    others = {
        "larger": same | {"top_k": 9},
        "moved": same | {"top_k": 5, "model": "/elsewhere", "revision": "main"},
        "smaller": same | {"top_k": 2},
        "equal": same,
        "labels": same | {"top_k": 9, "labels_sha256": "4" * 64},
        "multi": same | {"top_k": 9, "multi_label": True},
        "precision": same | {"top_k": 9, "precision": "int8"},
    }
    recipes = {name: Recipe.model_validate(fields) for name, fields in others.items()}
    documents = {recipe.id: recipe.to_json() for recipe in recipes.values()}
    found = Classify().derives_from(wanted, documents)
    assert found == [recipes["moved"].id, recipes["larger"].id]
    others = {"rother": recipes["larger"].to_json(), "rnew": "{}"}
    assert Classify().derives_from(wanted, others) == []


def test_killed_and_run_again(five: Path, model: str, dies_at_write: Callable[[int], None]) -> None:
    recipe = prepare(spec_of(model)).recipe.id
    died = 0
    for number in range(1, 20):
        dies_at_write(number)
        try:
            derived(spec_of(model))
        except Died:
            died += 1
        dies_at_write(-1)
        rows = rows_of(recipe)
        assert len(rows) in (0, 6)
        known = {run.run_id for run in load_runs(Folder("labels"))}
        assert {row["run_id"] for row in rows} <= known
        if rows:
            break
    assert died > 2
    assert derived(spec_of(model)) == 0
    assert label(spec_of(model)).counts.todo == 0
    assert len(rows_of(recipe)) == 6
