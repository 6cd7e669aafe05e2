"""What a store of one task says to another one, before an image is read."""

import json
from pathlib import Path

import pytest

from pipeline.job_options import OF_A_NETWORK
from pipeline.spec import make_spec
from pipeline.storage import Folder
from pipeline.store.choice import Choice, choose
from pipeline.store.delta.table import Table
from pipeline.store.parts import write_part
from pipeline.store.recipes import save_recipe
from pipeline.tasks import task_named
from tests.integration.conftest import _run_here
from tests.store.stores import new_table, rows


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("measures", ["label"]),
        ("measures", ["plan"]),
        ("labels", ["fingerprint"]),
        ("labels", ["plan", "--task", "fingerprint"]),
        ("labels", ["fingerprint", "--dry-run"]),
    ],
)
def test_another_kind_of_result_is_refused_with_a_fix(
    photos: Path, tmp_path: Path, tiny_model: Path, kind: str, command: list[str]
) -> None:
    dst = tmp_path / "store"
    folder = Folder(str(dst))
    folder.ensure()
    if kind == "labels":
        new_table(folder)
    else:
        Table.create(folder, task_named("fingerprint").columns, kind)
    before = sorted(dst.rglob("*.parquet"))
    model = [] if kind == "labels" else ["--model", str(tiny_model)]
    refused = _run_here(command[0], photos, dst, *command[1:], *model)
    assert refused.code == 2
    assert f"holds {kind}" in refused.err
    assert "give another folder" in refused.err
    assert sorted(dst.rglob("*.parquet")) == before


def test_a_recipe_of_another_task_than_the_rows_is_one_clear_error(
    photos: Path, tmp_path: Path
) -> None:
    """A document that was put there by hand."""
    folder = Folder(str(tmp_path / "store"))
    folder.ensure()
    table, spec = new_table(folder), make_spec(src="a", dst="b", task="fingerprint")
    recipe = task_named("fingerprint").prepare(spec).recipe
    path = f"recipe={recipe.id}/0.parquet"
    table.commit(added=[write_part(folder, path, recipe.id, rows([1, 2]))])
    save_recipe(folder, recipe.id, recipe.to_json())
    choose(folder, recipe.id, Choice.read(folder))
    found = _run_here("verify", photos, folder.uri)
    assert found.code == 1
    assert "is of fingerprint, whose columns the table lacks" in found.err
    assert "Traceback" not in found.err


def test_the_options_of_a_model_are_none_of_fingerprint() -> None:
    from pipeline.cli import cli

    names = {
        name: {param.name for param in cli.get_command(None, name).params}  # type: ignore[arg-type,union-attr]
        for name in ("label", "fingerprint")
    }
    beside = {"embed", "vector_dtype"}
    assert names["label"] - names["fingerprint"] == {*OF_A_NETWORK, *beside}
    assert names["fingerprint"] <= names["label"]


def test_a_store_of_a_task_that_is_not_installed_is_listed_and_said_so(
    photos: Path, tmp_path: Path
) -> None:
    folder = Folder(str(tmp_path / "store"))
    folder.ensure()
    table = new_table(folder)
    table.commit(added=[])
    documents = {
        "r00000001": {"format": 1, "model": None, "revision": None, "task": "far", "depth": 3},
        "r00000002": {"format": 1, "model": None, "revision": None, "task": "far", "depth": 4},
    }
    for name, fields in documents.items():
        save_recipe(folder, name, json.dumps(fields))
    listed = _run_here("recipes", folder.uri, "--json")
    assert [row["recipe"] for row in listed.json] == ["r00000001", "r00000002"]
    assert rows([1]).num_rows == 1
